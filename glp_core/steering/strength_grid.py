"""The grid of a strength sweep: its arms, its strengths, and what one cell of it found. Plain numbers; torch not needed."""

from typing import NamedTuple

ARMS = ("raw", "walk", "glp", "norm", "gaussian", "random")
"""random: a random direction of the same length for each prompt."""
STRENGTHS = (0.0, 0.25, 0.5, 0.75, 1.0, 1.25, 1.5, 2.0)
PROMPT_TOKENS = 64
"""Of a prompt that are read, the first one that the model puts before a text among them."""

Cell = tuple[str, float]
"""Arm and strength."""


class Spread(NamedTuple):
    """One arm's distances at one strength over the prompts."""

    arm: str
    strength: float
    quantiles: list[float]
    """5, 25, 50, 75 and 95%."""
    lower: float
    """Share of prompts that are nearer than their raw push, nan for the raw push itself."""
    n: int
    """Prompts that were measured: those that do not end with an attention sink."""
