"""Zones of manifold distance, on the manifold, drifting and broken, by what the model's text is worth at that distance.

A text is broken when the unsteered model finds it less likely than 95% of the texts that it draws itself at temperature 1, or when it
repeats itself more than 95% of its own greedy texts do. (Greedy texts are the likeliest there are, so judging likelihood by them would
call most readable texts broken.) A logistic regression gives the share of broken texts by distance. Knows texts' numbers and, to make
them, a model; knows no files.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from statistics import fmean
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from glp_core.errors import GlpError
from glp_core.files import Json
from glp_core.llm.decoding import Sampling
from glp_core.llm.site import Site
from glp_core.prior.distance import ManifoldMeter
from glp_core.prior.projection import Projector
from glp_core.progress import Progress, quiet
from glp_core.stats import Interval, drawn_counts, percentiles, repeated_share
from glp_core.steering.directions import Direction
from glp_core.steering.edit import Arm
from glp_core.steering.generation import Row, read_texts
from glp_core.steering.trials.advice import BROKEN, DRIFTING
from glp_core.steering.trials.frontier import EDGE
from glp_core.steering.trials.writing import write_texts

STRENGTHS = (0.4, 0.8, 1.2, 1.6, 2.0)
TOKENS = 24
SHARES = {"drifting": DRIFTING, "broken": BROKEN}
"""A zone begins where this share of texts is broken."""
DRAWS = 300
BINS = 12


class Text(NamedTuple):
    """One text's numbers."""

    prefix: int
    direction: str
    """Empty for unsteered texts."""
    arm: str
    strength: float
    log_probability: float
    """Mean of its tokens under the unsteered model."""
    repetition: float
    """Share of bigrams that occurred before."""
    distance: float
    """Mean manifold distance of the activations that its tokens were chosen from."""


class TextLimits(NamedTuple):
    """Beyond which a text is broken."""

    log_probability: float
    repetition: float

    def broken(self, texts: Sequence[Text]) -> NDArray[np.bool_]:
        """Say of each text whether it is broken."""
        return np.array([t.log_probability < self.log_probability or t.repetition > self.repetition for t in texts], dtype=bool)


def write(
    site: Site,
    jobs: Sequence[tuple[Text, Row]],
    sampling: Sampling,
    *,
    meter: ManifoldMeter | None = None,
    progress: Progress = quiet,
) -> list[Text]:
    """Write every job's text and fill in its numbers; empty texts are left out."""
    rows = [row for _, row in jobs]
    written = write_texts(site, rows, sampling, meter=meter, progress=progress)
    chances, _ = read_texts(site, [row.prompt for row in rows], [one.tokens for one in written])
    return [
        text._replace(log_probability=fmean(likely), repetition=repeated_share(one.tokens, 2), distance=one.distance)
        for (text, _), one, likely in zip(jobs, written, chances, strict=True)
        if one.tokens and (meter is None or math.isfinite(one.distance))
    ]


def plan(
    prompts: Sequence[Sequence[int]],
    directions: Sequence[Direction] = (),
    strengths: Sequence[float] = (),
    projectors: Mapping[str, Projector | None] | None = None,
    *,
    seed: int = 0,
) -> list[tuple[Text, Row]]:
    """Return what to write: every prompt unsteered, or, with directions, at every strength with every arm."""
    nothing = float("nan")
    arms = [("", Arm("unsteered"))]
    if directions:
        arms = [
            (direction.name, Arm(name, direction.vector, strength, projector))
            for direction in directions
            for strength in strengths
            for name, projector in (projectors or {}).items()
        ]
    return [
        (Text(i, name, arm.name, arm.strength, nothing, nothing, nothing), Row(prompt, arm, seed=seed + i))
        for name, arm in arms
        for i, prompt in enumerate(prompts)
    ]


def limits(sampled: Sequence[Text], greedy: Sequence[Text]) -> TextLimits:
    """Return the limits from the model's own texts: drawn at temperature 1 for likelihood, greedy ones for repetition."""
    if min(len(sampled), len(greedy)) < 10:
        raise GlpError(f"Got {len(sampled)} drawn and {len(greedy)} greedy texts, wanted at least 10 of each.")
    low = np.quantile([text.log_probability for text in sampled], EDGE)
    return TextLimits(float(low), float(np.quantile([text.repetition for text in greedy], 1 - EDGE)))


def borders(
    distance: NDArray[np.float64], broken: NDArray[np.bool_], weights: NDArray[np.float64] | None = None
) -> dict[str, float]:
    """Return the distance at which each zone begins, by a logistic regression on the logarithm of distance (n,).

    Infinite where texts do not break more often as distance grows.
    """
    from sklearn.linear_model import LogisticRegression

    used = np.ones(len(distance)) if weights is None else weights
    if not (used[broken].sum() > 0 and used[~broken].sum() > 0):
        return dict.fromkeys(SHARES, np.inf)
    x = np.log(distance)
    centre, scale = x.mean(), max(float(x.std()), 1e-9)
    model = LogisticRegression(C=1e3).fit(((x - centre) / scale)[:, None], broken, sample_weight=used)
    slope, start = float(model.coef_[0, 0]), float(model.intercept_[0])
    if slope <= 0:
        return dict.fromkeys(SHARES, np.inf)
    return {name: float(np.exp((np.log(p / (1 - p)) - start) / slope * scale + centre)) for name, p in SHARES.items()}


def report(texts: Sequence[Text], limits: TextLimits, *, draws: int = DRAWS, seed: int = 0) -> Json:
    """Return the zones' borders, the AUROC of distance for broken texts, and the share of broken texts by distance and by arm.

    Intervals (95%) are bootstrapped over prefixes and directions at once, since texts that share one are not independent.
    """
    from sklearn.metrics import roc_auc_score

    distance, broken = np.array([text.distance for text in texts]), limits.broken(texts)
    if len(texts) < 30 or broken.all() or not broken.any():
        raise GlpError(
            f"{int(broken.sum())} of {len(texts)} texts are broken; zones need at least 30 texts, broken and whole ones: steer more "
            "prefixes, weaker or stronger."
        )
    rng = np.random.default_rng(seed)
    drawn: list[dict[str, float]] = []
    areas = []
    for weights in _drawn_weights(texts, draws, rng):
        drawn.append(borders(distance, broken, weights))
        if weights[broken].sum() and weights[~broken].sum():
            areas.append(roc_auc_score(broken, distance, sample_weight=weights))
    best = borders(distance, broken)
    zones = {name: _border(best[name], [one[name] for one in drawn], distance) for name in SHARES}
    area = Interval(float(roc_auc_score(broken, distance)), *percentiles(areas))
    return {
        "borders": zones | {"share_broken": SHARES},
        "auroc": area.to_json(),
        "bins": _bins(distance, broken),
        "by_arm": _by_arm(texts, broken),
        "limits": limits._asdict(),
        "n_texts": len(texts),
        "n_broken": int(broken.sum()),
    }


def _border(value: float, drawn: Sequence[float], distance: NDArray[np.float64]) -> Json:
    """Return a border with its interval; null where it lies beyond the distances (n,) that were seen."""
    inside = distance.min() <= value <= distance.max()
    return Interval(value if inside else math.inf, *percentiles(drawn)).to_json()


def _drawn_weights(texts: Sequence[Text], draws: int, rng: np.random.Generator) -> Iterator[NDArray[np.float64]]:
    """Yield the weight of every text when prefixes and directions are drawn with replacement; unsteered texts go with their prefix."""
    _, prefix = np.unique([text.prefix for text in texts], return_inverse=True)
    names = sorted({text.direction for text in texts} - {""})
    direction = np.array([names.index(text.direction) if text.direction else len(names) for text in texts])
    for of_prefix, of_direction in drawn_counts([prefix.max() + 1, len(names)], draws=draws, rng=rng):
        yield (of_prefix[prefix] * np.append(of_direction, 1)[direction]).astype(float)


def _bins(distance: NDArray[np.float64], broken: NDArray[np.bool_]) -> list[Json]:
    """Return the share of broken texts in groups of equally many by distance."""
    return [
        {"distance": float(np.median(distance[rows])), "broken": float(broken[rows].mean()), "n": len(rows)}
        for rows in np.array_split(np.argsort(distance, kind="stable"), BINS)
        if len(rows)
    ]


def _by_arm(texts: Sequence[Text], broken: NDArray[np.bool_]) -> list[Json]:
    """Return the share of broken texts and the median distance of every arm at every strength."""
    table: dict[tuple[str, float], list[int]] = {}
    for i, text in enumerate(texts):
        table.setdefault((text.arm, text.strength), []).append(i)
    return [
        {
            "arm": arm,
            "strength": strength,
            "broken": float(broken[rows].mean()),
            "distance": float(np.median([texts[i].distance for i in rows])),
            "n": len(rows),
        }
        for (arm, strength), rows in table.items()
    ]
