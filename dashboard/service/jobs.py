"""One queue per device: every model call of every session runs in one worker thread, one at a time, in fair order.

A job is a generator; what it yields is kept in `events`, so a page may look away and come back to all of it. The generator asks
`cancelled` at every step: true after `stop`, and when nobody has looked at the job for `grace` seconds (a closed tab).
Plain Python: knows nothing of Streamlit, torch or models.
"""

import contextlib
import itertools
import logging
import threading
import time
from collections.abc import Callable, Generator
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Literal

from glp_core.errors import GlpError

State = Literal["waiting", "running", "done", "stopped", "failed"]
Cancelled = Callable[[], bool]
Work = Callable[[Cancelled], Generator[Any]]
"""Takes `cancelled`, yields results as they come; ends early when cancelled() turns true."""

GRACE = 1.0
"""Seconds without a look after which a job is given up; a closed tab frees the worker within 2 s."""
MAX_WAITING = 12
"""Jobs that may wait, over all sessions."""

logger = logging.getLogger(__name__)


class Job:
    """One request: where it stands, what it has yielded, and the way to stop it."""

    def __init__(self, session: str, work: Work, *, title: str, grace: float | None, alive: Callable[[], bool]) -> None:
        self.session, self.work, self.title = session, work, title
        self.state: State = "waiting"
        self.events: list[Any] = []
        self.error: Exception | None = None
        self.seconds = 0.0
        """How long it ran."""
        self._grace, self._alive = grace, alive
        self._seen = time.monotonic()
        self._stop = threading.Event()
        self._ended = threading.Event()

    @property
    def live(self) -> bool:
        """Whether it waits or runs."""
        return not self._ended.is_set()

    def beat(self) -> None:
        """Say that somebody still looks at it."""
        self._seen = time.monotonic()

    def stop(self) -> None:
        """Ask it to end; a running one does so at its next step, its results so far stay."""
        self._stop.set()

    def cancelled(self) -> bool:
        """Say whether it should end: stopped, or nobody looks any more."""
        if self._grace is not None and time.monotonic() - self._seen > self._grace and not self._alive():
            self._stop.set()
        return self._stop.is_set()

    def wait(self, seconds: float) -> bool:
        """Wait until it has ended, at most so long; count as a look. Return whether it has ended."""
        self.beat()
        return self._ended.wait(seconds)

    def result(self) -> list[Any]:
        """Return what it yielded; raise what it raised."""
        if self.error is not None:
            raise self.error
        return self.events

    def _end(self, state: State) -> None:
        self.state = state
        self._ended.set()


class JobRunner:
    """A worker thread with a bounded queue that serves sessions in turn.

    Args:
        context: entered in the worker thread around all its work (torch.inference_mode does not carry over to threads).
        max_waiting: jobs that may wait, over all sessions.
        max_per_session: jobs of one session that may wait beside its running one.
    """

    def __init__(
        self,
        *,
        context: Callable[[], AbstractContextManager[object]] = nullcontext,
        max_waiting: int = MAX_WAITING,
        max_per_session: int = 1,
    ) -> None:
        self._context, self._max_waiting, self._max_per_session = context, max_waiting, max_per_session
        self._changed = threading.Condition()
        self._waiting: list[Job] = []
        self._running: Job | None = None
        self._turns = itertools.count(1)
        self._served: dict[str, int] = {}
        self._worker = threading.Thread(target=self._serve, name="jobs", daemon=True)
        self._worker.start()

    def submit(
        self,
        session: str,
        work: Work,
        *,
        title: str = "",
        grace: float | None = GRACE,
        alive: Callable[[], bool] = lambda: False,
    ) -> Job:
        """Queue a job.

        Args:
            session: who asks; empty for the server itself, which is never refused.
            grace: seconds without `beat` or `wait` after which it is given up, unless `alive` says that somebody is there;
                None: never.
        Raises:
            GlpError: the queue is full, or this session has enough waiting.
        """
        job = Job(session, work, title=title, grace=grace, alive=alive)
        with self._changed:
            self._drop_cancelled()
            if session and sum(other.session == session for other in self._waiting) >= self._max_per_session:
                raise GlpError("One of your requests is waiting already. Stop it, or wait until it has begun.")
            if session and len(self._waiting) >= self._max_waiting:
                raise GlpError(f"{len(self._waiting)} requests are waiting, and no more are taken. Try again in a minute.")
            self._waiting.append(job)
            self._changed.notify_all()
        return job

    def position(self, job: Job) -> int:
        """Return how many jobs run before this one: 0 when it runs or has ended."""
        with self._changed:
            self._drop_cancelled()
            if job not in self._waiting:
                return 0
            return self._order().index(job) + (self._running is not None)

    def load(self) -> tuple[int, int]:
        """Return how many jobs run (0 or 1) and wait."""
        with self._changed:
            self._drop_cancelled()
            return int(self._running is not None), len(self._waiting)

    def _order(self) -> list[Job]:
        """Return the waiting jobs as they will be served: the session that waited longest for a turn first."""
        served = dict(self._served)
        left = list(self._waiting)
        order: list[Job] = []
        turns = itertools.count(max(served.values(), default=0) + 1)
        while left:
            job = min(left, key=lambda j: served.get(j.session, 0))
            served[job.session] = next(turns)
            left.remove(job)
            order.append(job)
        return order

    def _drop_cancelled(self) -> None:
        for job in [job for job in self._waiting if job.cancelled()]:
            self._waiting.remove(job)
            job._end("stopped")

    def _next(self) -> Job:
        with self._changed:
            while True:
                self._drop_cancelled()
                if self._waiting:
                    job = self._order()[0]
                    self._waiting.remove(job)
                    self._running = job
                    self._served[job.session] = next(self._turns)
                    self._forget_sessions()
                    return job
                self._changed.wait()

    def _forget_sessions(self) -> None:
        """Keep the turns of the last sessions only, so that a server that runs for months does not grow."""
        for session in sorted(self._served, key=self._served.__getitem__)[: -4 * self._max_waiting]:
            del self._served[session]

    def _serve(self) -> None:
        with self._context():
            while True:
                job = self._next()
                state = self._run(job)
                with self._changed:
                    self._running = None
                job._end(state)

    def _run(self, job: Job) -> State:
        job.state = "running"
        started = time.monotonic()
        try:
            with contextlib.closing(job.work(job.cancelled)) as events:
                for event in events:
                    job.events.append(event)
                    if job.cancelled():
                        return "stopped"
            return "stopped" if job.cancelled() else "done"
        except Exception as error:  # handed to the page, which shows a GlpError and raises anything else again
            job.error = error
            if not isinstance(error, GlpError):
                logger.exception("job %r failed", job.title)
            return "failed"
        finally:
            job.seconds = time.monotonic() - started
