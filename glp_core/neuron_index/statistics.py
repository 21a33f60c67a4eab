"""What one pass over a corpus keeps of every neuron: a count of every value, the most extreme texts, a sample of documents.

Memory is bounded whatever the corpus's length, and parts add up exactly. Values are counted at bfloat16 precision, so moments,
quantiles and histograms are exact functions of the counts. Everything stays on the device that reads the neurons, but for the
sampled activations. Knows numbers only: no model, no text.
"""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from glp_core.checked.tensors import read_tensors
from glp_core.errors import GlpError
from glp_core.files import write_tensors
from glp_core.neuron_index.counting import BINS, Counter
from glp_core.neuron_index.format import KEPT, REACH

WINDOW = 2 * REACH + 1
SAMPLED_DOCUMENTS = 1024
"""Documents whose activations are kept, chosen by a digest of their number."""
WINDOWS_AT_ONCE = 8192
LISTS = ("values", "documents", "peaks", "windows")
"""Attributes with an entry for each listed text."""
LAST_DOCUMENT = 2**31 - 1
AGAIN = "Remove it and run `python -m glp_core index` again."
STORED = {
    "counts": "whole n m",
    "values": f"number n 2 {KEPT}",
    "documents": f"whole n 2 {KEPT}",
    "peaks": f"whole n 2 {KEPT}",
    "windows": f"number n 2 {KEPT} {WINDOW}",
    "totals": "whole 4",
    "sample_documents": "whole s",
    "sample_starts": "whole e",
    "sample_positions": "whole t",
    "sample_acts": "any ...",
}


class Chunk(NamedTuple):
    """Whole documents, one after another."""

    acts: Tensor
    """Activations (n, d)."""
    positions: Tensor
    """Position of each in its document (n), int64, ascending within a document."""
    starts: np.ndarray
    """First row of each document and the end of the last (documents + 1), int64."""
    documents: np.ndarray
    """Number of each document in the corpus, int64."""
    listed: np.ndarray
    """Whether the document may stand in lists: False for repetitions of an earlier text (documents), bool."""
    massive: int = 0
    """Tokens of these documents that were left out."""


class Sample(NamedTuple):
    """The sampled documents, by number."""

    documents: np.ndarray
    starts: np.ndarray
    positions: np.ndarray
    acts: Tensor


def table_bytes(n_neurons: int) -> int:
    """Return what the statistics of so many neurons take at most, the sampled activations left out."""
    return n_neurons * (4 * BINS + 2 * KEPT * (4 + 8 + 2 + 2 * WINDOW))


class NeuronStatistics:
    """Statistics of all neurons over the chunks added so far."""

    def __init__(self, n_neurons: int, device: torch.device | str = "cpu") -> None:
        self.n_neurons = n_neurons
        # the tally needs CUDA or the CPU's compiled loop; neurons from another kind of device are brought here
        self.device = torch.device(device if torch.device(device).type == "cuda" else "cpu")
        self._counter = Counter(n_neurons, self.device)
        self.values = torch.full((n_neurons, 2, KEPT), -torch.inf, device=self.device)
        """Extreme values of the highest (0) and lowest (1) texts, the latter negated, best first."""
        self.documents = torch.full((n_neurons, 2, KEPT), LAST_DOCUMENT, dtype=torch.int64, device=self.device)
        self.peaks = torch.zeros(n_neurons, 2, KEPT, dtype=torch.int16, device=self.device)
        """Position of the extreme token in its document."""
        self.windows = torch.full((n_neurons, 2, KEPT, WINDOW), torch.nan, dtype=torch.bfloat16, device=self.device)
        """Values around the extreme token, which is in the middle; nan where there is no token."""
        self.n_tokens = 0
        self.n_documents = 0
        self.n_massive = 0
        self._sample: dict[int, tuple[int, Tensor, Tensor]] = {}

    @property
    def counts(self) -> Tensor:
        """How often each value was seen (n_neurons, BINS), int32."""
        return self._counter.counts

    def add(self, neurons: Tensor, chunk: Chunk) -> None:
        """Take in the neurons (n, n_neurons), float32, of a chunk."""
        neurons = neurons.to(self.device)
        lows, highs = self._counter.add(neurons, chunk.starts)
        listed = torch.from_numpy(chunk.listed).to(self.device)
        for side, extremes in ((0, highs), (1, lows.neg_())):
            extremes[~listed] = -torch.inf
            self._rank(side, extremes, neurons, chunk)
        self._take_sample(chunk)
        self.n_tokens += len(neurons)
        self.n_documents += len(chunk.documents)
        self.n_massive += chunk.massive

    def merge(self, other: "NeuronStatistics") -> None:
        """Add the statistics of other documents; the result is that of one pass over both."""
        if other.n_neurons != self.n_neurons:
            raise GlpError(
                f"Cannot merge an index of {other.n_neurons} neurons into one of {self.n_neurons}: they are of different GLPs."
            )
        used = other.counts.any(0).nonzero()[:, 0]
        if len(used):
            span = slice(int(used[0]), int(used[-1]) + 1)
            self.counts[:, span] += other.counts[:, span].to(self.device)
        theirs = {name: getattr(other, name).to(self.device) for name in LISTS}
        keys = torch.cat([_order(self.values, self.documents), _order(theirs["values"], theirs["documents"])], dim=2)
        best = keys.topk(KEPT, dim=2).indices
        for name, rows in theirs.items():
            index = best if rows.ndim == 3 else best[..., None].expand(-1, -1, -1, WINDOW)
            setattr(self, name, torch.cat([getattr(self, name), rows], dim=2).gather(2, index))
        self._sample |= other._sample
        self._trim_sample()
        self.n_tokens += other.n_tokens
        self.n_documents += other.n_documents
        self.n_massive += other.n_massive

    def sample(self) -> Sample:
        """Return the sampled documents in the corpus's order."""
        numbers = sorted(self._sample)
        parts = [self._sample[number] for number in numbers]
        starts = np.cumsum([0] + [len(positions) for _, positions, _ in parts])
        positions = torch.cat([p for _, p, _ in parts]).numpy() if parts else np.zeros(0, np.int64)
        acts = torch.cat([a for _, _, a in parts]) if parts else torch.empty(0, 0)
        return Sample(np.array(numbers, np.int64), starts, positions, acts)

    def save(self, path: Path, facts: dict[str, str]) -> None:
        """Write everything to one safetensors file with `facts` in its metadata."""
        used = self.counts.any(0).nonzero()[:, 0].tolist() or [0]
        low, high = used[0], used[-1] + 1
        sample = self.sample()
        write_tensors(
            path,
            {
                "counts": self.counts[:, low:high].contiguous().cpu(),
                **{name: getattr(self, name).cpu() for name in LISTS},
                "totals": torch.tensor([low, self.n_tokens, self.n_documents, self.n_massive]),
                "sample_documents": torch.from_numpy(sample.documents),
                "sample_starts": torch.from_numpy(sample.starts),
                "sample_positions": torch.from_numpy(sample.positions),
                "sample_acts": sample.acts,
            },
            facts,
        )

    @staticmethod
    def load(path: Path, device: torch.device | str = "cpu") -> tuple["NeuronStatistics", dict[str, str]]:
        """Read back what `save` wrote, onto a device."""
        tensors, facts = read_tensors(path, STORED, again=AGAIN)
        low, high = int(tensors["totals"][0]), tensors["counts"].shape[1]
        starts, rows = tensors["sample_starts"].tolist(), len(tensors["sample_positions"])
        fits = starts == sorted(starts) and len(starts) == len(tensors["sample_documents"]) + 1 and starts[0] == 0
        if not (fits and starts[-1] == rows == len(tensors["sample_acts"]) and 0 <= low <= low + high <= BINS):
            raise GlpError(f"{path.name} is no part of an index: its counts or its samples do not fit. {AGAIN}")
        made = NeuronStatistics(len(tensors["values"]), device)
        low, made.n_tokens, made.n_documents, made.n_massive = tensors["totals"].tolist()
        made.counts[:, low : low + tensors["counts"].shape[1]] = tensors["counts"].to(made.device)
        for name in LISTS:
            setattr(made, name, tensors[name].to(made.device))
        for number, start, stop in zip(tensors["sample_documents"].tolist(), starts, starts[1:], strict=False):
            made._keep_sample(number, tensors["sample_positions"][start:stop], tensors["sample_acts"][start:stop])
        return made, facts

    def _rank(self, side: int, extremes: Tensor, neurons: Tensor, chunk: Chunk) -> None:
        """Let the chunk's documents into one side's lists where they belong."""
        entering = (extremes >= self.values[:, side, -1]) & (extremes > -torch.inf)
        who = entering.any(0).nonzero()[:, 0]
        if not len(who):
            return
        documents = torch.from_numpy(chunk.documents).to(self.device)
        new = _order(extremes[:, who].T, documents.expand(len(who), -1))
        keys = torch.cat([_order(self.values[who, side], self.documents[who, side]), new], dim=1)
        best = keys.topk(KEPT, dim=1).indices
        old = best.clamp(max=KEPT - 1)
        from_chunk = best >= KEPT
        for name in LISTS:
            rows = getattr(self, name)[who, side]
            index = old if rows.ndim == 2 else old[..., None].expand(-1, -1, WINDOW)
            getattr(self, name)[who, side] = rows.gather(1, index)
        row, slot = from_chunk.nonzero(as_tuple=True)
        neuron, which = who[row], best[row, slot] - KEPT
        self.values[neuron, side, slot] = extremes[which, neuron]
        self.documents[neuron, side, slot] = documents[which]
        sign = 1 if side == 0 else -1
        for part in range(0, len(neuron), WINDOWS_AT_ONCE):
            some = slice(part, part + WINDOWS_AT_ONCE)
            peaks, windows = _windows(neurons, chunk, neuron[some], which[some], sign)
            self.peaks[neuron[some], side, slot[some]] = peaks
            self.windows[neuron[some], side, slot[some]] = windows

    def _take_sample(self, chunk: Chunk) -> None:
        order = _priority(chunk.documents)
        full = len(self._sample) >= SAMPLED_DOCUMENTS
        limit = max(entry[0] for entry in self._sample.values()) if full else 2**64
        for i in np.flatnonzero(chunk.listed):
            if int(order[i]) < limit:
                rows = slice(chunk.starts[i], chunk.starts[i + 1])
                self._keep_sample(int(chunk.documents[i]), chunk.positions[rows], chunk.acts[rows])
        self._trim_sample()

    def _keep_sample(self, number: int, positions: Tensor, acts: Tensor) -> None:
        priority = int(_priority(np.array([number]))[0])
        self._sample[number] = (priority, positions.clone(), acts.to("cpu", copy=True))

    def _trim_sample(self) -> None:
        for number in sorted(self._sample, key=lambda n: self._sample[n][0])[SAMPLED_DOCUMENTS:]:
            del self._sample[number]


def _order(values: Tensor, documents: Tensor) -> Tensor:
    """Return int64 keys that sort by value, then the earlier document first."""
    bits = values.contiguous().view(torch.int32)
    ascending = torch.where(bits >= 0, bits, bits ^ 0x7FFFFFFF).long()
    return (ascending << 32) + (LAST_DOCUMENT - documents)


def _windows(neurons: Tensor, chunk: Chunk, neuron: Tensor, which: Tensor, sign: int) -> tuple[Tensor, Tensor]:
    """Return peak positions and windows (entries, WINDOW) of `neuron` in the chunk's documents number `which`."""
    starts = torch.from_numpy(chunk.starts).to(neurons.device)
    first, length = starts[which], starts[which + 1] - starts[which]
    steps = torch.arange(int(length.max()), device=neurons.device)
    inside = steps < length[:, None]
    rows = (first[:, None] + steps).clamp(max=len(neurons) - 1)
    values = neurons[rows, neuron[:, None]]
    peak_row = (sign * values).masked_fill(~inside, -torch.inf).argmax(1)
    positions = chunk.positions.to(neurons.device)[rows]
    peaks = positions.gather(1, peak_row[:, None])
    slots = positions - peaks + REACH
    inside &= (slots >= 0) & (slots < WINDOW)
    windows = torch.full((len(neuron), WINDOW + 1), torch.nan, device=neurons.device)
    windows.scatter_(1, slots.where(inside, WINDOW), values.where(inside, torch.nan))
    return peaks[:, 0].to(torch.int16), windows[:, :WINDOW].to(torch.bfloat16)


def _priority(documents: np.ndarray) -> np.ndarray:
    """Return a fixed pseudo-random uint64 for each document number (splitmix64)."""
    x = documents.astype(np.uint64) + np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))
