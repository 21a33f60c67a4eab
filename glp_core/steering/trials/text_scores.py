"""One number for what steering through a GLP is worth: does the text show the concept, and is it still text?

Over strengths above 1, the mean of two shares between 0 and 1, both against the same model's unsteered texts:
- concept: how much of the way from the unsteered texts' concept probability to 1 was gone;
- fluency: e^(mean log-probability of a token - unsteered), times the share of bigrams that are new over the unsteered one, each at
  most 1. Degenerate text is likely text, so the log-probability alone would reward it.

A prior that undoes the push scores 0.5 (no concept, fluent), as does one that leaves a broken text full of the concept.
"""

import math
from collections.abc import Sequence

import numpy as np

from glp_core.errors import GlpError
from glp_core.llm.decoding import Sampling
from glp_core.llm.model import Llm
from glp_core.prior.flow import Solver
from glp_core.prior.glp import GLP
from glp_core.prior.projection import make_projector
from glp_core.steering.directions import Direction
from glp_core.steering.trials.frontier import Numbers, gain, strict_fluency
from glp_core.steering.trials.outcomes import TOKENS, UNSTEERED, Condition, Outcome, measure

STRENGTHS = (1.2, 1.6)
SOLVER: Solver = "ab2"
CALLS, NOISE_LEVEL = 4, 0.5
"""As the Steering page projects."""


WORST = {"concept": 0.0, "log_probability": -math.inf, "repeated_bigrams": 1.0}
"""Measures of a text that enter, with the value of a cell of empty texts."""


def unsteered(llm: Llm, direction: Direction, prefixes: Sequence[str], *, tokens: int = TOKENS) -> list[Outcome]:
    """Write every prefix unsteered: what all GLPs are compared with."""
    return measure(llm, [Condition(direction, UNSTEERED)], prefixes, sampling=Sampling(tokens))


def steering_score(
    llm: Llm,
    direction: Direction,
    glp: GLP,
    prefixes: Sequence[str],
    plain: Sequence[Outcome],
    *,
    strengths: Sequence[float] = STRENGTHS,
    tokens: int = TOKENS,
) -> float:
    """Write every prefix at every strength, projected with `glp`, and return the score.

    Args:
        plain: from `unsteered`, of the same prefixes and tokens.
    Raises:
        GlpError: a strength that is not above 1, or no prefix.
    """
    low = [strength for strength in strengths if not strength > 1]
    if low or not strengths:
        raise GlpError(f"The steering score is over strengths above 1, got {low[0] if low else 'none'}.")
    projector = make_projector("glp", glp=glp, noise_level=NOISE_LEVEL, steps=CALLS, solver=SOLVER)
    planned = [Condition(direction, "glp", strength, projector) for strength in strengths]
    steered = measure(llm, planned, prefixes, sampling=Sampling(tokens))
    return score([*plain, *steered])


def score(outcomes: Sequence[Outcome]) -> float:
    """Return the score of outcomes of one arm, with unsteered ones among them."""
    plain = [one for one in outcomes if one.arm == UNSTEERED]
    strengths = sorted({one.strength for one in outcomes if one.arm != UNSTEERED})
    cells = [[one for one in outcomes if one.arm != UNSTEERED and one.strength == strength] for strength in strengths]
    return float(np.mean([_worth(cell, plain) for cell in cells]))


def _worth(cell: Sequence[Outcome], plain: Sequence[Outcome]) -> float:
    """Return the mean of gain and fluency."""
    concept, likely, repeated = (_mean(cell, name) for name in WORST)
    plain_concept, plain_likely, plain_repeated = (_mean(plain, name) for name in WORST)
    return float(gain(concept, plain_concept) + strict_fluency(likely, repeated, (plain_likely, plain_repeated))) / 2


def _mean(cell: Sequence[Outcome], name: str) -> Numbers:
    """Return the mean over texts; empty ones, which have no value, are left out, and if all are empty the value is the worst."""
    values = np.array([getattr(one, name) for one in cell], dtype=float)
    present = values[np.isfinite(values)]
    return np.asarray(present.mean() if len(present) else WORST[name])
