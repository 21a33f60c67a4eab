"""The runs on the Scaling page: the workspace's, and a person's own, from a folder that is offered or from an upload.

Logs are read again when they change.
"""

import math
import os
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple, Protocol, TypeVar

from dashboard.service import workspace_facts
from dashboard.widgets import frame, url
from glp_core.errors import GlpError
from glp_core.evaluation.runs import Run, log_age, points, read_run, read_runs

Result = TypeVar("Result")
RUNS_VARIABLE = "GLP_EXPLORER_RUNS"
"""Environment variable by which whoever runs the dashboard names the folder whose runs its visitors may look at."""
RUN_FILES = ("train.csv", "config.json", "run.json", "evals.csv", "evals.json")
"""What an uploaded run may consist of."""
LARGEST_UPLOAD = 5
"""MB of one of them."""


class Shown(NamedTuple):
    """The runs on the page."""

    shipped: list[Run]
    own: list[Run]
    problem: str
    """Why own runs could not be read, or empty."""

    @property
    def runs(self) -> list[Run]:
        """Shipped and own runs."""
        return [*self.shipped, *self.own]

    @property
    def running(self) -> bool:
        """Whether any is still being trained."""
        return any(run.running for run in self.runs)


class Uploaded(Protocol):
    """A file as the browser sent it."""

    name: str

    def getvalue(self) -> bytes:
        """Return its bytes."""


class Own(NamedTuple):
    """Which runs a person wants beside the shipped ones."""

    folder: str = ""
    """One of `offered()`, or empty."""
    files: Sequence[Uploaded] = ()
    """Files of one run."""


def shown(own: Own) -> Shown:
    """Read the workspace's runs, and one's own where any are named; GlpError only for the workspace's."""
    home = workspace_facts.folder() / "runs"
    left_out: list[str] = []
    shipped = read_runs(home, left_out, _read) if any(home.glob("*/train.csv")) else []
    for words in left_out:
        workspace_facts.note_damage(words)
    folder = offered().get(own.folder)
    try:
        runs = _told_as(own.folder, folder, lambda folder: read_runs(folder, read=_read)) if folder else []
        runs += [_uploaded(own.files)] if own.files else []
    except GlpError as error:
        return Shown(shipped, [], str(error))
    taken = {run.name for run in shipped}  # points are told apart by their run's name
    own_runs = [replace(run, name=f"{run.name} (own)") if run.name in taken else run for run in runs]
    return Shown(shipped, own_runs, "")


def _read(folder: Path) -> Run:
    """Read a run; its files again only when one of them has been written."""
    run = _read_as_of(folder, tuple(workspace_facts.written(folder / name) for name in RUN_FILES))
    return replace(run, age=log_age(folder))


@lru_cache(maxsize=128)
def _read_as_of(folder: Path, _written: tuple[float, ...]) -> Run:
    return read_run(folder)


def _told_as(name: str, folder: Path, read: Callable[[Path], Result]) -> Result:
    """Return what `read` makes of the folder; its errors call the folder by this name, for where it lies is no visitor's business."""
    try:
        return read(folder)
    except GlpError as error:
        raise GlpError(str(error).replace(str(folder), name)) from error


def offered() -> dict[str, Path]:
    """Return the folders with runs below the one that RUNS_VARIABLE names, by their path from there; links out of it do not count."""
    if not os.environ.get(RUNS_VARIABLE):
        return {}
    root = Path(os.environ[RUNS_VARIABLE]).expanduser().resolve()
    logs = [*root.glob("*/train.csv"), *root.glob("*/*/train.csv")]
    folders = sorted({log.parents[1] for log in logs if log.resolve().is_relative_to(root)})
    return {root.name if folder == root else str(folder.relative_to(root)): folder for folder in folders}


def _uploaded(files: Sequence[Uploaded]) -> Run:
    """Read the run that these files are; GlpError when one has another name, or the run cannot be read."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "uploaded run"
        folder.mkdir()
        for file in files:
            if file.name not in RUN_FILES:
                raise GlpError(f"{url.shorten(file.name)} is no file of a run, wanted {', '.join(RUN_FILES)}.")
            frame.check_size(len(data := file.getvalue()), LARGEST_UPLOAD)
            (folder / file.name).write_bytes(data)
        return replace(_told_as("the upload", folder, read_run), age=math.inf)  # it does not grow here


def export(runs: Sequence[Run]) -> str:
    """Return every checkpoint of the runs as CSV; names that a spreadsheet would take for a formula get a quote."""
    table = points(list(runs))
    if len(table):
        table["run"] = ["'" + name if name[:1] in "=+-@\t\r" else name for name in table["run"]]
    return table.to_csv(index=False)
