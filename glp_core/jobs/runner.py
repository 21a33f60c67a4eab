"""One queue per device: every model call of every session runs in one worker thread, in fair order.

A job is a generator; what it yields is kept in `events`, so a page may look away and come back to all of it. The generator asks
`cancelled` at every step: true after `stop`, and when nobody has looked at the job for `grace` seconds (a closed tab).

Jobs that write rows of a shared decode batch run side by side, each taken in turn. Of all others one runs at a time; when it asks
`cancelled` or calls `pause` after a SLICE of time, the writing ones get a slice before it goes on, so texts keep flowing beside long work.
Plain Python: knows nothing of Streamlit, torch or models.
"""

import contextvars
import itertools
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

from glp_core.errors import GlpError
from glp_core.jobs.job import Job, Told, Work, as_it_is

GRACE = 1.0
"""Seconds without a look after which a job is given up; a closed tab frees the worker within 2 s."""
MAX_WAITING = 12
"""Jobs that may wait, over all sessions."""
MOST_ROWS = 48
"""Rows of a shared batch that are written at the same time; whoever wants more waits in line."""
SLICE = 0.1
"""Seconds that long work and the writing jobs get in turn."""


class JobRunner:
    """A worker thread with a bounded queue that serves sessions in turn.

    Args:
        context: entered in the worker thread around all its work (torch.inference_mode does not carry over to threads).
        before: called in the worker thread before every step of a job.
        told: called in the worker thread with what a job raised; returns the error that whoever asked is to see.
        max_waiting: jobs that may wait, over all sessions.
        max_per_session: jobs of one session that may wait beside its running ones.
        most_rows: of a shared batch, that are written at the same time.
    """

    def __init__(
        self,
        *,
        context: Callable[[], AbstractContextManager[object]] = nullcontext,
        before: Callable[[], object] = lambda: None,
        told: Told = as_it_is,
        max_waiting: int = MAX_WAITING,
        max_per_session: int = 1,
        most_rows: int = MOST_ROWS,
    ) -> None:
        self._context, self._before, self._told, self._most_rows = context, before, told, most_rows
        self._max_waiting, self._max_per_session = max_waiting, max_per_session
        self._changed = threading.Condition()
        self._waiting: list[Job] = []
        self._running: list[Job] = []
        self._turns = itertools.count(1)
        self._served: dict[str, int] = {}
        self._outside = contextvars.Context()
        """The worker thread's own context variables, which none of its jobs has set."""
        self._slice_ends = 0.0
        self._pausing = False
        """Whether long work is in the middle of a step, and waits for those that write."""
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
        rows: int = 0,
        news: Callable[[], None] = lambda: None,
    ) -> Job:
        """Queue a job, as `Job` says; an empty session is the server itself, which is never refused and goes first.

        Raises:
            GlpError: the queue is full, or this session has enough waiting.
        """
        job = Job(session, work, title=title, grace=grace, alive=alive, rows=rows, news=news)
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
        """Return a waiting job's place in the line of its kind, behind those that run: 0 when it runs or has ended."""
        with self._changed:
            self._drop_cancelled()
            if job not in self._waiting:
                return 0
            line = [other for other in self._order() if bool(other.rows) == bool(job.rows)]
            return line.index(job) + bool(self._running)

    def load(self) -> tuple[int, int]:
        """Return how many jobs run and wait."""
        with self._changed:
            self._drop_cancelled()
            return len(self._running), len(self._waiting)

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
            job.end("stopped")

    def _begin(self) -> None:
        """Let those run whose turn it is, as far as there is room."""
        with self._changed:
            self._drop_cancelled()
            full = False
            for job in self._order():
                if self._is_held_up(job):
                    continue
                full = full or (job.rows > 0 and not self._has_room(job))  # nobody overtakes a job that wants many rows
                if not (job.rows and full):
                    self._waiting.remove(job)
                    self._running.append(job)
                    self._served[job.session] = next(self._turns)
                    self._forget_sessions()
                    job.begin(self._outside, None if job.rows else self._pause)

    def _is_held_up(self, job: Job) -> bool:
        """Say whether a session's job waits for models that the server loads, for its own last one, or for long work."""
        if not job.session:
            return False
        loading = any(not other.session for other in (*self._running, *self._waiting))
        alike = [other for other in self._running if bool(other.rows) == bool(job.rows)]
        return loading or any(not job.rows or other.session == job.session for other in alike)

    def _has_room(self, job: Job) -> bool:
        written = sum(other.rows for other in self._running)
        return not written or written + job.rows <= self._most_rows

    def _forget_sessions(self) -> None:
        """Keep the turns of the last sessions only, so that a server that runs for months does not grow."""
        for session in sorted(self._served, key=self._served.__getitem__)[: -4 * self._max_waiting]:
            del self._served[session]

    def _serve(self) -> None:
        with self._context():
            self._outside = contextvars.copy_context()
            while True:
                with self._changed:
                    self._begin()
                    while not self._running:
                        self._changed.wait()
                        self._begin()
                for job in self._long():
                    self._slice_ends = time.monotonic() + SLICE
                    while self._take(job) and time.monotonic() < self._slice_ends:
                        pass
                self._write()

    def _long(self) -> list[Job]:
        return [job for job in self._running if not job.rows]

    def _write(self) -> None:
        """Take the writing jobs in turn: for a slice where long work waits, once where none does."""
        ends = time.monotonic() + SLICE
        while writing := [job for job in self._running if job.rows]:
            for job in writing:
                self._take(job)
            if time.monotonic() >= ends or not self._long():
                return

    def _take(self, job: Job) -> bool:
        """Do a job's next step; return whether it goes on."""
        self._before()
        state = job.advance(job.cancelled if job.rows else lambda: self._asked(job), self._told)
        if state is not None:
            with self._changed:
                self._running.remove(job)
            job.end(state)
        return state is None

    def _asked(self, job: Job) -> bool:
        """Answer long work that asks whether it is cancelled; a slice of time for those that write comes first."""
        self._pause()
        return job.cancelled()

    def _pause(self) -> None:
        """Give those that write a slice of time if long work has had its own; it calls this in the middle of a step."""
        if self._pausing or time.monotonic() < self._slice_ends:
            return
        self._pausing = True
        try:
            self._begin()
            self._write()
        finally:
            self._pausing = False
        self._slice_ends = time.monotonic() + SLICE
