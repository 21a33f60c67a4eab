"""One-dimensional probes for many neurons at once: class-mean differences, logistic regression by Newton steps.

Arrays only, float64 inside: knows nothing of neurons, tasks or models.
"""

from typing import NamedTuple

import numpy as np

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
