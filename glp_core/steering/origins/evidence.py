"""A direction with the evidence that it is one: how well texts that it was not made from are told apart along it.

Knows activations and labels; `from_texts.py` and `personas.py` bring them.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from glp_core.files import Json
from glp_core.llm.site import Site
from glp_core.stats import Interval, auc_interval, roc
from glp_core.steering.direction_facts import Method
from glp_core.steering.directions import Direction
from glp_core.steering.origins.fitting import FOLDS, Classes, Ints, fit, fit_probe

Floats = NDArray[np.float64]
CHANCE = 0.5
SHARED = 1 + FOLDS / (FOLDS - 1)
"""By how much rows count as fewer where the directions of different folds share most of theirs (Nadeau and Bengio 2003, section 3.1).

Of 200 draws of classes that are the same, plain intervals lie above .5 in 5 to 10%, these in 0 to 1% (20 or 40 rows a class).
"""


class Evidence(NamedTuple):
    """How well a direction tells rows apart that it was not made from."""

    scores: Floats
    """(n,), each row's projection in median norms."""
    labels: Ints
    """(n,), 1 positive and 0 negative."""
    numbers: Ints
    """(n,), which text of its class each row is, counted from 0."""
    auroc: Interval

    @property
    def is_chance(self) -> bool:
        """Whether chance would tell the classes apart as well, as far as can be told."""
        return self.auroc.low <= CHANCE


class Made(NamedTuple):
    """A direction with the evidence for it."""

    direction: Direction
    evidence: Evidence
    texts: tuple[Sequence[str], Sequence[str]] = ((), ())
    """The positive and the negative ones, where there are any."""


class Origin(NamedTuple):
    """What a new direction is called and where it comes from."""

    name: str
    """File name without .safetensors."""
    title: str
    """Name to show; empty: the name with spaces."""
    how: str
    """How it was made, in words."""
    about: Json
    """What else is to be kept of that; the evidence is added."""


def made_from(classes: Classes, site: Site, origin: Origin, *, method: Method = "diffmean", seed: int = 0) -> Made:
    """Make a direction from all rows; measure each row along one that was made without it and its quarter of the rows.

    Args:
        seed: of the choice of quarters.
    Raises:
        GlpError: the classes do not differ, or too few rows are paired.
    """
    folds, scores = classes.folds(seed), np.zeros(len(classes.labels))
    for fold in range(FOLDS):
        vector = fit(classes.part(folds != fold), method)
        scores[folds == fold] = _along(vector, classes.part(folds == fold), site.median_norm)
    n = len(classes.labels)
    unmeasured = Direction(
        name=origin.name,
        title=origin.title or origin.name.replace("-", " "),
        vector=fit(classes, method),
        layer=site.layer,
        median_norm=site.median_norm,
        auroc=np.nan,
        how=f"{origin.how}; a quarter of them at a time measured along one that was made from the others",
        n_train=n,
        n_test=n,
        probe_weight=classes.means[0],
        probe_bias=np.nan,
        about={**origin.about, "method": method, "seed": seed},
    )
    return _measured(unmeasured, classes, scores, folds, shared=SHARED)


def measured_on(direction: Direction, classes: Classes) -> Made:
    """Return a direction from elsewhere, such as a file or a neuron, with evidence and a concept probe from these rows."""
    scores = _along(direction.vector.float(), classes, direction.median_norm)
    return _measured(replace(direction, n_test=len(scores)), classes, scores, classes.folds(0))


def _along(vector: Tensor, classes: Classes, median_norm: float) -> Floats:
    return np.asarray((classes.acts @ vector).double().numpy() / median_norm)


def _measured(direction: Direction, classes: Classes, scores: Floats, folds: Ints, *, shared: float = 1.0) -> Made:
    labels, concepts = classes.labels, np.zeros(len(scores))
    for fold in range(FOLDS):
        others, here = classes.part(folds != fold), classes.part(folds == fold)
        weight, bias = fit_probe(others.means, others.labels)
        concepts[folds == fold] = (here.means @ weight + bias).double().numpy()
    weight, bias = fit_probe(classes.means, labels)
    auroc = auc_interval(roc(scores, labels).area, labels.sum() / shared, (1 - labels).sum() / shared)
    direction = replace(
        direction,
        auroc=auroc.value,
        probe_weight=weight,
        probe_bias=bias,
        probe_auroc=roc(concepts, labels).area,
        about={**direction.about, "auroc_ci": auroc.ci},
    )
    return Made(direction, Evidence(scores, labels, classes.numbers, auroc))
