"""Concept against fluency: how much of a concept steering brings into texts, and what of their being texts it costs.

Both are shares from 0 to 1, of means over texts, against the same model's own texts after the same prefixes:
- gain: how much of the way from the unsteered texts' concept probability to 1 was gone;
- fluency: where the mean log-probability of a token lies between broken, which is less likely than 95% of the texts that the model
  draws at temperature 1 (0), and unsteered (1), times the share of tokens that are new over the unsteered one, at most 1. Degenerate
  text is likely text, so the log-probability alone would reward it. The strict fluency has e^(log-probability - unsteered) instead,
  which calls most text broken that the model draws itself.
A text's log-probability is the greater of two: after its prefix, and after an instruction that asks for the concept before the prefix.
So a text pays for being odd, not for its topic.

An arm at several strengths makes a frontier; its hypervolume is the area below it, 1 for all of the concept at no cost. Knows numbers.
"""

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from glp_core.errors import GlpError
from glp_core.files import Json
from glp_core.stats import resample_counts
from glp_core.steering.trials.outcomes import DRAWN, UNSTEERED, Outcome

Numbers = NDArray[np.float64]

AT_FLUENCY = 0.5
"""Where gains of arms are compared at equal fluency: half way to broken, or half of the new words gone."""
EDGE = 0.05
"""Share of the model's own texts beyond the limits of a broken one."""


def fluency(likelihood: Numbers, repetition: Numbers, plain: tuple[Numbers, Numbers], broken: float) -> Numbers:
    """Return the fluency of texts with these means, against unsteered ones; arrays broadcast.

    Args:
        plain: likelihood and repetition of the unsteered texts.
        broken: the likelihood that 95% of the model's own draws exceed.
    """
    plain_likelihood, plain_repetition = plain
    share = (likelihood - broken) / np.maximum(1e-6, plain_likelihood - broken)
    return np.clip(share, 0, 1) * _new(repetition, plain_repetition)


def strict_fluency(likelihood: Numbers, repetition: Numbers, plain: tuple[Numbers, Numbers]) -> Numbers:
    """Return the strict fluency of texts with these means, against unsteered ones; arrays broadcast."""
    plain_likelihood, plain_repetition = plain
    return np.exp(np.minimum(0, likelihood - plain_likelihood)) * _new(repetition, plain_repetition)


def _new(repetition: Numbers, plain: Numbers) -> Numbers:
    return np.clip((1 - repetition) / np.maximum(1e-6, 1 - plain), 0, 1)


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
    """One direction's cells by arm and strength, with what they measure against the model's own texts."""

    def __init__(self, cells: dict[tuple[str, float], Cell], broken: float) -> None:
        self.cells, self.broken = cells, broken
        self.n = len(next(iter(cells.values())).concept)
        self.strengths: dict[str, list[float]] = {}
        for arm, strength in cells:
            if arm != UNSTEERED:
                self.strengths.setdefault(arm, []).append(strength)

    @property
    def plain(self) -> Cell:
        """The unsteered texts."""
        if (UNSTEERED, 0.0) not in self.cells:
            raise GlpError("There are no unsteered texts to compare with.")
        return self.cells[UNSTEERED, 0.0]

    @property
    def concept_known(self) -> bool:
        """Whether texts were read for the concept: a direction without a concept probe cannot."""
        return bool(np.isfinite(self.plain.concept).any())

    @staticmethod
    def of(outcomes: Iterable[Outcome]) -> "Curves":
        """Collect the outcomes of one direction, all of the same prefixes, with texts that the model drew itself among them.

        Raises:
            GlpError: there are no drawn texts.
        """
        table: dict[tuple[str, float], list[Outcome]] = {}
        for one in sorted(outcomes, key=lambda one: one.prefix):
            table.setdefault((one.arm, one.strength), []).append(one)
        drawn = table.pop((DRAWN, 0.0), None)
        if not drawn:
            raise GlpError("There are no texts that the model drew itself to compare with.")
        return Curves(
            {key: cell_of(rows) for key, rows in table.items()}, float(np.nanquantile(cell_of(drawn).likelihood, EDGE))
        )

    @staticmethod
    def from_json(stored: Json) -> "Curves":
        """Return what `to_json` gave."""
        cells = {
            (row["arm"], float(row["strength"])): Cell(*(np.array(row[name], dtype=float) for name in Cell._fields))
            for row in stored["cells"]
        }
        return Curves(cells, float(stored["broken"]))

    def to_json(self) -> Json:
        """Return every text's numbers by arm and strength, rounded, null for nan; and the likelihood below which a text is broken."""
        cells = [
            {"arm": arm, "strength": strength} | {name: _plain(values) for name, values in cell._asdict().items()}
            for (arm, strength), cell in self.cells.items()
        ]
        return {"broken": round(self.broken, 4), "cells": cells}

    def points(self, arm: str, weights: Numbers | None = None, *, strict: bool = False) -> tuple[Numbers, Numbers]:
        """Return gain and fluency of an arm at its strengths, (strengths,); with weights of prefixes (draws, n), (draws, strengths)."""
        weights = np.ones((1, self.n)) if weights is None else weights
        plain = Cell(*(_weighted(values, weights)[:, None] for values in self.plain))
        concept, likelihood, repetition = (
            np.stack([_weighted(values, weights) for values in column], axis=1)
            for column in zip(*(self.cells[arm, strength] for strength in self.strengths[arm]), strict=True)
        )
        gains, own = np.nan_to_num(gain(concept, plain.concept)), (plain.likelihood, plain.repetition)
        fluent = strict_fluency(likelihood, repetition, own) if strict else fluency(likelihood, repetition, own, self.broken)
        fluencies = np.nan_to_num(fluent)
        return (gains[0], fluencies[0]) if len(weights) == 1 else (gains, fluencies)

    def draws(self, seed: int = 0) -> Numbers:
        """Return how often each prefix was drawn in every resample with replacement, (draws, n); the same seed draws the same."""
        return resample_counts(self.n, seed=seed)


def cell_of(rows: Sequence[Outcome]) -> Cell:
    """Return the numbers of texts, in their order."""
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
