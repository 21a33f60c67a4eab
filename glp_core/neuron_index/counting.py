"""Count values of many neurons in bins of bfloat16 precision: what moments, quantiles and histograms are made from.

A bin is a sign, an exponent and seven bits of mantissa, so a quantile that is read from the counts is off by at most PRECISION of
itself, however heavy a neuron's tails are. On the CPU the loop is compiled; on a CUDA device it is a few tensor operations.
"""

from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
import torch
from numba import njit
from numpy.typing import NDArray
from torch import Tensor

FINEST = (127 - 24) << 7
"""bfloat16 bits of 2^-24: smaller values count as 0."""
LARGEST = ((127 + 40) << 7) - 1
"""bfloat16 bits of the last value below 2^40, 1.1e12: larger ones count as this."""
PRECISION = 2.0**-8
"""Relative error of a value that is known by its bin."""
MAGNITUDES = LARGEST - FINEST + 1
BINS = 2 * MAGNITUDES - 1
NEURONS_AT_ONCE = 64
VALUES_AT_ONCE = 2**26
"""On a device: its temporary tensors hold 8 bytes for each."""


class Extremes(NamedTuple):
    """Each document's lowest and highest value of each neuron."""

    lows: Tensor
    """(documents, neurons), float32."""
    highs: Tensor


def bin_values() -> np.ndarray:
    """Return the value (BINS,) that each bin counts, ascending, float64."""
    bits = (np.arange(MAGNITUDES, dtype=np.uint32) + FINEST) << 16
    magnitudes = bits.view(np.float32).astype(np.float64)
    magnitudes[0] = 0.0
    return np.concatenate([-magnitudes[:0:-1], magnitudes])


class Counter:
    """Counts values where they are: a table (neurons, BINS), int32, on the device of the values."""

    def __init__(self, n_neurons: int, device: torch.device | str = "cpu") -> None:
        # NumPy's zeros take memory only where something is counted
        self.counts = torch.from_numpy(np.zeros((n_neurons, BINS), np.int32)).to(device)
        self._pool: ThreadPoolExecutor | None = None

    def add(self, values: Tensor, starts: NDArray[np.int64]) -> Extremes:
        """Count values (n, neurons), float32, on the table's device; `starts` (documents + 1,) are the documents' rows."""
        if self.counts.device.type == "cpu":
            return self._add_compiled(values, starts)
        return count_on_device(values, starts, self.counts)

    def _add_compiled(self, values: Tensor, starts: NDArray[np.int64]) -> Extremes:
        threads = torch.get_num_threads()
        if self._pool is None:
            self._pool = ThreadPoolExecutor(threads)
        rows, table = values.contiguous().numpy(), self.counts.numpy()
        shape = (len(starts) - 1, len(table))
        lows, highs = np.empty(shape, np.float32), np.empty(shape, np.float32)
        edges = np.linspace(0, len(table), threads + 1).astype(int)
        jobs = [
            self._pool.submit(_count, rows, rows.view(np.int32), starts, first, last, table, lows, highs)
            for first, last in zip(edges, edges[1:], strict=False)
        ]
        for job in jobs:
            job.result()
        return Extremes(torch.from_numpy(lows), torch.from_numpy(highs))


def count_on_device(values: Tensor, starts: NDArray[np.int64], counts: Tensor) -> Extremes:
    """Do what `Counter.add` does by tensor operations, on any device that has them."""
    n_neurons = values.shape[1]
    offsets = torch.arange(n_neurons, device=values.device) * BINS
    ones = torch.ones((), dtype=torch.int32, device=values.device)
    for part in values.split(max(1, VALUES_AT_ONCE // n_neurons)):
        bits = part.contiguous().view(torch.int32)
        magnitude = bits & 0x7FFFFFFF
        rounded = (magnitude + 0x7FFF + ((magnitude >> 16) & 1)) >> 16
        place = rounded.clamp_(FINEST, LARGEST).sub_(FINEST)
        place = torch.where(bits < 0, -place, place).add_(MAGNITUDES - 1)
        flat = (place + offsets).flatten()
        counts.view(-1).scatter_add_(0, flat, ones.expand(len(flat)))
    lengths = torch.from_numpy(np.diff(starts)).to(values.device)
    lows, highs = (
        torch.segment_reduce(values, how, lengths=lengths, axis=0, unsafe=True, initial=initial)
        for how, initial in (("min", torch.inf), ("max", -torch.inf))
    )
    return Extremes(lows, highs)


@njit(nogil=True)
def _count(
    values: NDArray[np.float32],
    bits: NDArray[np.int32],
    starts: NDArray[np.int64],
    first: int,
    last: int,
    counts: NDArray[np.int32],
    lows: NDArray[np.float32],
    highs: NDArray[np.float32],
) -> None:
    """Count neurons first..last of values (n, neurons), and reduce each document.

    Goes in blocks of neurons that stay in the cache; bins are found for a whole block before any is counted, so that finding them
    is vectorised, which takes all integers to be 32 bits wide.
    """
    bins = np.empty(NEURONS_AT_ONCE, np.int32)
    for begin in range(first, last, NEURONS_AT_ONCE):
        n = min(NEURONS_AT_ONCE, last - begin)
        for d in range(len(starts) - 1):
            lows[d, begin : begin + n] = np.inf
            highs[d, begin : begin + n] = -np.inf
            for t in range(starts[d], starts[d + 1]):
                for k in range(n):
                    value = values[t, begin + k]
                    lows[d, begin + k] = min(lows[d, begin + k], value)
                    highs[d, begin + k] = max(highs[d, begin + k], value)
                for k in range(n):
                    raw = bits[t, begin + k]
                    magnitude = np.int32(raw & np.int32(0x7FFFFFFF))
                    to_even = np.int32(np.int32(magnitude >> np.int32(16)) & np.int32(1))
                    rounded = np.int32(np.int32(magnitude + np.int32(0x7FFF) + to_even) >> np.int32(16))
                    offset = np.int32(min(max(rounded, np.int32(FINEST)), np.int32(LARGEST)) - np.int32(FINEST))
                    sign = np.int32(raw >> np.int32(31))
                    bins[k] = np.int32(MAGNITUDES - 1) + np.int32(np.int32(offset ^ sign) - sign)
                for k in range(n):
                    counts[np.uint64(begin + k), np.uint64(bins[k])] += 1
