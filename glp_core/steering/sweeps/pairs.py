"""Texts of raw steering and of the walk that are equally fluent, after the same prompt: which of the two shows more of the concept?

Not picked by hand: of one arm each prompt's text is the one of greatest concept times fluency over all strengths, of the other the one
with most of the concept among those about as fluent. Such a choice favours one side by itself, so pairs are made both ways. Knows numbers.
"""

from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

import numpy as np

from glp_core.steering.sweeps.analysis import curves, listed_series
from glp_core.steering.sweeps.cells import Cell, Text
from glp_core.steering.sweeps.config import SweepConfig
from glp_core.steering.sweeps.scores import Found, Marks, concept_of
from glp_core.steering.trials.frontier import Curves, Numbers, fluency

ALIKE = 0.1
"""Fluencies that differ by no more than this are about equal."""
EQUAL = 0.05
"""Concepts that differ by no more than this are equal."""


class Side(NamedTuple):
    """One text of a pair."""

    series: str
    strength: float
    concept: float
    fluency: float
    text: str


class Pair(NamedTuple):
    """Two texts after one prompt."""

    prompt: str
    raw: Side
    walk: Side


class Counts(NamedTuple):
    """In how many pairs the walk's text shows more of the concept than raw's, and in how many less."""

    more: int
    less: int
    of: int


def counts(found: Sequence[Pair]) -> Counts:
    """Count pairs whose concepts differ by more than EQUAL."""
    differences = [pair.walk.concept - pair.raw.concept for pair in found]
    return Counts(sum(one > EQUAL for one in differences), sum(one < -EQUAL for one in differences), len(differences))


def pairs(
    config: SweepConfig,
    found: Found,
    direction: str,
    judged: Mapping[str, Marks] | None = None,
    *,
    best_of: Literal["raw", "walk"] = "raw",
) -> list[Pair]:
    """Return a pair for every prompt that has one, by the first seed, in the order of the prompts.

    Args:
        best_of: the arm whose best text is taken, for which the other's is looked for.
    """
    own = {cell: entries for cell, entries in found.items() if cell.direction == direction}
    seed = config.seeds[0]
    made = curves(config, own, concept_of(config, judged or {}), (seed,))
    if made is None:
        return []
    by_arm = {arm: [one.name for one in listed_series(config, made) if one.arm == arm] for arm in ("raw", "walk")}
    named = {(cell.series, cell.strength): cell for cell in own}
    listed = []
    for number, prompt in enumerate(config.prompts):
        sides = {arm: _sides(made, names, number, named, own, Text(prompt, seed)) for arm, names in by_arm.items()}
        first, others = sides.pop(best_of), next(iter(sides.values()))
        if not first:
            continue
        best = max(first, key=lambda side: side.concept * side.fluency)
        alike = [side for side in others if abs(side.fluency - best.fluency) <= ALIKE]
        if alike:
            other = max(alike, key=lambda side: side.concept)
            listed.append(Pair(prompt, best, other) if best_of == "raw" else Pair(prompt, other, best))
    return listed


def _sides(
    made: Curves, names: list[str], number: int, named: Mapping[tuple[str, float], Cell], own: Found, text: Text
) -> list[Side]:
    """Return the texts of some curves after one prompt that have numbers."""
    plain = tuple(np.asarray(np.nanmean(values)) for values in (made.plain.likelihood, made.plain.repetition))
    sides = []
    for name in names:
        for strength in made.strengths[name]:
            cell = made.cells[name, strength]
            concept, likely, repeated = (np.asarray(values[number]) for values in cell)
            fluent = _fluency(likely, repeated, plain, made.broken)
            if np.isfinite(concept) and np.isfinite(fluent):
                sides.append(Side(name, strength, float(concept), fluent, own[named[name, strength]][text].text))
    return sides


def _fluency(likely: Numbers, repeated: Numbers, plain: tuple[Numbers, ...], broken: float) -> float:
    return float(fluency(likely, repeated, (plain[0], plain[1]), broken))
