"""Sweeps that this server writes: each in a thread of its own that puts one batch after another into the device's queue.

So a sweep outlives its page, other visitors have their turn between two batches, and a server that is killed loses no finished text.
"""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Generator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import streamlit as st

from dashboard.service import resources, workspace_facts
from dashboard.widgets import charts
from glp_core.errors import GlpError
from glp_core.files import Json, read_object, write_json
from glp_core.jobs.job import Cancelled, Job, Work
from glp_core.steering.sweeps.cells import count
from glp_core.steering.sweeps.config import SweepConfig, differences, stamped
from glp_core.steering.sweeps.runs import RunFacts, Runs, rows
from glp_core.steering.sweeps.scores import Judge, Marks, check_readable
from glp_core.steering.sweeps.store import SweepStore, written

if TYPE_CHECKING:
    from glp_core.steering.sweeps.engine import Batch, Bench

MOST = 3
"""Sweeps that one server writes at a time."""
PATIENCE = 1.0
"""Seconds to wait when the queue is full."""
TOLD = 3
"""Differences that are told."""
SPEED = "speed.json"
"""How fast the last sweep of a workspace was."""

logger = logging.getLogger(__name__)


class Sweeping:
    """One sweep that is being written, or was."""

    def __init__(self, folder: Path, run: str, config: SweepConfig) -> None:
        self.folder, self.run, self.config = folder, run, config
        self.store = SweepStore(folder / "sweeps")
        self._runs = Runs(folder / "sweeps")
        self.facts = self._runs.facts(run)
        self.fresh, self._before, self._start = 0, self.facts.seconds, time.monotonic()
        self.words = "Waiting for the models …"
        """What it does now."""
        self._stop = threading.Event()
        self._tell("running")
        self._thread = threading.Thread(target=self._work, name=f"sweep {run}", daemon=True)
        self._thread.start()

    @property
    def live(self) -> bool:
        """Whether it is at work."""
        return self._thread.is_alive()

    def stop(self) -> None:
        """Ask it to end; it does at the next token, and all that is whole is kept."""
        self._stop.set()

    @property
    def left(self) -> float:
        """Seconds to go at the rate so far; nan before there is one."""
        seconds = time.monotonic() - self._start
        return seconds / self.fresh * (self.facts.total - self.facts.done) if self.fresh else float("nan")

    def judged(self) -> dict[str, Marks]:
        """Return the server's marks so far; none where no server scores."""
        return Judge(self.store.folder, self.config.scorer).marks() if self.config.scorer.kind == "server" else {}

    def _tell(self, state: str, error: str = "") -> None:
        done = written(self.store.found(self.config))
        seconds = self._before + time.monotonic() - self._start
        self.facts = self.facts._replace(done=done, total=count(self.config), seconds=round(seconds, 1), error=error)
        self.facts = RunFacts(*self.facts[:2], state, *self.facts[3:])  # type: ignore[arg-type]
        if self._runs.has(self.run):
            self._runs.tell(self.facts)
        else:  # somebody deleted it
            self.stop()

    def _work(self) -> None:
        state, error = "failed", "It ended without a word."
        try:
            self._write()
            self._score()
            state, error = ("stopped", "") if self._stop.is_set() else ("done", "")
        except GlpError as problem:
            error = str(problem)
        except Exception as problem:  # a bug: told on the page and in the log, and the run can be gone on with
            error = f"{type(problem).__name__}: {problem}"
            logger.exception("sweep %r failed", self.run)
        finally:
            self._keep(state, error)

    def _write(self) -> None:
        """Write what is missing, batch by batch."""
        from glp_core.steering.sweeps.engine import batches

        missing = self.store.missing(self.config)
        at_once, begun = self._at_once() if missing else 1, time.monotonic()
        for batch in batches(self.config, missing, at_once):
            arms = [
                charts.ARM_TITLES.get(arm, "the model's own draws") for arm in dict.fromkeys(cell.arm for cell in batch.cells)
            ]
            self.words = f"Writing {batch.size} texts: {', '.join(arms)}"
            self._queued(partial(self._batch, batch))
            if self._stop.is_set():
                return
            self.fresh += batch.size
            self._tell("running")
            tokens = self.fresh * self.config.tokens / max(1e-3, time.monotonic() - begun)
            write_json(self.folder / "sweeps" / SPEED, {"tokens_per_second": round(tokens, 2)})

    def _at_once(self) -> int:
        """Return how many texts are written side by side; waits for the models."""
        size: list[int] = []

        def ask(_cancelled: Cancelled) -> Generator[None]:
            from glp_core.steering.sweeps.engine import texts_at_once

            size.append(texts_at_once(_bench(self.config), self.config))
            yield

        self._queued(ask)
        return size[0] if size else 1

    def _batch(self, batch: Batch, cancelled: Cancelled) -> Generator[None]:
        from glp_core.steering.sweeps.engine import write_batch
        from glp_core.steering.trials.writing import Stopped

        try:
            write_batch(
                _bench(self.config), self.config, self.store, batch, cancelled=lambda: cancelled() or self._stop.is_set()
            )
        except Stopped:
            return
        yield

    def _queued(self, work: Work) -> None:
        """Do work in the device's queue, and wait for its end; raise what it raises."""
        job = self._submitted(work)
        while job is not None and not job.wait(0.2):
            if self._stop.is_set():
                job.stop()
        if job is not None:
            job.result()

    def _submitted(self, work: Work) -> Job | None:
        def there(cancelled: Cancelled) -> Generator[None]:
            with workspace_facts.in_job(self.folder), resources.models().holding(self.folder):
                yield from work(cancelled)

        while not self._stop.is_set():
            try:
                return resources.runner().submit(f"sweep {self.run}", there, title="sweep", grace=None)
            except GlpError:
                time.sleep(PATIENCE)
        return None

    def _score(self) -> None:
        """Ask the server that scores, where one does."""
        if self.config.scorer.kind == "server" and not self._stop.is_set():
            Judge(self.store.folder, self.config.scorer).ask(
                self.store.found(self.config), cancelled=self._stop.is_set, told=self._marked
            )

    def _marked(self, done: int, total: int) -> None:
        self.words = f"{done} of {total} texts are marked by {self.config.scorer.model}"

    def _keep(self, state: str, error: str) -> None:
        """Keep the texts that are there and what they say, beside the run's settings, and how it ended."""
        from glp_core.steering.sweeps.analysis import analyse

        if not self._runs.has(self.run):
            return
        try:
            found, judged = self.store.found(self.config), self.judged()
            self._runs.save(self.run, rows(self.config, found, judged), analyse(self.config, found, judged))
        except GlpError as problem:
            logger.warning("sweep %r could not be saved: %s", self.run, problem)
            state, error = "failed", error or str(problem)
        try:
            self._tell(state, error)
        except GlpError as problem:  # the disk is full: the run still says running, and whoever opens it goes on with it
            logger.warning("sweep %r could not say how it ended: %s", self.run, problem)


def _bench(config: SweepConfig) -> Bench:
    """Return the workspace's models (in a job).

    Raises:
        GlpError: they are others than those that the sweep was stamped with.
    """
    from glp_core.steering.sweeps.engine import Bench

    here = resources.workspace()
    directions = {one.name: resources.direction(one.name) for one in config.directions}
    bench = Bench(resources.llm(), resources.glp(), directions, here.covariance, here.walk(), resources.meter())
    check_made_here(config)  # after they were read: a file that changed in between is found too
    return bench


class Sweepings:
    """All sweeps of this server."""

    def __init__(self) -> None:
        self._by_run: dict[tuple[Path, str], Sweeping] = {}
        self._lock = threading.Lock()

    def of(self, folder: Path, run: str) -> Sweeping | None:
        """Return the sweep of that name that was written here last."""
        return self._by_run.get((folder, run))

    def start(self, folder: Path, run: str) -> Sweeping:
        """Begin a run, or go on with it.

        Raises:
            GlpError: there is no such run, or enough are being written.
        """
        with self._lock:
            there = self._by_run.get((folder, run))
            if there is not None and there.live:
                return there
            if sum(one.live for one in self._by_run.values()) >= MOST:
                raise GlpError(f"{MOST} sweeps are being written. Stop one, or wait for its end.")
            self._by_run = {key: one for key, one in self._by_run.items() if one.live}  # an ended one holds all its texts
            self._by_run[folder, run] = Sweeping(folder, run, Runs(folder / "sweeps").config(run))
            return self._by_run[folder, run]


@st.cache_resource(show_spinner=False)
def sweepings() -> Sweepings:
    """Return the sweeps of this server."""
    return Sweepings()


def rate(folder: Path) -> float:
    """Return how many tokens a second the workspace's last sweep wrote; 0 before there was one."""
    try:
        speed = float(read_object(folder / "sweeps" / SPEED)["tokens_per_second"])
    except (GlpError, KeyError, TypeError, ValueError, OverflowError):
        return 0.0
    return speed if 0 < speed < 1e9 else 0.0


def begin(config: SweepConfig) -> str:
    """Stamp a configuration with what is here, keep it as a run and start it; return its name.

    Raises:
        GlpError: a direction that is not there, or lacks the probe that is to score; a disk that is full; enough sweeps at work.
    """
    folder = workspace_facts.folder()
    check_probes(config)
    stamped = stamp(config)
    run = Runs(folder / "sweeps").begin(stamped, count(stamped))
    sweepings().start(folder, run)
    return run


def check_probes(config: SweepConfig) -> None:
    """Raise GlpError where the probe is to score texts of a direction of this workspace that has none."""
    check_readable(config, {one.name: resources.direction(one.name).has_probe for one in config.directions})


def stamp(config: SweepConfig) -> SweepConfig:
    """Return a configuration with this workspace's model, prior, directions and versions as what it is made with."""
    here, names = resources.workspace(), [one.name for one in config.directions]
    digests = {name: here.direction_digest(name) for name in names}
    return stamped(config, made_here(), digests, {name: resources.direction(name).title for name in names})


def check_made_here(config: SweepConfig) -> None:
    """Raise GlpError where texts that are written now are no longer those that a stamped configuration names."""
    now = stamp(config)
    if _as_kept(now) == _as_kept(config):
        return
    digests, titles = ({one.name: getattr(one, what) for one in now.directions} for what in ("digest", "title"))
    said = differences(config, now.made_with, digests, titles)[:TOLD] or ["what texts are made with is another list"]
    raise GlpError(
        f"It was begun with something else than is here now: {'; '.join(said)}. Press Run for a new sweep, made with that."
    )


def _as_kept(config: SweepConfig) -> str:
    return json.dumps(config.to_json(), sort_keys=True)


def made_here() -> Json:
    """Return what texts of this workspace are made with; the prior's digest is taken once for a file."""
    folder = workspace_facts.folder()
    reports = ("reports/walk_tuning.json", "reports/reference.json")  # how walks go: as tuned, else bounded by the reference
    return _made_with(folder, workspace_facts.times("glp/final.safetensors", "workspace.json", *reports))


@st.cache_data(show_spinner=False, max_entries=8)
def _made_with(folder: Path, files_written: tuple[float, ...]) -> Json:
    return resources.workspace().made_with()
