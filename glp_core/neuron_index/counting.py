"""Count values of many neurons in fine bins of bfloat16 precision, compiled: what moments, quantiles and histograms are made from."""

import numpy as np
from numba import njit
from numpy.typing import NDArray

FINEST = (127 - 16) << 7
"""bfloat16 bits of 2^-16: smaller values count as 0."""
LARGEST = ((127 + 8) << 7) - 1
"""bfloat16 bits of the last value below 2^8: larger ones count as this."""
MAGNITUDES = LARGEST - FINEST + 1
BINS = 2 * MAGNITUDES - 1
NEURONS_AT_ONCE = 64


def bin_values() -> np.ndarray:
    """Return the value (BINS,) that each bin counts, ascending, float64."""
    bits = (np.arange(MAGNITUDES, dtype=np.uint32) + FINEST) << 16
    magnitudes = bits.view(np.float32).astype(np.float64)
    magnitudes[0] = 0.0
    return np.concatenate([-magnitudes[:0:-1], magnitudes])


@njit(nogil=True)
def count_values(
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
