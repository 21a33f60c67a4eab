"""Write and measure what a sweep lacks, many texts side by side, batch by batch; each batch is kept before the next one begins.

Knows models; knows cells by content, so it goes on wherever a stop or a kill left it.
"""

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import NamedTuple

from torch import Tensor

from glp_core.errors import GlpError
from glp_core.llm.decoding import Sampling
from glp_core.llm.model import Llm
from glp_core.prior.distance import ManifoldMeter
from glp_core.prior.glp import GLP
from glp_core.prior.projection import Projector, make_projector
from glp_core.prior.walk import WalkRule, WalkSettings
from glp_core.steering.directions import Direction
from glp_core.steering.sweeps.cells import DRAWN, PROMPTED, UNSTEERED, Cell, Text, count, key
from glp_core.steering.sweeps.config import SweepConfig
from glp_core.steering.sweeps.store import Entry, SweepStore
from glp_core.steering.trials.controls import random_direction
from glp_core.steering.trials.outcomes import Condition, Outcome, measure
from glp_core.steering.trials.writing import Stopped, rows_at_once

TEXTS_AT_ONCE = {"cpu": 96, "accelerator": 3072}
"""On a CPU, few enough that somebody who waits for the device waits for seconds."""


@dataclass(frozen=True, eq=False)
class Bench:
    """The models that a sweep is written with."""

    llm: Llm
    glp: GLP
    directions: Mapping[str, Direction]
    """By name, as many as are swept."""
    covariance: Callable[[], Tensor]
    """Of the layer's activations (d, d); asked for the Gaussian prior only."""
    walk: WalkRule | WalkSettings
    """How walks go that are given no noise level."""
    meter: ManifoldMeter | None = None

    def condition(self, config: SweepConfig, cell: Cell) -> Condition:
        """Return what is done to the prompts of a cell."""
        if cell.direction not in self.directions:
            raise GlpError(f"There is no direction {cell.direction!r} in this workspace, which the sweep pushes along.")
        direction = self.directions[cell.direction]
        if not cell.strength:
            return Condition(direction, PROMPTED if cell.arm == PROMPTED else UNSTEERED)
        if cell.arm == "random":
            direction = replace(direction, vector=random_direction(len(direction.vector), seed=0))
        strength = -cell.strength if cell.arm == "opposite" else cell.strength
        return Condition(direction, cell.arm, strength, self._projector(config, cell.arm, cell.noise_level))

    def _projector(self, config: SweepConfig, arm: str, level: float | None) -> Projector | None:
        if arm == "raw":
            return None
        if arm == "norm":
            return make_projector("norm")
        if arm in ("glp", "gaussian"):
            assert level is not None
            if arm == "glp":
                return make_projector("glp", glp=self.glp, noise_level=level)
            return self._gaussian(level)
        walk = self.walk if level is None else WalkSettings(level, config.walk_pushes)
        return make_projector("walk", glp=self.glp, walk=walk)

    def _gaussian(self, level: float) -> Projector:
        if level not in self._gaussians:
            self._gaussians[level] = make_projector("gaussian", glp=self.glp, covariance=self.covariance(), noise_level=level)
        return self._gaussians[level]

    @cached_property
    def _gaussians(self) -> dict[float, Projector]:
        return {}


class Batch(NamedTuple):
    """Texts that are written side by side: every text under every cell."""

    cells: list[Cell]
    texts: list[Text]

    @property
    def size(self) -> int:
        """How many texts it makes."""
        return len(self.cells) * len(self.texts)


def batches(config: SweepConfig, missing: list[tuple[Cell, list[Text]]], most: int) -> Iterator[Batch]:
    """Yield batches of at most `most` texts that together are all that is missing, in its order."""
    waiting: list[Cell] = []
    shared: list[Text] = []
    for cell, texts in missing:
        fits = waiting and texts == shared and (waiting[0].arm == DRAWN) == (cell.arm == DRAWN)
        if waiting and not (fits and (len(waiting) + 1) * len(shared) <= most):
            yield from _split(waiting, shared, most)
            waiting = []
        waiting, shared = [*waiting, cell], texts
    if waiting:
        yield from _split(waiting, shared, most)


def _split(cells: list[Cell], texts: list[Text], most: int) -> Iterator[Batch]:
    size = max(1, most // len(cells))
    for first in range(0, len(texts), size):
        yield Batch(cells, texts[first : first + size])


def write_batch(bench: Bench, config: SweepConfig, store: SweepStore, batch: Batch, *, cancelled: Callable[[], bool]) -> None:
    """Write and measure a batch, and keep it.

    Raises:
        GlpError: a direction or a prior that is not there or does not fit, or steering that breaks the model.
        Stopped: `cancelled` said yes; nothing of the batch is kept.
    """
    drawn = batch.cells[0].arm == DRAWN
    planned = [bench.condition(config, cell) for cell in batch.cells]
    outcomes = measure(
        bench.llm,
        planned,
        [text.prompt for text in batch.texts],
        sampling=Sampling(config.tokens, 1.0 if drawn else config.temperature),
        seeds=[text.noise_seed for text in batch.texts],
        meter=bench.meter,
        cancelled=cancelled,
    )
    for number, cell in enumerate(batch.cells):
        own = outcomes[number * len(batch.texts) : (number + 1) * len(batch.texts)]
        entries = {text.name: entry(one, bench.llm) for text, one in zip(batch.texts, own, strict=True)}
        store.add(key(config, cell), cell._asdict(), entries)


def entry(one: Outcome, llm: Llm) -> Entry:
    """Return what is kept of an outcome."""
    return Entry(
        one.text,
        one.concept,
        one.log_probability,
        one.asked_log_probability,
        one.repetition,
        one.repeated_bigrams,
        one.distance,
        one.kept_push,
        one.cosine,
        one.correction,
        len(llm.tokenizer.encode(one.text, add_special_tokens=False)),
    )


class Tick(NamedTuple):
    """How far a sweep is after a batch."""

    done: int
    """Texts that are written, those of before among them."""
    total: int
    seconds: float
    """Since it began or went on."""
    fresh: int
    """Texts that were written in these seconds."""

    @property
    def left(self) -> float:
        """Seconds to go at the rate so far; nan before there is one."""
        return self.seconds / self.fresh * (self.total - self.done) if self.fresh else float("nan")


def run(
    bench: Bench, config: SweepConfig, store: SweepStore, *, cancelled: Callable[[], bool] = lambda: False
) -> Iterator[Tick]:
    """Write and measure all that is missing; yield at the beginning and after every batch, until done or `cancelled`."""
    missing = store.missing(config)
    todo = sum(len(texts) for _, texts in missing)
    total = count(config)
    start, fresh = time.monotonic(), 0
    yield Tick(total - todo, total, 0.0, 0)
    for batch in batches(config, missing, texts_at_once(bench, config)):
        try:
            write_batch(bench, config, store, batch, cancelled=cancelled)
        except Stopped:
            return
        fresh += batch.size
        yield Tick(total - todo + fresh, total, time.monotonic() - start, fresh)


def texts_at_once(bench: Bench, config: SweepConfig) -> int:
    """Return how many texts are written side by side."""
    longest = max(map(len, bench.llm.encode_all(config.prompts)))
    return rows_at_once(bench.llm, longest + config.tokens, TEXTS_AT_ONCE)
