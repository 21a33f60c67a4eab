"""Measure steering: many prefixes x strengths x projectors, written greedily and read back by the unsteered model.

What it asks: does projecting a steered activation keep the concept while the text stays a text? Knows no files.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import torch

from glp_core.errors import GlpError
from glp_core.files import Json
from glp_core.llm.decoding import Sampling
from glp_core.llm.model import Llm
from glp_core.prior.distance import ManifoldMeter
from glp_core.prior.projection import Projector
from glp_core.progress import Progress, quiet
from glp_core.steering.directions import Direction
from glp_core.steering.edit import Arm
from glp_core.steering.generation import Row, decode, read_texts, repeated_share

STRENGTHS = (0.2, 0.3, 0.4, 0.6, 0.8, 1.0, 1.2, 1.6, 2.0)
TOKENS = 24
ROWS_PER_BATCH = 128
EXAMPLES = 3
"""Prefixes whose texts are kept."""
DRAWS = 2000
"""Of the bootstrap over prefixes."""
UNSTEERED = "unsteered"
MEASURES = ("concept", "log_probability", "repetition", "repeated_bigrams", "distance", "kept_push")


class Outcome(NamedTuple):
    """One continuation and what was measured on it."""

    prefix: int
    arm: str
    strength: float
    text: str
    concept: float
    """Probability of the concept, by the direction's probe on the unsteered model's reading of the text."""
    log_probability: float
    """Mean of the tokens under the unsteered model."""
    repetition: float
    """Share of tokens that occurred before (1 - distinct-1)."""
    repeated_bigrams: float
    """Share of bigrams that occurred before (1 - distinct-2)."""
    distance: float
    """Mean manifold distance of the activations that went on."""
    kept_push: float
    """Mean share of the push that the projection left."""


def measure(
    llm: Llm,
    direction: Direction,
    projectors: Mapping[str, Projector | None],
    prefixes: Sequence[str],
    *,
    strengths: Sequence[float] = STRENGTHS,
    tokens: int = TOKENS,
    unsteered: bool = True,
    meter: ManifoldMeter | None = None,
    progress: Progress = quiet,
) -> list[Outcome]:
    """Write and measure every prefix unsteered, and with every arm at every strength.

    Args:
        projectors: arm name to projector, for example {"raw": None, "glp": ...}.
        unsteered: say no where the unsteered texts are there from another call.
    """
    if not prefixes or not projectors:
        raise GlpError("There is nothing to measure: give at least one prefix and one arm.")
    conditions = [(arm, strength) for strength in strengths for arm in projectors]
    if unsteered:
        conditions = [(UNSTEERED, 0.0), *conditions]
    plan = [(prefix, arm, strength) for arm, strength in conditions for prefix in range(len(prefixes))]
    prompts = [llm.encode(text) for text in prefixes]
    outcomes: list[Outcome] = []
    for first in range(0, len(plan), ROWS_PER_BATCH):
        batch = plan[first : first + ROWS_PER_BATCH]
        rows = [
            Row(prompts[prefix], Arm(arm, direction.vector if strength else None, strength, projectors.get(arm)), seed=prefix)
            for prefix, arm, strength in batch
        ]
        outcomes += _measured(llm, direction, rows, batch, tokens, meter)
        progress(len(outcomes), len(plan), f"{batch[-1][1]} at {batch[-1][2]:g}")
    return outcomes


def _measured(
    llm: Llm,
    direction: Direction,
    rows: Sequence[Row],
    batch: Sequence[tuple[int, str, float]],
    tokens: int,
    meter: ManifoldMeter | None,
) -> list[Outcome]:
    written: list[list[int]] = [[] for _ in rows]
    texts = [""] * len(rows)
    seen: list[list[tuple[float, float]]] = [[] for _ in rows]
    site = direction.site(llm)
    for i, step in decode(site, rows, Sampling(tokens), meter=meter):
        if step.token not in llm.stop_ids:
            written[i].append(step.token)
        texts[i] += step.text
        seen[i].append((step.distance_after, step.kept_push))
    read, means = read_texts(site, [row.prompt for row in rows], written)
    concepts = direction.concept(means).tolist()
    outcomes = []
    for i, (prefix, arm, strength) in enumerate(batch):
        share = (repeated_share(written[i], 1), repeated_share(written[i], 2))
        distance, kept = (_mean([numbers[k] for numbers in seen[i]]) for k in (0, 1))
        outcomes.append(Outcome(prefix, arm, strength, texts[i], concepts[i], _mean(read[i]), *share, distance, kept))
    return outcomes


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


def _mean(numbers: Sequence[float]) -> float:
    values = torch.tensor(numbers, dtype=torch.float64)
    return float(values[values.isfinite()].mean()) if len(values) else float("nan")
