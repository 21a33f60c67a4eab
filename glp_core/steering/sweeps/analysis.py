"""What a sweep found: curves of concept against fluency with bands over prompts, who trades best, and the setting to use.

Gain, fluency and hypervolume are those of trials/frontier.py. A prompt's numbers are means over seeds, and intervals are over prompts,
the same draws for all curves. Cells that are not whole are left out, and so are prompts that a server has not marked everywhere, so
that every number is of the same prompts. Knows numbers.
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

ENOUGH_MARKED = 0.5
"""Share of a cell's prompts that a server has to have marked."""
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
        strength, hypervolume and gain at equal fluency; `prompted`; `differences` of walk and raw, paired, over the strengths that
        both have; `best`, the setting of the greatest gain times fluency; `unmarked`, texts without a server's mark.
    """
    marks = judged or {}
    score = concept_of(config, marks)
    report: Json = {}
    for along in config.directions:
        own = {cell: entries for cell, entries in found.items() if cell.direction == along.name}
        made = curves(config, own, score)
        if made is not None and config.scorer.kind == "server":
            made = marked_everywhere(made)
        if made is not None:
            report[along.name] = {"title": along.title} | _direction(config, made, own, marks)
    return report


def marked_everywhere(made: Curves) -> Curves | None:
    """Return the same curves over the prompts whose texts all have a concept; None where no prompt is left.

    Cells with fewer than half of them, which a server has not come to, are left out.
    """
    there = {place: cell for place, cell in made.cells.items() if np.isfinite(cell.concept).mean() >= ENOUGH_MARKED}
    if (UNSTEERED, 0.0) not in there:
        return None
    kept = np.all([np.isfinite(cell.concept) for cell in there.values()], axis=0)
    if not kept.any():
        return None
    return Curves({place: frontier.Cell(*(values[kept] for values in cell)) for place, cell in there.items()}, made.broken)


def curves(config: SweepConfig, own: Found, score: Score, seeds: Sequence[int] | None = None) -> Curves | None:
    """Return the whole cells of one direction, or None while the texts that all are compared with are not there.

    Args:
        seeds: whose texts are taken; all when None.
    """
    table: dict[tuple[str, float], frontier.Cell] = {}
    broken = None
    for cell in sorted(own, key=lambda cell: cell.strength):
        wanted, there = texts(config, cell), own[cell]
        if any(text not in there for text in wanted):
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
            _means([[score(text, one) for text, one in row] for row in rows], whole=config.scorer.kind == "server"),
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


def _means(rows: list[list[float]], *, whole: bool = False) -> Numbers:
    """Return each row's mean, nan left out; nan for a row without numbers, or that is not `whole` where it has to be."""
    kept = [[value for value in row if np.isfinite(value)] for row in rows]
    enough = [len(there) == len(row) if whole else bool(there) for there, row in zip(kept, rows, strict=True)]
    return np.array([np.mean(there) if there and fits else np.nan for there, fits in zip(kept, enough, strict=True)])


def listed_series(config: SweepConfig, made: Curves) -> list[Series]:
    """Return the curves that have points, in the order of the arms."""
    named = {cell.series: Series(cell.series, cell.arm, cell.noise_level) for cell in cells(config)}
    order: list[str] = [arm for arm in config.arms if arm != PROMPTED]
    there = [named[name] for name in made.strengths if name in named and named[name].arm in order]
    return sorted(there, key=lambda one: (order.index(one.arm), one.noise_level or 0.0))


def _direction(config: SweepConfig, made: Curves, own: Found, marks: Mapping[str, Marks]) -> Json:
    weights = made.draws()
    entry: Json = {"n": made.n, "seeds": len(config.seeds), "series": {}}
    if config.scorer.kind == "server":
        entry["unmarked"] = _unmarked(own, marks)
    for one in listed_series(config, made):
        points, drawn = made.points(one.name), made.points(one.name, weights)
        volume, gain = _summed(points, drawn)
        entry["series"][one.name] = {
            "arm": one.arm,
            "noise_level": one.noise_level,
            "points": [
                {"strength": strength}
                | _point(points, drawn, i)
                | _marks(own, Cell(_name(own), one.arm, strength, one.noise_level), marks)
                for i, strength in enumerate(made.strengths[one.name])
            ],
            **volume.json("hypervolume"),
            **gain.json("gain_at_equal_fluency"),
        }
    if PROMPTED in made.strengths:
        entry["prompted"] = _point(made.points(PROMPTED), made.points(PROMPTED, weights), 0)
    entry["differences"] = _differences(entry["series"], made, weights)
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


def _summed(points: tuple[Numbers, Numbers], drawn: tuple[Numbers, Numbers]) -> tuple[Measured, Measured]:
    """Return hypervolume and gain at equal fluency of a curve's points, with their draws."""
    volume = Measured(float(hypervolume(*points)), hypervolume(*drawn))
    return volume, Measured(float(gain_at(*points)), gain_at(*drawn))


def _unmarked(own: Found, marks: Mapping[str, Marks]) -> int:
    """Return how many texts that a server is asked about have no mark."""
    asked = [(text, one) for cell, entries in own.items() if cell.arm != DRAWN for text, one in entries.items()]
    return sum(question_name(text, one) not in marks for text, one in asked)


def _differences(series: Json, made: Curves, weights: Numbers) -> Json:
    """Return how the walk compares with raw steering and with the paper's projection, each at its best level, at strengths all have."""
    compared: Json = {}
    for arm in ("raw", "glp"):
        sides = [[name for name, one in series.items() if one["arm"] == side] for side in ("walk", arm)]
        if not all(sides):
            continue
        names = [name for side in sides for name in side]
        shared = sorted(set.intersection(*(set(made.strengths[name]) for name in names)))
        compared[f"walk-{arm}"] = {"strengths": shared} | _difference(sides, made, weights, shared)
    return compared


def _difference(sides: list[list[str]], made: Curves, weights: Numbers, shared: list[float]) -> Json:
    """Return the best curves of two sides at these strengths, and their difference; names alone where there is no strength."""
    if not shared:
        return {"ours": sides[0][0], "theirs": sides[1][0], "same_strengths": False}
    summed = {name: _summed(*_at(made, name, weights, shared)) for side in sides for name in side}
    ours, theirs = (max(side, key=lambda name: summed[name][0].value) for side in sides)
    (volume, gain), (their_volume, their_gain) = summed[ours], summed[theirs]
    volumes, gains = volume.minus(their_volume), gain.minus(their_gain)
    return {
        "ours": ours,
        "theirs": theirs,
        "hypervolumes": [round(one.value, 4) for one in (volume, their_volume)],
        "gains_at_equal_fluency": [round(one.value, 4) for one in (gain, their_gain)],
        **volumes.json("hypervolume"),
        **gains.json("gain_at_equal_fluency"),
        "verdict": volumes.verdict,
        "verdict_at_equal_fluency": gains.verdict,
        "same_strengths": all(set(made.strengths[name]) == set(shared) for side in sides for name in side),
    }


def _at(
    made: Curves, name: str, weights: Numbers, strengths: list[float]
) -> tuple[tuple[Numbers, Numbers], tuple[Numbers, Numbers]]:
    """Return a curve's points, and their draws, at some of its strengths."""
    places = [made.strengths[name].index(strength) for strength in strengths]
    (gain, fluency), (gains, fluencies) = made.points(name), made.points(name, weights)
    return (gain[places], fluency[places]), (gains[:, places], fluencies[:, places])


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
