"""How sure a number is: a value with its 95% interval, and the ways to get one; areas under ROC curves; rank
correlation; repetition.

Knows numbers only.
"""

import math
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from glp_core.errors import GlpError

Floats = NDArray[np.float64]
Z = 1.96
"""Normal quantile of a two-sided 95% interval."""
TAILS = (0.025, 0.975)
DRAWS = 2000
"""Of a bootstrap, unless told otherwise."""
EDGE = 1e-12
CELLS_AT_ONCE = 4_000_000
"""Numbers drawn at once: a bootstrap of many rows takes no more memory than that."""


class Interval(NamedTuple):
    """A value with its 95% interval; nan or infinite where there is no bound."""

    value: float
    low: float
    high: float

    @property
    def ci(self) -> list[float | None]:
        """Low and high for JSON, null where there is no bound."""
        return [_plain(self.low), _plain(self.high)]

    def to_json(self) -> dict[str, float | None | list[float | None]]:
        """Return the shape that reports have: value and ci."""
        return {"value": _plain(self.value), "ci": self.ci}


def _plain(number: float) -> float | None:
    return float(number) if math.isfinite(number) else None


def percentiles(draws: ArrayLike) -> tuple[float, float]:
    """Return the ends of the middle 95% of bootstrap draws (k,): nan draws are left out, infinite ones are extremes; nan without any."""
    values = np.asarray(draws, dtype=np.float64)
    ordered = np.sort(values[~np.isnan(values)])
    if not len(ordered):
        return math.nan, math.nan
    low, high = (float(ordered[round(share * (len(ordered) - 1))]) for share in TAILS)
    return low, high


def resampled_means(values: ArrayLike, *, draws: int = DRAWS, seed: int = 0) -> Floats:
    """Return means (draws,) of values (n,) drawn with replacement, nan ones left out; the same seed draws the same rows.

    So paired values that are given one after another with one seed stay paired.
    """
    values = np.asarray(values, dtype=np.float64)
    if not len(values):
        return np.full(draws, np.nan)
    present = np.isfinite(values)
    if draws * len(values) <= CELLS_AT_ONCE:
        counts = resample_counts(len(values), draws=draws, seed=seed)
        total, n = counts @ np.where(present, values, 0), counts @ present
        return total / np.where(n > 0, n, np.nan)
    rng, means = np.random.default_rng(seed), []
    at_once = max(1, CELLS_AT_ONCE // len(values))
    for first in range(0, draws, at_once):
        drawn = values[rng.integers(len(values), size=(min(at_once, draws - first), len(values)))]
        there = np.isfinite(drawn)
        means.append(np.where(there, drawn, 0).sum(1) / np.where(there.any(1), there.sum(1), np.nan))
    return np.concatenate(means)


@lru_cache(maxsize=8)
def resample_counts(n: int, *, draws: int = DRAWS, seed: int = 0) -> Floats:
    """Return how often each of n rows was drawn in every resample with replacement, (draws, n); the same seed draws the same."""
    index = np.random.default_rng(seed).integers(n, size=(draws, n))
    counts = np.bincount((index + n * np.arange(draws)[:, None]).ravel(), minlength=draws * n).reshape(draws, n).astype(float)
    counts.flags.writeable = False  # it is shared
    return counts


def bootstrap_mean(values: ArrayLike, *, draws: int = DRAWS, seed: int = 0) -> Interval:
    """Return the mean of values (n,) with its percentile bootstrap interval; nan values are left out, nan without any."""
    values = np.asarray(values, dtype=np.float64)
    present = values[np.isfinite(values)]
    mean = float(present.mean()) if len(present) else math.nan
    return Interval(mean, *percentiles(resampled_means(values, draws=draws, seed=seed)))


def drawn_counts(sizes: Sequence[int], *, draws: int, rng: np.random.Generator) -> Iterator[list[NDArray[np.int64]]]:
    """Yield, `draws` times, how often each member of groups of these sizes comes up when each group is drawn with replacement."""
    for _ in range(draws):
        yield [np.bincount(rng.integers(size, size=size), minlength=size) if size else np.zeros(0, int) for size in sizes]


def wilson(share: float, n: int) -> Interval:
    """Return a share of n independent cases with Wilson's interval."""
    centre = (share + Z**2 / (2 * n)) / (1 + Z**2 / n)
    half = Z / (1 + Z**2 / n) * math.sqrt(share * (1 - share) / n + Z**2 / (4 * n**2))
    return Interval(share, centre - half, centre + half)


def jackknife(value: float, left_out: ArrayLike, *, least: float = -math.inf) -> Interval:
    """Return a value with the interval by its values (k,) when one group in k is left out (Student's t); low is `least` at least."""
    from scipy.stats import t

    parts = np.asarray(left_out, dtype=np.float64)
    k = len(parts)
    half = float(t.ppf(TAILS[1], k - 1) * np.sqrt((k - 1) / k * np.square(parts - parts.mean()).sum()))
    return Interval(value, max(least, value - half), value + half)


def auc(x: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return the area under the ROC curve (m,) of features x (n, m) for labels (n,), 1 or 0; ties count half."""
    from scipy.stats import rankdata

    return auc_of_ranks(rankdata(x, axis=0), labels)


def auc_of_ranks(ranks: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return the areas for ranks (n, m) and labels (n,) or (k, n): (m,) or (k, m)."""
    positive = labels.sum(-1, keepdims=labels.ndim > 1)
    negative = labels.shape[-1] - positive
    return (labels.astype(ranks.dtype) @ ranks - positive * (positive + 1) / 2) / (positive * negative)


def auc_interval(area: float, n_positive: float, n_negative: float) -> Interval:
    """Return an area with its interval: all areas whose Hanley-McNeil standard error reaches it (Newcombe 2006, method 5).

    It stays within 0 and 1 and is not a point when the classes are told apart perfectly. Rows that hang together count as fewer.
    """
    from scipy.optimize import brentq

    if n_positive < 1 or n_negative < 1:
        raise GlpError(f"Got {n_positive} positive and {n_negative} negative values, wanted some of each.")

    def beyond(other: float) -> float:
        return abs(area - other) - Z * _hanley_mcneil(other, n_positive, n_negative)

    inside = min(max(area, EDGE), 1 - EDGE)  # at 0 and 1 the standard error is 0, and every area would seem far off
    low = float(brentq(beyond, 0.0, inside)) if area > 0 else 0.0
    high = float(brentq(beyond, inside, 1.0)) if area < 1 else 1.0
    return Interval(area, low, high)


def _hanley_mcneil(area: float, n_positive: float, n_negative: float) -> float:
    """Return Hanley and McNeil's (1982) standard error of an area, with one mean size for both classes, as Newcombe advises."""
    others = (n_positive + n_negative) / 2 - 1
    spread = 1 + others * ((1 - area) / (2 - area) + area / (1 + area))
    return math.sqrt(area * (1 - area) * spread / (n_positive * n_negative))


class Roc(NamedTuple):
    """A ROC curve for falling thresholds, from (0, 0) to (1, 1)."""

    false_alarms: Floats
    hits: Floats
    area: float

    def hits_at(self, rates: ArrayLike) -> Floats:
        """Return the share of hits at rates of false alarms (k,), on the straight lines between thresholds."""
        _, first = np.unique(self.false_alarms[::-1], return_index=True)
        best = np.sort(len(self.false_alarms) - 1 - first)  # of thresholds with the same false alarms, the one that finds most
        return np.interp(np.asarray(rates, dtype=np.float64), self.false_alarms[best], self.hits[best])


def roc(values: np.ndarray, labels: np.ndarray) -> Roc:
    """Return the ROC curve of values (n,) for labels (n,), 1 or 0.

    Raises:
        GlpError: a value is no number: it has no place in the order.
    """
    if missing := int(np.isnan(values).sum()):
        raise GlpError(f"{missing:,} of {len(values):,} values are no numbers (NaN): a ROC curve cannot order them.")
    order = np.argsort(-values, kind="stable")
    last_of_tie = np.append(np.diff(values[order]) != 0, True)
    true, false = np.cumsum(labels[order])[last_of_tie], np.cumsum(1 - labels[order])[last_of_tie]
    hits, alarms = np.append(0, true) / max(1, true[-1]), np.append(0, false) / max(1, false[-1])
    return Roc(alarms, hits, float(np.trapezoid(hits, alarms)))


def repeated_share(ids: Sequence[int], n: int) -> float:
    """Return the share of n-grams that occurred before (1 - distinct-n), 0 when there is none."""
    grams = [tuple(ids[i : i + n]) for i in range(len(ids) - n + 1)]
    return 1 - len(set(grams)) / len(grams) if grams else 0.0


def spearman(x: ArrayLike, y: ArrayLike) -> Interval:
    """Return the rank correlation with its interval (Bonett and Wright's standard error on Fisher's scale).

    A perfect correlation of n points is taken as half a swap of neighbours away from perfect, or its interval would be a point.

    Raises:
        GlpError: fewer than five pairs, or one side is constant.
    """
    from scipy.stats import spearmanr

    a, b = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
    present = np.isfinite(a) & np.isfinite(b)
    a, b, n = a[present], b[present], int(present.sum())
    if n < 5:
        raise GlpError(f"A rank correlation needs at least five pairs, got {n}.")
    if len(set(a)) < 2 or len(set(b)) < 2:
        raise GlpError("A rank correlation needs values that differ: one side is constant.")
    rho = float(spearmanr(a, b).statistic)
    most = 1 - 6 / (n * (n**2 - 1))
    z = math.atanh(min(max(rho, -most), most))
    half = Z * math.sqrt((1 + rho**2 / 2) / (n - 3))
    return Interval(rho, math.tanh(z - half), math.tanh(z + half))


def grouped_spearman(x: ArrayLike, y: ArrayLike, groups: Sequence[object], *, draws: int = 1000, seed: int = 0) -> Interval:
    """Return the rank correlation with an interval over whole groups, as checkpoints of a run are, whose pairs hang together.

    It is that of resampled groups, and no narrower than if pairs were independent.

    Raises:
        GlpError: as `spearman`, or fewer than three groups.
    """
    from scipy.stats import rankdata

    alone = spearman(x, y)
    pairs = np.stack([np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)])
    present, names = np.isfinite(pairs).all(0), np.asarray([str(group) for group in groups])
    parts = [pairs[:, present & (names == name)] for name in np.unique(names[present])]
    if len(parts) < 3:
        raise GlpError(f"An interval over groups needs at least three of them, got {len(parts)}.")
    rng, found = np.random.default_rng(seed), []
    for _ in range(draws):
        ranks = rankdata(np.concatenate([parts[i] for i in rng.integers(0, len(parts), len(parts))], axis=1), axis=1)
        if np.ptp(ranks, axis=1).all():
            found.append(np.corrcoef(ranks)[0, 1])
    low, high = np.quantile(found, (0.025, 0.975))
    return Interval(alone.value, min(alone.low, float(low)), max(alone.high, float(high)))
