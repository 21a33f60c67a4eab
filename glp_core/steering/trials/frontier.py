"""Concept against fluency: how much of a concept steering brings into texts, and what of their being texts it costs.

Both are shares from 0 to 1, of means over texts, against the same model's own texts after the same prefixes:
- gain: how much of the way from the unsteered texts' concept probability to 1 was gone;
- fluency: e^(mean log-probability of a token - that of texts which the model draws at temperature 1), times the share of tokens that
  are new over the unsteered one, each at most 1. Greedy text is far likelier than any that people write, so likelihood beyond the
  model's own draws is worth nothing; and degenerate text is likely, so repetition pays on its own. The strict fluency has the greedy
  unsteered texts in place of the drawn ones.
A text's log-probability is the greater of two: after its prefix, and after an instruction that asks for the concept before the prefix.
So a text pays for being odd, not for its topic.

An arm at several strengths makes a frontier; its hypervolume is the area below it, 1 for all of the concept at no cost. Knows numbers.
"""

import math
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from glp_core.errors import GlpError
from glp_core.files import Json
from glp_core.stats import DRAWS
from glp_core.steering.trials.outcomes import DRAWN, UNSTEERED, Outcome

Numbers = NDArray[np.float64]

AT_FLUENCY = 0.5
"""Where gains of arms are compared at equal fluency: a token is half as likely, or half of the new words are gone."""


def fluency(log_probability: Numbers, repetition: Numbers, own_log_probability: Numbers, plain_repetition: Numbers) -> Numbers:
    """Return the fluency of texts with these means, against the model's own ones; arrays broadcast."""
    likely = np.exp(np.minimum(0, log_probability - own_log_probability))
    new = (1 - repetition) / np.maximum(1e-6, 1 - plain_repetition)
    return likely * np.clip(new, 0, 1)


def gain(concept: Numbers, plain_concept: Numbers) -> Numbers:
    """Return the share of the way from the unsteered concept probability to 1; arrays broadcast."""
    return np.clip((concept - plain_concept) / np.maximum(1e-6, 1 - plain_concept), 0, 1)


def hypervolume(gains: Numbers, fluencies: Numbers) -> Numbers:
    """Return the area below the frontiers of points (..., points): all (x, y) with x <= gain and y <= fluency of some point."""
    order = np.argsort(-gains, axis=-1, kind="stable")
    x, y = np.take_along_axis(gains, order, -1), np.take_along_axis(fluencies, order, -1)
    height = np.maximum.accumulate(y, axis=-1)
    after = np.concatenate([x[..., 1:], np.zeros_like(x[..., :1])], axis=-1)
    return ((x - after) * height).sum(-1)


def gain_at(gains: Numbers, fluencies: Numbers, level: float = AT_FLUENCY) -> Numbers:
    """Return the largest gain of points (..., points) that are at least so fluent; 0, the unsteered text's, where none is."""
    return np.where(fluencies >= level, gains, 0).max(-1)


def on_frontier(gains: Sequence[float], fluencies: Sequence[float]) -> list[int]:
    """Return the numbers of points that no other point beats in both, by rising gain."""
    points = sorted(range(len(gains)), key=lambda i: (-gains[i], -fluencies[i]))
    frontier, highest = [], -math.inf
    for i in points:
        if fluencies[i] > highest:
            frontier.append(i)
            highest = fluencies[i]
    return frontier[::-1]


class Cell(NamedTuple):
    """Texts of one arm at one strength, a number for each prefix; nan for a text without tokens."""

    concept: Numbers
    likelihood: Numbers
    """Mean log-probability of a token: the greater of plain and asked-for."""
    repetition: Numbers


class Curves:
    """One direction's cells by arm and strength, with what they measure against the unsteered one."""

    def __init__(self, cells: dict[tuple[str, float], Cell]) -> None:
        self.cells = cells
        self.n = len(next(iter(cells.values())).concept)
        self.strengths: dict[str, list[float]] = {}
        for arm, strength in cells:
            if arm not in (UNSTEERED, DRAWN):
                self.strengths.setdefault(arm, []).append(strength)

    @property
    def plain(self) -> Cell:
        """The unsteered texts."""
        if (UNSTEERED, 0.0) not in self.cells:
            raise GlpError("There are no unsteered texts to compare with.")
        return self.cells[UNSTEERED, 0.0]

    @property
    def drawn(self) -> Cell:
        """The model's own texts at temperature 1; the unsteered ones where there are none."""
        return self.cells.get((DRAWN, 0.0)) or self.plain

    @staticmethod
    def of(outcomes: Iterable[Outcome]) -> "Curves":
        """Collect the outcomes of one direction, all of the same prefixes; several texts of a prefix are averaged."""
        table: dict[tuple[str, float], list[Outcome]] = {}
        for one in outcomes:
            table.setdefault((one.arm, one.strength), []).append(one)
        return Curves({key: _by_prefix(rows) for key, rows in table.items()})

    @staticmethod
    def from_json(listed: Sequence[Json]) -> "Curves":
        """Return what `to_json` gave."""
        return Curves(
            {
                (row["arm"], float(row["strength"])): Cell(*(np.array(row[name], dtype=float) for name in Cell._fields))
                for row in listed
            }
        )

    def to_json(self) -> list[Json]:
        """Return every text's numbers by arm and strength, rounded; null for nan."""
        return [
            {"arm": arm, "strength": strength} | {name: _plain(values) for name, values in cell._asdict().items()}
            for (arm, strength), cell in self.cells.items()
        ]

    def points(self, arm: str, weights: Numbers | None = None, *, strict: bool = False) -> tuple[Numbers, Numbers]:
        """Return gain and fluency of an arm at its strengths, (strengths,); with weights of prefixes (draws, n), (draws, strengths)."""
        weights = np.ones((1, self.n)) if weights is None else weights
        plain = [_weighted(values, weights)[:, None] for values in self.plain]
        own = plain[1] if strict else _weighted(self.drawn.likelihood, weights)[:, None]
        means = [
            np.stack([_weighted(values, weights) for values in column], axis=1)
            for column in zip(*(self.cells[arm, strength] for strength in self.strengths[arm]), strict=True)
        ]
        gains = np.nan_to_num(gain(means[0], plain[0]))
        fluencies = np.nan_to_num(fluency(means[1], means[2], own, plain[2]))
        return (gains[0], fluencies[0]) if len(weights) == 1 else (gains, fluencies)

    def draws(self, seed: int = 0) -> Numbers:
        """Return how often each prefix was drawn in every resample with replacement, (draws, n); the same seed draws the same."""
        return _draws(self.n, seed)


@lru_cache(maxsize=4)
def _draws(n: int, seed: int) -> Numbers:
    index = np.random.default_rng(seed).integers(n, size=(DRAWS, n))
    return np.stack([np.bincount(row, minlength=n) for row in index]).astype(float)


def _by_prefix(rows: Sequence[Outcome]) -> Cell:
    """Return the numbers of every prefix, by its number."""
    _, places = np.unique([one.prefix for one in rows], return_inverse=True)
    weights = (places == np.arange(places.max() + 1)[:, None]).astype(float)
    return Cell(*(_weighted(values, weights) for values in cell_of(rows)))


def cell_of(rows: Sequence[Outcome]) -> Cell:
    """Return the numbers of every text, in their order."""
    concept = np.array([one.concept for one in rows], dtype=float)
    likely = np.array([np.fmax(one.log_probability, one.asked_log_probability) for one in rows], dtype=float)
    return Cell(concept, likely, np.array([one.repetition if one.text else np.nan for one in rows], dtype=float))


def _plain(values: Numbers) -> list[float | None]:
    return [round(float(value), 4) if np.isfinite(value) else None for value in values]


def _weighted(values: Numbers, weights: Numbers) -> Numbers:
    """Return the means (draws,) of values (n,) under weights (draws, n), nan left out; nan for no value at all."""
    present = np.isfinite(values)
    total = weights @ np.where(present, values, 0)
    count = weights @ present
    return np.divide(total, count, out=np.full(len(weights), np.nan), where=count > 0)
