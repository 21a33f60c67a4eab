"""The Lab page's views: the choice of one, the parameters of all. A new view is a line in VIEWS."""

from collections.abc import Callable, Iterable
from typing import NamedTuple

import streamlit as st

from dashboard.lab import direction_view
from dashboard.lab.sweeps import saved
from dashboard.lab.sweeps import view as sweep
from dashboard.widgets import frame, url
from dashboard.widgets.frame import File


class View(NamedTuple):
    """One view of the page."""

    params: Callable[[], Iterable[url.Param]]
    """Returns all that the page's address may hold for it."""
    draw: Callable[[], list[File]]
    """Draws it and returns its files to download; a GlpError is boxed."""


VIEWS = {
    "Direction": View(direction_view.params, direction_view.draw),
    "Sweep": View(sweep.params, sweep.draw),
    "Saved runs": View(saved.params, saved.draw),
}
"""Left to right; the first is shown where the address names none."""
CHOSEN = url.choice("lab_view", "View", next(iter(VIEWS)), list(VIEWS))


def params() -> list[url.Param]:
    """Return all parameters of the page."""
    return [CHOSEN, *(param for view in VIEWS.values() for param in view.params())]


def choose() -> str:
    """Draw the choice of a view where there are several; return the chosen one."""
    if len(VIEWS) == 1:
        return str(CHOSEN.default)
    return st.segmented_control(
        CHOSEN.label, list(VIEWS), default=CHOSEN.default, required=True, label_visibility="collapsed", **CHOSEN.bound
    )


def draw(name: str) -> list[File]:
    """Draw a view; return its files to download."""
    with frame.boxed_errors():
        return VIEWS[name].draw()
    return []
