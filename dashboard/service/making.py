"""Stages of a build that a person started from a page: one at a time in a workspace, each in a process of its own.

A process gets the name of a stage from the list of them and the workspace's folder, nothing that a visitor wrote. It outlives pages and
sessions; the server's end stops it.
"""

import os
import subprocess
import sys
import threading
from collections import deque
from contextlib import suppress
from pathlib import Path
from typing import Literal, NamedTuple

import streamlit as st

from dashboard.service.workspace_facts import ROOT
from glp_core.building.about import ABOUT
from glp_core.building.state import BuildState
from glp_core.errors import GlpError

State = Literal["running", "done", "stopped", "failed"]
BUILD = ("-m", "glp_core", "build")
"""What Python runs."""
STOPPED = (130, -15, -2)
"""Exit statuses of a build that was told to stop."""
KINDNESS = 5
"""By how much the process gives way to what the pages compute (man nice)."""
KEPT_LINES = 20
PATIENCE = 4.0
"""Seconds that a process has to end when the server does."""


class Progress(NamedTuple):
    """How far a build is."""

    title: str
    """Of the stage that is made now."""
    percent: int
    """Of that stage."""
    words: str


class Making:
    """One stage, with all that it needs, being made or made."""

    def __init__(self, folder: Path, stage: str) -> None:
        self.folder, self.stage = folder, stage
        self.lines: deque[str] = deque(maxlen=KEPT_LINES)
        """The last lines that the process wrote."""
        self._process = subprocess.Popen(
            command_line(folder, stage), cwd=ROOT, text=True, errors="replace",
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
        )  # fmt: skip
        with suppress(OSError, AttributeError):
            os.setpriority(os.PRIO_PROCESS, self._process.pid, KINDNESS)
        self._reader = threading.Thread(target=self._read, name=f"making {stage}", daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stderr is not None
        with self._process.stderr as lines:
            self.lines.extend(line for whole in lines if (line := whole.strip()))

    @property
    def state(self) -> State:
        status = self._process.poll()
        if status is None:
            return "running"
        return "done" if status == 0 else "stopped" if status in STOPPED else "failed"

    @property
    def live(self) -> bool:
        """Whether it is at work."""
        return self.state == "running"

    def progress(self) -> Progress:
        """Return how far it is, as the build tells in the workspace; before it does, what it said last."""
        last = self.lines[-1] if self.lines else "starting"
        return progress(self.folder) or Progress(ABOUT[self.stage].title, 0, last)

    def error(self) -> str:
        """Return why it failed: what its build says of its stages, else what the process wrote last."""
        self._reader.join(1)
        with suppress(GlpError):
            state = BuildState.read(self.folder)
            failed = [one for one in state.stages if one.state == "failed" and one.error]
            if failed and state.pid == self._process.pid:  # another build's failures are not this one's
                return "\n".join(f"{one.title}: {one.error}" for one in failed)
        return self.lines[-1] if self.lines else "It ended without a word."

    def stop(self) -> None:
        """Ask it to end; what is made stays, and the next one goes on from there."""
        self._process.terminate()

    def end(self) -> None:
        """Stop it and wait, at most some seconds."""
        self.stop()
        try:
            self._process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self._process.kill()


def command_line(folder: Path, stage: str) -> list[str]:
    """Return the command line that makes a stage; GlpError for what is none."""
    if stage not in ABOUT:
        raise GlpError(f"There is no stage {stage[:40]!r}: wanted one of {', '.join(ABOUT)}.")
    return [sys.executable, *BUILD, "--workspace", str(folder), "--only", stage]


def progress(folder: Path) -> Progress | None:
    """Return how far the build is that works in a workspace, whoever started it; None without one."""
    with suppress(GlpError):
        state = BuildState.read(folder)
        at = next((one for one in state.stages if one.state == "running"), None)
        if state.state == "running" and at is not None:
            return Progress(at.title, at.percent, at.words)
    return None


class Makings:
    """All that this server has started, one a workspace."""

    def __init__(self) -> None:
        self._by_folder: dict[Path, Making] = {}
        self._lock = threading.Lock()

    def of(self, folder: Path) -> Making | None:
        """Return what was started last in a workspace."""
        return self._by_folder.get(folder)

    def start(self, folder: Path, stage: str) -> Making:
        """Begin to make a stage.

        Raises:
            GlpError: another one is being made there, or there is no such stage.
        """
        with self._lock:
            last = self._by_folder.get(folder)
            if last is not None and last.live:
                raise GlpError(f"{ABOUT[last.stage].title} is being made in this workspace. Wait for its end, or stop it.")
            self._by_folder[folder] = Making(folder, stage)
            return self._by_folder[folder]

    def end(self) -> None:
        """Stop all of them, for the server's end."""
        for making in [one for one in self._by_folder.values() if one.live]:
            making.end()


@st.cache_resource(show_spinner=False)
def makings() -> Makings:
    """Return what this server has started."""
    return Makings()
