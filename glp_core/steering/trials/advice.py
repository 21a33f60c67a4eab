"""Which strength to recommend along a direction, where steering drifts and breaks, and the first example that a page shows.

All of it is measured on validation prefixes. A text is broken when it is less likely than 95% of the texts that the model draws itself
at temperature 1, or repeats itself more than 95% of its own greedy ones do (greedy texts are the likeliest there are, so judging
likelihood by them would call most readable texts broken). Likelihood is the greater of two contexts, as in frontier.py, so that a text
does not break by its topic. Knows outcomes; knows no models and no files.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from glp_core.files import Json
from glp_core.steering.holding import SHOWING, holds, tells
from glp_core.steering.trials.frontier import AT_FLUENCY, EDGE, Cell, Curves, Numbers, fluency
from glp_core.steering.trials.outcomes import UNSTEERED, Outcome

DRIFTING, BROKEN = 0.25, 0.75
"""A zone begins at the first strength where this share of texts is broken."""
STRENGTHS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.8, 1.0, 1.2, 1.4, 1.7, 2.0)
PLAIN_CONCEPT = 0.3
"""The first example's unsteered text shows less of the concept than that."""
LEAST_WORDS = 24
"""Of a walked text that shows something: one that ends after a sentence shows little."""
CLEARLY = 0.4
"""A walked text that is shown repeats at most this share of its tokens, so that another machine's rounding does not turn the verdict."""


class CurveLimits(NamedTuple):
    """Beyond which a text is broken."""

    likelihood: float
    repetition: float

    @staticmethod
    def of(curves: Curves) -> "CurveLimits":
        """Return the limits that 95% of the model's own texts keep: drawn at temperature 1, and greedy ones."""
        return CurveLimits(curves.broken, float(np.nanquantile(curves.plain.repetition, 1 - EDGE)))

    def broken(self, cell: Cell) -> NDArray[np.bool_]:
        """Say of each text whether it is broken; one without tokens is."""
        return ~((cell.likelihood >= self.likelihood) & (cell.repetition <= self.repetition))


def advise(steered: Mapping[str, Curves]) -> Json:
    """Return for each direction zones of strength for every arm, and the strength to recommend for the walk.

    Returns:
        By direction: `limits`; `arms`: for each, `drifting` and `broken` (the first strength of the zone, or null) and `rows`;
        `recommended`: the strength of the greatest gain, before walked texts drift and at a fluency of at least AT_FLUENCY, or null,
        with its `gain` and `fluency`. (The largest such strength gains less where a walk has a bound: it holds at any.)
        Of a direction without a concept probe gains are null, and no strength is recommended.
    """
    return {name: _advice(curves, CurveLimits.of(curves)) for name, curves in steered.items()}


def _advice(curves: Curves, limits: CurveLimits) -> Json:
    arms: Json = {}
    for arm, strengths in curves.strengths.items():
        gains, fluencies = curves.points(arm)
        shares = [float(limits.broken(curves.cells[arm, strength]).mean()) for strength in strengths]
        rows = [
            {
                "strength": strength,
                "broken": round(share, 4),
                "gain": round(float(x), 4) if curves.concept_known else None,
                "fluency": round(float(y), 4),
            }
            for strength, share, x, y in zip(strengths, shares, gains, fluencies, strict=True)
        ]
        arms[arm] = {"drifting": _first(rows, DRIFTING), "broken": _first(rows, BROKEN), "rows": rows}
    sound = [row for row in _before_drift(arms["walk"]) if row["fluency"] >= AT_FLUENCY] if "walk" in arms else []
    best = max(sound, key=lambda row: row["gain"], default=None) if curves.concept_known else None
    return {
        "limits": limits._asdict(),
        "arms": arms,
        "recommended": best["strength"] if best else None,
        "gain": best["gain"] if best else None,
        "fluency": best["fluency"] if best else None,
        "n": curves.n,
    }


def _first(rows: Sequence[Json], share: float) -> float | None:
    return next((row["strength"] for row in rows if row["broken"] >= share), None)


def _before_drift(arm: Json) -> list[Json]:
    return [row for row in arm["rows"] if arm["drifting"] is None or row["strength"] < arm["drifting"]]


class Telling(NamedTuple):
    """A direction and a strength, by how well the walk shows there what it is for."""

    shows: bool
    """Whether raw texts break there and walked ones do not, as `tells` says."""
    effect: float
    """Gain times fluency, walked minus raw."""
    direction: str
    strength: float


def telling(advised: Mapping[str, Json]) -> list[Telling]:
    """Return every strength of every direction whose gain `advise` measured for raw and walk, the most telling first."""
    listed = []
    for name, entry in advised.items():
        raw, walk = ({row["strength"]: row for row in entry["arms"].get(arm, {"rows": []})["rows"]} for arm in ("raw", "walk"))
        for strength in raw.keys() & walk.keys():
            ours, theirs = walk[strength], raw[strength]
            if ours["gain"] is None or theirs["gain"] is None:
                continue
            shows = tells(theirs["broken"], ours["broken"])
            effect = ours["gain"] * ours["fluency"] - theirs["gain"] * theirs["fluency"]
            listed.append(Telling(shows, effect, name, strength))
    return sorted(listed, reverse=True)


def effects(curves: Curves, strength: float) -> dict[int, float]:
    """Return by prefix how much more its walked text is worth than its raw one, greatest first; not finite ones are left out.

    Prefixes whose unsteered text shows the concept by itself come last: better than none.
    """
    worth = text_worth(curves, "walk", strength) - text_worth(curves, "raw", strength)
    plain = curves.plain.concept < PLAIN_CONCEPT
    order = sorted(np.flatnonzero(np.isfinite(worth)).tolist(), key=lambda prefix: (plain[prefix], worth[prefix]), reverse=True)
    return {prefix: float(worth[prefix]) for prefix in order}


def text_worth(curves: Curves, arm: str, strength: float) -> Numbers:
    """Return each text's concept times fluency, against the means of unsteered texts."""
    cell = curves.cells[arm, strength]
    return cell.concept * fluency(cell.likelihood, cell.repetition, _plain_means(curves), curves.broken)


def _plain_means(curves: Curves) -> tuple[Numbers, Numbers]:
    likelihood, repetition = (np.asarray(np.nanmean(values)) for values in (curves.plain.likelihood, curves.plain.repetition))
    return likelihood, repetition


def example(outcomes: Sequence[Outcome], prompt: str, seed: int) -> Json:
    """Return an example for a page: what it sets, and what its columns hold; `outcomes` of one prefix at one strength."""
    columns = {
        one.arm: {
            "text": one.text,
            "concept": round(one.concept, 4),
            "log_probability": round(one.log_probability, 4),
            "repetition": round(one.repetition, 4),
        }
        for one in outcomes
    }
    return {
        "prompt": prompt,
        "direction": outcomes[0].direction,
        "strength": max(one.strength for one in outcomes),
        "seed": seed,
        "columns": columns,
    }


def breaks_alone(outcomes: Sequence[Outcome]) -> bool:
    """Say of one prefix at one strength whether the raw text breaks while the others hold and the walked one shows the concept."""
    by = {one.arm: one for one in outcomes}
    plain, raw, walk = by[UNSTEERED], by["raw"], by["walk"]
    clear = walk.concept >= SHOWING and walk.repetition <= CLEARLY and len(walk.text.split()) >= LEAST_WORDS
    return clear and _holds(plain) and _holds(walk) and not _holds(raw)


def _holds(one: Outcome) -> bool:
    return holds(one.text, one.repetition, one.repeated_bigrams, one.log_probability)
