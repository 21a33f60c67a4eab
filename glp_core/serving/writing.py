"""A request's texts written through the queue and the shared batch: the model side, which knows no network."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

from glp_core.errors import GlpError
from glp_core.files import Json
from glp_core.jobs.job import Cancelled, Work
from glp_core.prior import flow
from glp_core.prior.projection import Projector, make_projector
from glp_core.prior.walk import WalkRule, WalkSettings
from glp_core.serving.asked import Asked, BadParameter, Steering
from glp_core.steering.edit import Arm
from glp_core.steering.loop import Row
from glp_core.steering.shared_batch import SharedBatch, Step

if TYPE_CHECKING:
    from glp_core.llm.decoding import Sampling
    from glp_core.prior.distance import ManifoldMeter
    from glp_core.prior.glp import GLP
    from glp_core.steering.directions import Direction
    from glp_core.workspace import Workspace

KEPT_DIRECTIONS = 64
KEPT_GAUSSIANS = 16


class Begun(NamedTuple):
    """First event: the prompts have been read."""

    prompt_tokens: int


class Piece(NamedTuple):
    """What a step adds to one choice."""

    choice: int
    text: str
    step: Step
    finished: str | None
    """stop or length, with the choice's last piece."""


class Host:
    """A workspace's models, ready to write."""

    def __init__(self, workspace: Workspace) -> None:
        self.workspace = workspace
        self.llm, self.glp = workspace.load_llm(), self._load_glp()
        self.site, self.batch, self.meter = workspace.site(self.llm), SharedBatch(), self._meter()
        self._kept_direction = lru_cache(KEPT_DIRECTIONS)(lambda name, _digest: workspace.direction(name))
        self._kept_gaussian = lru_cache(KEPT_GAUSSIANS)(lambda level, steps, _written: self._gaussian(level, steps))

    @property
    def name(self) -> str:
        """What clients call the model."""
        return self.llm.title

    def work(self, asked: Asked) -> Work:
        """Return the job that writes what is asked for: it yields Begun, then a list of Pieces a step."""

        def run(cancelled: Cancelled) -> Generator[Begun | list[Piece]]:
            rows, choices = self._rows(asked), [_Choice(asked.stops, self.llm.stop_ids) for _ in range(asked.rows)]
            with self.batch.writing(self.site, rows, self._sampling(asked, rows), self.meter) as writer:
                yield Begun(sum(len(row.prompt) for row in rows[:: asked.choices]))
                while writer.open and not cancelled() and not all(choice.over for choice in choices):
                    yield [
                        Piece(row, choices[row].push(step), step, choices[row].reason)
                        for row, step in writer.next()
                        if not choices[row].over
                    ]

        return run

    def _rows(self, asked: Asked) -> list[Row]:
        arm, sampling = self._arm(asked.steering), asked.sampling
        try:
            chat = [self.llm.encode_chat(asked.messages)] if asked.form == "chat" else []
        except GlpError as error:
            raise BadParameter(str(error), "messages") from error
        prompts = [*chat, *map(self.llm.encode, asked.prompts)]
        return [Row(ids, arm, sampling.seed + n) for ids in prompts for n in range(asked.choices)]

    def _sampling(self, asked: Asked, rows: Sequence[Row]) -> Sampling:
        if asked.own_length:
            return asked.sampling
        left = self.llm.context_length - max(len(row.prompt) for row in rows)
        return replace(asked.sampling, max_tokens=max(1, min(asked.sampling.max_tokens, left)))

    def _arm(self, steering: Steering) -> Arm:
        if not steering.direction:
            return Arm("unsteered")
        vector = self.direction(steering.direction).vector
        return Arm(steering.projection, vector, steering.strength, self._projector(steering))

    def _projector(self, steering: Steering) -> Projector:
        kind, level = steering.projection, steering.noise_level
        if kind == "walk":
            return make_projector(kind, glp=self.glp, walk=self._walk(level, steering.steps))
        level, steps = 0.5 if level is None else level, steering.steps or 20
        if kind in ("glp", "gaussian"):
            try:
                flow.check_start("euler", level, steps)
            except GlpError as error:
                raise BadParameter(str(error), "steps") from error
        if kind == "gaussian":
            return self._kept_gaussian(level, steps, self._covariance_written())
        return make_projector(kind, glp=self.glp, noise_level=level, steps=steps)

    def _gaussian(self, level: float, steps: int) -> Projector:
        covariance = self.workspace.covariance()
        return make_projector("gaussian", glp=self.glp, covariance=covariance, noise_level=level, steps=steps)

    def _covariance_written(self) -> tuple[int, ...]:
        """Return when the files were written that hold a covariance: hashing its numbers for each request takes long."""
        folder = self.workspace.folder
        paths = (folder / "glp" / "statistics.safetensors", folder / "covariance.safetensors")
        return tuple(path.stat().st_mtime_ns if path.is_file() else 0 for path in paths)

    def _walk(self, level: float | None, pushes: int | None) -> WalkRule | WalkSettings:
        """Return the workspace's walk with what is asked for in the place of its own."""
        walk = self.workspace.walk()
        asked: Json = {} if level is None else {"noise_level": level}
        asked |= {"pushes": pushes} if pushes else {}
        if isinstance(walk, WalkSettings):
            return replace(walk, **asked)
        return replace(walk, short=replace(walk.short, **asked), long=replace(walk.long, **asked))

    def direction(self, name: str) -> Direction:
        """Return a direction of the workspace, read again when it was made anew; BadParameter when there is none of that name."""
        try:
            return self._kept_direction(name, self.workspace.direction_digest(name))
        except GlpError as error:
            raise BadParameter(str(error), "direction", code="direction_not_found") from error

    def _load_glp(self) -> GLP:
        return self.workspace.load_glp()

    def _meter(self) -> ManifoldMeter | None:
        from glp_core.prior.distance import ManifoldMeter

        reference = self.workspace.report("reference")
        return ManifoldMeter(self.glp, reference) if reference else None


@dataclass
class _Choice:
    """One text, and whether one of the stops has come; what may be the beginning of one is held back."""

    stops: tuple[str, ...]
    stop_ids: frozenset[int]
    reason: str | None = None
    """Why it is over."""
    _held: str = field(default="")

    @property
    def over(self) -> bool:
        return self.reason is not None

    def push(self, step: Step) -> str:
        """Return the text to hand out."""
        text = self._held + step.text
        places = [place for stop in self.stops if (place := text.find(stop)) >= 0]
        if places:
            self.reason, self._held = "stop", ""
            return text[: min(places)]
        if step.finished:
            self.reason, self._held = ("stop" if step.token in self.stop_ids else "length"), ""
            return text
        held = max((n for stop in self.stops for n in range(1, len(stop)) if text.endswith(stop[:n])), default=0)
        self._held = text[len(text) - held :]
        return text[: len(text) - held]
