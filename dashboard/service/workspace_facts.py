"""What the workspace that is shown says about itself, read from its small JSON files and file headers: at once, torch not needed."""

import os
import re
import shlex
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from functools import lru_cache
from pathlib import Path
from typing import ParamSpec, TypeVar

import streamlit as st
from streamlit.runtime.scriptrunner import get_script_run_ctx

from dashboard.service.visitors import origin
from glp_core.cli.commands import for_workspace
from glp_core.errors import GlpError
from glp_core.files import Json, expanded
from glp_core.prior.facts import FACTS_IN, GlpFacts
from glp_core.reports import read_report
from glp_core.steering.direction_facts import DirectionFacts, stored_directions
from glp_core.workspace import DEMO, DIGEST_LENGTH, Workspace

FOLDER_VARIABLE = "GLP_EXPLORER_WORKSPACE"
"""Environment variable: the folder of the workspace to begin with, the demo when it is not set."""
SHOWN = "workspace_folder"
"""Session key of the folder of the workspace that the session is on."""
DAMAGE = "workspace_damage"
"""Session key of what is wrong with files of the workspace that this run of the page left out."""
EARLIER = "workspace_earlier"
"""Session key of what this run of the page shows that was made with another prior than the workspace's."""
ROOT = Path(__file__).resolve().parents[2]
"""The repository."""
ON_THE_WAY = re.compile(r"(?<![\w:/.~…])/(?:[^\s/'\"`]+/)+")
"""The folders of an absolute path, up to its last name."""


P = ParamSpec("P")
T = TypeVar("T")
_of_job: ContextVar[Path | None] = ContextVar("workspace", default=None)


def default() -> Path:
    """Return the folder of the workspace to begin with."""
    named = os.environ.get(FOLDER_VARIABLE) or DEMO
    with suppress(GlpError):  # a home that nobody has: what is not there is told as for any other folder
        named = expanded(named)
    return Path(named).resolve()


def folder() -> Path:
    """Return the folder of the workspace that is shown: that of the job that runs here, of the session, else the one to begin with."""
    here = _of_job.get()
    if here is None and get_script_run_ctx(suppress_warning=True) is not None:
        here = st.session_state.get(SHOWN)
    return here or default()


def show(folder: Path) -> None:
    """Make this the workspace of the session."""
    st.session_state[SHOWN] = folder


@contextmanager
def in_job(folder: Path) -> Iterator[None]:
    """Make this the workspace that is shown while the block runs; jobs run in a thread that has no session."""
    token = _of_job.set(folder)
    try:
        yield
    finally:
        _of_job.reset(token)


def bound(make: Callable[P, T]) -> Callable[P, T]:
    """Return `make` about the workspace that is shown now, whichever thread calls it: that which makes a download has no session."""
    here = folder()

    def made(*args: P.args, **options: P.kwargs) -> T:
        with in_job(here):
            return make(*args, **options)

    return made


def command(words: str) -> str:
    """Return the command line of glp_core to paste into a terminal, for example of "bank --keep", for the workspace that is shown."""
    arguments = words if folder() == DEMO else f"{words} --workspace {shlex.quote(_called())}"
    return f"python -m glp_core {arguments}"


def told(words: str) -> str:
    """Return a message as the person who looks at the page may use it.

    Its commands name the workspace that is shown. Where others than this machine may look on, paths begin at the workspace, and of
    those elsewhere only the last name is left.
    """
    here = folder()
    if here != DEMO:
        words = for_workspace(words, _called())
    if origin.on_this_machine_only():
        return words
    for above in here.parents[:-1]:
        words = words.replace(f"{above}/", "")
    return ON_THE_WAY.sub("", words)


def _called() -> str:
    """Return how commands call the workspace: by its folder, or by its name only where others than this machine may look on."""
    return str(folder()) if origin.on_this_machine_only() else folder().name


def written(file: Path) -> float:
    """Return when a file was written, in seconds; 0 while it is not there."""
    try:
        return file.stat().st_mtime
    except OSError:
        return 0.0


def times(*names: str) -> tuple[float, ...]:
    """Return when these files of the workspace were written: a result that was made from them is kept under their times."""
    return tuple(written(folder() / name) for name in names)


def read() -> Workspace:
    """Return the workspace, whose models are not loaded; GlpError when the folder is none."""
    return Workspace.open(folder())


def glp() -> GlpFacts:
    """Return what is known of the workspace's GLP."""
    return glp_in(folder() / "glp")


def glp_in(folder: Path) -> GlpFacts:
    """Return what a GLP's folder says of it; read once for all, until one of its files is written again."""
    return _glp_in(folder, tuple(written(folder / name) for name in FACTS_IN))


@lru_cache(maxsize=64)
def _glp_in(folder: Path, _written: tuple[float, ...]) -> GlpFacts:
    return GlpFacts.read(folder)


def report(name: str) -> Json | None:
    """Return what a command measured (reports/<name>.json), or None when it has not been run, or is damaged, which is told.

    A file is read once for all, until it is written again: change nothing in what is returned.
    """
    path = folder() / "reports" / f"{name}.json"
    stamp = written(path)
    try:
        found = _report(path, stamp) if stamp else None
    except GlpError as error:
        note_damage(f"A report is left out: {error}")
        return None
    if found and _of_final(found):
        note_prior(f"reports/{path.name}", found.get("glp_digest"))
    return found


def _of_final(report: Json) -> bool:
    """Say whether a report is of the prior itself, not of an earlier checkpoint that somebody asked for."""
    settings = report.get("settings")
    return not isinstance(settings, dict) or settings.get("checkpoint", "final") == "final"


@lru_cache(maxsize=64)
def _report(path: Path, _written: float) -> Json:
    return read_report(path)


def directions() -> list[DirectionFacts]:
    """Return the workspace's directions, sorted by title; damaged ones are left out and told."""
    left_out: list[str] = []
    found = stored_directions(folder() / "directions", left_out)
    for words in left_out:
        note_damage(words)
    return found


def note_damage(words: str) -> None:
    """Let the page that runs here tell of a file that is left out, in the words of its error; jobs have no page."""
    if get_script_run_ctx(suppress_warning=True) is not None:
        st.session_state.setdefault(DAMAGE, {})[words] = None


def note_prior(what: str, digest: object) -> None:
    """Let the page tell that something was made with another prior than the workspace's, where the digest kept with it says so."""
    here = folder() / "glp" / "final.safetensors"
    if not isinstance(digest, str) or get_script_run_ctx(suppress_warning=True) is None:
        return
    if digest[:DIGEST_LENGTH] not in ("", _prior_digest(folder(), written(here))):
        st.session_state.setdefault(EARLIER, {})[what] = None


@lru_cache(maxsize=64)
def _prior_digest(folder: Path, _written: float) -> str:
    return Workspace.open(folder).glp_digest()


def damage() -> list[str]:
    """Return what was noted since it was last asked for."""
    noted: dict[str, None] = st.session_state.pop(DAMAGE, {})
    words = [one.replace(str(folder()), folder().name) for one in noted]
    if earlier := st.session_state.pop(EARLIER, None):
        again = "Their commands make" if folder() == DEMO else f"`{command('build')}` makes"
        words.append(
            f"Made with another prior than the workspace has now: {', '.join(earlier)}. What they say may not hold for this one. "
            f"{again} them again."
        )
    return words
