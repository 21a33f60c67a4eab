"""A meta-neuron's write direction as a direction to steer along, made when it is asked for, never stored.

Its name is unit:<layer>/<neuron>, its title neuron L<layer>/<neuron>.
"""

from __future__ import annotations

import math
from contextlib import suppress
from typing import TYPE_CHECKING

import streamlit as st
from streamlit.errors import StreamlitAPIException

from dashboard.service import workspace_facts
from dashboard.widgets import starred
from glp_core.errors import GlpError
from glp_core.steering.direction_facts import OF_NEURON, DirectionFacts

if TYPE_CHECKING:
    from pathlib import Path

    from glp_core.prior.glp import GLP
    from glp_core.steering.directions import Direction
    from glp_core.workspace import Workspace

PREFIX, TITLE = "unit:", "neuron L"


def name_of(layer: int, neuron: int) -> str:
    """Return the name of a neuron's direction."""
    return f"{PREFIX}{starred.neuron_name(layer, neuron)}"


def title_of(name: str) -> str:
    """Return what pages and addresses call the direction of that name."""
    return f"{TITLE}{name.removeprefix(PREFIX)}"


def asked(key: str) -> list[DirectionFacts]:
    """Return the neuron direction that the address or the widget `key` asks for, or asked for earlier in this session; else nothing.

    A name of no neuron of this GLP is not taken.
    """
    remembered = f"{key}_unit"
    for title in (st.session_state.get(key), st.query_params.get(key)):
        name = str(title).replace(TITLE, PREFIX, 1)
        if is_neuron(name) and _is_there(name):
            st.session_state[remembered] = name
            if title == name:  # an address from when titles were names
                with suppress(StreamlitAPIException):
                    st.query_params[key] = title_of(name)
                    st.rerun()
    kept = st.session_state.get(remembered)
    return [DirectionFacts(kept, title_of(kept), math.nan, OF_NEURON)] if kept else []


def is_neuron(name: object) -> bool:
    """Say whether a direction's name is that of a neuron."""
    if not isinstance(name, str) or not name.startswith(PREFIX):
        return False
    try:
        return name == name_of(*starred.parse_neuron(name.removeprefix(PREFIX)))
    except GlpError:
        return False


def made_from(folder: Path, name: str) -> Path:
    """Return the file of a workspace that the direction of that name, a neuron's or a stored one, is read from."""
    return folder / ("glp/final.safetensors" if is_neuron(name) else f"directions/{name}.safetensors")


def _is_there(name: str) -> bool:
    layer, neuron = starred.parse_neuron(name.removeprefix(PREFIX))
    glp = workspace_facts.glp()
    return not glp.n_layers or (layer < glp.n_layers and neuron < glp.d_mlp)


def make(workspace: Workspace, glp: GLP, name: str) -> Direction:
    """Return a neuron's direction; it has no probe, so the concept of a text is unknown (nan).

    Raises:
        GlpError: the GLP has no such neuron.
    """
    import torch

    from glp_core.neuron_index.write_directions import write_direction
    from glp_core.steering.directions import Direction

    where = name.removeprefix(PREFIX)
    return Direction.unmeasured(
        torch.as_tensor(write_direction(glp, *starred.parse_neuron(where))),
        name=name,
        title=title_of(name),
        layer=workspace.layer,
        median_norm=workspace.median_norm,
        how=OF_NEURON,
        about={"source": "neuron", "neuron": where},
    )
