"""Turn outcomes of steering into report rows with intervals. Knows outcomes; knows no models and no files."""

from collections.abc import Sequence

import numpy as np

from glp_core.files import Json
from glp_core.steering.outcomes import Outcome

EXAMPLES = 3
"""Prefixes whose texts are kept."""
DRAWS = 2000
"""Of the bootstrap over prefixes."""
MEASURES = ("concept", "log_probability", "asked_log_probability", "repetition", "repeated_bigrams", "distance", "kept_push")


def summarise(outcomes: Sequence[Outcome], *, baseline: str = "raw", compared: str = "glp", seed: int = 0) -> Json:
    """Return a row for each arm and strength, and at each strength `compared` against `baseline`, with 95% intervals.

    Intervals are bootstrapped over prefixes; comparisons are paired by prefix. A measure that has no value is null.
    """
    table: dict[tuple[str, float], list[Outcome]] = {}
    for outcome in sorted(outcomes, key=lambda o: o.prefix):
        table.setdefault((outcome.arm, outcome.strength), []).append(outcome)
    rows = []
    for (arm, strength), cell in table.items():
        row: Json = {"arm": arm, "strength": strength}
        for name in MEASURES:
            values = _column(cell, name)
            row[name] = _value(np.nanmean(values)) if np.isfinite(values).any() else None
            row[f"{name}_ci"] = _interval(_resampled(values, seed))
        rows.append(row | {"n": len(cell)})
    comparisons = [
        {"strength": strength} | _compare(table[compared, strength], table[baseline, strength], seed)
        for arm, strength in table
        if arm == compared and (baseline, strength) in table
    ]
    examples = [o._asdict() for o in outcomes if o.prefix < EXAMPLES]
    keep = ("prefix", "arm", "strength", "text")
    return {"rows": rows, "comparisons": comparisons, "examples": [{key: one[key] for key in keep} for one in examples]}


def _compare(ours: Sequence[Outcome], theirs: Sequence[Outcome], seed: int) -> Json:
    """Return the ratio of repetitions and the difference of concepts and log-probabilities, ours against theirs."""
    result: Json = {}
    a, b = _column(ours, "repetition"), _column(theirs, "repetition")
    result["repetition_ratio"] = _value(a.mean() / b.mean()) if b.mean() > 0 else None
    top, bottom = _resampled(a, seed), _resampled(b, seed)
    result["repetition_ratio_ci"] = _interval(top / np.where(bottom > 0, bottom, np.nan))
    for name in ("concept", "log_probability"):
        difference = _column(ours, name) - _column(theirs, name)
        result[f"{name}_difference"] = _value(np.nanmean(difference))
        result[f"{name}_difference_ci"] = _interval(_resampled(difference, seed))
    return result


def _column(cell: Sequence[Outcome], name: str) -> np.ndarray:
    return np.array([getattr(outcome, name) for outcome in cell], dtype=float)


def _resampled(values: np.ndarray, seed: int) -> np.ndarray:
    """Return DRAWS means over prefixes drawn with replacement; the same seed draws the same prefixes."""
    index = np.random.default_rng(seed).integers(len(values), size=(DRAWS, len(values)))
    drawn = values[index]
    present = np.isfinite(drawn)
    return np.where(present, drawn, 0).sum(1) / np.where(present.any(1), present.sum(1), np.nan)


def _interval(draws: np.ndarray) -> list[float] | None:
    draws = draws[np.isfinite(draws)]
    return [_value(v) for v in np.quantile(draws, [0.025, 0.975])] if len(draws) else None


def _value(number: float) -> float:
    return round(float(number), 5)
