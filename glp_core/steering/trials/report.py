"""Turn outcomes of steering into a report: rows with intervals, arms against raw, every text's numbers, and some texts.

Knows outcomes; knows no models and no files.
"""

import math
from collections.abc import Sequence

import numpy as np

from glp_core.files import Json
from glp_core.stats import Interval, bootstrap_mean, percentiles, resampled_means
from glp_core.steering.trials.frontier import Curves
from glp_core.steering.trials.outcomes import DRAWN, Outcome

EXAMPLES = 3
"""Prefixes whose texts are kept."""
MEASURES = ("concept", "log_probability", "asked_log_probability", "repetition", "repeated_bigrams", "distance", "kept_push")


def report_name(direction: str) -> str:
    """Return the name of a direction's report; that of sentiment is the one it always had."""
    return "steering_sentiment" if direction == "positive-sentiment" else f"steering_{direction.replace('-', '_')}"


def summarise(outcomes: Sequence[Outcome], *, baseline: str = "raw", seed: int = 0) -> Json:
    """Return a report on one direction's outcomes.

    Returns:
        `rows` for every arm and strength; `comparisons` of every arm with `baseline` at the same strength; 95% intervals are
        bootstrapped over prefixes, paired in comparisons, and a measure without value is null. `texts`: concept, likelihood (see
        frontier.py) and repetition of every text, by arm and strength. `examples`: texts of the first prefixes.
    """
    table: dict[tuple[str, float], list[Outcome]] = {}
    for outcome in sorted(outcomes, key=lambda o: o.prefix):
        table.setdefault((outcome.arm, outcome.strength), []).append(outcome)
    rows = []
    for (arm, strength), cell in table.items():
        row: Json = {"arm": arm, "strength": strength}
        for name in MEASURES:
            row |= _with_interval(name, bootstrap_mean(_column(cell, name), seed=seed))
        rows.append(row | {"n": len(cell)})
    comparisons = [
        {"arm": arm, "strength": strength} | _compare(table[arm, strength], table[baseline, strength], seed)
        for arm, strength in table
        if arm != baseline and (baseline, strength) in table
    ]
    examples = [o._asdict() for o in outcomes if o.prefix < EXAMPLES and o.arm != DRAWN]
    keep = ("prefix", "arm", "strength", "text")
    return {
        "rows": rows,
        "comparisons": comparisons,
        "texts": Curves.of(outcomes).to_json(),
        "examples": [{key: one[key] for key in keep} for one in examples],
    }


def _compare(ours: Sequence[Outcome], theirs: Sequence[Outcome], seed: int) -> Json:
    """Return the ratio of repetitions and the difference of concepts and log-probabilities, ours against theirs."""
    a, b = _column(ours, "repetition"), _column(theirs, "repetition")
    top, bottom = resampled_means(a, seed=seed), resampled_means(b, seed=seed)
    ratio = a.mean() / b.mean() if b.mean() > 0 else math.nan
    result = _with_interval("repetition_ratio", Interval(ratio, *percentiles(top / np.where(bottom > 0, bottom, np.nan))))
    for name in ("concept", "log_probability"):
        difference = _column(ours, name) - _column(theirs, name)
        result |= _with_interval(f"{name}_difference", bootstrap_mean(difference, seed=seed))
    return result


def _with_interval(name: str, interval: Interval) -> Json:
    """Return a number and its interval, rounded; null where there is none."""
    value, low, high = (round(number, 5) if math.isfinite(number) else None for number in interval)
    return {name: value, f"{name}_ci": None if low is None else [low, high]}


def _column(cell: Sequence[Outcome], name: str) -> np.ndarray:
    return np.array([getattr(outcome, name) for outcome in cell], dtype=float)
