"""What a sweep found, in sentences: for the page, the report and the command. Knows numbers."""

import math
from collections.abc import Iterator, Mapping

from glp_core.files import Json
from glp_core.steering.sweeps.cells import DRAWN, UNSTEERED, Cell, texts
from glp_core.steering.sweeps.config import Along, SweepConfig
from glp_core.steering.sweeps.scores import WITHOUT_PROBE, Found, Marks, concept_of
from glp_core.steering.trials.frontier import AT_FLUENCY

TITLES = {
    "unsteered": "Unsteered",
    "raw": "Raw steering",
    "walk": "The walk",
    "glp": "The paper's projection",
    "norm": "Norm-restored steering",
    "gaussian": "The Gaussian prior",
    "opposite": "The wrong sign",
    "random": "A random direction",
    "prompted": "Asking in words",
}
LITTLE = 0.1
"""Share of the way to the concept that a control may gain by chance."""


def sentences(config: SweepConfig, report: Json) -> Iterator[tuple[str, str]]:
    """Yield each direction's title, and what was found along it."""
    for along in config.directions:
        if along.name in report:
            yield along.title, " ".join(found(report[along.name]))


def found(entry: Json) -> list[str]:
    """Return what was found along one direction, a sentence each."""
    said = [_compared(entry, key, one) for key, one in entry["differences"].items()]
    return [*said, *_controls(entry), *_best(entry)]


def unfound(config: SweepConfig, found: Found, judged: Mapping[str, Marks], report: Json) -> list[str]:
    """Say why nothing was found along the directions that an ended sweep's report lacks, a sentence each."""
    return [
        f"Along {along.title} nothing is found: {_why_not(config, found, judged, along)}"
        for along in config.directions
        if along.name not in report
    ]


def _why_not(config: SweepConfig, found: Found, judged: Mapping[str, Marks], along: Along) -> str:
    first = [Cell(along.name, arm, 0.0, None) for arm in (UNSTEERED, DRAWN)]
    there, wanted = (sum(map(len, of)) for of in ([found.get(one, {}) for one in first], [texts(config, one) for one in first]))
    if there < wanted:
        return f"{there} of the {wanted} texts that all others are compared with are written. Run writes the others."
    score = concept_of(config, judged)
    scored = sum(math.isfinite(score(text, one)) for text, one in found[first[0]].items())
    if config.scorer.kind == "server":
        return f"the server has marked {scored} of the {len(found[first[0]])} unsteered texts. Run asks about the others."
    if config.scorer.kind == "probe" and not scored:
        return f"no concept is read in its texts, since it has no concept probe. {WITHOUT_PROBE}"
    return "its texts are empty."


def series_title(one: Json) -> str:
    """Return the name of a curve."""
    level = one["noise_level"]
    return TITLES[one["arm"]] + ("" if level is None else f" at noise level {level:g}")


def _compared(entry: Json, key: str, one: Json) -> str:
    ours, theirs = (entry["series"][one[side]] for side in ("ours", "theirs"))
    verdicts = {"ahead": "more than", "behind": "less than", "level": "about as much as"}
    gain, volume = (f"{_interval(one, name)}" for name in ("gain_at_equal_fluency", "hypervolume"))
    where = {"ahead": "ahead of", "behind": "behind", "level": "level with"}[one["verdict"]]
    other = series_title(theirs)
    other = other[0].lower() + other[1:]
    return (
        f"{series_title(ours)} gains {ours['gain_at_equal_fluency']:.0%} of the way to the concept at fluency {AT_FLUENCY:g} or more, "
        f"{verdicts[one['verdict_at_equal_fluency']]} {other} with {theirs['gain_at_equal_fluency']:.0%} (difference {gain}); over all "
        f"strengths it is {where} it (hypervolume {ours['hypervolume']:.2f} against {theirs['hypervolume']:.2f}, difference {volume})."
    )


def _controls(entry: Json) -> Iterator[str]:
    """Say whether the controls gain nothing, as they should."""
    gains = {
        one["arm"]: max(point["gain"] for point in one["points"])
        for one in entry["series"].values()
        if one["arm"] in ("opposite", "random")
    }
    if not gains:
        return
    listed = " and ".join(f"{TITLES[arm].lower()} gains at most {gain:.0%}" for arm, gain in gains.items())
    verdict = (
        "the gain is the direction's own" if max(gains.values()) <= LITTLE else "part of the gain is not the direction's own"
    )
    yield f"Controls: {listed}, so {verdict}."


def _best(entry: Json) -> Iterator[str]:
    best = entry["best"]
    if best is None:
        yield "No setting gains any of the concept."
        return
    title, (low, high) = series_title(best), best["worth_ci"]
    yield (
        f"Recommended: {title[0].lower()}{title[1:]} at strength {best['strength']:g}, where gain times fluency is greatest, "
        f"{best['worth']:.2f} [{low:.2f}, {high:.2f}]: {best['gain']:.0%} of the way to the concept at fluency {best['fluency']:.2f}."
    )
    if "prompted" in entry:
        prompted = entry["prompted"]
        yield f"Asking in words gains {prompted['gain']:.0%} at fluency {prompted['fluency']:.2f}."


def _interval(one: Json, name: str) -> str:
    value, low, high = (round(number, 2) + 0.0 for number in (one[name], *one[f"{name}_ci"]))  # + 0.0: no minus before nothing
    return f"{value:+.2f} [{low:+.2f}, {high:+.2f}]"
