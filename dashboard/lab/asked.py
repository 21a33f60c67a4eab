"""What a direction is asked to be made from, and the work that makes it in the queue. Draws nothing; torch comes in jobs only."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

from dashboard.service import resources
from dashboard.service.directions import neuron_directions
from dashboard.widgets.texts.two_classes import TwoClasses
from glp_core.errors import GlpError
from glp_core.files import Json
from glp_core.steering.direction_facts import Method

if TYPE_CHECKING:
    from dashboard.service.follow import Report
    from glp_core.jobs.job import Cancelled
    from glp_core.progress import Progress
    from glp_core.steering.directions import Direction
    from glp_core.steering.origins.evidence import Evidence, Made

Pooling = Literal["last", "mean"]
NAME = "asked"
"""Of a direction that has not been kept yet."""


class Result(NamedTuple):
    """A direction that was made, not kept yet."""

    direction: Direction
    evidence: Evidence | None
    """None where it was measured on no texts."""
    texts: tuple[Sequence[str], Sequence[str]]
    """Those of the evidence, positive and negative."""


@dataclass(frozen=True)
class Fit:
    """How a direction is fitted to two classes."""

    method: Method
    pooling: Pooling


@dataclass(frozen=True)
class FromTexts:
    """Two classes of texts, told apart."""

    texts: TwoClasses
    fit: Fit

    def make(self, progress: Progress) -> Result:
        """Make the direction."""
        from glp_core.steering.origins.from_texts import direction_of_texts

        texts = self.texts
        made = direction_of_texts(
            resources.site(),
            texts.positive,
            texts.negative,
            name=NAME,
            method=self.fit.method,
            pooling=self.fit.pooling,
            labels=texts.labels,
            progress=progress,
        )
        return _result(made, {"file": texts.file} if texts.file else {})


@dataclass(frozen=True)
class FromInstructions:
    """Two contrasting system prompts."""

    system: str
    opposite: str
    questions: tuple[str, ...]
    tokens: int
    method: Method

    @property
    def answer_tokens(self) -> int:
        """Of all answers, at most."""
        return 2 * len(self.questions) * self.tokens

    def make(self, progress: Progress) -> Result:
        """Let the model answer under both, and make the direction."""
        from glp_core.steering.origins.personas import direction_of_instructions

        made = direction_of_instructions(
            resources.site(),
            self.system,
            self.opposite,
            self.questions,
            name=NAME,
            method=self.method,
            tokens=self.tokens,
            progress=progress,
        )
        return _result(made, {})


@dataclass(frozen=True)
class FromNeuron:
    """A meta-neuron's write direction, measured on texts where there are any."""

    name: str
    """As `neuron_directions` calls it."""
    texts: TwoClasses | None
    fit: Fit

    def make(self, progress: Progress) -> Result:
        """Take the direction, and measure it."""
        found = neuron_directions.make(resources.workspace(), resources.glp(), self.name)
        return _on_texts(found, self.texts, self.fit, progress)


@dataclass(frozen=True)
class FromFile:
    """A vector in another tool's file, measured on texts where there are any."""

    file: str
    """The file's name as the person has it: never used as a path."""
    digest: str
    data: bytes = field(repr=False)
    latent: int | None
    """Row of an SAE's decoder."""
    texts: TwoClasses | None
    fit: Fit

    def make(self, progress: Progress) -> Result:
        """Read the vector, and measure it."""
        from glp_core.steering.origins.foreign import as_direction, own_direction, read_foreign

        workspace, llm = resources.workspace(), resources.llm()
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / f"file{Path(self.file).suffix.lower()}"
            path.write_bytes(self.data)
            own = own_direction(path, name=NAME, title=NAME, layer=workspace.layer, width=llm.d_model)
            if own is not None:
                return _on_texts(own, self.texts, self.fit, progress)
            foreign = read_foreign(path, layer=workspace.layer, n_layers=llm.n_layers, latent=self.latent)
        found = as_direction(
            foreign._replace(words=foreign.words.replace(path.name, self.file)),
            name=NAME,
            title=NAME,
            layer=workspace.layer,
            median_norm=workspace.median_norm,
            width=llm.d_model,
        )
        found = replace(found, about={**found.about, "file": self.file})
        return _on_texts(found, self.texts, self.fit, progress)


Asked = FromTexts | FromInstructions | FromNeuron | FromFile


def work(asked: Asked, cancelled: Cancelled, report: Report) -> Result:
    """Make what is asked for; GlpError when the person stops it."""

    def progress(done: int, total: int, words: str) -> None:
        if cancelled():
            raise GlpError("Stopped.")
        report(done, total, words)

    return asked.make(progress)


def _on_texts(found: Direction, texts: TwoClasses | None, fit: Fit, progress: Progress) -> Result:
    if texts is None:
        return Result(found, None, ((), ()))
    from glp_core.steering.origins.evidence import measured_on
    from glp_core.steering.origins.from_texts import about_classes, read_classes

    sides = texts.positive, texts.negative
    made = measured_on(found, read_classes(resources.site(), *sides, pooling=fit.pooling, progress=progress))
    about = {"classes": about_classes(sides, texts.labels), "pooling": fit.pooling}
    return _result(made._replace(texts=sides), about)


def _result(made: Made, more: Json) -> Result:
    direction = replace(made.direction, about={**made.direction.about, **more})
    return Result(direction, made.evidence, made.texts)
