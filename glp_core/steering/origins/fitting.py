"""Fit a direction to activations of two classes, and the concept probe beside it."""

from collections.abc import Sequence
from itertools import chain

import numpy as np
import torch
from torch import Tensor

from glp_core.data.text_activations import POOLED, Pooling, TextReading
from glp_core.errors import GlpError
from glp_core.llm.site import Site
from glp_core.progress import Progress, quiet
from glp_core.stats import roc
from glp_core.steering.directions import Direction

TEST_SHARE = 0.25


def diff_mean(
    site: Site,
    positive: Sequence[str],
    negative: Sequence[str],
    *,
    name: str = "direction",
    title: str = "",
    how: str = "",
    test: tuple[Sequence[str], Sequence[str]] | None = None,
    pooling: Pooling = "last",
    seed: int = 0,
    progress: Progress = quiet,
) -> Direction:
    """Make a direction: mean activation of positive texts minus that of negative ones (DiffMean), at their last token.

    Args:
        test: positive and negative texts to measure it on; a quarter of each class is held out when None.
        pooling: mean for the average over each text's tokens instead.
        seed: of the choice of held-out texts.
    Raises:
        GlpError: fewer than four texts in a class, or a text without tokens.
    """
    train = (positive, negative)
    if test is None:
        (train_positive, test_positive), (train_negative, test_negative) = (_hold_out(side, seed) for side in train)
        train, test = (train_positive, train_negative), (test_positive, test_negative)
    texts = (*train, *test)
    counts = [len(side) for side in texts]
    if min(counts) < 2:
        raise GlpError(f"Got {counts} texts (train +, train -, test +, test -), wanted at least two of each.")
    reading = TextReading.of(site, list(chain.from_iterable(texts)), progress=progress)
    n_train, n_test = counts[0] + counts[1], counts[2] + counts[3]
    labels = np.repeat([1, 0, 1, 0], counts)
    return direction_from(
        reading.pooled(pooling),
        reading.mean,
        labels,
        n_train=n_train,
        name=name,
        title=title or name.replace("-", " "),
        layer=site.layer,
        median_norm=site.median_norm,
        how=how or f"DiffMean of {POOLED[pooling]} of {n_train} texts; measured on {n_test} others",
    )


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
    """Make a direction from activations (n, d): the first `n_train` make it, the others measure it; rows of nan are left out.

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
        raise GlpError("The two classes have the same mean activation: the texts of both are the same.")
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


def _hold_out(texts: Sequence[str], seed: int) -> tuple[list[str], list[str]]:
    order = torch.randperm(len(texts), generator=torch.Generator().manual_seed(seed)).tolist()
    n_test = int(len(texts) * TEST_SHARE)
    return [texts[i] for i in order[n_test:]], [texts[i] for i in order[:n_test]]
