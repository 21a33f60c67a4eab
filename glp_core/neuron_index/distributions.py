"""Moments, quantiles, histograms and active shares of every neuron, as exact functions of the counts of a pass."""

from collections.abc import Sequence

import numpy as np

from glp_core.neuron_index.counting import bin_values
from glp_core.neuron_index.format import ACTIVE, HISTOGRAM_BINS, INTERVAL_EDGES, QUANTILES, TAILS
from glp_core.neuron_index.statistics import NeuronStatistics

NEURONS_AT_ONCE = 256


def distributions(statistics: NeuronStatistics) -> dict[str, np.ndarray]:
    """Return moments, quantiles, histograms and active shares of every neuron, from the counts."""
    values = bin_values()
    n = max(1, statistics.n_tokens)
    made: dict[str, list[np.ndarray]] = {
        name: [] for name in ("moments", "quantiles", "edges", "counts", "range", "active_share")
    }
    for first in range(0, statistics.n_neurons, NEURONS_AT_ONCE):
        counts = statistics.counts[first : first + NEURONS_AT_ONCE]
        used = np.flatnonzero(counts.any(0))
        span = slice(used[0], used[-1] + 1) if len(used) else slice(0, 1)
        counts, at = counts[:, span].astype(np.float64), values[span]
        made["moments"].append(_moments(counts, at, n))
        below = counts.cumsum(1)
        made["quantiles"].append(_quantiles(below, at, QUANTILES, n))
        made["edges"].append(_quantiles(below, at, INTERVAL_EDGES, n))
        tails = _quantiles(below, at, TAILS, n)
        limits = np.stack([np.minimum(tails[:, 0], 0), np.maximum(tails[:, 1], 0)], 1) * ACTIVE
        active = (at < limits[:, :1]) | (at > limits[:, 1:])
        made["active_share"].append((counts * active).sum(1) / n)
        low, high = made["edges"][-1][:, 0], made["edges"][-1][:, -1]
        made["range"].append(np.stack([low, high], 1))
        made["counts"].append(_histograms(counts, at, low, high))
    tables = {name: np.concatenate(parts) for name, parts in made.items()}
    return {name: value.astype(np.int32 if name == "counts" else np.float32) for name, value in tables.items()}


def _moments(counts: np.ndarray, at: np.ndarray, n: int) -> np.ndarray:
    """Return mean, standard deviation, skewness and excess kurtosis (neurons, 4); the last two are 0 for constants."""
    mean = counts @ at / n
    centred = at - mean[:, None]
    second, third, fourth = ((counts * centred**power).sum(1) / n for power in (2, 3, 4))
    safe = np.where(second > 0, second, 1.0)
    varies = second > 0
    return np.stack([mean, np.sqrt(second), varies * third / safe**1.5, varies * (fourth / safe**2 - 3)], 1)


def _quantiles(below: np.ndarray, at: np.ndarray, shares: Sequence[float], n: int) -> np.ndarray:
    """Return the smallest values that at least a share of the tokens do not exceed (neurons, shares)."""
    ranks = np.maximum(1, np.ceil(np.array(shares) * n - 1e-9))
    return at[np.stack([np.argmax(below >= rank, axis=1) for rank in ranks], 1)]


def _histograms(counts: np.ndarray, at: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """Return counts in HISTOGRAM_BINS equal bins from low to high (neurons, bins)."""
    width = np.where(high > low, high - low, 1.0)
    where = np.clip((at - low[:, None]) / width[:, None] * HISTOGRAM_BINS, 0, HISTOGRAM_BINS - 1).astype(int)
    flat = (where + np.arange(len(counts))[:, None] * HISTOGRAM_BINS).ravel()
    return np.bincount(flat, counts.ravel(), len(counts) * HISTOGRAM_BINS).reshape(len(counts), HISTOGRAM_BINS)
