"""Moments, quantiles, tails and histograms of every neuron, as exact functions of the counts of a pass."""

from collections.abc import Sequence

import numpy as np
from torch import Tensor

from glp_core.neuron_index.counting import MAGNITUDES, bin_values
from glp_core.neuron_index.format import (
    HISTOGRAM_BINS,
    INTERVAL_EDGES,
    QUANTILES,
    REPEATED,
    TAIL_SHARE,
    histogram_edges,
)

NEURONS_AT_ONCE = 256


def distributions(counts: Tensor, n_tokens: int) -> dict[str, np.ndarray]:
    """Return each neuron's moments, quantiles, tail, interval edges, histogram and shares, from its counts (neurons, BINS)."""
    parts = [_tables(rows.cpu().numpy(), max(1, n_tokens)) for rows in counts.split(NEURONS_AT_ONCE)]
    tables = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    return {name: value.astype(np.int32 if name == "counts" else np.float32) for name, value in tables.items()}


def _tables(counts: np.ndarray, n: int) -> dict[str, np.ndarray]:
    """Return the tables of some neurons over n tokens."""
    values = bin_values()
    tail = _tail(counts, values[MAGNITUDES - 1 :], n)
    used = np.flatnonzero(counts.any(0))
    span = slice(used[0], used[-1] + 1) if len(used) else slice(0, 1)
    counts, at = counts[:, span].astype(np.float64), values[span]
    below = counts.cumsum(1)
    ends = quantiles(below, at, (0.0, 1.0))
    edges, repeated = _interval_edges(counts, at, n)
    return {
        "moments": _moments(counts, at, n),
        "quantiles": quantiles(below, at, QUANTILES),
        "tail": tail,
        "edges": edges,
        "repeated": repeated,
        "range": ends,
        "counts": _histograms(counts, at, histogram_edges(ends[:, 0], ends[:, 1], tail)),
    }


def _moments(counts: np.ndarray, at: np.ndarray, n: int) -> np.ndarray:
    """Return mean, standard deviation, skewness and excess kurtosis (neurons, 4); the last two are 0 for constants."""
    mean = counts @ at / n
    centred = at - mean[:, None]
    second, third, fourth = ((counts * centred**power).sum(1) / n for power in (2, 3, 4))
    safe = np.where(second > 0, second, 1.0)
    varies = second > 0
    return np.stack([mean, np.sqrt(second), varies * third / safe**1.5, varies * (fourth / safe**2 - 3)], 1)


def quantiles(below: np.ndarray, at: np.ndarray, shares: Sequence[float]) -> np.ndarray:
    """Return the smallest values that at least a share of the tokens do not exceed (neurons, shares).

    Args:
        below: tokens at or below each of the values `at` (neurons, values); the last column counts them all.
    """
    ranks = np.maximum(1, np.ceil(np.array(shares) * below[:, -1:] - 1e-9))
    return at[np.stack([np.argmax(below >= rank[:, None], axis=1) for rank in ranks.T], 1)]


def _tail(counts: np.ndarray, magnitudes: np.ndarray, n: int) -> np.ndarray:
    """Return the absolute value that TAIL_SHARE of the tokens reach or exceed (neurons,)."""
    folded = counts[:, MAGNITUDES - 1 :].astype(np.int64)
    folded[:, 1:] += counts[:, : MAGNITUDES - 1][:, ::-1]
    above = folded[:, ::-1].cumsum(1)
    return magnitudes[::-1][np.argmax(above >= max(1, round(TAIL_SHARE * n)), axis=1)]


def _interval_edges(counts: np.ndarray, at: np.ndarray, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Return quantiles of the values that differ (neurons, edges), and the share of tokens at values that repeat (neurons,).

    A value that more than a share REPEATED of the tokens have, such as exactly 0, would fill whole intervals by itself.
    """
    often = counts > REPEATED * n
    differing = np.where(often, 0, counts)
    constant = differing.sum(1) == 0
    differing[constant] = counts[constant]
    return quantiles(differing.cumsum(1), at, INTERVAL_EDGES), (counts * often).sum(1) / n


def _histograms(counts: np.ndarray, at: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """Return the counts between the edges (neurons, HISTOGRAM_BINS + 1); an edge belongs to the bin above it, the last to the last."""
    made = np.empty((len(counts), HISTOGRAM_BINS))
    for row, (own, bounds) in enumerate(zip(counts, edges, strict=True)):
        where = np.clip(np.searchsorted(bounds, at, side="right") - 1, 0, HISTOGRAM_BINS - 1)
        made[row] = np.bincount(where, own, HISTOGRAM_BINS)
    return made
