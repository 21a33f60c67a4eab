"""The priors to choose from: the workspace's own GLP, and the final ones of training runs whose weights are kept beside their logs.

Read from small JSON files and file headers; loads nothing.
"""

import re
from pathlib import Path
from typing import NamedTuple

from dashboard.service import workspace_facts
from dashboard.widgets import url

NAME = re.compile(r"[\w][\w.-]{0,63}")
OWN = "workspace"
"""Name of the workspace's own GLP when it is of none of its runs."""


class Prior(NamedTuple):
    """One GLP of the workspace."""

    name: str
    """The run's name."""
    folder: Path
    """Where its final weights are."""
    parameters: int
    activations_seen: int | None


def listed() -> list[Prior]:
    """Return the workspace's own GLP, then those of other runs, smallest first; damaged ones are left out."""
    home = workspace_facts.folder()
    own = workspace_facts.glp_in(home / "glp")
    runs = [path.parent for path in sorted((home / "runs").glob("*/train.csv")) if NAME.fullmatch(path.parent.name)]
    name = next((run.name for run in runs if own.about and workspace_facts.glp_in(run) == own), OWN)
    others = [
        _prior(run.name, run / "glp") for run in runs if run.name != name and (run / "glp" / "final.safetensors").is_file()
    ]
    return [_prior(name, home / "glp"), *sorted((one for one in others if one.parameters), key=lambda one: one.parameters)]


def param() -> url.Param:
    """Return the parameter that chooses one; the workspace's own by default."""
    names = [prior.name for prior in listed()]
    return url.choice("prior", "Prior", names[0], names)


def of_checkpoint(run: str, activations: float) -> Prior | None:
    """Return the prior that is a run's checkpoint after so many activations, or None when its weights are not kept."""
    return next((prior for prior in listed() if prior.name == run and prior.activations_seen == int(activations)), None)


def _prior(name: str, folder: Path) -> Prior:
    glp = workspace_facts.glp_in(folder)
    return Prior(name, folder, glp.parameters, glp.activations_seen)
