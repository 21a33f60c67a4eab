"""The cells of a sweep: one direction, arm, strength and noise level each, over all prompts and seeds; and how cells are named by content.

A cell's key is a digest of all that decides its texts, so what was written once, for whatever sweep, is never written again. Plain
values: torch is not needed.
"""

import hashlib
import json
from collections.abc import Iterator
from typing import NamedTuple

from glp_core.files import Json
from glp_core.steering.sweeps.config import LEVELLED, WALKED, Along, SweepConfig

UNSTEERED, DRAWN, PROMPTED = "unsteered", "drawn", "prompted"
DRAWS = 4
"""Texts at temperature 1 after every prompt: how likely the model's own are."""
DIGITS = 24
"""Hexadecimal digits of a key."""


class Cell(NamedTuple):
    """What is done to every prompt."""

    direction: str
    """Name."""
    arm: str
    strength: float
    """0 for texts that are not pushed."""
    noise_level: float | None
    """Of the projection; None where it has none, and where a walk, or a control, goes as it was tuned."""

    @property
    def series(self) -> str:
        """The curve that the cell lies on: its arm, and its noise level where there is one."""
        return self.arm if self.noise_level is None else f"{self.arm} {self.noise_level:g}"


class Text(NamedTuple):
    """One text of a cell: its prompt and its seed; for drawn texts, the number of the draw."""

    prompt: str
    seed: int

    @property
    def name(self) -> str:
        """Its name among the texts of a cell."""
        return f"{digest(self.prompt)}-{self.seed}"

    @property
    def noise_seed(self) -> int:
        """The seed of its noise and of its choice of tokens: the same wherever the prompt stands in a list."""
        return int(digest(f"{self.seed}\n{self.prompt}"), 16) % 2**31


def digest(words: str) -> str:
    """Return a short digest of a text."""
    return hashlib.sha256(words.encode("utf-8", "surrogatepass")).hexdigest()[:DIGITS]


def cells(config: SweepConfig) -> Iterator[Cell]:
    """Yield every cell: first what all are compared with, then strength by strength, so that curves grow evenly."""
    for along in config.directions:
        yield Cell(along.name, UNSTEERED, 0.0, None)
        if PROMPTED in config.arms:
            yield Cell(along.name, PROMPTED, 0.0, None)
    for along in config.directions:
        yield Cell(along.name, DRAWN, 0.0, None)
    for along in config.directions:
        for strength in spread_out(along.strengths):
            for arm in config.arms:
                if arm != PROMPTED:
                    yield from (Cell(along.name, arm, strength, level) for level in levels(config, arm))


def spread_out(strengths: tuple[float, ...]) -> list[float]:
    """Return strengths in an order that shows a whole curve early: the middle, the ends, then what lies between."""
    ordered, chosen = sorted(strengths), list[float]()
    spans = [(0, len(ordered))]
    while spans:
        low, high = spans.pop(0)
        if low < high:
            middle = (low + high) // 2
            chosen.append(ordered[middle])
            spans += [(low, middle), (middle + 1, high)]
    return chosen


def levels(config: SweepConfig, arm: str) -> tuple[float | None, ...]:
    """Return the noise levels of an arm; controls are walked at those of the walk."""
    if arm in LEVELLED:
        return config.noise_levels
    return config.walk_levels or (None,) if arm in WALKED else (None,)


def series(config: SweepConfig) -> list[str]:
    """Return the curves of a sweep, in the order of its arms."""
    return [Cell("", arm, 1.0, level).series for arm in config.arms if arm != PROMPTED for level in levels(config, arm)]


def texts(config: SweepConfig, cell: Cell) -> list[Text]:
    """Return the texts of a cell, by seed, then by prompt."""
    seeds = tuple(range(DRAWS)) if cell.arm == DRAWN else config.seeds
    return [Text(prompt, seed) for seed in seeds for prompt in config.prompts]


def count(config: SweepConfig) -> int:
    """Return the number of texts of a sweep."""
    return sum(len(texts(config, cell)) for cell in cells(config))


def key(config: SweepConfig, cell: Cell) -> str:
    """Return the name by content of a cell's texts."""
    along = next(one for one in config.directions if one.name == cell.direction)
    return digest(json.dumps(_content(config, along, cell), sort_keys=True))


def _content(config: SweepConfig, along: Along, cell: Cell) -> Json:
    made = config.made_with
    walk = {"pushes": config.walk_pushes} if cell.noise_level is not None else made.get("walk")
    return {
        "made_with": {name: value for name, value in made.items() if name != "walk"},
        "direction": [along.digest, along.name, along.title],
        "cell": [cell.arm, cell.strength, cell.noise_level],
        "walk": walk if cell.arm in WALKED else None,
        "tokens": config.tokens,
        "temperature": 1.0 if cell.arm == DRAWN else config.temperature,
    }
