"""What the Manifold page's views share: widgets tied to the page's address, and the choice of a direction."""

from typing import Any

import streamlit as st

from dashboard.manifold.measure import PARAMS
from dashboard.service import neuron_directions, workspace_facts
from dashboard.widgets import url

DIRECTION = "manifold_direction"


def bound(name: str) -> url.Bound:
    """Return what ties a widget to its parameter."""
    return PARAMS[name].bound


def values() -> dict[str, Any]:
    """Return the checked values of all parameters, by short name."""
    checked = url.checked(list(PARAMS.values()), url.current(list(PARAMS.values())))
    return {name: checked[param.key] for name, param in PARAMS.items()}


def direction() -> str:
    """Draw the choice of a direction, the workspace's and one's own; return its name, empty when there is none."""
    found = [*workspace_facts.directions(), *neuron_directions.asked(DIRECTION)]
    if not found:
        return ""
    titles = [facts.title for facts in found]
    title = st.selectbox("Direction", titles, key=DIRECTION, bind="query-params", width=260)
    return next(facts.name for facts in found if facts.title == title)
