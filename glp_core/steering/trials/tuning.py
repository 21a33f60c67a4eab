"""Choose how the walk goes: forms of it, and what it is compared with, on validation prefixes along every direction.

The criterion, fixed before looking: each form's frontier of concept against fluency over all strengths, its hypervolume for every
direction, and the mean over directions. Of the walks that are not behind the best (paired 95% interval over prefixes), the plainest is
chosen: no options beyond noise level, pushes and hold, then the fewest pushes, then the greatest hypervolume. Knows models and
outcomes; knows no files.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import fmean
from typing import SupportsFloat

import numpy as np
from torch import Tensor

from glp_core.errors import GlpError
from glp_core.files import Json
from glp_core.llm.decoding import Sampling
from glp_core.llm.model import Llm
from glp_core.prior.glp import GLP
from glp_core.prior.projection import Projector, make_projector
from glp_core.prior.walk import WalkSettings
from glp_core.progress import Progress, quiet
from glp_core.stats import percentiles
from glp_core.steering.directions import Direction
from glp_core.steering.trials.frontier import Curves, Numbers, gain_at, hypervolume
from glp_core.steering.trials.outcomes import TOKENS, UNSTEERED, Condition, Outcome, measure, own_texts

STRENGTHS = (0.1, 0.2, 0.3, 0.45, 0.6, 0.8, 1.0, 1.4, 2.0)
GLP_LEVELS = (0.25, 0.35, 0.5, 0.65)


@dataclass(frozen=True)
class Form:
    """One way to steer that is tried."""

    name: str
    family: str
    """raw, glp, norm, gaussian, or the kind of walk."""
    projector: Projector | None
    settings: Json
    """What its projector was made with."""


def walks() -> dict[str, list[WalkSettings]]:
    """Return the walks that are tried, by family."""
    return {
        "walk": [
            *(WalkSettings(level, 8) for level in (0.1, 0.15, 0.2, 0.25, 0.35)),
            *(WalkSettings(level, 16) for level in (0.1, 0.15, 0.2, 0.25, 0.35)),
            *(WalkSettings(level, 4) for level in (0.15, 0.35)),
            WalkSettings(0.15, 32),
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
    }


def forms(glp: GLP, covariance: Tensor | None = None, *, layer: int | None = None) -> list[Form]:
    """Return everything that is tried: raw, the paper's projection at several levels, the other baselines, and walks."""
    made = [Form("raw", "raw", None, {}), Form("norm", "norm", make_projector("norm"), {})]
    for level in GLP_LEVELS:
        projector = make_projector("glp", glp=glp, noise_level=level, layer=layer)
        made.append(Form(f"glp {level:g}", "glp", projector, {"noise_level": level}))
    if covariance is not None:
        projector = make_projector("gaussian", glp=glp, covariance=covariance, layer=layer)
        made.append(Form("gaussian 0.5", "gaussian", projector, {"noise_level": 0.5}))
    for family, listed in walks().items():
        for settings in listed:
            projector = make_projector("walk", glp=glp, layer=layer, walk=settings)
            made.append(Form(walk_name(settings), family, projector, asdict(settings)))
    return made


def walk_name(settings: WalkSettings) -> str:
    """Return a short name of a walk, with all that sets it apart."""
    plain = asdict(WalkSettings())
    extra = {
        key: value for key, value in asdict(settings).items() if key not in ("noise_level", "pushes") and value != plain[key]
    }
    words = [f"walk {settings.noise_level:g} x {settings.pushes}", *(f"{key} {value:g}" for key, value in extra.items())]
    return ", ".join(words)


def tune(
    llm: Llm,
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
        `level_with_best` for walks, and a row for each direction with its points; best first. `chosen`: the chosen walk's settings.
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
    return compare(tried, {d.name: [one for one in outcomes if one.direction == d.name] for d in directions})


def compare(tried: Sequence[Form], outcomes: Mapping[str, Sequence[Outcome]]) -> Json:
    """Return `tune`'s report of outcomes by direction."""
    curves = {name: Curves.of(listed) for name, listed in outcomes.items()}
    measured = sorted((_row(form, curves) for form in tried), key=lambda one: -one[0]["hypervolume"])
    rows = [row for row, _ in measured]
    return {
        "forms": rows,
        "chosen": _choose([one for one in measured if "pushes" in one[0]["settings"]]),
        "by_direction": {name: _best(rows, name) for name in curves},
    }


def _choose(walks: Sequence[tuple[Json, Numbers]]) -> Json | None:
    """Return the settings of the plainest walk that is not behind the best; mark those that are level with it."""
    if not walks:
        return None
    for row, drawn in walks:
        row["level_with_best"] = bool(percentiles(walks[0][1] - drawn)[0] <= 0)
    level = [row for row, _ in walks if row["level_with_best"]]
    plainest: Json = min(level, key=lambda row: (_extras(row["settings"]), row["settings"]["pushes"], -row["hypervolume"]))
    return plainest["settings"]


def _extras(settings: Json) -> int:
    """Return the number of options that a page has no control for."""
    plain = asdict(WalkSettings())
    return sum(settings.get(name, plain[name]) != plain[name] for name in plain.keys() - {"noise_level", "pushes", "hold"})


def _row(form: Form, curves: Mapping[str, Curves]) -> tuple[Json, Numbers]:
    """Return a form's row, and the bootstrap draws of its hypervolume."""
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
    row = {
        "name": form.name,
        "family": form.family,
        "settings": form.settings,
        "hypervolume": _round(fmean(row["hypervolume"] for row in directions.values())),
        "hypervolume_ci": [_round(value) for value in percentiles(drawn)],
        "strict_hypervolume": _round(fmean(row["strict_hypervolume"] for row in directions.values())),
        "gain_at_equal_fluency": _round(fmean(row["gain_at_equal_fluency"] for row in directions.values())),
        "directions": directions,
    }
    return row, drawn


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
