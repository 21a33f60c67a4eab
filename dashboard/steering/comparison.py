"""What one run has yielded so far: a column of tokens for each arm, and the measures of its text. Plain numbers; draws nothing."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from dashboard.steering.request import Request
from glp_core.stats import repeated_share

if TYPE_CHECKING:
    from glp_core.steering.generation import Step


class RunFacts(NamedTuple):
    """First event: what the numbers of this run refer to."""

    band: tuple[float, float] | None
    """Manifold distances between which 90% of real tokens lie; None without a reference."""
    prompt_tokens: int
    prompt: Sequence[str] = ()
    """The prompt's tokens, where some of them are pushed."""
    span: tuple[int, int] | None = None
    """Those that are: the first, and the one after the last."""


class CleanReading(NamedTuple):
    """What the unsteered model makes of one arm's text; comes when the text has ended."""

    arm: str
    log_probabilities: list[float]
    """One a token."""
    concept: float
    """Probability that the text shows the concept, by the direction's probe; nan for an empty text."""


Event: TypeAlias = "RunFacts | list[Step] | CleanReading"
"""What a run yields: first its facts, then tokens as they come, at the end a reading of each arm."""


@dataclass
class Column:
    """One arm's text and what was measured on it."""

    arm: str
    tokens: list[Step] = field(default_factory=list)
    reading: CleanReading | None = None
    """None until the run has finished."""

    @property
    def text(self) -> str:
        return "".join(token.text for token in self.tokens)

    @property
    def log_probability(self) -> float:
        """Mean log-probability of a token under the unsteered model; nan until the run has finished."""
        return mean(self.reading.log_probabilities) if self.reading else math.nan

    @property
    def repetition(self) -> float:
        """Share of bigrams that occurred before, 0 when there is none."""
        return self._repeated(2)

    @property
    def repeated_tokens(self) -> float:
        """Share of tokens that occurred before, 0 when there is none."""
        return self._repeated(1)

    def _repeated(self, n: int) -> float:
        return repeated_share([token.token for token in self.tokens], n)

    @property
    def distance(self) -> float:
        """Mean manifold distance, massive activations left out."""
        return mean(token.distance_after for token in self.tokens)

    @property
    def kept_push(self) -> float:
        """Mean share of the push that the projection left; nan for arms without projection."""
        return mean(token.kept_push for token in self.tokens)

    @property
    def cosine(self) -> float:
        """Mean cosine between the push and what the activation moved by in all; nan as kept_push."""
        return mean(token.cosine for token in self.tokens)

    @property
    def correction(self) -> float:
        """Mean length of what the projection did at right angles to the push, in median norms; nan as kept_push."""
        return mean(token.correction for token in self.tokens)

    @property
    def distance_before(self) -> float:
        """Mean manifold distance of the activations before the edit."""
        return mean(token.distance_before for token in self.tokens)

    @property
    def distance_pushed(self) -> float:
        """Mean manifold distance after the push, before the projection."""
        return mean(token.distance_pushed for token in self.tokens)

    @property
    def concept(self) -> float:
        """Probability that the text shows the concept; nan until the run has finished."""
        return self.reading.concept if self.reading else math.nan

    def surprise(self) -> list[float]:
        """Return each token's surprise in nats: under the unsteered model when the run has finished, else under the arm itself."""
        if self.reading and len(self.reading.log_probabilities) == len(self.tokens):
            return [-value for value in self.reading.log_probabilities]
        return [-token.log_probability for token in self.tokens]


@dataclass
class Comparison:
    """Everything that one run has yielded so far."""

    request: Request
    columns: dict[str, Column]
    """By arm, left to right."""
    band: tuple[float, float] | None = None
    prompt_tokens: int = 0
    prompt: Sequence[str] = ()
    """The prompt's tokens, where some of them are pushed."""
    span: tuple[int, int] | None = None

    @property
    def started(self) -> bool:
        """Whether there is any text."""
        return any(column.tokens for column in self.columns.values())

    @property
    def finished(self) -> bool:
        """Whether the unsteered model has read every arm."""
        return all(column.reading for column in self.columns.values())

    @property
    def milliseconds(self) -> float:
        """Median time of a step, which writes one token of every arm; nan before the first."""
        tokens = next(iter(self.columns.values())).tokens
        return 1000 * median(token.seconds for token in tokens) if tokens else math.nan


def collect(request: Request, events: Sequence[Event], arms: Sequence[str] | None = None) -> Comparison:
    """Return the comparison that a job's events make up, of the request's arms or others."""
    comparison = Comparison(request, {arm: Column(arm) for arm in (request.arms if arms is None else arms)})
    for event in events:
        if isinstance(event, RunFacts):
            comparison.band, comparison.prompt_tokens, comparison.prompt, comparison.span = event
        elif isinstance(event, CleanReading):
            comparison.columns[event.arm].reading = event
        else:
            for step in event:
                comparison.columns[step.arm].tokens.append(step)
    return comparison


def mean(values: Iterable[float]) -> float:
    """Return the mean of the values that are numbers, nan when there is none."""
    numbers = [value for value in values if not math.isnan(value)]
    return sum(numbers) / len(numbers) if numbers else math.nan
