"""Write a store's shards: documents in groups that the model reads together, cut into files of few documents.

A killed call goes on after the last shard that the manifest lists, and gives the bytes of one that was not killed.
"""

import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import torch

from glp_core.checked.tensors import read_tensors
from glp_core.data.corpus import Document, Documents
from glp_core.data.readings import TextRow, Tokens, read, without_massive
from glp_core.data.store import ROWS
from glp_core.files import Json, write_json, write_tensors
from glp_core.llm.model import Llm

WRITERS = 4
"""Files that are written at once: one writer is slower than an accelerator reads."""


@dataclass(frozen=True)
class DocumentKind:
    """Plain text or conversations: which documents are read, how they become rows, and where the shards are listed."""

    listed: str
    """Key of the manifest."""
    prefix: str
    """Of the files' names."""
    documents: Documents
    span: range
    """Which of the documents are read, as far as there are so many."""
    shard: int
    """Documents a shard."""
    group: int
    """Documents that are read together; a whole number of shards."""
    rows: Callable[[Sequence[Document], int], list[TextRow]]
    """Takes documents and the number of the first one."""
    parts: bool
    """Whether shards say what each token is part of."""
    ahead: bool
    """Whether rows are made while the device reads those before: for texts, which need only the tokenizer."""


class ShardWriter:
    """Adds shards to a store's folder and keeps its manifest."""

    def __init__(self, llm: Llm, layer: int, folder: Path, manifest: Json) -> None:
        self.llm, self.layer, self.folder, self.manifest = llm, layer, folder, manifest

    def hold_out(self, key: str, kind: DocumentKind, report: Callable[[int, int], object]) -> None:
        """Collect all of a kind into one file, listed under `key`; its shards are there only until it is whole."""
        if key not in self.manifest:
            self.fill(kind, sys.maxsize, report)
            shards = self.manifest[kind.listed]
            pieces = [read_tensors(self.folder / shard["file"], ROWS).tensors for shard in shards]
            name = f"{key.replace('_', '-')}.safetensors"
            write_tensors(self.folder / name, {what: torch.cat([piece[what] for piece in pieces]) for what in pieces[0]})
            sums = {what: sum(shard[what] for shard in shards) for what in ("documents", "activations", "massive_left_out")}
            self.manifest.pop(kind.listed)
            self.note({key: {"file": name} | sums})
        for path in self.folder.glob(f"{kind.prefix}-*.safetensors"):
            path.unlink()

    def fill(self, kind: DocumentKind, quota: int, report: Callable[[int, int], object]) -> int:
        """Add shards until `quota` activations of a kind are stored or the documents end; return how many are.

        `report` is told how many are stored and the number of the next document.

        A group is written, and the texts of the next one are turned into ids, while the device reads.
        """
        shards: list[Json] = self.manifest.setdefault(kind.listed, [])
        if shards and shards[-1].get("cut") and sum(shard["activations"] for shard in shards) < quota:
            shards.pop()  # it ends inside a document: made again, whole
        pending: Future[None] | None = None
        with ThreadPoolExecutor(1) as writer, ThreadPoolExecutor(1) as preparer:
            prepared: dict[int, tuple[Sequence[Document], Future[list[TextRow]]]] = {}
            stored = sum(shard["activations"] for shard in shards)
            first, end = kind.span.start + sum(shard["documents"] for shard in shards), kind.span.stop
            number = len(shards)
            while stored < quota and first < end:
                start = first // kind.group * kind.group
                after = start + kind.group
                documents, rows = prepared.pop(start, None) or (kind.documents[start : min(end, after)], None)
                if start + len(documents) <= first:
                    break
                ready = rows.result() if rows else kind.rows(documents, start)
                if kind.ahead and (following := kind.documents[after : min(end, after + kind.group)]):
                    prepared[after] = following, preparer.submit(kind.rows, following, after)
                tokens = read(self.llm, self.layer, ready)
                parts = list(self._cut(kind, tokens, first, start + len(documents), number, quota - stored))
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
        self, kind: DocumentKind, tokens: Tokens, first: int, end: int, number: int, quota: int
    ) -> Iterator[tuple[Json, Tokens]]:
        """Yield the shards of documents `first` to `end`, the last of them cut where `quota` activations are reached."""
        content, massive = without_massive(tokens, self.manifest["median_norm"])
        while first < end and quota > 0:
            after = min(end, first + kind.shard - first % kind.shard)
            low, high = torch.searchsorted(content.documents, torch.tensor([first, after], dtype=torch.int32)).tolist()
            facts = {
                "file": f"{kind.prefix}-{number:05d}.safetensors",
                "documents": after - first,
                "activations": min(high - low, quota),
                "massive_left_out": int(((massive >= first) & (massive < after)).sum()),
            }
            cut = high - low > quota
            yield facts | ({"cut": True} if cut else {}), content[low : low + facts["activations"]]
            number, first, quota = number + 1, after, quota - facts["activations"]

    def _write_shards(self, kind: DocumentKind, parts: Sequence[tuple[Json, Tokens]]) -> None:
        """Write a group's shards, several at once, and then say in the manifest that they are there."""

        def write(part: tuple[Json, Tokens]) -> None:
            facts, tokens = part
            _write(self.folder / facts["file"], tokens, parts=kind.parts)

        with ThreadPoolExecutor(WRITERS) as pool:
            list(pool.map(write, parts))
        self.note({kind.listed: [*self.manifest[kind.listed], *(facts for facts, _ in parts)]})

    def note(self, facts: Json) -> None:
        """Put facts into the manifest."""
        self.manifest |= facts
        write_json(self.folder / "manifest.json", self.manifest)


def _write(path: Path, tokens: Tokens, *, parts: bool) -> None:
    """Write tokens; `parts`: also what each is part of."""
    tensors = {"acts": tokens.acts.cpu(), "tokens": tokens.tokens, "documents": tokens.documents, "positions": tokens.positions}
    write_tensors(path, tensors | ({"parts": tokens.parts} if parts else {}))
