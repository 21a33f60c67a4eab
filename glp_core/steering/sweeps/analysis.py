"""What a sweep found: curves of concept against fluency with bands over prompts, who trades best, and the setting to use.

Gain, fluency and hypervolume are those of trials/frontier.py. A prompt's numbers are means over seeds, and intervals are over prompts,
the same draws for all curves. Cells that are not whole are left out, so that every number is of the same prompts. Knows numbers.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from glp_core.files import Json
from glp_core.steering.sweeps.cells import DRAWN, PROMPTED, UNSTEERED, Cell, Text, cells, texts
from glp_core.steering.sweeps.config import CONTROLS, SweepConfig
from glp_core.steering.sweeps.scores import Found, Marks, concept_of, question_name
from glp_core.steering.sweeps.store import Entry
from glp_core.steering.trials import frontier
from glp_core.steering.trials.frontier import EDGE, Curves, Numbers, gain_at, hypervolume
from glp_core.steering.trials.pareto import Measured

Score = Callable[[Text, Entry], float]


class Series(NamedTuple):
    """One curve's name, arm and noise level."""

    name: str
    arm: str
    noise_level: float | None


def analyse(config: SweepConfig, found: Found, judged: Mapping[str, Marks] | None = None) -> Json:
    """Return what a sweep found so far.

    Returns:
        By direction's name, where the texts that all are compared with are there: `n` prompts, `series` by name with `points` by
        strength, hypervolume and gain at equal fluency; `prompted`; `differences` of walk and raw, paired; `best`, the setting of
        the greatest gain times fluency.
    """
    marks = judged or {}
    score = concept_of(config, marks)
    report: Json = {}
    for along in config.directions:
        own = {cell: entries for cell, entries in found.items() if cell.direction == along.name}
        made = curves(config, own, score)
        if made is not None:
            report[along.name] = {"title": along.title} | _direction(config, made, own, marks)
    return report


def curves(config: SweepConfig, own: Found, score: Score, seeds: Sequence[int] | None = None) -> Curves | None:
    """Return the whole cells of one direction, or None while the texts that all are compared with are not there.

    Args:
        seeds: whose texts are taken; all when None.
    """
    table: dict[tuple[str, float], frontier.Cell] = {}
    broken = None
    for cell in sorted(own, key=lambda cell: cell.strength):
        wanted, there = texts(config, cell), own[cell]
        if len(there) < len(wanted):
            continue
        if cell.arm == DRAWN:
            likely = [likelihood(there[text]) for text in wanted]
            broken = float(np.nanquantile(likely, EDGE)) if np.isfinite(likely).any() else None
            continue
        chosen = config.seeds if seeds is None else seeds
        rows = [
            [(text, there[text]) for text in wanted if text.prompt == prompt and text.seed in chosen]
            for prompt in config.prompts
        ]
        measured = frontier.Cell(
            _means([[score(text, one) for text, one in row] for row in rows]),
            _means([[likelihood(one) for _, one in row] for row in rows]),
            _means([[one.repetition if one.text else np.nan for _, one in row] for row in rows]),
        )
        if np.isfinite(measured.concept).any():
            table[cell.series, cell.strength] = measured
    if broken is None or (UNSTEERED, 0.0) not in table:
        return None
    return Curves(table, broken)


def likelihood(one: Entry) -> float:
    """Return a text's mean log-probability of a token: the greater of plain and asked-for."""
    return float(np.fmax(one.log_probability, one.asked_log_probability))


def _means(rows: list[list[float]]) -> Numbers:
    """Return each row's mean, nan left out; nan for a row without numbers."""
    return np.array([np.mean(kept) if (kept := [value for value in row if np.isfinite(value)]) else np.nan for row in rows])


def listed_series(config: SweepConfig, made: Curves) -> list[Series]:
    """Return the curves that have points, in the order of the arms."""
    named = {cell.series: Series(cell.series, cell.arm, cell.noise_level) for cell in cells(config)}
    order: list[str] = [arm for arm in config.arms if arm != PROMPTED]
    there = [named[name] for name in made.strengths if name in named and named[name].arm in order]
    return sorted(there, key=lambda one: (order.index(one.arm), one.noise_level or 0.0))


def _direction(config: SweepConfig, made: Curves, own: Found, marks: Mapping[str, Marks]) -> Json:
    weights = made.draws()
    entry: Json = {"n": made.n, "seeds": len(config.seeds), "series": {}}
    volumes: dict[str, Measured] = {}
    gains: dict[str, Measured] = {}
    for one in listed_series(config, made):
        points, drawn = made.points(one.name), made.points(one.name, weights)
        volumes[one.name] = Measured(float(hypervolume(*points)), hypervolume(*drawn))
        gains[one.name] = Measured(float(gain_at(*points)), gain_at(*drawn))
        entry["series"][one.name] = {
            "arm": one.arm,
            "noise_level": one.noise_level,
            "points": [
                {"strength": strength}
                | _point(points, drawn, i)
                | _marks(own, Cell(_name(own), one.arm, strength, one.noise_level), marks)
                for i, strength in enumerate(made.strengths[one.name])
            ],
            **volumes[one.name].json("hypervolume"),
            **gains[one.name].json("gain_at_equal_fluency"),
        }
    if PROMPTED in made.strengths:
        entry["prompted"] = _point(made.points(PROMPTED), made.points(PROMPTED, weights), 0)
    entry["differences"] = _differences(entry["series"], volumes, gains)
    entry["best"] = _best(entry["series"])
    return entry


def _name(own: Found) -> str:
    return next(iter(own)).direction


def _point(points: tuple[Numbers, Numbers], drawn: tuple[Numbers, Numbers], i: int) -> Json:
    """Return gain, fluency and their product at one strength, each with its interval."""
    (gain, fluency), (gain_draws, fluency_draws) = (values[i] for values in points), (values[:, i] for values in drawn)
    both = {"gain": Measured(float(gain), gain_draws), "fluency": Measured(float(fluency), fluency_draws)}
    both["worth"] = Measured(float(gain * fluency), gain_draws * fluency_draws)
    return {key: value for name, one in both.items() for key, value in one.json(name).items()}


def _marks(own: Found, cell: Cell, marks: Mapping[str, Marks]) -> Json:
    """Return a server's mean marks of a cell, 0 to 2; nothing without a server."""
    there = [one for text, entry in own.get(cell, {}).items() if (one := marks.get(question_name(text, entry)))]
    if not there:
        return {}
    names = {
        "concept": [one.concept for one in there],
        "fluency": [one.fluency for one in there],
        "both": [one.both for one in there],
    }
    return {"marks": {name: round(float(np.mean(values)), 3) for name, values in names.items()}}


def _differences(series: Json, volumes: Mapping[str, Measured], gains: Mapping[str, Measured]) -> Json:
    """Return how the walk, at its best level, compares with raw steering and with the paper's projection at its best level."""
    compared: Json = {}
    ours = _largest(series, volumes, "walk")
    for arm in ("raw", "glp"):
        theirs = _largest(series, volumes, arm)
        if ours is None or theirs is None:
            continue
        shared = [{point["strength"] for point in series[name]["points"]} for name in (ours, theirs)]
        volume, gain = (measured[ours].minus(measured[theirs]) for measured in (volumes, gains))
        compared[f"walk-{arm}"] = {
            "ours": ours,
            "theirs": theirs,
            **volume.json("hypervolume"),
            **gain.json("gain_at_equal_fluency"),
            "verdict": volume.verdict,
            "verdict_at_equal_fluency": gain.verdict,
            "same_strengths": shared[0] == shared[1],
        }
    return compared


def _largest(series: Json, volumes: Mapping[str, Measured], arm: str) -> str | None:
    names = [name for name, one in series.items() if one["arm"] == arm]
    return max(names, key=lambda name: volumes[name].value, default=None)


def _best(series: Json) -> Json | None:
    """Return the setting of the greatest gain times fluency; controls are none."""
    points = [
        {"series": name, "arm": one["arm"], "noise_level": one["noise_level"]} | point
        for name, one in series.items()
        if one["arm"] not in CONTROLS
        for point in one["points"]
    ]
    best = max(points, key=lambda point: (point["worth"], point["fluency"]), default=None)
    return best if best is not None and best["worth"] > 0 else None
