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
BEST = "Best on these"
"""How the sentence begins that names a direction's best setting."""
LITTLE = 0.1
"""Share of the way to the concept that a control may gain by chance."""


def sentences(config: SweepConfig, report: Json) -> Iterator[tuple[str, str]]:
    """Yield each direction's title, and what was found along it."""
    for along in config.directions:
        if along.name in report:
            yield along.title, " ".join(found(report[along.name]))


def found(entry: Json) -> list[str]:
    """Return what was found along one direction, a sentence each."""
    said = [_compared(entry, one) for one in entry["differences"].values()]
    return [*_unmarked(entry), *said, *_controls(entry), *_best(entry)]


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
        return "the server has marked too few of its texts to compare any prompt. Run asks about the others."
    if config.scorer.kind == "probe" and not scored:
        return f"no concept is read in its texts, since it has no concept probe. {WITHOUT_PROBE}"
    return "its texts are empty."


def series_title(one: Json) -> str:
    """Return the name of a curve."""
    level = one["noise_level"]
    return TITLES[one["arm"]] + ("" if level is None else f" at noise level {level:g}")


def _compared(entry: Json, one: Json) -> str:
    ours, theirs = (entry["series"][one[side]] for side in ("ours", "theirs"))
    if not one["strengths"]:
        return f"{series_title(ours)} and {_lower(series_title(theirs))} are not compared: they have no strength in common."
    verdicts = {"ahead": "more than", "behind": "less than", "level": "about as much as"}
    gain, volume = (f"{_interval(one, name)}" for name in ("gain_at_equal_fluency", "hypervolume"))
    where = {"ahead": "ahead of", "behind": "behind", "level": "level with"}[one["verdict"]]
    (our_gain, their_gain), (our_volume, their_volume) = one["gains_at_equal_fluency"], one["hypervolumes"]
    listed = ", ".join(f"{strength:g}" for strength in one["strengths"])
    over = "all strengths" if one["same_strengths"] else f"the strengths that both have ({listed})"
    return (
        f"{series_title(ours)} gains {our_gain:.0%} of the way to the concept at fluency {AT_FLUENCY:g} or more, "
        f"{verdicts[one['verdict_at_equal_fluency']]} {_lower(series_title(theirs))} with {their_gain:.0%} (difference {gain}); over "
        f"{over} it is {where} it (hypervolume {our_volume:.2f} against {their_volume:.2f}, difference {volume})."
    )


def _lower(title: str) -> str:
    return title[0].lower() + title[1:]


def _unmarked(entry: Json) -> Iterator[str]:
    """Say how many texts a server left without a mark, and what the numbers are of."""
    if unmarked := entry.get("unmarked"):
        texts_are = "text has" if unmarked == 1 else "texts have"
        yield (
            f"{unmarked:,} {texts_are} no mark from the server: all numbers are of the {entry['n']} prompts whose texts are marked "
            "wherever they are compared. A sweep that goes on asks about the others."
        )


def _controls(entry: Json) -> Iterator[str]:
    """Say whether the controls gain nothing, as they should; each is walked at the walk's levels."""
    gains: dict[str, float] = {}
    others: dict[float | None, float] = {}
    for one in entry["series"].values():
        if one["arm"] in ("opposite", "random"):
            most = max(point["gain"] for point in one["points"])
            gains[one["arm"]] = max(most, gains.get(one["arm"], 0.0))
            others[one["noise_level"]] = max(most, others.get(one["noise_level"], 0.0))
    if not gains:
        return
    listed = " and ".join(f"{TITLES[arm].lower()} gains at most {gain:.0%}" for arm, gain in gains.items())
    much = [level for level, gain in others.items() if gain > LITTLE]
    at = f" at noise level {', '.join(f'{level:g}' for level in much if level is not None)}" if len(others) > 1 else ""
    yield f"Controls: {listed}, so {f'part of the gain{at} is not' if much else 'the gain is'} the direction's own."


def _best(entry: Json) -> Iterator[str]:
    best = entry["best"]
    if best is None:
        yield "No setting gains any of the concept." if entry["series"] else "No steered text is written yet."
        return
    title, (low, high) = series_title(best), best["worth_ci"]
    yield (
        f"{BEST} {entry['n']} prompts: {_lower(title)} at strength {best['strength']:g}, where gain times fluency is greatest, "
        f"{best['worth']:.2f} [{low:.2f}, {high:.2f}]: {best['gain']:.0%} of the way to the concept at fluency {best['fluency']:.2f}."
    )
    if "prompted" in entry:
        prompted = entry["prompted"]
        yield f"Asking in words gains {prompted['gain']:.0%} at fluency {prompted['fluency']:.2f}."


def _interval(one: Json, name: str) -> str:
    value, low, high = (round(number, 2) + 0.0 for number in (one[name], *one[f"{name}_ci"]))  # + 0.0: no minus before nothing
    return f"{value:+.2f} [{low:+.2f}, {high:+.2f}]"
