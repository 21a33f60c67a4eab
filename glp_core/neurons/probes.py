"""One-dimensional probes for many neurons at once: class-mean differences, AUC, logistic regression by Newton steps.

Arrays only, float64 inside: knows nothing of neurons, tasks or models.
"""

from typing import NamedTuple

import numpy as np
from scipy.stats import rankdata

NEWTON_STEPS = 25
STEEPEST = 30.0
"""Largest slope on a standardised feature: separable classes have no finite maximum of the likelihood."""


class LogisticFits(NamedTuple):
    """Probability of the positive class = sigmoid(slope * x + intercept), one pair a feature."""

    slope: np.ndarray
    intercept: np.ndarray


def standardised_difference(x: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return for features x (n, m) the difference of class means over the pooled standard deviation (m,)."""
    positive, negative = x[labels == 1].astype(np.float64), x[labels == 0].astype(np.float64)
    n, k = len(positive), len(negative)
    pooled = (n * positive.var(0) + k * negative.var(0)) / (n + k)
    return (positive.mean(0) - negative.mean(0)) / np.sqrt(np.maximum(pooled, 1e-12))


def auc(x: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return the area under the ROC curve (m,) of features x (n, m); ties count half."""
    return auc_of_ranks(rankdata(x, axis=0), labels)


def auc_of_ranks(ranks: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return the areas for ranks (n, m) and labels (n,) or (k, n): (m,) or (k, m)."""
    positive = labels.sum(-1, keepdims=labels.ndim > 1)
    negative = labels.shape[-1] - positive
    return (labels.astype(ranks.dtype) @ ranks - positive * (positive + 1) / 2) / (positive * negative)


def fit_logistic(x: np.ndarray, labels: np.ndarray, *, l2: float = 1.0) -> LogisticFits:
    """Fit one logistic regression a feature of x (n, m): what scikit-learn's LogisticRegression(C=1 / l2) finds on standardised x."""
    mean, std = x.mean(0, dtype=np.float64), np.maximum(x.std(0, dtype=np.float64), 1e-12)
    z = (x - mean) / std
    y = labels.astype(np.float64)[:, None]
    slope, intercept = np.zeros(z.shape[1]), np.full(z.shape[1], np.log(y.mean() / (1 - y.mean())))
    for _ in range(NEWTON_STEPS):
        p = 1 / (1 + np.exp(-np.clip(z * slope + intercept, -STEEPEST, STEEPEST)))
        weight = np.maximum(p * (1 - p), 1e-9)
        error = p - y
        g0, g1 = error.sum(0), (error * z).sum(0) + l2 * slope
        h00, h01, h11 = weight.sum(0), (weight * z).sum(0), (weight * z * z).sum(0) + l2
        determinant = h00 * h11 - h01**2
        step0, step1 = (h11 * g0 - h01 * g1) / determinant, (h00 * g1 - h01 * g0) / determinant
        size = np.maximum(1.0, np.maximum(np.abs(step0), np.abs(step1)) / 2)
        intercept, slope = intercept - step0 / size, slope - step1 / size
        if max(np.abs(step0).max(), np.abs(step1).max()) < 1e-8:
            break
    return LogisticFits(slope / std, intercept - slope * mean / std)


def roc(values: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
    """Return false-positive and true-positive rates for falling thresholds, from (0, 0) to (1, 1), and the area."""
    order = np.argsort(-values, kind="stable")
    last_of_tie = np.append(np.diff(values[order]) != 0, True)
    true, false = np.cumsum(labels[order])[last_of_tie], np.cumsum(1 - labels[order])[last_of_tie]
    tpr, fpr = np.append(0, true) / max(1, true[-1]), np.append(0, false) / max(1, false[-1])
    return fpr, tpr, float(np.trapezoid(tpr, fpr))


def bootstrap_mean(values: np.ndarray, *, draws: int = 10_000, seed: int = 0) -> tuple[float, float]:
    """Return the 95% bootstrap interval of the mean of values (n,)."""
    rng = np.random.default_rng(seed)
    means = values[rng.integers(0, len(values), (draws, len(values)))].mean(1)
    low, high = np.quantile(means, (0.025, 0.975))
    return float(low), float(high)


def auc_interval(value: float, n_positive: int, n_negative: int) -> tuple[float, float]:
    """Return a 95% interval of an AUC by Hanley and McNeil's (1982) standard error."""
    q1, q2 = value / (2 - value), 2 * value**2 / (1 + value)
    variance = value * (1 - value) + (n_positive - 1) * (q1 - value**2) + (n_negative - 1) * (q2 - value**2)
    reach = 1.96 * np.sqrt(max(variance, 0) / (n_positive * n_negative))
    return max(0.0, value - reach), min(1.0, value + reach)
