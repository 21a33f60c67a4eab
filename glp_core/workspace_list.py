"""The workspaces that were made on this machine: a small file in the cache folder, so that the dashboard finds them by itself."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from glp_core.errors import GlpError
from glp_core.files import expanded, read_object, write_json, writing
from glp_core.llm.sources import cache_folder

MOST = 100
"""Workspaces that are remembered; the oldest go."""


def remember(folder: Path) -> None:
    """Put a workspace's folder on the list, last, or leave it in its place, which its name in links may depend on.

    It may be remembered before its first file is there.

    Raises:
        GlpError: the cache folder is not writable.
    """
    own = str(expanded(folder).resolve())
    with _alone():
        if own not in (before := _remembered()):
            write_json(_path(), {"workspaces": [*before, own][-MOST:]})


def listed() -> list[Path]:
    """Return the remembered folders that are workspaces still, oldest first; a damaged list counts as empty."""
    return [folder for one in _remembered() if is_workspace(folder := Path(one))]


def is_workspace(folder: Path) -> bool:
    """Say whether a folder holds a workspace.json."""
    return os.path.isfile(folder / "workspace.json")  # False too where nobody may look, or no folder can have the name


@contextmanager
def _alone() -> Iterator[None]:
    """Keep other processes from changing the list in the block; GlpError where the cache folder is not writable."""
    path = cache_folder() / ".workspaces.lock"
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = path.open("a")
    with lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _path() -> Path:
    return cache_folder() / "workspaces.json"


def _remembered() -> list[str]:
    with suppress(GlpError):
        stored = read_object(_path()).get("workspaces")
        return [one for one in stored if isinstance(one, str)] if isinstance(stored, list) else []
    return []
