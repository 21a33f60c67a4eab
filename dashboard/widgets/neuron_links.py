"""Ways on from a meta-neuron: to its page, and to Steering with the direction that it writes."""

import math

import streamlit as st

from dashboard.widgets import url
from dashboard.widgets.starred import neuron_name

STRENGTH = 1.0
"""How far the Steering page pushes along a neuron's direction when it opens."""


def steer_link(layer: int, neuron: int, *, label: str, sign: float = 1.0) -> None:
    """Draw the way to the Steering page with the neuron's write direction; below 0, `sign` lets it push the other way."""
    query = {
        "steering_direction": f"neuron L{neuron_name(layer, neuron)}",
        "steering_strength": f"{math.copysign(STRENGTH, sign):g}",
    }
    words = "Opens Steering with the direction that this neuron writes."
    st.page_link("../pages/steering.py", label=label, icon=":material/tune:", help=words, query_params=url.kept(query))


def neuron_links(layer: int, neuron: int, *, sign: float) -> None:
    """Draw the ways to a neuron's page and to Steering, towards a concept that the neuron is high (sign 1) or low (-1) on."""
    with st.container(horizontal=True):
        query = {"view": "unit", "layer": str(layer), "unit": str(neuron)}
        st.page_link("../pages/neurons.py", label="Open the neuron", icon=":material/hub:", query_params=url.kept(query))
        steer_link(layer, neuron, sign=sign, label="Steer with it")
