"""Fit a direction to activations of two classes (DiffMean, paired differences, logistic probe), and the concept probe beside it.

Knows activations and labels; knows nothing of texts or of what the classes mean.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from glp_core.errors import GlpError
from glp_core.stats import roc
from glp_core.steering.direction_facts import Method
from glp_core.steering.directions import Direction

FOLDS = 4
"""Parts of the rows; each is measured along a direction that was made from the others."""
Ints = NDArray[np.int64]
SAME = "The two classes have the same mean activation: the texts of both are the same."


class Classes(NamedTuple):
    """Activations of two classes."""

    acts: Tensor
    """(n, d), what a direction is fitted to."""
    means: Tensor
    """(n, d), mean activations of the same texts, which the concept probe reads."""
    labels: Ints
    """(n,), 1 positive and 0 negative."""
    numbers: Ints
    """(n,), counted within each class: rows of one number are a pair."""

    @staticmethod
    def of(acts: Tensor, means: Tensor, labels: Ints) -> "Classes":
        """Return classes whose pairs are told by order, first with first; rows of nan are left out.

        Raises:
            GlpError: a class keeps fewer than FOLDS rows.
        """
        numbers = np.zeros(len(labels), dtype=np.int64)
        for label in (0, 1):
            numbers[labels == label] = np.arange((labels == label).sum())
        finite = torch.isfinite(acts).all(-1) & torch.isfinite(means).all(-1)
        kept = finite.numpy()
        classes = Classes(acts[finite].float(), means[finite].float(), labels[kept], numbers[kept])
        counts = [int((classes.labels == label).sum()) for label in (1, 0)]
        if min(counts) < FOLDS:
            raise GlpError(
                f"Got {counts[0]} positive and {counts[1]} negative texts of more than one word, wanted {FOLDS} of each."
            )
        return classes

    def part(self, rows: NDArray[np.bool_]) -> "Classes":
        """Return some of the rows."""
        chosen = torch.from_numpy(rows)
        return Classes(self.acts[chosen], self.means[chosen], self.labels[rows], self.numbers[rows])

    def folds(self, seed: int) -> Ints:
        """Return each row's fold, 0 to FOLDS - 1, drawn anew by a seed: each has its share of both classes, a pair is never parted."""
        rng = np.random.default_rng(seed)
        in_both = np.intersect1d(self.numbers[self.labels == 1], self.numbers[self.labels == 0])
        alone = np.setdiff1d(self.numbers, in_both)
        drawn = np.concatenate([rng.permutation(in_both), rng.permutation(alone)])
        fold = dict(zip(drawn.tolist(), np.arange(len(drawn)) % FOLDS, strict=True))
        return np.array([fold[number] for number in self.numbers.tolist()])


def fit(classes: Classes, method: Method) -> Tensor:
    """Return the unit vector (d,) that a method fits to two classes; plus means more of the positive one.

    Raises:
        GlpError: the classes do not differ, or there are fewer than two pairs where pairs are needed.
    """
    vector = _FITS[method](classes)
    norm = vector.norm()
    if not norm > 0:
        raise GlpError(SAME)
    return vector / norm


def _mean_difference(classes: Classes) -> Tensor:
    positive = torch.from_numpy(classes.labels == 1)
    return classes.acts[positive].mean(0) - classes.acts[~positive].mean(0)


def _principal(classes: Classes) -> Tensor:
    """Return the direction in which pairs differ most; their mean difference is not taken off, for it is what they share."""
    places = [
        dict(zip(classes.numbers[of].tolist(), np.flatnonzero(of).tolist(), strict=True))
        for of in (classes.labels == 1, classes.labels == 0)
    ]
    pairs = [(row, places[1][number]) for number, row in places[0].items() if number in places[1]]
    if len(pairs) < 2:
        raise GlpError(
            f"Got {len(pairs)} pairs of texts, wanted two or more: a pair is the first text of both classes, and so on."
        )
    positive, negative = (list(rows) for rows in zip(*pairs, strict=True))
    differences = (classes.acts[positive] - classes.acts[negative]).double()
    if not differences.any():
        raise GlpError(SAME)
    first = torch.linalg.svd(differences, full_matrices=False).Vh[0]
    return (first if first @ differences.mean(0) >= 0 else -first).float()


def _probe(classes: Classes) -> Tensor:
    return fit_probe(classes.acts, classes.labels)[0]


_FITS: dict[Method, Callable[[Classes], Tensor]] = {"diffmean": _mean_difference, "pca": _principal, "probe": _probe}


def direction_from(
    acts: Tensor,
    means: Tensor,
    labels: np.ndarray,
    *,
    n_train: int,
    name: str,
    title: str,
    layer: int,
    median_norm: float,
    how: str,
) -> Direction:
    """Make a direction (DiffMean) from activations (n, d): the first `n_train` make it, the others measure it; rows of nan are left out.

    Args:
        acts: whose class means differ by the direction.
        means: mean activations of the same texts, for the concept probe.
        labels: (n,), 1 positive and 0 negative.
    """
    finite = torch.isfinite(acts).all(-1) & torch.isfinite(means).all(-1)
    n_train = int(finite[:n_train].sum())
    acts, means, labels = acts[finite], means[finite], labels[finite.numpy()]
    train, test = labels[:n_train] == 1, labels[n_train:]
    if min(train.sum(), (~train).sum(), test.sum(), (1 - test).sum()) < 1:
        raise GlpError(
            "A class has no text left: each needs some of more than one word, to make the direction and to measure it."
        )
    difference = acts[:n_train][torch.from_numpy(train)].mean(0) - acts[:n_train][torch.from_numpy(~train)].mean(0)
    if not difference.norm() > 0:
        raise GlpError(SAME)
    vector = difference / difference.norm()
    weight, bias = fit_probe(means[:n_train], labels[:n_train])
    return Direction(
        name=name,
        title=title,
        vector=vector,
        layer=layer,
        median_norm=median_norm,
        auroc=roc((acts[n_train:] @ vector).numpy(), test).area,
        how=how,
        n_train=n_train,
        n_test=len(test),
        probe_weight=weight,
        probe_bias=bias,
        probe_auroc=roc((means[n_train:] @ weight).numpy(), test).area,
    )


def fit_probe(means: Tensor, labels: np.ndarray, *, l2: float = 10.0) -> tuple[Tensor, float]:
    """Fit a logistic regression on standardised activations (n, d); return weight (d,) and bias for raw ones.

    Args:
        l2: penalty on the squared weights, against the mean loss of a text times n.
    """
    from sklearn.linear_model import LogisticRegression

    x = means.double().numpy()
    mean, std = x.mean(0), x.std(0) + 1e-6
    fit = LogisticRegression(C=1 / (2 * l2), class_weight="balanced", max_iter=2000).fit((x - mean) / std, labels)
    weight = fit.coef_[0] / std
    bias = float(fit.intercept_[0] - weight @ mean)
    return torch.from_numpy(weight).float(), bias
