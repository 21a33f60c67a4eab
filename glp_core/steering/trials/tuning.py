"""Choose how the walk goes: forms of it, and what it is compared with, on validation prefixes along every direction.

The criterion: each form's frontier of concept against fluency over all strengths, its hypervolume for every direction, and the mean
over directions. A rule by the length of the push is made of two walks: for short pushes the one with the greatest mean hypervolume;
for long ones the one whose texts are worth most, by gain times fluency, at strengths from 1 on, where raw text breaks; the border lies
where the second one overtakes the first. Knows models and outcomes; knows no files.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from itertools import chain
from statistics import fmean
from typing import SupportsFloat

import numpy as np
from torch import Tensor

from glp_core.errors import GlpError
from glp_core.files import Json
from glp_core.llm.decoding import Sampling
from glp_core.llm.model import Llm
from glp_core.prior.glp import GLP
from glp_core.prior.projection import Kind, Projector, make_projector
from glp_core.prior.reference import Reference
from glp_core.prior.walk import Bound, WalkSettings
from glp_core.progress import Progress, quiet
from glp_core.stats import percentiles
from glp_core.steering.directions import Direction
from glp_core.steering.trials.frontier import Curves, gain_at, hypervolume
from glp_core.steering.trials.outcomes import TOKENS, UNSTEERED, Condition, Outcome, measure, own_texts
from glp_core.steering.trials.pareto import STRONG

STRENGTHS = (0.1, 0.2, 0.3, 0.45, 0.6, 0.8, 1.0, 1.4, 2.0)
BOUNDED = (
    *((WalkSettings(0.1, 8, hold=hold), share) for hold in (0.0, 0.5) for share in (0.8, 0.9, 0.95, 0.99)),
    (WalkSettings(0.1, 8, hold=0.25), 0.95),
    *((WalkSettings(level, pushes), 0.95) for level in (0.05, 0.1) for pushes in (4, 16)),
    (WalkSettings(0.05, 8), 0.95),
    *((WalkSettings(level, 16, hold=0.5), 0.95) for level in (0.05, 0.1)),
    *((WalkSettings(level, 8, hold=0.5), 0.95) for level in (0.15, 0.25)),
    *((WalkSettings(0.1, 20, part=part), 0.95) for part in (2.5, 5.0)),
    (WalkSettings(0.05, 20, part=2.5), 0.95),
)
"""Walks with the share of real activations that lies below their bound."""
GLP_LEVELS = (0.25, 0.35, 0.5, 0.65)
GAUSSIAN_LEVEL = 0.5


@dataclass(frozen=True)
class Form:
    """One way to steer that is tried."""

    name: str
    family: str
    """raw, glp, norm, gaussian, or the kind of walk."""
    projector: Projector | None
    settings: Json
    """What its projector was made with."""


def walks(bound: Callable[[float], Bound] | None = None) -> dict[str, list[WalkSettings]]:
    """Return the walks that are tried, by family.

    Args:
        bound: gives the bound below which a share of real activations lies; None without a reference.
    """
    bounded = [] if bound is None else [replace(walk, bound=bound(share)) for walk, share in BOUNDED]
    return {
        "walk": [
            *(WalkSettings(level, 8) for level in (0.1, 0.15, 0.2, 0.25, 0.35)),
            *(WalkSettings(level, 16) for level in (0.1, 0.15, 0.2, 0.25, 0.35)),
            *(WalkSettings(level, 4) for level in (0.05, 0.15, 0.35)),
            WalkSettings(0.1, 2),
            WalkSettings(0.15, 32),
            *(WalkSettings(0.25, pushes) for pushes in (1, 2)),
        ],
        "held walk": [
            *(WalkSettings(level, 8, hold=hold) for level in (0.1, 0.15, 0.25, 0.35, 0.45) for hold in (0.5, 1.0)),
            *(WalkSettings(0.25, pushes, hold=hold) for pushes, hold in ((2, 1.0), (4, 0.5), (4, 1.0), (8, 0.25), (16, 0.5))),
        ],
        "parts by strength": [
            *(WalkSettings(level, 32, part=part) for level in (0.15, 0.25) for part in (0.75, 1.5)),
            *(WalkSettings(0.25, 32, part=part, hold=0.5) for part in (0.75, 1.5)),
        ],
        "noise drawn once": [WalkSettings(0.25, 16, fresh=False), WalkSettings(0.25, 8, hold=0.5, fresh=False)],
        "levels that grow or shrink": [
            *(WalkSettings(0.25, 16, tilt=tilt) for tilt in (-0.6, 0.6)),
            *(WalkSettings(0.25, 8, hold=0.5, tilt=tilt) for tilt in (-0.6, 0.6)),
        ],
        "stops at a share": [WalkSettings(0.25, 32, enough=share) for share in (0.15, 0.3)],
        "stops at a bound": bounded,
    }


def forms(
    glp: GLP, covariance: Tensor | None = None, reference: Reference | None = None, *, layer: int | None = None
) -> list[Form]:
    """Return everything that is tried: raw, the paper's projection at several levels, the other baselines, and walks."""
    made = [Form("raw", "raw", None, {}), Form("norm", "norm", make_projector("norm"), {})]
    levels: list[tuple[Kind, float]] = [("glp", level) for level in GLP_LEVELS]
    if covariance is not None:
        levels.append(("gaussian", GAUSSIAN_LEVEL))
    for kind, level in levels:
        projector = make_projector(kind, glp=glp, covariance=covariance, noise_level=level, layer=layer)
        made.append(Form(f"{kind} {level:g}", kind, projector, {"noise_level": level}))
    for family, listed in walks(partial(Bound.at, reference) if reference else None).items():
        for settings in listed:
            projector = make_projector("walk", glp=glp, layer=layer, walk=settings)
            made.append(Form(walk_name(settings), family, projector, asdict(settings)))
    return made


def names() -> list[str]:
    """Return the names of all forms that may be tried."""
    levels = [*(f"glp {level:g}" for level in GLP_LEVELS), f"gaussian {GAUSSIAN_LEVEL:g}"]
    return ["raw", "norm", *levels, *map(walk_name, chain(*walks(partial(Bound, error=1.0)).values()))]


def walk_name(settings: WalkSettings) -> str:
    """Return a short name of a walk, with all that sets it apart."""
    plain = asdict(WalkSettings())
    extra = {
        key: value
        for key, value in asdict(settings).items()
        if key not in ("noise_level", "pushes", "bound") and value != plain[key]
    }
    words = [f"walk {settings.noise_level:g} x {settings.pushes}", *(f"{key} {value:g}" for key, value in extra.items())]
    return ", ".join(words + ([f"bound {settings.bound.share:g}"] if settings.bound else []))


def tune(
    llm: Llm,
    glp: GLP,
    directions: Sequence[Direction],
    tried: Sequence[Form],
    prefixes: Sequence[str],
    *,
    strengths: Sequence[float] = STRENGTHS,
    tokens: int = TOKENS,
    progress: Progress = quiet,
) -> Json:
    """Measure every form at every strength along every direction, and choose a walk.

    Returns:
        `forms`: name, family, settings, hypervolume, its 95% interval, gain at equal fluency, hypervolume by the strict fluency,
        and a row for each direction with its points; best first. `chosen`: the rule by the push's length, None without walks.
        `by_direction`: for raw, glp and walk the form and strength whose gain times fluency is greatest.
    """
    if not directions or not tried:
        raise GlpError("There is nothing to tune: the workspace needs directions.")
    planned = [Condition(direction, UNSTEERED) for direction in directions]
    planned += [
        Condition(direction, form.name, strength, form.projector)
        for form in tried
        for direction in directions
        for strength in strengths
    ]
    outcomes = own_texts(llm, directions, prefixes, tokens=tokens)
    outcomes += measure(llm, planned, prefixes, sampling=Sampling(tokens), progress=progress)
    by_direction = {d.name: [one for one in outcomes if one.direction == d.name] for d in directions}
    return compare(tried, by_direction, {d.name: latent_length(glp, d) for d in directions})


def latent_length(glp: GLP, direction: Direction) -> float:
    """Return how long a push of strength 1 is in latents, in sqrt(d): the length of a typical latent is 1."""
    push = direction.vector * direction.median_norm / glp.normalizer.std[glp.normalizer.row(direction.layer)].flatten().cpu()
    return float(push.norm()) / len(push) ** 0.5


def compare(tried: Sequence[Form], outcomes: Mapping[str, Sequence[Outcome]], lengths: Mapping[str, float]) -> Json:
    """Return `tune`'s report of outcomes by direction; `lengths` of a push of strength 1 in latents, in sqrt(d), by direction."""
    curves = {name: Curves.of(listed) for name, listed in outcomes.items()}
    rows = sorted((_row(form, curves) for form in tried), key=lambda row: -row["hypervolume"])
    return {
        "forms": rows,
        "lengths": {name: _round(lengths[name]) for name in curves},
        "chosen": choose(rows, fmean(lengths[name] for name in curves)),
        "by_direction": {name: _best(rows, name) for name in curves},
    }


def choose(rows: Sequence[Json], length: float) -> Json | None:
    """Return the rule, as WalkRule's values, that measured forms give; `length` of a push of strength 1 in latents, in sqrt(d)."""
    walks = [row for row in rows if "pushes" in row["settings"]]
    if not walks:
        return None
    worths = {row["name"]: _worths(row) for row in walks}
    strengths = sorted(worths[walks[0]["name"]])
    high = [strength for strength in strengths if strength >= STRONG] or strengths[-1:]
    short = max(walks, key=lambda row: row["hypervolume"])
    long = max(walks, key=lambda row: sum(worths[row["name"]][strength] for strength in high))
    first = len(strengths)
    while first and worths[long["name"]][strengths[first - 1]] >= worths[short["name"]][strengths[first - 1]]:
        first -= 1
    around = strengths[max(0, first - 1) : first + 1] if first else [0.0]
    return {"short": short["settings"], "long": long["settings"], "border": _round(length * fmean(around))}


def _worths(row: Json) -> dict[float, float]:
    """Return a form's gain times fluency at every strength, mean over directions."""
    points = [one["points"] for one in row["directions"].values()]
    return {at[0]["strength"]: fmean(point["gain"] * point["fluency"] for point in at) for at in zip(*points, strict=True)}


def _row(form: Form, curves: Mapping[str, Curves]) -> Json:
    """Return a form's row."""
    directions: dict[str, Json] = {}
    volumes = []
    for name, curve in curves.items():
        gains, fluencies = curve.points(form.name)
        volumes.append(hypervolume(*curve.points(form.name, curve.draws())))
        directions[name] = {
            "hypervolume": _round(hypervolume(gains, fluencies)),
            "strict_hypervolume": _round(hypervolume(*curve.points(form.name, strict=True))),
            "gain_at_equal_fluency": _round(gain_at(gains, fluencies)),
            "points": [
                {"strength": strength, "gain": _round(x), "fluency": _round(y)}
                for strength, x, y in zip(curve.strengths[form.name], gains, fluencies, strict=True)
            ],
        }
    drawn = np.mean(volumes, axis=0)
    return {
        "name": form.name,
        "family": form.family,
        "settings": form.settings,
        "hypervolume": _round(fmean(row["hypervolume"] for row in directions.values())),
        "hypervolume_ci": [_round(value) for value in percentiles(drawn)],
        "strict_hypervolume": _round(fmean(row["strict_hypervolume"] for row in directions.values())),
        "gain_at_equal_fluency": _round(fmean(row["gain_at_equal_fluency"] for row in directions.values())),
        "directions": directions,
    }


def _best(rows: Sequence[Json], direction: str) -> Json:
    """Return for each of raw, glp and walk the form and strength whose gain times fluency is greatest along a direction."""
    best: dict[str, Json] = {}
    for row in rows:
        kind = "walk" if "pushes" in row["settings"] else row["family"]
        for point in row["directions"][direction]["points"]:
            worth = _round(point["gain"] * point["fluency"])
            if kind not in best or worth > best[kind]["worth"]:
                best[kind] = {"form": row["name"], "settings": row["settings"], "worth": worth, **point}
    return best


def _round(value: SupportsFloat) -> float:
    return round(float(value), 4)
