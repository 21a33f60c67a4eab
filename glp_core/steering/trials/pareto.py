"""Who trades concept for fluency best: hypervolumes of arms for every direction, paired intervals, and what follows, in words.

Reads the steering reports of all directions; knows no models and no files.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from glp_core.errors import GlpError
from glp_core.files import Json
from glp_core.stats import percentiles
from glp_core.steering.trials.frontier import AT_FLUENCY, Curves, gain_at, hypervolume, on_frontier
from glp_core.steering.trials.outcomes import PROMPTED

COMPARED = (("walk", "raw"), ("walk", "glp"))
BEST = "_best"
"""Ending of arms that are measured at the strength and level that validation prefixes chose for the direction."""
WORDS = {"raw": "raw steering", "glp": "the paper's projection"}


class Measured(NamedTuple):
    """A number and its bootstrap draws (k,)."""

    value: float
    draws: NDArray[np.float64]

    def json(self, name: str) -> Json:
        """Return the number under a name, and its 95% interval."""
        low, high = percentiles(self.draws)
        return {name: round(self.value, 4), f"{name}_ci": [round(low, 4), round(high, 4)]}

    def minus(self, other: "Measured") -> "Measured":
        """Return the difference, paired draw by draw."""
        return Measured(self.value - other.value, self.draws - other.draws)

    @property
    def verdict(self) -> str:
        """ahead or behind where the 95% interval leaves out 0, else level."""
        low, high = percentiles(self.draws)
        return "ahead" if low > 0 else "behind" if high < 0 else "level"


def pareto(reports: Mapping[str, Json]) -> Json:
    """Compare the arms of steering reports, by direction's name, on the same prefixes.

    Returns:
        `directions`: by name, each arm's points, frontier, hypervolume (also by the strict fluency) and gain at equal fluency, the
        differences between arms, the same at each arm's own best strength and level, and a sentence. `summary`: means over directions,
        and how often the walk is ahead, level and behind, with `statements`. Intervals are 95%, bootstrapped over prefixes, paired.
    Raises:
        GlpError: no report, or one that lacks its texts' numbers.
    """
    if not reports:
        raise GlpError("There are no steering reports. Make them with `python -m glp_core steer`.")
    entries = {name: _direction(name, report) for name, report in reports.items()}
    return {
        "directions": {name: entry for name, (entry, _) in entries.items()},
        "summary": _summary(entries),
        "settings": {"equal_fluency": AT_FLUENCY, "compared": [list(pair) for pair in COMPARED]},
    }


def _direction(name: str, report: Json) -> tuple[Json, dict[str, Measured]]:
    """Return a direction's entry, and the hypervolumes of its arms."""
    if "cells" not in report.get("texts", {}):
        raise GlpError(
            f"The steering report on {name} lacks its texts' numbers. Make it again with `python -m glp_core steer`."
        )
    curves = Curves.from_json(report["texts"])
    weights = curves.draws()
    volumes: dict[str, Measured] = {}
    gains: dict[str, Measured] = {}
    strict: dict[str, Measured] = {}
    worths: dict[str, Measured] = {}
    entry: Json = {"title": report["settings"].get("title", name), "n": curves.n, "arms": {}, "best": {}}
    for arm in curves.strengths:
        points, drawn = curves.points(arm), curves.points(arm, weights)
        if arm.endswith(BEST) or arm == PROMPTED:
            key = arm.removesuffix(BEST)
            worths[key] = Measured(float(points[0][0] * points[1][0]), drawn[0][:, 0] * drawn[1][:, 0])
            entry["best"][key] = _points(curves, arm)[0] | worths[key].json("worth") | _settings(report, arm)
            continue
        volumes[arm] = Measured(float(hypervolume(*points)), hypervolume(*drawn))
        strict[arm] = Measured(
            float(hypervolume(*curves.points(arm, strict=True))), hypervolume(*curves.points(arm, weights, strict=True))
        )
        gains[arm] = Measured(float(gain_at(*points)), gain_at(*drawn))
        entry["arms"][arm] = {
            "points": _points(curves, arm),
            "frontier": on_frontier(points[0].tolist(), points[1].tolist()),
            **volumes[arm].json("hypervolume"),
            **gains[arm].json("gain_at_equal_fluency"),
            **strict[arm].json("strict_hypervolume"),
        }
    entry["differences"] = _differences({"hypervolume": volumes, "gain_at_equal_fluency": gains, "strict_hypervolume": strict})
    entry["best_differences"] = _differences({"worth": worths})
    entry["sentence"] = _sentence(entry)
    return entry, volumes


def _points(curves: Curves, arm: str) -> list[Json]:
    gains, fluencies = curves.points(arm)
    return [
        {"strength": strength, "gain": round(float(x), 4), "fluency": round(float(y), 4)}
        for strength, x, y in zip(curves.strengths[arm], gains, fluencies, strict=True)
    ]


def _settings(report: Json, arm: str) -> Json:
    settings = report["settings"].get("best", {}).get(arm.removesuffix(BEST))
    return {"settings": settings} if settings is not None else {}


def _differences(measured: Mapping[str, Mapping[str, Measured]]) -> Json:
    """Return the differences of the compared arms in every measure; the verdict is on the first one."""
    differences: Json = {}
    for ours, theirs in COMPARED:
        pairs = {
            name: values[ours].minus(values[theirs]) for name, values in measured.items() if {ours, theirs} <= values.keys()
        }
        if pairs:
            verdict = next(iter(pairs.values())).verdict
            differences[f"{ours}-{theirs}"] = {k: v for name, one in pairs.items() for k, v in one.json(name).items()} | {
                "verdict": verdict
            }
    return differences


def _sentence(entry: Json) -> str:
    """Say whether the walk beats raw steering and the paper's projection along a direction."""
    words = {"ahead": "is ahead of", "level": "is level with", "behind": "is behind"}
    parts = []
    for ours, theirs in COMPARED:
        whole, best = (entry[key].get(f"{ours}-{theirs}") for key in ("differences", "best_differences"))
        if whole is None:
            continue
        part = f"{words[whole['verdict']]} {WORDS[theirs]} over all strengths"
        parts.append(part + (f" and {words[best['verdict']].removeprefix('is ')} it at each one's best" if best else ""))
    return f"The walk {', and '.join(parts)}." if parts else "The walk was not measured."


def _summary(entries: Mapping[str, tuple[Json, dict[str, Measured]]]) -> Json:
    """Return means over directions and counts of verdicts."""
    arms = [arm for arm in next(iter(entries.values()))[1] if all(arm in volumes for _, volumes in entries.values())]
    means = {arm: _mean([volumes[arm] for _, volumes in entries.values()]) for arm in arms}
    summary: Json = {"n_directions": len(entries), "hypervolume": {arm: one.json("value") for arm, one in means.items()}}
    statements = []
    for ours, theirs in COMPARED:
        pair = f"{ours}-{theirs}"
        if not {ours, theirs} <= means.keys():
            continue
        whole, best = (
            _verdicts([entry[key].get(pair) for entry, _ in entries.values()]) for key in ("differences", "best_differences")
        )
        summary[pair] = means[ours].minus(means[theirs]).json("hypervolume") | {"over_strengths": whole, "at_best": best}
        for counts, where in ((whole, "over all strengths"), (best, "with each at its own best strength and level")):
            if sum(counts.values()):
                said = f"ahead of {WORDS[theirs]} on {counts['ahead']}, level on {counts['level']} and behind on {counts['behind']}"
                statements.append(f"The walk is {said} of {sum(counts.values())} directions, {where}.")
    return summary | {"statements": statements}


def _verdicts(differences: Sequence[Json | None]) -> dict[str, int]:
    verdicts = [one["verdict"] for one in differences if one]
    return {verdict: verdicts.count(verdict) for verdict in ("ahead", "level", "behind")}


def _mean(values: Sequence[Measured]) -> Measured:
    """Return the mean over directions; draws are of the same prefixes, so they stay paired."""
    return Measured(float(np.mean([one.value for one in values])), np.mean([one.draws for one in values], axis=0))
