"""Two-sample tests: can a classifier tell generated activations from real ones? 0.5 means that it cannot.

A logistic regression sees means and directions, its accuracy is measured on rows it was not fitted on; the nearest-neighbour test
(each row left out once) also sees shape and, above all, copies and gaps. Unlike the Frechet distance, neither stops at mean and
covariance. The neighbours' two shares say more than their mean: where one sample is denser they part, and the mean may still be 0.5.
Knows numbers only.
"""

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from glp_core.errors import GlpError
from glp_core.jobs.pause import pause
from glp_core.stats import Interval, wilson

FEWEST = 20


class Accuracy(NamedTuple):
    """Share of rows that a classifier puts into the right sample."""

    share: Interval
    """With Wilson's interval; rows count as independent."""
    n: int
    """Rows that it was measured on."""
    first: float
    """Share of the first sample's rows that are right; far from `second` where one sample is the denser: a collapsed one has near 1."""
    second: float
    """Share of the second sample's rows that are right."""


def logistic_test(one: NDArray[np.float32], other: NDArray[np.float32], *, seed: int = 0) -> Accuracy:
    """Return the accuracy of a regularised logistic regression on the held-out half of two samples (n, d) and (m, d)."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import train_test_split
    from sklearn.preprocessing import StandardScaler

    rows, labels = _pooled(one, other)
    train, test, y_train, y_test = train_test_split(rows, labels, test_size=0.5, stratify=labels, random_state=seed)
    scaler = StandardScaler().fit(train)
    model = LogisticRegression(C=0.01, max_iter=300).fit(scaler.transform(train), y_train)
    return _accuracy(model.predict(scaler.transform(test)) == y_test, y_test)


def neighbour_test(one: NDArray[np.float32], other: NDArray[np.float32]) -> Accuracy:
    """Return how often a row's nearest other row is of its own sample, over two samples (n, d) and (m, d) of equal size."""
    import torch

    rows, labels = _pooled(one, other)
    points, own = torch.from_numpy(rows), torch.from_numpy(labels)
    right = []
    for start in range(0, len(points), 1024):
        distances = torch.cdist(points[start : start + 1024], points)
        span = torch.arange(len(distances))
        distances[span, start + span] = math.inf
        right.append(own[distances.argmin(1)] == own[start : start + 1024])
    return _accuracy(torch.cat(right).numpy(), labels)


def _pooled(one: NDArray[np.float32], other: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Return rows of equally many of both samples and their labels; a test begins here, after a pause."""
    pause()
    if one.ndim != 2 or other.ndim != 2 or one.shape[1] != other.shape[1]:
        raise GlpError(f"Got samples of shapes {one.shape} and {other.shape}, wanted two (n, d) of one width.")
    n = min(len(one), len(other))
    if n < FEWEST:
        raise GlpError(f"Got {len(one)} and {len(other)} rows; a two-sample test needs at least {FEWEST} of each.")
    rows = np.concatenate([one[:n], other[:n]]).astype(np.float32)
    if not np.isfinite(rows).all():
        raise GlpError("The samples hold values that are not finite.")
    return rows, np.repeat([0, 1], n)


def _accuracy(right: NDArray[np.bool_], labels: NDArray[np.int64]) -> Accuracy:
    """Return the share of right rows with Wilson's interval."""
    first, second = (float(right[labels == label].mean()) for label in (0, 1))
    return Accuracy(wilson(float(right.mean()), len(right)), len(right), first, second)
