"""What is known of a workspace's build, in <workspace>/build.json: which stages are done, running, failed, and how far; needs no torch.

One build at a time works in a workspace. The file is written whole or not at all, so it may be read while a build runs.
"""

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, fields
from errno import ENOSPC
from pathlib import Path
from typing import Literal

from glp_core.checked.shapes import Limits, Many, OneOf, check
from glp_core.errors import GlpError
from glp_core.files import Json, read_object, write_json

FILE, LOCK = "build.json", ".build.lock"
LOOKS, SECONDS_BETWEEN_LOOKS = 10, 0.05
"""At the lock, before a build says that another is at work: a page that looks whether one is has it for a moment."""
StageState = Literal["missing", "planned", "running", "done", "failed", "stopped"]
STATES = ("missing", "planned", "running", "done", "failed", "stopped")
SECONDS = Limits(float, 0, 1e12)
STAGE = {
    "name": str,
    "title": str,
    "page": str,
    "state?": OneOf(STATES),
    "percent?": Limits(int, 0, 100),
    "words?": str,
    "estimate?": SECONDS,
    "seconds?": SECONDS,
    "error?": str,
    "settings?": Many(str),
    "effort?": str,
    "stale?": bool,
}
SHAPE = {
    **dict.fromkeys(("name?", "effort?", "glp?"), str),
    **dict.fromkeys(("model?", "rates?"), {}),
    "state?": OneOf(("running", "done", "failed", "stopped")),
    "pid?": Limits(int, 0, 2**31 - 1),
    "stages?": Many(STAGE),
}
"""Of build.json."""


@dataclass
class StageRecord:
    """What is known of one stage."""

    name: str
    title: str
    page: str
    """The pages that it lights up."""
    state: StageState = "missing"
    """missing: not made, and not asked for."""
    percent: int = 0
    words: str = ""
    """What it is at."""
    estimate: float = 0.0
    """Seconds that it should take, 0 where that is not known."""
    seconds: float = 0.0
    """That it took, or has taken so far."""
    error: str = ""
    """Why it failed."""
    settings: list[str] = field(default_factory=list)
    """What its files were made with; empty while they are not done."""
    effort: str = ""
    """That its files were made with."""
    stale: bool = False
    """Whether its files are of what other stages have made otherwise since, or were about to."""


@dataclass
class BuildState:
    """A build, as build.json holds it."""

    name: str = ""
    """Of the workspace."""
    effort: str = ""
    glp: str = ""
    """Where the prior comes from, as --glp said; empty when it is trained here."""
    model: Json = field(default_factory=dict)
    """The LLM's width, and whether it can chat."""
    rates: Json = field(default_factory=dict)
    """What this machine takes for the work, as it was measured."""
    state: Literal["running", "done", "failed", "stopped"] = "stopped"
    pid: int = 0
    """Of the process that wrote it."""
    stages: list[StageRecord] = field(default_factory=list)

    @staticmethod
    def read(folder: Path) -> "BuildState":
        """Return what is known of the build in a workspace's folder: nothing where there was none.

        A build that was killed counts as stopped.

        Raises:
            GlpError: build.json is damaged.
        """
        path = folder / FILE
        if not path.is_file():
            return BuildState()
        stored = read_object(path)
        try:
            check(stored, SHAPE, f"{path} is damaged")
        except GlpError as error:
            raise GlpError(f"{error} Delete it: what is made stays.") from error
        stages = [StageRecord(**_known(StageRecord, one)) for one in stored.get("stages", [])]
        state = BuildState(**_known(BuildState, stored) | {"stages": stages})
        if state.state == "running" and not at_work(folder):
            state.end("stopped")
        return state

    def save(self, folder: Path) -> None:
        """Write build.json."""
        write_json(folder / FILE, asdict(self))

    def end(self, state: Literal["done", "failed", "stopped"]) -> None:
        """Say that the build is over, and that what was still to do is not done."""
        self.state = state
        for stage in self.stages:
            if stage.state == "running":
                stage.state = "stopped"
            elif stage.state == "planned":
                stage.state = "missing"

    def of(self, name: str) -> StageRecord | None:
        """Return what is known of a stage."""
        return next((stage for stage in self.stages if stage.name == name), None)

    @property
    def percent(self) -> int:
        """How much of what was planned is done, by the time that it should take."""
        at = [stage for stage in self.stages if stage.estimate > 0]
        whole = sum(stage.estimate for stage in at)
        return int(sum(stage.estimate * stage.percent for stage in at) / whole) if whole else 0


def _known(kind: type, stored: Json) -> Json:
    """Return the entries of a stored object that are fields of `kind`."""
    return {one.name: stored[one.name] for one in fields(kind) if one.name in stored}


def at_work(folder: Path) -> bool:
    """Say whether a build is at work in a workspace's folder, in this process or another."""
    try:
        handle = os.open(folder / LOCK, os.O_RDONLY)
    except OSError:  # no build has been there
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)  # several may look at once
    except BlockingIOError:
        return True
    else:
        return False
    finally:
        os.close(handle)


def _locked(folder: Path) -> int | None:
    """Return the open lock of a folder, if need be after several looks; None where another build keeps it."""
    for _ in range(LOOKS):
        folder.mkdir(parents=True, exist_ok=True)
        handle = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.fstat(handle).st_ino == (folder / LOCK).stat().st_ino:
                return handle
        except (BlockingIOError, FileNotFoundError):  # kept, or taken away by the one that kept it
            pass
        os.close(handle)
        time.sleep(SECONDS_BETWEEN_LOOKS)
    return None


@contextmanager
def building(folder: Path) -> Iterator[None]:
    """Keep other builds out of a workspace's folder; a killed process lets go of it, and where nothing came of it, nothing stays.

    Raises:
        GlpError: another build is at work there, or the folder cannot be written to.
    """
    new = not folder.exists()
    try:
        handle = _locked(folder)
    except OSError as error:
        out = "Free some space, or name another folder" if error.errno == ENOSPC else "Name another folder"
        raise GlpError(f"{folder} cannot be written to: {error.strerror or error}. {out}.") from error
    if handle is None:
        raise GlpError(f"Another build is at work in {folder}. Wait for its end, or stop it.")
    try:
        yield
    finally:
        if folder.is_dir() and os.listdir(folder) == [LOCK]:
            (folder / LOCK).unlink()
            if new:
                folder.rmdir()
        os.close(handle)
