"""Collect an LLM layer's activations over a corpus, and over conversations made of it, into a store; a killed call goes on.

Documents are read in groups, always the same ones, whose rows go through the model together; a group is cut into shards of few
documents, so that a kill loses little and what is asked for is what is stored.
"""

import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import torch

from glp_core.data.conversations import conversations, template_lengths
from glp_core.data.corpus import Document
from glp_core.data.moments import Moments
from glp_core.data.readings import Row, Tokens, read, text_rows, without_massive
from glp_core.data.store import TOKENS_PER_DOCUMENT, ActivationStore
from glp_core.errors import GlpError
from glp_core.files import Json, read_json, write_json, write_tensors
from glp_core.llm.batching import ACCELERATOR_WIDTH
from glp_core.llm.model import Llm
from glp_core.llm.site import MASSIVE
from glp_core.progress import Progress, quiet

DOCUMENTS_PER_SHARD = 256
"""Documents of plain text; a whole number of shards is a block of the index."""
CONVERSATIONS_PER_SHARD = 128
SHARDS_PER_GROUP = {"text": 64, "chat": 32}
"""Shards whose documents are read together on an accelerator, where large batches of rows of like length are fastest; wider models
than ACCELERATOR_WIDTH take fewer."""
WRITERS = 4
"""Files that are written at once: one writer is slower than an accelerator reads."""
MEDIAN_OF = 256
"""Documents that the median norm is taken from."""
HELD_OUT_CONVERSATIONS = 256


@dataclass(frozen=True)
class _Kind:
    """Plain text or conversations: where the shards are listed, and how documents become rows."""

    listed: str
    """Key of the manifest."""
    prefix: str
    """Of the files' names."""
    documents: Sequence[Document]
    shard: int
    """Documents a shard."""
    group: int
    """Documents that are read together; a whole number of shards."""
    rows: Callable[[Sequence[Document], int], list[Row]]
    """Takes documents and the number of the first one."""
    ahead: bool
    """Whether rows are made while the device reads those before: for texts, which need only the tokenizer."""


def documents_per_group(llm: Llm, shard: int | None = None, kind: str = "text") -> int:
    """Return how many documents are read together, given how many a shard has."""
    shard = shard or DOCUMENTS_PER_SHARD
    if llm.device.type == "cpu":
        return shard
    return shard * max(1, SHARDS_PER_GROUP[kind] * ACCELERATOR_WIDTH // max(ACCELERATOR_WIDTH, llm.d_model))


def collect(
    llm: Llm,
    layer: int,
    train: Sequence[Document],
    validation: Sequence[Document],
    folder: Path,
    *,
    n_activations: int,
    chat: float = 0.0,
    tokens_per_document: int = TOKENS_PER_DOCUMENT,
    span: range | None = None,
    progress: Progress = quiet,
) -> ActivationStore:
    """Write the activations of `layer` over documents until `n_activations` are stored; go on where an earlier call stopped.

    Fewer are stored where the corpus ends early: the store's n_activations says how many.

    Args:
        chat: share of the activations that come from conversations.
        tokens_per_document: of plain text, the first token included; held-out documents always have TOKENS_PER_DOCUMENT.
        span: the training documents to read, all of them, whatever `n_activations` says: a part to be joined with others.
    Raises:
        GlpError: the folder holds other activations, the model has no chat template, or the disk is full.
    """
    if not 0 <= chat < 1:
        raise GlpError(f"The share of chat is {chat:g}, wanted at least 0 and less than 1.")
    if chat:
        if span is not None:
            raise GlpError("Conversations are not collected in parts. Leave --part or --chat out.")
        template_lengths(llm)  # refuses a model without a template before any work
    collector = _Collector(llm, layer, folder, train, tokens_per_document, span)
    if span is None or span.start == 0:
        collector.hold_out(validation, chat=chat > 0)
    if span is not None:
        collector.fill(
            collector.text(train), sys.maxsize, lambda _, first: progress(first - span.start, len(span), "documents")
        )
    else:
        collector.fill_both(train, n_activations, chat, progress)
    store = ActivationStore(folder)
    if store.manifest.get("statistics_of") != store.n_activations:
        parts = (store.acts(number).to(llm.device) for number in range(len(store.shards)))
        write_tensors(folder / "statistics.safetensors", Moments.of(parts).statistics())
        write_json(folder / "manifest.json", store.manifest | {"statistics_of": store.n_activations})
    return ActivationStore(folder)


class _Collector:
    """One call of `collect`: the model, the folder and its manifest."""

    def __init__(
        self, llm: Llm, layer: int, folder: Path, train: Sequence[Document], tokens_per_document: int, span: range | None
    ) -> None:
        self.llm, self.layer, self.folder, self.tokens, self.span = llm, layer, folder, tokens_per_document, span
        self.manifest = self._open(train)

    def fill_both(self, train: Sequence[Document], n_activations: int, chat: float, progress: Progress) -> None:
        """Collect text, then conversations, until `n_activations` are stored."""
        n_chat = round(chat * n_activations)
        n_text = self.fill(
            self.text(train),
            n_activations - n_chat,
            lambda stored, first: progress(stored, n_activations, f"{first:,} documents"),
        )
        if n_chat:
            self.fill(
                self.chat(train),
                n_chat,
                lambda stored, first: progress(n_text + stored, n_activations, f"{first:,} conversations"),
            )

    def text(self, documents: Sequence[Document]) -> _Kind:
        """Return how plain text is collected."""

        def rows(part: Sequence[Document], first: int) -> list[Row]:
            return text_rows(self.llm, part, first, self.tokens)

        return _Kind(
            "shards", "train", documents, DOCUMENTS_PER_SHARD, self._group(DOCUMENTS_PER_SHARD, "text"), rows, self._ahead
        )

    def chat(self, documents: Sequence[Document]) -> _Kind:
        """Return how conversations are collected."""

        def rows(part: Sequence[Document], first: int) -> list[Row]:
            return conversations(self.llm, part, first)

        return _Kind(
            "chat", "chat", documents, CONVERSATIONS_PER_SHARD, self._group(CONVERSATIONS_PER_SHARD, "chat"), rows, False
        )

    @property
    def _ahead(self) -> bool:
        return self.llm.device.type != "cpu"

    def _group(self, shard: int, kind: str) -> int:
        return documents_per_group(self.llm, shard, kind)

    def hold_out(self, documents: Sequence[Document], *, chat: bool) -> None:
        """Write the held-out activations that are not there yet."""
        if "validation" not in self.manifest:
            rows = text_rows(self.llm, documents, 0, TOKENS_PER_DOCUMENT)
            self._hold_out("validation", rows, len(documents))
        if chat and "chat_validation" not in self.manifest:
            asked = documents[:HELD_OUT_CONVERSATIONS]
            self._hold_out("chat_validation", conversations(self.llm, asked, 0), len(asked))

    def _hold_out(self, key: str, rows: Sequence[Row], n_documents: int) -> None:
        tokens, massive = without_massive(read(self.llm, self.layer, rows), self.manifest["median_norm"])
        name = f"{key.replace('_', '-')}.safetensors"
        _write(self.folder / name, tokens, parts=key != "validation")
        facts = {"file": name, "documents": n_documents, "activations": len(tokens), "massive_left_out": len(massive)}
        self._note({key: facts})

    def fill(self, kind: _Kind, wanted: int, report: Callable[[int, int], object]) -> int:
        """Add shards until `wanted` activations of a kind are stored or the documents end; return how many are.

        `report` is told how many are stored and the number of the next document.

        A group is written, and the texts of the next one are turned into ids, while the device reads.
        """
        shards: list[Json] = self.manifest.setdefault(kind.listed, [])
        if shards and shards[-1].get("cut") and sum(shard["activations"] for shard in shards) < wanted:
            shards.pop()  # it ends inside a document: made again, whole
        pending: Future[None] | None = None
        with ThreadPoolExecutor(1) as writer, ThreadPoolExecutor(1) as preparer:
            rows: dict[int, Future[list[Row]]] = {}
            stored = sum(shard["activations"] for shard in shards)
            first = (self.span.start if self.span else 0) + sum(shard["documents"] for shard in shards)
            end = self.span.stop if self.span else len(kind.documents)
            number = len(shards)
            while stored < wanted and first < end:
                start = first // kind.group * kind.group
                documents = kind.documents[start : min(end, start + kind.group)]
                ready = rows.pop(start).result() if start in rows else kind.rows(documents, start)
                if kind.ahead and (after := kind.documents[start + kind.group :][: kind.group]):
                    rows[start + kind.group] = preparer.submit(kind.rows, after, start + kind.group)
                tokens = read(self.llm, self.layer, ready)
                parts = list(self._cut(kind, tokens, first, start + len(documents), number, wanted - stored))
                if pending:
                    pending.result()
                pending = writer.submit(self._write_shards, kind, parts)
                number += len(parts)
                first += sum(facts["documents"] for facts, _ in parts)
                stored += sum(facts["activations"] for facts, _ in parts)
                report(stored, first)
            if pending:
                pending.result()
        return stored

    def _cut(
        self, kind: _Kind, tokens: Tokens, first: int, end: int, number: int, wanted: int
    ) -> Iterator[tuple[Json, Tokens]]:
        """Yield the shards of documents `first` to `end`, the last of them cut where `wanted` activations are reached."""
        kept, massive = without_massive(tokens, self.manifest["median_norm"])
        while first < end and wanted > 0:
            after = min(end, first + kind.shard - first % kind.shard)
            low, high = torch.searchsorted(kept.documents, torch.tensor([first, after], dtype=torch.int32)).tolist()
            facts = {
                "file": f"{kind.prefix}-{number:05d}.safetensors",
                "documents": after - first,
                "activations": min(high - low, wanted),
                "massive_left_out": int(((massive >= first) & (massive < after)).sum()),
            }
            cut = high - low > wanted
            yield facts | ({"cut": True} if cut else {}), kept[low : low + facts["activations"]]
            number, first, wanted = number + 1, after, wanted - facts["activations"]

    def _write_shards(self, kind: _Kind, parts: Sequence[tuple[Json, Tokens]]) -> None:
        """Write a group's shards, several at once, and then say in the manifest that they are there."""

        def write(part: tuple[Json, Tokens]) -> None:
            facts, tokens = part
            _write(self.folder / facts["file"], tokens, parts=kind.listed == "chat")

        with ThreadPoolExecutor(WRITERS) as pool:
            list(pool.map(write, parts))
        self._note({kind.listed: [*self.manifest[kind.listed], *(facts for facts, _ in parts)]})

    def _note(self, facts: Json) -> None:
        self.manifest |= facts
        write_json(self.folder / "manifest.json", self.manifest)

    def _open(self, documents: Sequence[Document]) -> Json:
        path, llm = self.folder / "manifest.json", self.llm
        made_by = {
            "llm": llm.title,
            "layer": self.layer,
            "dtype": str(llm.dtype).removeprefix("torch."),
            "d_input": llm.d_model,
        }
        made_by |= {"tokens_per_document": self.tokens}
        made_by |= {"span": [self.span.start, self.span.stop]} if self.span else {}
        if path.is_file():
            manifest = read_json(path)
            manifest.setdefault("tokens_per_document", TOKENS_PER_DOCUMENT)
            got = {key: manifest.get(key) for key in made_by}
            if got != made_by:
                raise GlpError(f"{self.folder} holds activations of {got}, wanted {made_by}. Choose another folder.")
            return manifest
        norms = read(llm, self.layer, text_rows(llm, documents[:MEDIAN_OF], 0, TOKENS_PER_DOCUMENT)).acts.float().norm(dim=-1)
        manifest = made_by | {"median_norm": norms.median().item(), "massive_over_median": MASSIVE, "shards": []}
        write_json(path, manifest)
        return manifest


def _write(path: Path, tokens: Tokens, *, parts: bool) -> None:
    """Write tokens; `parts`: also what each is part of."""
    tensors = {"acts": tokens.acts.cpu(), "tokens": tokens.tokens, "documents": tokens.documents, "positions": tokens.positions}
    write_tensors(path, tensors | ({"parts": tokens.parts} if parts else {}))
