"""One pass over the corpus for the index of meta-neurons: documents in, statistics of every neuron out, in parts that can be merged.

A part is a range of blocks of documents. Its state is saved about once a minute, a large one less often, wherever in a block that is,
and a killed pass goes on from there. Activations come from the LLM or from a store that holds them already; the blocks are those of the
store, so both give the same index.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from glp_core.checked.shapes import Limits, check
from glp_core.checked.tensors import metadata_json
from glp_core.data.corpus import Document, Documents
from glp_core.data.store import DOCUMENTS_PER_BLOCK, TOKENS_PER_DOCUMENT, ActivationStore
from glp_core.errors import GlpError
from glp_core.files import Json, tensor_header
from glp_core.llm.batching import by_length
from glp_core.llm.site import Site
from glp_core.neuron_index.format import FORMAT
from glp_core.neuron_index.neuron_data import Reading
from glp_core.neuron_index.reading import read_neurons
from glp_core.neuron_index.statistics import AGAIN, Chunk, NeuronStatistics
from glp_core.prior.glp import GLP
from glp_core.progress import Progress, Saves, quiet

TOKENS_PER_CHUNK = 2048
TOKENS_PER_CHUNK_ON_DEVICE = 16384
"""On an accelerator, where small batches wait for their launches."""
CHUNK_BYTES, CHUNK_COPIES = 2**30, 3
"""What a chunk's neurons take at most in float32, and how often they are held while they are read. Of more than 16,384 neurons an
accelerator's chunks have fewer tokens, never the demo's: a product's rounding depends on its batch, so an index's last digits too."""
COUNT = Limits(int, 0, 10**9)
STATE = {"first": COUNT, "last": COUNT, "done": COUNT, "begun?": (COUNT, COUNT)}
"""Of a part: begun is how many chunks of the next block are read, and the tokens of such a chunk."""
HOW_FAR = ("done", "begun")
SECONDS_BETWEEN_SAVES = 60.0
SAME_TEXT = 300
"""Documents that agree in this many characters, case and spaces aside, count as one text in lists."""


class Source(Protocol):
    """Where a pass gets its activations from."""

    facts: Json
    """What identifies them: LLM, layer, number format."""

    chunk: int
    """Tokens that are read at once at most."""

    def chunks(self, block: int, tokens: int, skip: int = 0) -> Iterator[Chunk]:
        """Yield the documents of a block, some `tokens` of them at a time, without the first `skip` such chunks."""
        ...


def in_order(documents: Documents, n: int) -> Iterator[Document]:
    """Yield the first `n` documents, fewer where they end before, a block of them in memory at a time."""
    for start in range(0, n, DOCUMENTS_PER_BLOCK):
        block = documents[start : min(n, start + DOCUMENTS_PER_BLOCK)]
        if not block:
            return
        yield from block


def first_of_text(documents: Iterable[Document]) -> np.ndarray:
    """Return for each document whether no earlier one has the same text (documents,)."""
    seen: set[int] = set()
    first = []
    for document in documents:
        key = hash(" ".join(document.text.split()).casefold()[:SAME_TEXT])
        first.append(key not in seen)
        seen.add(key)
    return np.array(first, bool)


def chunk_tokens(device: torch.device) -> int:
    """Return how many tokens are read at once on a device."""
    return TOKENS_PER_CHUNK if device.type == "cpu" else TOKENS_PER_CHUNK_ON_DEVICE


def tokens_at_once(source: Source, n_neurons: int) -> int:
    """Return how many tokens of a source are read at once for so many neurons."""
    return max(1, min(source.chunk, CHUNK_BYTES // (4 * n_neurons)))


def chunk_bytes(source: Source, n_neurons: int) -> int:
    """Return what a chunk's neurons take at most while they are read."""
    return CHUNK_COPIES * 4 * n_neurons * tokens_at_once(source, n_neurons)


class StoreSource:
    """Activations that were collected before."""

    def __init__(self, store: ActivationStore, listed: np.ndarray, device: torch.device | str = "cpu") -> None:
        """Read `store`, in chunks of a size for neurons that are read on `device`."""
        self.store, self.listed, self.chunk = store, listed, chunk_tokens(torch.device(device))
        self.facts = {key: store.manifest[key] for key in ("llm", "layer", "dtype")}
        whole, rest = divmod(store.n_documents, DOCUMENTS_PER_BLOCK)
        self.blocks = whole + (rest > 0 and store.n_documents == len(listed))
        if not self.blocks:
            raise GlpError(
                f"{store.folder} holds {store.n_documents:,} whole documents, wanted at least a block of {DOCUMENTS_PER_BLOCK:,}, or "
                "all the texts there are. Collect more, or leave --store out."
            )

    def chunks(self, block: int, tokens: int, skip: int = 0) -> Iterator[Chunk]:
        first = block * DOCUMENTS_PER_BLOCK
        shards = self.store.shards_of(range(first, first + DOCUMENTS_PER_BLOCK))
        return islice((chunk for shard in shards for chunk in self._chunks_of(shard, tokens)), skip, None)

    def _chunks_of(self, shard: int, most: int) -> Iterator[Chunk]:
        rows = self.store.rows(shard)
        within = rows["positions"] < TOKENS_PER_DOCUMENT  # as much of a text as the index shows
        if not within.all():
            rows = {name: rows[name][within] for name in ("acts", "positions", "documents")}
        numbers = rows["documents"].numpy()
        starts = np.flatnonzero(np.diff(numbers, prepend=-1))
        ends = np.append(starts[1:], len(numbers))
        massive = self.store.manifest["shards"][shard]["massive_left_out"]
        first = 0
        while first < len(starts):
            last = max(first + 1, int(np.searchsorted(ends, starts[first] + most, side="right")))
            span = slice(int(starts[first]), int(ends[last - 1]))
            documents = numbers[starts[first:last]].astype(np.int64)
            edges = np.append(starts[first:last], span.stop) - span.start
            yield Chunk(
                rows["acts"][span],
                rows["positions"][span].long(),
                edges,
                documents,
                self.listed[documents],
                massive if first == 0 else 0,
            )
            first = last


class TextSource:
    """Activations that the LLM computes on the way."""

    def __init__(self, site: Site, documents: Documents, listed: np.ndarray) -> None:
        """Read the first documents, as many as `listed` is long."""
        self.site, self.documents, self.listed, self.chunk = site, documents, listed, chunk_tokens(site.llm.device)
        self.facts = {"llm": site.llm.title, "layer": site.layer, "dtype": str(site.llm.dtype).removeprefix("torch.")}
        self.blocks = -(-len(listed) // DOCUMENTS_PER_BLOCK)

    def chunks(self, block: int, tokens: int, skip: int = 0) -> Iterator[Chunk]:
        first = block * DOCUMENTS_PER_BLOCK
        texts = self.documents[first : min(len(self.listed), first + DOCUMENTS_PER_BLOCK)]
        rows = [(first + i, self.site.llm.encode(d.text, max_tokens=TOKENS_PER_DOCUMENT)) for i, d in enumerate(texts)]
        rows = [row for row in rows if len(row[1]) > 1]
        for places in islice(by_length([len(ids) for _, ids in rows], tokens), skip, None):
            batch = [rows[place] for place in places]
            yield self._chunk(batch, self.site.activations([ids for _, ids in batch]))

    def _chunk(self, batch: Sequence[tuple[int, list[int]]], acts: Sequence[Tensor]) -> Chunk:
        lengths = np.array([len(a) - 1 for a in acts])
        every = torch.cat([a[1:] for a in acts])
        content = ~self.site.is_massive(every)
        here = content.cpu().numpy()
        starts = np.concatenate([[0], np.cumsum(lengths)])
        counted = np.concatenate([[0], np.cumsum(here)])[starts]
        positions = np.arange(len(here)) - np.repeat(starts[:-1], lengths) + 1
        documents = np.array([number for number, _ in batch], np.int64)
        return Chunk(
            every[content],
            torch.from_numpy(positions[here]),
            counted,
            documents,
            self.listed[documents] & (np.diff(counted) > 0),
            len(here) - int(here.sum()),
        )


def index_part(
    glp: GLP,
    reading: Reading,
    source: Source,
    blocks: range,
    path: Path,
    *,
    identity: Json,
    progress: Progress = quiet,
    cancelled: Callable[[], bool] = lambda: False,
) -> NeuronStatistics | None:
    """Pass over `blocks`, with the state in `path`; go on where an earlier call stopped. Return None when cancelled.

    A finished part of something else is replaced.

    Args:
        identity: what the index is made of besides reading and source, for example the checkpoint's digest.
    Raises:
        GlpError: `path` holds the unfinished state of something else.
    """
    subject = identity | {
        "format": FORMAT,
        "reading": reading.to_json(),
        "source": source.facts,
        "first": blocks.start,
        "last": blocks.stop,
    }
    statistics, how_far = _open_state(path, subject, glp)
    at_once = tokens_at_once(source, glp.n_layers * glp.d_mlp)
    done, (skip, tokens) = how_far["done"], how_far.get("begun", (0, at_once))
    saves = Saves(SECONDS_BETWEEN_SAVES)
    for block in range(blocks.start + done, blocks.stop):
        for read, chunk in enumerate(source.chunks(block, tokens, skip), start=skip):
            if (stop := cancelled()) or saves.due:
                with saves.saving():
                    _save(statistics, path, subject | {"done": done, "begun": [read, tokens]})
            if stop:
                return None
            statistics.add(read_neurons(glp, chunk.acts, reading), chunk)
        done, skip, tokens = done + 1, 0, at_once
        progress(done, len(blocks), f"blocks of {DOCUMENTS_PER_BLOCK} documents, {statistics.n_tokens:,} tokens")
    _save(statistics, path, subject | {"done": done})
    return statistics


def merge_parts(paths: Sequence[Path], device: torch.device | str = "cpu") -> tuple[NeuronStatistics, Json]:
    """Add up finished parts that cover blocks 0 to the last without gaps; return the whole and its facts.

    Raises:
        GlpError: a part is unfinished, parts overlap or leave a gap, or they were made of different things.
    """
    whole, facts, end = None, {}, 0
    for state, path in sorted(((read_state(path), path) for path in paths), key=lambda entry: entry[0]["first"]):
        if not _is_finished(state):
            raise GlpError(
                f"{path.name} is not finished: {state['done']} of {state['last'] - state['first']} blocks. Run it on."
            )
        if state["first"] != end:
            raise GlpError(f"{path.name} starts at block {state['first']}, wanted {end}: a part is missing or there twice.")
        subject = {key: value for key, value in state.items() if key not in ("first", "last", *HOW_FAR)}
        if whole is not None and subject != facts:
            raise GlpError(f"{path.name} was made of something else than the parts before it: {subject} against {facts}.")
        statistics, _ = NeuronStatistics.load(path, device)
        if whole is None:
            whole, facts = statistics, subject
        else:
            whole.merge(statistics)
        end = state["last"]
    if whole is None:
        raise GlpError("There are no parts to merge. Make them with `python -m glp_core index`.")
    return whole, facts


def finished(path: Path) -> bool:
    """Return whether a part has read all its blocks; one that another process still reads has a file already."""
    return path.is_file() and _is_finished(read_state(path))


def _is_finished(state: Json) -> bool:
    return bool(state["done"] == state["last"] - state["first"])


def read_state(path: Path) -> Json:
    """Return what a part's file says about itself."""
    state = metadata_json(tensor_header(path), "state", path, again=AGAIN)
    return check(state, STATE, f"{path} is no part of an index ({AGAIN})")


def _save(statistics: NeuronStatistics, path: Path, state: Json) -> None:
    statistics.save(path, {"state": json.dumps(state)})


def _open_state(path: Path, subject: Json, glp: GLP) -> tuple[NeuronStatistics, Json]:
    """Return the statistics so far, and how far that is."""
    state = read_state(path) if path.is_file() else {}
    got = {key: value for key, value in state.items() if key not in HOW_FAR}
    if got == json.loads(json.dumps(subject)):
        return NeuronStatistics.load(path, glp.device)[0], state
    if state and not _is_finished(state):
        differing = sorted(key for key in subject.keys() | got.keys() if subject.get(key) != got.get(key))
        raise GlpError(
            f"{path} is the unfinished index of something else ({', '.join(differing)} differ). Delete it to begin anew, as "
            "`index --fresh` does, or keep parts in another folder with --parts."
        )
    path.unlink(missing_ok=True)  # so that no other part is added to one of something else
    return NeuronStatistics(glp.n_layers * glp.d_mlp, glp.device), {"done": 0}
