"""Collected activations: a folder of shards, read back in batches, with their statistics.

A store is `manifest.json`, one `train-00000.safetensors` after another, with conversations `chat-00000.safetensors` and so on,
`validation.safetensors`, `chat-validation.safetensors` and `statistics.safetensors`. Massive tokens (attention sinks, norm above
10 x the median) and each text's first token are left out. Collecting is in collecting.py.
"""

import re
from collections.abc import Iterator, Mapping
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from glp_core.checked.shapes import Limits, Many, Maybe, check
from glp_core.checked.tensors import read_tensors
from glp_core.data.readings import PARTS, Part
from glp_core.errors import GlpError
from glp_core.files import Json, read_object
from glp_core.progress import Tell

if TYPE_CHECKING:
    from glp_core.data.texts.source import OwnTexts

TOKENS_PER_DOCUMENT = 128
AGAIN = "Collect again with `python -m glp_core collect`, into another folder."
COUNT = Limits(int, 0, 10**15)
SHARD = {"file": str, "documents?": COUNT, "activations": COUNT, "massive_left_out?": COUNT, "cut?": object}
MANIFEST = {
    "llm": str,
    "layer": Limits(int, 0, 10_000),
    "dtype?": str,
    "source?": str,
    "texts_state?": str,
    "median_norm": Limits(float, 1e-30, 1e30),
    "shards": Many(SHARD),
    "chat?": Many(SHARD),
    "span?": Maybe((COUNT, COUNT)),
}
ROWS = {"acts": "float n d", **dict.fromkeys(("tokens?", "documents?", "positions?"), "whole n")}
DOCUMENTS_PER_BLOCK = 1024
"""Documents that are indexed together; the shards of a block hold no other block's."""


class ActivationStore:
    """A folder of collected activations."""

    def __init__(self, folder: Path) -> None:
        self.folder = Path(folder)
        if not (self.folder / "manifest.json").is_file():
            raise GlpError(
                f"No activations in {self.folder}. Make them with `python -m glp_core collect`, or name a folder of them with --store."
            )
        path = self.folder / "manifest.json"
        self.manifest: Json = check(read_object(path), MANIFEST, f"{path} is damaged")
        outside = [shard["file"] for shard in self._shards if not re.fullmatch(r"[a-z]+-[0-9]+\.safetensors", shard["file"])]
        if outside:
            raise GlpError(f"{path} is damaged: {outside[0][:60]!r} is no shard's name.")

    def check_of(self, layer: int, source: str = "", *, tell: Tell | None = None) -> None:
        """Raise GlpError when the activations are another layer's or, where both say which it is, another model's.

        Args:
            tell: hears of another model, in the place of the error: it may be the same one in another place.
        """
        if self.manifest["layer"] != layer:
            raise GlpError(f"{self.folder} holds layer {self.manifest['layer']}, the workspace models layer {layer}.")
        own = self.manifest.get("source", source)
        if source and own != source and tell:
            tell(f"Note: {self.folder} holds activations of {own}, the workspace is about {source}.")
        elif source and own != source:
            raise GlpError(
                f"{self.folder} holds activations of {own}, the workspace is about {source}. "
                "Collect again with --out, or name the right ones with --store. If it is that model in another place, correct "
                f"`source` in {self.folder / 'manifest.json'}."
            )

    def check_texts(self, texts: "OwnTexts | None") -> None:
        """Raise GlpError when a workspace's texts are no longer those that were read: a document's number is another one's now."""
        kept = self.manifest.get("texts_state")
        if kept and texts and self.manifest.get("texts") == texts.label and texts.state() != kept:
            raise GlpError(
                f"The texts at {texts.label} are not those that {self.folder} was collected from: files were added, removed or changed. "
                "Put them back, or make another workspace with `python -m glp_core build --workspace FOLDER --llm WHERE --texts WHERE`."
            )

    @property
    def median_norm(self) -> float:
        return self.manifest["median_norm"]

    @property
    def n_activations(self) -> int:
        return sum(shard["activations"] for shard in self._shards)

    @property
    def n_chat(self) -> int:
        """How many of the activations are of conversations."""
        return sum(shard["activations"] for shard in self.manifest.get("chat", []))

    @property
    def n_documents(self) -> int:
        """How many documents' plain text is here whole, those of a last shard that was cut left out."""
        return sum(shard.get("documents", 0) for shard in self.manifest["shards"] if not shard.get("cut"))

    @property
    def _shards(self) -> list[Json]:
        """Of plain text, then of conversations."""
        return [*self.manifest["shards"], *self.manifest.get("chat", [])]

    @property
    def shards(self) -> list[Path]:
        """Files of plain text, then of conversations."""
        return [self.folder / shard["file"] for shard in self._shards]

    def shards_of(self, documents: range) -> list[int]:
        """Return the numbers of the shards of plain text that begin with one of these documents."""
        ends = list(accumulate(shard.get("documents", 0) for shard in self.manifest["shards"]))
        return [i for i, first in enumerate([0, *ends[:-1]]) if first in documents]

    @property
    def width(self) -> int:
        """Dimensions of an activation; raise GlpError while nothing is stored."""
        if not self.shards:
            raise GlpError(f"{self.folder} holds no activations yet: let `python -m glp_core collect` go on.")
        return self.acts(0).shape[1]

    def statistics(self) -> dict[str, Tensor]:
        """Return `mean`, `var` (d) and `covariance` (d, d) of the training activations, float32."""
        wanted = {"mean": "float d", "var": "float d", "covariance?": "float d d"}
        return self._read(self.folder / "statistics.safetensors", wanted)

    def validation(self, n: int | None = None) -> Tensor:
        """Return held-out activations (n, d), spread evenly over the held-out documents."""
        return self.validation_rows(n)["acts"]

    def validation_rows(self, n: int | None = None) -> dict[str, Tensor]:
        """Return held-out `acts` (n, d), `tokens`, `documents` and `positions` (n), spread evenly over the held-out documents."""
        rows = self._read(self.folder / "validation.safetensors", ROWS)
        chosen = _spread(len(rows["acts"]), n)
        return {name: values[chosen] for name, values in rows.items()}

    def chat_validation(self, n: int | None = None) -> dict[Part, Tensor]:
        """Return held-out activations of conversations (at most n, d) by what they are part of; nothing without conversations."""
        path = self.folder / "chat-validation.safetensors"
        if not self.manifest.get("chat") or not path.is_file():
            return {}
        rows = self._read(path, ROWS | {"parts": "whole n"})
        kinds = {part: rows["acts"][rows["parts"] == place] for place, part in enumerate(PARTS)}
        return {part: acts[_spread(len(acts), n)] for part, acts in kinds.items() if len(acts)}

    def batches(self, size: int, *, epoch: int = 0, window: int = 8, skip: int = 0) -> Iterator[Tensor]:
        """Yield batches (size, d) of one epoch: shards in random order, mixed `window` at a time, a window's remainder left out.

        The same epoch gives the same batches; `skip` leaves out the first ones and reads only the shards that it must. One window
        is in memory at a time.
        """
        for chosen, count in self._windows(size, epoch, window):
            if skip < count:
                yield from self._mixed(chosen, epoch, size, range(skip, count))
            skip = max(0, skip - count)

    def n_batches(self, size: int, *, epoch: int, window: int) -> int:
        """Return how many batches `batches` yields; epochs of several windows differ, as the shards' sizes do."""
        return sum(count for _, count in self._windows(size, epoch, window))

    def shards_within(self, activations: int) -> int:
        """Return how many shards, at least one, hold no more than `activations` together, whichever they are."""
        return max(1, activations // max(shard["activations"] for shard in self._shards))

    def _windows(self, size: int, epoch: int, window: int) -> Iterator[tuple[list[int], int]]:
        """Yield the shards of each window and the whole batches in it."""
        order = torch.randperm(len(self.shards), generator=torch.Generator().manual_seed(epoch)).tolist()
        counts = [shard["activations"] for shard in self._shards]
        for start in range(0, len(order), window):
            chosen = order[start : start + window]
            yield chosen, sum(counts[i] for i in chosen) // size

    def _mixed(self, chosen: list[int], epoch: int, size: int, batches: range) -> Iterator[Tensor]:
        """Read shards and yield the batches `wanted` of their rows in random order, as copies."""
        counts = [self._shards[i]["activations"] for i in chosen]
        acts = torch.empty(0)
        for i, end in zip(chosen, accumulate(counts), strict=True):
            part = self.acts(i)
            if end == len(part):  # the first one says width and dtype
                acts = part.new_empty(sum(counts), part.shape[1])
            acts[end - len(part) : end] = part
        generator = torch.Generator().manual_seed(1_000_003 * (epoch + 1) + chosen[0])
        order = torch.randperm(len(acts), generator=generator)
        for i in batches:
            yield acts[order[i * size : (i + 1) * size]]

    def acts(self, shard: int) -> Tensor:
        """Return one shard's activations (n, d)."""
        return read_tensors(self.shards[shard], {"acts": "float n d"}, only=True, again=AGAIN).tensors["acts"]

    def rows(self, shard: int) -> dict[str, Tensor]:
        """Return one shard's `acts` (n, d), `tokens`, `documents` and `positions` (n), and of conversations `parts` (n)."""
        return self._read(self.shards[shard], ROWS | {"parts?": "whole n"})

    def _read(self, path: Path, wanted: Mapping[str, str]) -> dict[str, Tensor]:
        return read_tensors(path, wanted, again=AGAIN).tensors


def _spread(rows: int, n: int | None) -> slice | Tensor:
    """Return the places of `n` rows spread evenly over `rows`, of all where there are no more."""
    return slice(None) if n is None or n >= rows else torch.linspace(0, rows - 1, n).long()
