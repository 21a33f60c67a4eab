"""Run the stages of a build one after another and keep build.json: what is done stays done, and a stage that fails stops only
those that need it.

Knows stages and how to run a command line, which is given; knows no terminal.
"""

import logging
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

from glp_core.building.stages import Command, Stage
from glp_core.building.state import BuildState, StageRecord
from glp_core.errors import GlpError

SECONDS_BETWEEN_WRITES = 1.0
WAY_OUT = "The lines above say where. The same command tries it again; --device cpu has all operations of torch."
STOPPED = 130
"""What a command returns that was stopped and has saved its state."""

logger = logging.getLogger(__name__)


class Told(Protocol):
    """Who is told how a build goes on."""

    def began(self, record: StageRecord) -> None:
        """Hear that a stage begins."""

    def moved(self, record: StageRecord) -> None:
        """Hear that a stage has gone on."""

    def ended(self, record: StageRecord) -> None:
        """Hear that a stage is done, has failed, or was stopped."""


class Build:
    """A build at work: its stages, its state on disk, and who is told."""

    def __init__(self, folder: Path, state: BuildState, stages: Sequence[Stage], told: Told) -> None:
        self.folder, self.state, self.stages, self.told = folder, state, stages, told
        self._record: StageRecord | None = None
        self._part, self._parts, self._said = 0, 1, ""
        self._began = self._written = 0.0

    def run(self, run_command: Callable[[Command], int]) -> bool:
        """Run the stages; return False when the build was stopped.

        Args:
            run_command: runs the words after `python -m glp_core` and returns the exit status; raises what the command raises.
        """
        failed: set[str] = set()
        self.state.state = "running"
        try:
            for stage in self.stages:
                record = self._recorded(stage)
                broken = next((need for need in stage.needs if need in failed), None)
                if broken:
                    record.error = f"it needs the stage {broken!r}, which failed"
                    self.told.began(record)
                elif not self._run_stage(stage, record, run_command):
                    self._stop(record)
                    return False
                if record.error:
                    failed.add(stage.name)
                    record.state = "failed"
                    self.told.ended(record)
                    self.state.save(self.folder)
        except BaseException:
            self._stop(self._record)
            raise
        self.state.end("failed" if failed else "done")
        self.state.save(self.folder)
        return True

    def said(self, words: str) -> None:
        """Hear a line of the running command; the last one says what came out."""
        self._said = words.strip()

    def progressed(self, label: str, done: int, total: int, words: str) -> None:
        """Hear how far a step of the running command is."""
        record = self._record
        if record is None:
            return
        share = min(1.0, done / max(1, total))
        record.percent = (
            max(record.percent, int(100 * (self._part + 0.99 * share) / self._parts)) if self._parts > 1 else int(99 * share)
        )
        record.words = f"{label}: {done:,} of {total:,}{' ' * bool(words)}{words}"
        now = time.monotonic()
        record.seconds = round(now - self._began, 1)
        self.told.moved(record)
        if now - self._written > SECONDS_BETWEEN_WRITES:
            self._written = now
            self.state.save(self.folder)

    def _recorded(self, stage: Stage) -> StageRecord:
        record = self.state.of(stage.name)
        assert record is not None
        return record

    def _run_stage(self, stage: Stage, record: StageRecord, run_command: Callable[[Command], int]) -> bool:
        """Run a stage's commands; return False when it was stopped."""
        self._record, self._began = record, time.monotonic()
        record.state, record.percent, record.words, record.error, record.settings = "running", 0, "", "", []
        self.state.save(self.folder)
        self.told.began(record)
        self._parts, self._said = len(stage.commands), ""
        try:
            for part, command in enumerate(stage.commands):
                self._part = part
                status = run_command(command + (stage.first if part == 0 else ()))
                if status == STOPPED:
                    return False
                if status:
                    raise GlpError(f"`python -m glp_core {' '.join(command)}` ended with status {status}.")
        except GlpError as error:
            record.error = str(error)
        except RuntimeError as error:  # torch's, as for an operation that the device has not
            logger.exception("the stage %r broke off", stage.name)
            record.error = f"it broke off: {type(error).__name__}: {error}".splitlines()[0].rstrip(".") + f". {WAY_OUT}"
        record.seconds = round(time.monotonic() - self._began, 1)
        self._record = None
        if not record.error:
            record.state, record.percent, record.words = "done", 100, self._said
            record.settings, record.effort, record.stale = stage.settings, self.state.effort, False
            self.state.save(self.folder)
            self.told.ended(record)
        return True

    def _stop(self, record: StageRecord | None) -> None:
        """Say in build.json that the build was stopped."""
        self.state.end("stopped")
        self.state.save(self.folder)
        if record is not None and record.state == "stopped":
            self.told.ended(record)
