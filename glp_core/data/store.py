"""Collect an LLM layer's activations over a corpus into a folder of shards, and read them back.

A store is `manifest.json`, one `train-00000.safetensors` after another, `validation.safetensors` and `statistics.safetensors`.
Massive tokens (attention sinks, norm above 10 x the median) and each text's first token are left out.
"""

from collections.abc import Iterator, Sequence
from itertools import accumulate
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor

from glp_core.data.corpus import Document
from glp_core.errors import GlpError
from glp_core.files import Json, read_json, write_json, write_tensors
from glp_core.llm.model import Llm
from glp_core.llm.site import MASSIVE, Site
from glp_core.progress import Progress, quiet

TOKENS_PER_DOCUMENT = 128
DOCUMENTS_PER_SHARD = 1024
TOKENS_PER_BATCH = 1536


def collect(
    llm: Llm,
    layer: int,
    train: Sequence[Document],
    validation: Sequence[Document],
    folder: Path,
    *,
    n_activations: int,
    progress: Progress = quiet,
) -> "ActivationStore":
    """Write the activations of `layer` over documents until `n_activations` are stored; go on where an earlier call stopped.

    Raises:
        GlpError: the folder holds activations of another model or layer, or the disk is full.
    """
    manifest = _open_manifest(llm, layer, folder, train)
    site, path = Site(llm, layer, manifest["median_norm"]), folder / "manifest.json"
    if "validation" not in manifest:
        manifest["validation"] = _write_shard(site, validation, 0, folder / "validation.safetensors")
        write_json(path, manifest)
    stored = sum(shard["activations"] for shard in manifest["shards"])
    while stored < n_activations:
        number = len(manifest["shards"])
        first = number * DOCUMENTS_PER_SHARD
        batch = train[first : first + DOCUMENTS_PER_SHARD]
        if not batch:
            raise GlpError(f"The corpus ends after {stored:,} activations; {n_activations:,} were asked for. Ask for fewer.")
        shard = _write_shard(site, batch, first, folder / f"train-{number:05d}.safetensors")
        manifest["shards"].append(shard)
        write_json(path, manifest)
        stored += shard["activations"]
        progress(min(stored, n_activations), n_activations, f"{first + len(batch):,} documents")
    store = ActivationStore(folder)
    if store.manifest.get("statistics_of") != len(manifest["shards"]):
        write_tensors(folder / "statistics.safetensors", _statistics(store))
        write_json(path, manifest | {"statistics_of": len(manifest["shards"])})
    return ActivationStore(folder)


class ActivationStore:
    """A folder of collected activations."""

    def __init__(self, folder: Path) -> None:
        self.folder = Path(folder)
        if not (self.folder / "manifest.json").is_file():
            raise GlpError(f"No activations in {self.folder}. Make them with `python -m glp_core collect`.")
        self.manifest: Json = read_json(self.folder / "manifest.json")

    @property
    def median_norm(self) -> float:
        return self.manifest["median_norm"]

    @property
    def n_activations(self) -> int:
        return sum(shard["activations"] for shard in self.manifest["shards"])

    @property
    def shards(self) -> list[Path]:
        return [self.folder / shard["file"] for shard in self.manifest["shards"]]

    def statistics(self) -> dict[str, Tensor]:
        """Return `mean`, `var` (d) and `covariance` (d, d) of the training activations, float32."""
        return load_file(self.folder / "statistics.safetensors")

    def validation(self, n: int | None = None) -> Tensor:
        """Return held-out activations (n, d), spread evenly over the held-out documents."""
        return self.validation_rows(n)["acts"]

    def validation_rows(self, n: int | None = None) -> dict[str, Tensor]:
        """Return held-out `acts` (n, d), `tokens`, `documents` and `positions` (n), spread evenly over the held-out documents."""
        rows = load_file(self.folder / "validation.safetensors")
        if n is None or n >= len(rows["acts"]):
            return rows
        chosen = torch.linspace(0, len(rows["acts"]) - 1, n).long()
        return {name: values[chosen] for name, values in rows.items()}

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
        return max(1, activations // max(shard["activations"] for shard in self.manifest["shards"]))

    def _windows(self, size: int, epoch: int, window: int) -> Iterator[tuple[list[int], int]]:
        """Yield the shards of each window and the whole batches in it."""
        order = torch.randperm(len(self.shards), generator=torch.Generator().manual_seed(epoch)).tolist()
        counts = [shard["activations"] for shard in self.manifest["shards"]]
        for start in range(0, len(order), window):
            chosen = order[start : start + window]
            yield chosen, sum(counts[i] for i in chosen) // size

    def _mixed(self, chosen: list[int], epoch: int, size: int, wanted: range) -> Iterator[Tensor]:
        """Read shards and yield the batches `wanted` of their rows in random order, as copies."""
        counts = [self.manifest["shards"][i]["activations"] for i in chosen]
        acts = torch.empty(0)
        for i, end in zip(chosen, accumulate(counts), strict=True):
            part = load_file(self.shards[i])["acts"]
            if end == len(part):  # the first one says width and dtype
                acts = part.new_empty(sum(counts), part.shape[1])
            acts[end - len(part) : end] = part
        generator = torch.Generator().manual_seed(1_000_003 * (epoch + 1) + chosen[0])
        order = torch.randperm(len(acts), generator=generator)
        for i in wanted:
            yield acts[order[i * size : (i + 1) * size]]

    def rows(self, shard: int) -> dict[str, Tensor]:
        """Return one shard's `acts` (n, d), `tokens`, `documents` and `positions` (n)."""
        return load_file(self.shards[shard])


def _open_manifest(llm: Llm, layer: int, folder: Path, documents: Sequence[Document]) -> Json:
    path = folder / "manifest.json"
    made_by = {"llm": llm.title, "layer": layer, "dtype": str(llm.dtype).removeprefix("torch."), "d_input": llm.d_model}
    if path.is_file():
        manifest = read_json(path)
        got = {key: manifest.get(key) for key in made_by}
        if got != made_by:
            raise GlpError(f"{folder} holds activations of {got}, wanted {made_by}. Choose another folder.")
        return manifest
    norms = torch.cat([a.float().norm(dim=-1) for _, a in _activations(llm, layer, documents[:256], 0)])
    manifest = made_by | {"median_norm": norms.median().item(), "massive_over_median": MASSIVE, "shards": []}
    write_json(path, manifest)
    return manifest


def _activations(
    llm: Llm, layer: int, documents: Sequence[Document], first: int
) -> Iterator[tuple[list[tuple[int, list[int]]], Tensor]]:
    """Yield per batch the (document number, ids) rows and their activations (tokens, d), first tokens left out."""
    rows = [(first + i, llm.encode(d.text, max_tokens=TOKENS_PER_DOCUMENT)) for i, d in enumerate(documents)]
    rows = sorted((row for row in rows if len(row[1]) > 1), key=lambda row: len(row[1]))
    while rows:
        count = max(1, TOKENS_PER_BATCH // len(rows[-1][1]))
        batch, rows = rows[-count:], rows[:-count]
        acts = torch.cat([a[1:] for a in llm.activations([ids for _, ids in batch], layer)])
        if not torch.isfinite(acts).all():
            raise GlpError(
                f"Layer {layer} of {llm.title} gives NaN or infinite values: its weights are damaged, or {llm.dtype} is too small."
            )
        yield batch, acts


def _write_shard(site: Site, documents: Sequence[Document], first: int, path: Path) -> Json:
    parts: list[dict[str, Tensor]] = []
    massive = 0
    for rows, acts in _activations(site.llm, site.layer, documents, first):
        part = {
            "acts": acts.cpu(),
            "tokens": torch.tensor([i for _, ids in rows for i in ids[1:]], dtype=torch.int32),
            "documents": torch.tensor([n for n, ids in rows for _ in ids[1:]], dtype=torch.int32),
            "positions": torch.tensor([p for _, ids in rows for p in range(1, len(ids))], dtype=torch.int16),
        }
        keep = ~site.is_massive(part["acts"])
        massive += int((~keep).sum())
        parts.append({name: values[keep] for name, values in part.items()})
    tensors = {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
    write_tensors(path, tensors)
    return {"file": path.name, "documents": len(documents), "activations": len(tensors["acts"]), "massive_left_out": massive}


def _acts(shard: Path) -> Tensor:
    with safe_open(shard, "pt") as file:
        return file.get_tensor("acts").float()


def _statistics(store: ActivationStore) -> dict[str, Tensor]:
    """Accumulate mean and covariance around the first shard's mean, so that float32 sums lose nothing."""
    shift = _acts(store.shards[0]).mean(0)
    total = torch.zeros_like(shift, dtype=torch.float64)
    outer = torch.zeros(len(shift), len(shift), dtype=torch.float64)
    n = 0
    for path in store.shards:
        acts = _acts(path)
        centred = acts - shift
        total += centred.double().sum(0)
        outer += (centred.T @ centred).double()
        n += len(acts)
    offset = total / n
    covariance = outer / n - torch.outer(offset, offset)
    return {
        "mean": (shift.double() + offset).float(),
        "var": covariance.diagonal().float().clone(),
        "covariance": covariance.float(),
    }
