"""One request: where it stands, what it has yielded, and the way to stop it. Plain Python."""

import contextvars
import logging
import threading
import time
import traceback
from collections.abc import Callable, Generator
from typing import Any, Literal

from glp_core.errors import GlpError
from glp_core.jobs.pause import pauses

State = Literal["waiting", "running", "done", "stopped", "failed"]
Cancelled = Callable[[], bool]
Work = Callable[[Cancelled], Generator[Any]]
"""Takes `cancelled`, yields results as they come; ends early when cancelled() turns true."""
Told = Callable[[Exception], Exception]
"""Turns an error into the one that whoever asked is to see."""

OVER = object()
"""What a generator has left when it is over."""

logger = logging.getLogger(__name__)


def as_it_is(error: Exception) -> Exception:
    """Return an error as it was raised."""
    return error


class Job:
    """One request.

    Args:
        session: who asks.
        grace: seconds without a look after which it is given up, unless `alive` says that somebody is there; None: never.
        rows: how many rows of a shared decode batch it writes; 0: it runs by itself.
        news: called in the worker thread whenever it has yielded something or has ended.
    """

    def __init__(
        self,
        session: str,
        work: Work,
        *,
        title: str,
        grace: float | None,
        alive: Callable[[], bool],
        rows: int = 0,
        news: Callable[[], None] = lambda: None,
    ) -> None:
        self.session, self.work, self.title, self.rows = session, work, title, rows
        self.state: State = "waiting"
        self.events: list[Any] = []
        self.error: Exception | None = None
        self.seconds = 0.0
        """How long it ran."""
        self._grace, self._alive, self._news = grace, alive, news
        self._seen = time.monotonic()
        self._began = 0.0
        self.given_up = False
        """Whether it was stopped because nobody looked any more."""
        self._stop = threading.Event()
        self._ended = threading.Event()
        self._context = contextvars.Context()
        self._steps: Generator[Any] | None = None

    @property
    def live(self) -> bool:
        """Whether it waits or runs."""
        return not self._ended.is_set()

    @property
    def unseen(self) -> float:
        """Seconds since somebody looked at it."""
        return time.monotonic() - self._seen

    def beat(self) -> None:
        """Say that somebody still looks at it."""
        self._seen = time.monotonic()

    def stop(self) -> None:
        """Ask it to end; a running one does so at its next step, its results so far stay."""
        self._stop.set()

    def give_up(self) -> None:
        """Ask it to end since nobody looks any more."""
        self.given_up = self.given_up or (self.live and not self._stop.is_set())
        self._stop.set()

    def cancelled(self) -> bool:
        """Say whether it should end: stopped, or nobody looks any more."""
        if self._grace is not None and self.unseen > self._grace and not self._watched():
            self.give_up()
        return self._stop.is_set()

    def _watched(self) -> bool:
        try:
            return self._alive()
        except Exception:  # the worker thread goes on whatever the caller's functions raise
            logger.exception("whether anybody waits for job %r cannot be told", self.title)
            return False

    def _tell(self) -> None:
        try:
            self._news()
        except Exception:
            logger.exception("nobody could be told of job %r", self.title)

    def wait(self, seconds: float) -> bool:
        """Wait until it has ended, at most so long; count as a look. Return whether it has ended."""
        self.beat()
        return self._ended.wait(seconds)

    def result(self) -> list[Any]:
        """Return what it yielded; raise what it raised, with the traceback of here: the worker's own was logged."""
        if self.error is not None:
            raise self.error.with_traceback(None)
        return self.events

    def begin(self, context: contextvars.Context, pausing: Callable[[], object] | None) -> None:
        """Count as running, in a copy of these context variables, so that jobs that are taken in turn do not see one another's.

        Args:
            pausing: what happens when the work pauses; None: it never does.
        """
        self.state, self._began, self._context = "running", time.monotonic(), context.copy()
        if pausing is not None:
            pauses(self._context, pausing)

    def advance(self, cancelled: Cancelled, told: Told = as_it_is) -> State | None:
        """Do its next step; return how it has ended, None while it goes on. For the worker thread, which calls `end` then.

        Args:
            told: returns the error that is kept of one that was raised, when what the work held has been let go.
        """
        try:
            if self._steps is None:
                self._steps = self._context.run(self.work, cancelled)
            event = self._context.run(next, self._steps, OVER)
            if event is not OVER:
                self.events.append(event)
                if not self.cancelled():
                    self._tell()
                    return None
                self._context.run(self._steps.close)
            return "stopped" if self.cancelled() else "done"
        except Exception as error:  # handed to the page, which shows a GlpError and raises anything else again
            if not isinstance(error, GlpError):
                logger.exception("job %r failed", self.title)
            _let_go(error)
            self.error = self._kept(error, told)
            return "failed"

    def _kept(self, error: Exception, told: Told) -> Exception:
        try:
            return told(error)
        except Exception:
            logger.exception("what the error of job %r means cannot be told", self.title)
            return error

    def end(self, state: State) -> None:
        """Say that it has ended."""
        self.state, self._seen = state, time.monotonic()
        self.seconds = time.monotonic() - self._began if self._began else 0.0
        self._steps = None
        self._ended.set()
        self._tell()


def _let_go(error: BaseException | None) -> None:
    """Let go of what the work held when it failed: the error stays with its job for as long as a page may ask for it."""
    while error is not None:
        traceback.clear_frames(error.__traceback__)
        error = error.__cause__ or error.__context__
