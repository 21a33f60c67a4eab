"""Requests that write at the same time share the steps of a decode loop: each comes and goes between two of them.

Whoever needs the next token of its own rows takes a step for all rows of its loop; the others find theirs ready. So requests that are taken
in turn get a token each in turn, whatever their length. What one of them breaks stays its own. Safe for threads. Knows rows and tokens;
knows nothing of queues or pages.
"""

import math
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from copy import copy
from threading import RLock
from typing import NamedTuple

import torch

from glp_core.errors import GlpError
from glp_core.llm.decoding import Sampling, filled
from glp_core.llm.site import Site
from glp_core.llm.text_stream import TextStream
from glp_core.prior.distance import ManifoldMeter
from glp_core.steering.edit import EditEffect
from glp_core.steering.loop import Line, Loop, Row

MOST_ROWS = 64
"""Of one loop."""
SHORT = 512
"""Tokens up to which rows of any length share a loop; beyond, no more than half of what a loop holds may be padding."""
READ_AT_ONCE = 256
"""Tokens of a prompt that are read between two steps of the others, on a CPU."""
RECORDED_LOOPS = 3
"""Loops that an accelerator replays: so many one after another take as long as one that it has to be told step by step."""


class Step(NamedTuple):
    """One token of one arm."""

    step: int
    """Counted from 0."""
    arm: str
    """The arm's name."""
    token: int
    """Token id."""
    text: str
    """What the token adds to the text; empty for a stop token and while a character's bytes are incomplete."""
    log_probability: float
    """Of the token, under the arm itself (its steered logits, temperature 1)."""
    distance_before: float
    """Manifold distance of the activation that the token was chosen from, before the edit; nan without a meter or when massive."""
    distance_after: float
    """The same, after the edit and the projection."""
    kept_push: float
    """Share of the push along the direction that the projection left; nan without push or projection."""
    seconds: float
    """Time that this step took, for all arms together."""
    finished: bool
    """Whether this is the arm's last token."""
    distance_pushed: float = math.nan
    """Manifold distance after the push, before the projection."""
    cosine: float = math.nan
    """Between the push and what the activation moved by in all; nan as kept_push."""
    correction: float = math.nan
    """What the projection did at right angles to the push, in median norms; nan as kept_push."""
    edited: bool = True
    """Whether the activation that the token was chosen from was edited."""


class _Written(NamedTuple):
    """What one step of a loop wrote, by the lines' places."""

    tokens: list[int]
    log_probabilities: list[float]
    effect: EditEffect
    problems: dict[int, str]


class Writer:
    """One request's texts while they are written."""

    def __init__(self, batch: "SharedBatch", loop: Loop) -> None:
        self.loop, self.lines = loop, loop.lines
        self.open = set(range(len(self.lines)))
        """Rows whose texts have not ended, or whose last tokens have not been taken."""
        self.read = loop.unedited()
        """Its rows' one prompt as the unsteered model reads it, to go on from later, where that is kept."""
        self._batch = batch
        tokenizer = loop.site.llm.tokenizer
        self._streams = [TextStream(tokenizer, line.row.prompt) for line in self.lines]
        self._writing = set(self.open)
        self._steps = 0
        self._ready: list[tuple[int, Step]] = []
        self._error: Exception | None = None

    def next(self) -> list[tuple[int, Step]]:
        """Return what is ready, with the rows' numbers: one more token of every open row, or all that were written in others' turns.

        It is nothing while a part of a long prompt was read instead.

        Raises:
            GlpError: steering so strong that the model breaks.
        """
        with self._batch.lock:
            if self.reading:
                self.loop.read_on()
                if not self.reading:
                    self._batch.join(self)
                return []
            if not self._ready and self._error is None:
                self._batch.step(self.loop)
            if not self._ready and self._error is not None:
                raise self._error.with_traceback(None)
            steps, self._ready = self._ready, []
        self.open -= {row for row, step in steps if step.finished}
        return steps

    @property
    def reading(self) -> bool:
        """Whether its prompt is still being read."""
        return self.loop.context.reading

    @property
    def writing(self) -> list[Line]:
        """Lines that the loop still writes for this request."""
        return [self.lines[row] for row in sorted(self._writing)]

    def fail(self, error: Exception) -> None:
        """Write no more: hand out what is ready, then the error."""
        self._error = error
        self._writing.clear()

    def end(self) -> None:
        """Write no more."""
        self._writing.clear()

    def take(self, written: _Written, places: dict[Line, int], seconds: float) -> None:
        """Keep this request's part of a step."""
        problem = next((written.problems[places[line]] for line in self.writing if places[line] in written.problems), None)
        if problem:
            self.fail(GlpError(problem))
        if not self._writing:
            return
        steps = [(row, self._step(row, places[self.lines[row]], written, seconds)) for row in sorted(self._writing)]
        self._ready += steps
        self._writing -= {row for row, step in steps if step.finished}
        self._steps += 1

    def _step(self, row: int, place: int, written: _Written, seconds: float) -> Step:
        line, token = self.lines[row], written.tokens[place]
        stopped = token in self.loop.site.llm.stop_ids
        finished = stopped or self._steps == line.sampling.max_tokens - 1
        stream = self._streams[row]
        text = stream.flush() if stopped else stream.push(token, last=finished)
        *distances, retention, edited = written.effect
        before, after, pushed = (float(values[place]) for values in distances)
        kept_push, cosine, correction = (float(values[place]) for values in retention)
        return Step(
            self._steps,
            line.row.arm.name,
            token,
            text,
            written.log_probabilities[place],
            before,
            after,
            kept_push,
            seconds,
            finished,
            pushed,
            cosine,
            correction,
            bool(edited[place]),
        )


class SharedBatch:
    """The loops that are written now, each with the requests whose rows it holds."""

    def __init__(self) -> None:
        self.lock = RLock()
        self._writers: list[Writer] = []

    @contextmanager
    def writing(self, site: Site, rows: Sequence[Row], sampling: Sampling, meter: ManifoldMeter | None) -> Iterator[Writer]:
        """Read the rows' prompts and write them on while the block runs.

        Raises:
            GlpError: an empty or too long prompt, a bad strength or direction.
        """
        at_once = READ_AT_ONCE if site.llm.device.type == "cpu" else None
        with self.lock:
            writer = Writer(self, Loop(site, rows, sampling, meter, at_once=at_once))
            if not writer.reading:
                self.join(writer)
        try:
            yield writer
        finally:
            with self.lock:
                writer.end()
                self._part(writer.loop)

    @property
    def rows(self) -> int:
        """How many rows are written now."""
        with self.lock:
            return sum(len(writer.writing) for writer in self._writers)

    def step(self, loop: Loop) -> None:
        """Write one more token of every row of a loop, and give each request its own."""
        start = time.perf_counter()
        members = [writer for writer in self._writers if writer.loop is loop]
        try:
            written = _advance(loop)
        except Exception as error:  # the cache has half a token now: nobody can go on with it
            _fail(members, error)
        else:
            seconds = time.perf_counter() - start
            places = {line: place for place, line in enumerate(loop.lines)}
            for writer in members:
                writer.take(written, places, seconds)
        self._part(loop)

    def join(self, writer: Writer) -> None:
        """Let a new request's rows into a loop that they fit, or leave them in their own."""
        host = next((loop for loop in self._loops() if self._fit(loop, writer.loop)), None)
        if host is not None:
            with self._spoilt_for_all(host):
                host.join(writer.loop)
            writer.loop = host
        self._writers.append(writer)

    def _part(self, loop: Loop) -> None:
        """Let go of requests that write no more, and of their rows where that makes a loop smaller."""
        members = [writer for writer in self._writers if writer.loop is loop]
        gone = [writer for writer in members if not writer.writing]
        self._writers = [writer for writer in self._writers if writer not in gone]
        lines = [line for writer in members for line in writer.writing]
        fewer = len(lines) < len(loop.lines) and (gone or filled(len(lines)) < len(loop.last))
        if lines and fewer and not loop.context.recorded:
            with suppress(Exception), self._spoilt_for_all(loop):  # those whose rows they are hear of it
                loop.keep(lines)

    @contextmanager
    def _spoilt_for_all(self, loop: Loop) -> Iterator[None]:
        """End all requests of a loop with the block's error: its cache is neither as it was nor as it should be."""
        try:
            yield
        except Exception as error:
            members = [writer for writer in self._writers if writer.loop is loop]
            self._writers = [writer for writer in self._writers if writer not in members]
            _fail(members, error)
            raise

    def _loops(self) -> list[Loop]:
        return list(dict.fromkeys(writer.loop for writer in self._writers))

    def _fit(self, loop: Loop, new: Loop) -> bool:
        one, other = loop.context, new.context
        if not (_same_place(loop.site, new.site) and one.joins and other.joins):
            return False
        if one.recorded and len(self._loops()) < RECORDED_LOOPS:
            return False
        if len(loop.lines) + len(new.lines) > MOST_ROWS:
            return False
        lengths = torch.cat([one.lengths, other.lengths])
        longest = max(one.columns, other.columns)
        return longest <= SHORT or len(lengths) * longest <= 2 * int(lengths.sum())


def _fail(writers: Sequence[Writer], error: Exception) -> None:
    """Give each its own copy of an error: whoever raises one adds to its traceback."""
    for writer in writers:
        own = error
        with suppress(Exception):  # not every class of errors can be copied
            own = copy(error)
            own.__cause__ = error
        writer.fail(own)


def _same_place(one: Site, other: Site) -> bool:
    return one.llm is other.llm and (one.layer, one.median_norm) == (other.layer, other.median_norm)


@torch.inference_mode()
def _advance(loop: Loop) -> _Written:
    logits, once = loop.advance_all()
    totals = logits.logsumexp(-1)
    log_probabilities = logits.gather(-1, loop.last[:, None])[:, 0] - totals
    return _Written(loop.last.tolist(), log_probabilities.tolist(), once.read(), loop.problems(totals, once))
