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
STRONG = 1.0
"""Strength from which on raw text breaks along most directions."""
PLACES = {
    "differences": ("over_strengths", "over all strengths"),
    "strong_differences": ("when_strong", f"at strengths of {STRONG:g} and more"),
    "best_differences": ("at_best", "at each one's own best strength and level"),
}
"""Where arms are compared, by the key of a direction's differences: the key of the summary's counts, and words."""


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


class Entry(NamedTuple):
    """A direction's part of the report, and what its summary is made of, by arm."""

    json: Json
    measured: dict[str, dict[str, Measured]]
    """What each of PLACES compares: hypervolumes, or gains times fluency; by arm."""


def pareto(reports: Mapping[str, Json]) -> Json:
    """Compare the arms of steering reports, by direction's name, on the same prefixes.

    Returns:
        `directions`: by name, each arm's points, frontier, hypervolume (also by the strict fluency) and gain at equal fluency, the
        differences between arms, those in worth (gain times fluency) at strong pushes and at each arm's own best strength and level,
        and a sentence; directions without a concept probe are left out. `summary`: means over directions, and how often the walk is
        ahead, level and behind; in words in `verdicts`. Intervals are 95%, bootstrapped over prefixes, paired.
    Raises:
        GlpError: no report, or one that lacks its texts' numbers.
    """
    if not reports:
        raise GlpError("There are no steering reports. Make them with `python -m glp_core steer`.")
    read = {name: _curves(name, report) for name, report in reports.items()}
    entries = {name: _direction(name, reports[name], curves) for name, curves in read.items() if curves.concept_known}
    if not entries:
        raise GlpError(f"No concept was read in the texts of {', '.join(read)}: these directions have no concept probe.")
    return {
        "directions": {name: entry.json for name, entry in entries.items()},
        "summary": _summary(list(entries.values())),
        "settings": {"equal_fluency": AT_FLUENCY, "compared": [list(pair) for pair in COMPARED]},
    }


def _curves(name: str, report: Json) -> Curves:
    if "cells" not in report.get("texts", {}):
        raise GlpError(
            f"The steering report on {name} lacks its texts' numbers. Make it again with `python -m glp_core steer`."
        )
    return Curves.from_json(report["texts"])


def _direction(name: str, report: Json, curves: Curves) -> Entry:
    """Return a direction's entry."""
    weights = curves.draws()
    volumes: dict[str, Measured] = {}
    gains: dict[str, Measured] = {}
    strict: dict[str, Measured] = {}
    worths: dict[str, Measured] = {}
    strong: dict[str, Measured] = {}
    settings = report["settings"]
    entry: Json = {"title": settings.get("title", name), "n": curves.n, "arms": {}, "best": {}}
    entry |= {"digest": settings["digest"]} if "digest" in settings else {}
    for arm in curves.strengths:
        points, drawn = curves.points(arm), curves.points(arm, weights)
        if arm.endswith(BEST) or arm == PROMPTED:
            key = arm.removesuffix(BEST)
            worths[key] = Measured(float(points[0][0] * points[1][0]), drawn[0][:, 0] * drawn[1][:, 0])
            entry["best"][key] = _points(curves, arm)[0] | worths[key].json("worth") | _settings(report, arm)
            continue
        volumes[arm] = Measured(float(hypervolume(*points)), hypervolume(*drawn))
        long = [place for place, strength in enumerate(curves.strengths[arm]) if strength >= STRONG]
        if long:
            strong[arm] = Measured(float((points[0] * points[1])[long].mean()), (drawn[0] * drawn[1])[:, long].mean(axis=1))
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
    entry["strong_differences"] = _differences({"worth": strong})
    entry["best_differences"] = _differences({"worth": worths})
    entry["sentence"] = _sentence(entry)
    return Entry(entry, dict(zip(PLACES, (volumes, strong, worths), strict=True)))


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
    parts = []
    for ours, theirs in COMPARED:
        found = {where: entry[place].get(f"{ours}-{theirs}") for place, (_, where) in PLACES.items()}
        said = [f"{one['verdict']} {where}" for where, one in found.items() if one]
        if said:
            parts.append(f"against {WORDS[theirs]} {', '.join(said)}")
    return f"The walk is, {'; '.join(parts)}." if parts else "The walk was not measured."


def _summary(entries: Sequence[Entry]) -> Json:
    """Return means over directions and counts of verdicts."""
    means = {place: _means([entry.measured[place] for entry in entries]) for place in PLACES}
    volumes = {arm: one.json("value") for arm, one in means["differences"].items()}
    summary: Json = {"n_directions": len(entries), "hypervolume": volumes, "verdicts": []}
    for ours, theirs in COMPARED:
        pair = f"{ours}-{theirs}"
        for place, (key, where) in PLACES.items():
            if not {ours, theirs} <= means[place].keys():
                continue
            counts = _verdicts([entry.json[place].get(pair) for entry in entries])
            more = means[place][ours].minus(means[place][theirs])
            name = "hypervolume" if place == "differences" else f"worth_{key}"
            both = [means[place][arm].value for arm in (ours, theirs)]
            rounded = [round(value, 4) for value in both]
            summary.setdefault(pair, {}).update(more.json(name) | {key: counts, f"{key}_both": rounded})
            low, high = percentiles(more.draws)
            measure = "hypervolume" if place == "differences" else "gain × fluency"
            summary["verdicts"].append(
                {
                    "against": WORDS[theirs],
                    "where": where,
                    "directions": ", ".join(f"{count} {verdict}" for verdict, count in counts.items() if count),
                    "mean": f"{measure} {both[0]:.2f} against {both[1]:.2f}, {more.value:+.3f} [{low:+.3f}, {high:+.3f}]",
                }
            )
    return summary


def _verdicts(differences: Sequence[Json | None]) -> dict[str, int]:
    verdicts = [one["verdict"] for one in differences if one]
    return {verdict: verdicts.count(verdict) for verdict in ("ahead", "level", "behind")}


def _means(measured: Sequence[Mapping[str, Measured]]) -> dict[str, Measured]:
    """Return the mean over directions of every arm that all have; draws are of the same prefixes, so they stay paired."""
    arms = [arm for arm in measured[0] if all(arm in one for one in measured)]
    values = {arm: [one[arm] for one in measured] for arm in arms}
    return {
        arm: Measured(float(np.mean([one.value for one in of])), np.mean([one.draws for one in of], axis=0))
        for arm, of in values.items()
    }
