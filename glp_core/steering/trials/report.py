"""Turn outcomes of steering into a report: rows with intervals, arms against raw, every text's numbers, and some texts.

Knows outcomes; knows no models and no files.
"""

import math
from collections.abc import Sequence

import numpy as np

from glp_core.files import Json
from glp_core.stats import Interval, bootstrap_mean, percentiles, resampled_means
from glp_core.steering.trials.frontier import Cell, Curves, Numbers, cell_of
from glp_core.steering.trials.outcomes import DRAWN, Outcome

EXAMPLES = 3
"""Prefixes whose texts are kept."""
MEASURES = ("concept", "log_probability", "asked_log_probability", "repetition", "repeated_bigrams", "distance", "kept_push")


def summarise(outcomes: Sequence[Outcome], *, baseline: str = "raw", seed: int = 0) -> Json:
    """Return a report on one direction's outcomes.

    Returns:
        `rows` for every arm and strength; `comparisons` of every arm with `baseline` at the same strength; 95% intervals are
        bootstrapped over prefixes, paired in comparisons, and a measure without value is null. `texts`: concept, likelihood (see
        frontier.py) and repetition of every text, by arm and strength. `examples`: texts of the first prefixes.
    """
    table = _table(outcomes)
    rows = _rows(table, seed)
    comparisons = [
        {"arm": arm, "strength": strength} | _compare(table[arm, strength], table[baseline, strength], seed)
        for arm, strength in table
        if arm != baseline and (baseline, strength) in table
    ]
    return {
        "rows": rows,
        "comparisons": comparisons,
        "texts": Curves.of(outcomes).to_json(),
        "examples": _examples(outcomes),
    }


def renewed(stored: Json, outcomes: Sequence[Outcome], *, baseline: str = "raw", seed: int = 0) -> Json:
    """Return a stored report with the arms of these outcomes in the place of its own; the other arms stay.

    Of the renewed arms' comparisons with `baseline`, whose texts are not at hand, the difference of log-probabilities is null.
    """
    table = _table(outcomes)
    arms = {arm for arm, _ in table}
    curves = Curves.from_json(stored["texts"])
    cells = {key: cell for key, cell in curves.cells.items() if key[0] not in arms}
    fresh = {key: cell_of(rows) for key, rows in table.items()}
    comparisons = [
        {"arm": arm, "strength": strength} | _compare_cells(cell, cells[baseline, strength], seed)
        for (arm, strength), cell in fresh.items()
        if (baseline, strength) in cells
    ]
    own: Json = {"rows": _rows(table, seed), "comparisons": comparisons, "examples": _examples(outcomes)}
    lists = {name: [*(one for one in stored[name] if one["arm"] not in arms), *values] for name, values in own.items()}
    return stored | lists | {"texts": Curves(cells | fresh, curves.broken).to_json()}


def _table(outcomes: Sequence[Outcome]) -> dict[tuple[str, float], list[Outcome]]:
    """Return outcomes by arm and strength, in the order of their prefixes."""
    table: dict[tuple[str, float], list[Outcome]] = {}
    for outcome in sorted(outcomes, key=lambda o: o.prefix):
        table.setdefault((outcome.arm, outcome.strength), []).append(outcome)
    return table


def _rows(table: dict[tuple[str, float], list[Outcome]], seed: int) -> list[Json]:
    """Return a row for every arm and strength."""
    rows = []
    for (arm, strength), cell in table.items():
        row: Json = {"arm": arm, "strength": strength}
        for name in MEASURES:
            row |= _with_interval(name, bootstrap_mean(_column(cell, name), seed=seed))
        rows.append(row | {"n": len(cell)})
    return rows


def _examples(outcomes: Sequence[Outcome]) -> list[Json]:
    """Return the texts of the first prefixes."""
    first = (one for one in outcomes if one.prefix < EXAMPLES and one.arm != DRAWN)
    return [{"prefix": one.prefix, "arm": one.arm, "strength": one.strength, "text": one.text} for one in first]


def _compare(ours: Sequence[Outcome], theirs: Sequence[Outcome], seed: int) -> Json:
    """Return the ratio of repetitions and the difference of concepts and log-probabilities, ours against theirs."""
    compared = _compare_columns(
        *(_column(cell, name) for name in ("repetition", "concept") for cell in (ours, theirs)), seed=seed
    )
    difference = _column(ours, "log_probability") - _column(theirs, "log_probability")
    return compared | _with_interval("log_probability_difference", bootstrap_mean(difference, seed=seed))


def _compare_cells(ours: Cell, theirs: Cell, seed: int) -> Json:
    """Do what `_compare` does where only the cells are kept."""
    compared = _compare_columns(ours.repetition, theirs.repetition, ours.concept, theirs.concept, seed=seed)
    return compared | {"log_probability_difference": None, "log_probability_difference_ci": None}


def _compare_columns(a: Numbers, b: Numbers, ours: Numbers, theirs: Numbers, *, seed: int) -> Json:
    """Return the ratio of repetitions a and b, and the difference of concepts."""
    top, bottom = resampled_means(a, seed=seed), resampled_means(b, seed=seed)
    ratio = float(np.nanmean(a) / np.nanmean(b)) if np.nanmean(b) > 0 else math.nan
    result = _with_interval("repetition_ratio", Interval(ratio, *percentiles(top / np.where(bottom > 0, bottom, np.nan))))
    return result | _with_interval("concept_difference", bootstrap_mean(ours - theirs, seed=seed))


def _with_interval(name: str, interval: Interval) -> Json:
    """Return a number and its interval, rounded; null where there is none."""
    value, low, high = (round(number, 5) if math.isfinite(number) else None for number in interval)
    return {name: value, f"{name}_ci": None if low is None else [low, high]}


def _column(cell: Sequence[Outcome], name: str) -> np.ndarray:
    return np.array([getattr(outcome, name) for outcome in cell], dtype=float)
