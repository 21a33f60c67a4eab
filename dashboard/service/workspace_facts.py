"""What a workspace says about itself, read from its small JSON files and file headers: fit for a first paint, torch not needed."""

import os
import shlex
from pathlib import Path

from glp_core.files import Json, read_object
from glp_core.prior.facts import GlpFacts
from glp_core.steering.direction_facts import DirectionFacts, stored_directions
from glp_core.workspace import DEMO, Workspace

FOLDER_VARIABLE = "GLP_EXPLORER_WORKSPACE"
"""Environment variable that names another workspace folder."""
ROOT = Path(__file__).resolve().parents[2]
"""The repository."""


def folder() -> Path:
    """Return the folder of the workspace that this server shows."""
    return Path(os.environ.get(FOLDER_VARIABLE) or DEMO).expanduser().resolve()


def command(words: str) -> str:
    """Return the command line of glp_core to paste into a terminal, for example of "bank --keep", for the workspace that is shown."""
    arguments = words if folder() == DEMO else f"{words} --workspace {shlex.quote(str(folder()))}"
    return f"python -m glp_core {arguments}"


def read() -> Workspace:
    """Return the workspace, whose models are not loaded; GlpError when the folder is none."""
    return Workspace.open(folder())


def glp() -> GlpFacts:
    """Return what is known of the workspace's GLP."""
    return GlpFacts.read(folder() / "glp")


def report(name: str) -> Json | None:
    """Return what a command measured (reports/<name>.json), or None when it has not been run."""
    path = folder() / "reports" / f"{name}.json"
    return read_object(path) if path.is_file() else None


def directions() -> list[DirectionFacts]:
    """Return the workspace's directions, sorted by title."""
    return stored_directions(folder() / "directions")
