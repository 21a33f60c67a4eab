"""The workspaces that this server shows, by name, and which of them a session is on. Names travel in links, paths never do.

A session stays on one workspace: the switch and a link to another one open the page anew, so that nothing but texts is carried along.
"""

import os
import re
from contextlib import suppress
from pathlib import Path

import streamlit as st

from dashboard.service import workspace_facts
from dashboard.widgets import url
from glp_core import workspace_list
from glp_core.errors import GlpError
from glp_core.files import expanded
from glp_core.workspace import DEMO

FOLDERS_VARIABLE = "GLP_EXPLORER_WORKSPACES"
"""Environment variable: more workspaces, or folders of workspaces, separated as in PATH."""
NAME, PROBLEM = "workspace_name", "workspace_problem"
"""Session keys: the name in links, empty where the link named none; what was wrong with the link's name, and on which page."""
CARRIED = (
    "steering_prompt",
    "steering_mode",
    "text",
    "positive",
    "negative",
    "concepts_part",
    "manifold_text",
    "manifold_view",
)
"""What means the same in every workspace: the switch takes it along."""


def listed() -> dict[str, Path]:
    """Return the folders by name: the demo, those that the environment names, those made here; of one name, later ones get a number."""
    given = os.environ.get(FOLDERS_VARIABLE, "").split(os.pathsep)
    named = [workspace for words in given if words.strip() for workspace in _inside(words)]
    first = workspace_facts.default()
    names: dict[str, Path] = {}
    for folder in dict.fromkeys([DEMO, *named, *workspace_list.listed(), first]):
        if folder == first or workspace_list.is_workspace(folder):
            names[_free_name(folder, names)] = folder
    return names


def _inside(words: str) -> list[Path]:
    """Return the workspace that a folder is, or those in it; none where it cannot be looked at."""
    with suppress(GlpError, OSError):
        folder = expanded(words).resolve()
        inside = [folder] if workspace_list.is_workspace(folder) else [path.parent for path in folder.glob("*/workspace.json")]
        return sorted(inside)
    return []


def _free_name(folder: Path, names: dict[str, Path]) -> str:
    name = re.sub(r"[^\w.-]+", "-", folder.name).strip("-.") or "workspace"
    return next(one for one in (name, *(f"{name}-{i}" for i in range(2, len(names) + 3))) if one not in names)


def choose(page: str) -> None:
    """Settle which workspace a new session is on, by its link, and keep the name in the address; call before anything is drawn.

    Args:
        page: the page that is opened, on which a name that is none is told.
    """
    asked = st.query_params.get(url.WORKSPACE)
    if asked not in (None, st.session_state.get(NAME)):
        _check(asked, page)
    if NAME not in st.session_state:
        folder = listed().get(asked or "")
        st.session_state[NAME] = "" if folder is None else asked
        workspace_facts.show(folder or workspace_facts.default())
    name = st.session_state[NAME]
    if st.query_params.get(url.WORKSPACE, "") == name:
        return
    if name:
        st.query_params[url.WORKSPACE] = name
    else:
        del st.query_params[url.WORKSPACE]


def _check(asked: str, page: str) -> None:
    """Keep a message for the page when no workspace has that name."""
    names = listed()
    if asked not in names:
        used = st.session_state.get(NAME) or _name_of(workspace_facts.default(), names)
        words = f"Workspace is {url.shorten(asked)}, wanted one of: {', '.join(names)}. {used} is used instead."
        st.session_state[PROBLEM] = (page, f"In the link: {words}")


def problem(page: str) -> str:
    """Return what was wrong with the workspace that the link named, on the page that it opened; empty elsewhere."""
    where, words = st.session_state.get(PROBLEM, ("", ""))
    return words if where == page else ""


def current() -> str:
    """Return the name of the workspace that is shown."""
    return _name_of(workspace_facts.folder(), listed())


def _name_of(folder: Path, names: dict[str, Path]) -> str:
    return next((name for name, one in names.items() if one == folder), folder.name)


def links(page: str) -> dict[str, str]:
    """Return, for every other workspace by name, the address of a page there, with the texts of this session."""
    held = {key: st.session_state.get(key, st.query_params.get(key)) for key in CARRIED}
    carried = {key: value for key, value in held.items() if value is not None}
    return {
        name: url.address(page, carried | {url.WORKSPACE: name})
        for name, folder in listed().items()
        if folder != workspace_facts.folder()
    }
