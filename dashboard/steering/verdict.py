"""What happened in a finished comparison, in words: true by this run's own numbers, also when projection lost or a text collapsed.

The first sentence judges, the others give the numbers that it stands on. Knows measures of columns; draws nothing.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from dashboard.service.directions import zones
from dashboard.steering.comparison import Column, Comparison
from dashboard.steering.request import TUNED
from dashboard.steering.stack import GENERATED
from glp_core.steering import holding
from glp_core.steering.holding import UNLIKELY

SHOWS = 0.1
"""Difference of the concept's probability from which two texts are said to differ in it; of repetition alike."""
CLEAR = 0.9
"""Probability of the concept from which nothing much can be added to it."""
NAMES = {
    "unsteered": "unsteered",
    "raw": "raw",
    "walk": "the walk",
    "glp": "the paper's projection",
    "norm": "the restored norm",
    "gaussian": "the Gaussian prior",
}
"""What a sentence calls an arm."""


class Verdict(NamedTuple):
    """The line under the board."""

    judgement: str
    """One sentence."""
    numbers: str
    """The measures of every column, in one to three sentences."""


def verdict(comparison: Comparison) -> Verdict | None:
    """Return what happened, or None while a text is written or has not been read."""
    columns = list(comparison.columns.values())[:3]
    if len(columns) < 3 or not comparison.finished:
        return None
    plain, raw, projected = columns
    empty = [NAMES[column.arm] for column in columns if not column.tokens]
    if empty:
        return Verdict(
            f"{_capital(' and '.join(empty))} ended at once, without a word: try another prompt.", _numbers(comparison)
        )
    if not comparison.request.acts:
        return Verdict("Strength 0 pushes nowhere: the three texts are the same.", _numbers(comparison))
    return Verdict(_judgement(comparison, plain, raw, projected), _numbers(comparison))


def _judgement(comparison: Comparison, plain: Column, raw: Column, projected: Column) -> str:
    name, way = NAMES[projected.arm], _way(comparison)
    if holds(raw) and holds(projected):
        return _both_hold(comparison, plain, raw, projected)
    if holds(raw):
        return f"Projection lost here: raw holds, {name} breaks."
    if not holds(projected):
        if not holds(plain):
            return "Every text breaks, the unsteered one too: try another prompt, or a temperature above 0."
        usual = [arm for arm in (raw.arm, projected.arm) if _usually_holds(comparison, arm)]
        if usual:
            return (
                f"Raw and {name} both break on this prompt. On most prompts {NAMES[usual[-1]]} holds at this strength: try another, or a "
                "lower strength."
            )
        return f"Too strong: raw and {name} both break. Reduce the strength."
    if loops(plain):
        return f"{_capital(name)} holds where raw breaks, and where the unsteered text loops."
    if _already(comparison, plain):
        return f"{_capital(name)} holds where raw breaks; the unsteered text was there already."
    moves = _gain(comparison, plain, projected) >= SHOWS
    return f"{_capital(name)} holds where raw breaks" + (f", and moves {way} the concept." if moves else ".")


def _both_hold(comparison: Comparison, plain: Column, raw: Column, projected: Column) -> str:
    name, way = NAMES[projected.arm], _way(comparison)
    raw_gain, gain = _gain(comparison, plain, raw), _gain(comparison, plain, projected)
    repeats_more = projected.repeated_tokens - raw.repeated_tokens
    if math.isnan(raw_gain) or math.isnan(gain):
        return f"Raw and {name} both hold; no probe says how far they move along this direction."
    if max(raw_gain, gain) < SHOWS:
        if _already(comparison, plain):
            return "The unsteered text is there already: another prompt will show more."
        return "The push does not move the concept yet: raise the strength."
    if gain >= raw_gain + SHOWS:
        return f"{_capital(name)} moves further {way} the concept than raw, and both hold."
    if raw_gain >= gain + SHOWS:
        return f"Projection lost here: raw moves further {way} the concept than {name}, and both hold."
    if repeats_more <= -SHOWS:
        return f"Both move {way} the concept; {name} repeats itself less than raw."
    if repeats_more >= SHOWS:
        return f"Projection lost here: both move {way} the concept, and {name} repeats itself more than raw."
    return f"Raw and {name} both hold and move about equally far {way} the concept: projection makes little difference here."


def _usually_holds(comparison: Comparison, arm: str) -> bool:
    request = comparison.request
    if request.others or request.where != GENERATED or not request.measured or (arm == "walk" and request.walk != TUNED):
        return False  # measured of one direction, pushed along in new text, with the workspace's own prior and walk
    return zones.usually_holds(request.direction, arm, request.strength)


def _way(comparison: Comparison) -> str:
    return "towards" if comparison.request.strength >= 0 else "away from"


def loops(column: Column) -> bool:
    """Say whether a text repeats itself so much that it says nothing more."""
    return holding.loops(column.repeated_tokens, column.repetition)


def holds(column: Column) -> bool:
    """Say whether there is a text that neither loops nor is word salad."""
    return holding.holds(column.text, column.repeated_tokens, column.repetition, column.log_probability)


def _gain(comparison: Comparison, plain: Column, column: Column) -> float:
    """Return how much nearer to where the push goes a text is than the unsteered one; nan without a probe."""
    return math.copysign(1.0, comparison.request.strength) * (column.concept - plain.concept)


def _already(comparison: Comparison, plain: Column) -> bool:
    return plain.concept >= CLEAR if comparison.request.strength >= 0 else plain.concept <= 1 - CLEAR


def _numbers(comparison: Comparison) -> str:
    columns = list(comparison.columns.values())
    plain, steered = columns[0], columns[1:]
    repeated = ", ".join(f"{NAMES[column.arm]} {column.repeated_tokens:.0%}" for column in steered[1:])
    plainly = f"unsteered {plain.repeated_tokens:.0%}"
    sentences = [f"Raw repeats {steered[0].repeated_tokens:.0%} of its tokens, {repeated}, {plainly}."]
    if not math.isnan(plain.concept):
        concepts = [_concept(column) for column in steered if column.tokens]
        sentences.append(f"Concept “{comparison.request.title}”: {', '.join([*concepts, _concept(plain)])}.")
    odd = [column for column in steered if column.log_probability <= UNLIKELY]
    if odd:
        unlikely = ", ".join(f"{NAMES[column.arm]} {column.log_probability:.1f}" for column in odd)
        sentences.append(
            f"Word salad to the unsteered model: {unlikely} nats a token, its own text {plain.log_probability:.1f}."
        )
    projected = [column for column in steered if not math.isnan(column.kept_push)]
    sentences += [f"{_capital(NAMES[column.arm])} kept {column.kept_push:.0%} of the push." for column in projected]
    return " ".join(sentences)


def _concept(column: Column) -> str:
    """Return a column's concept score; that of a broken text says little, and is said to be one."""
    return f"{NAMES[column.arm]} {column.concept:.2f}" + ("" if holds(column) else " (a broken text's)")


def _capital(words: str) -> str:
    return words[:1].upper() + words[1:]
