"""Ways on from a meta-neuron: to its page, and to Steering with the direction that it writes."""

import streamlit as st

from dashboard.widgets.starred import neuron_name


def steer_link(layer: int, neuron: int, *, label: str = "Steer with this neuron") -> None:
    """Draw the way to the Steering page with the neuron's write direction."""
    query = {"steering_direction": f"unit:{neuron_name(layer, neuron)}"}
    words = "Opens Steering with the direction that this neuron writes."
    st.page_link("../pages/steering.py", label=label, icon=":material/tune:", help=words, query_params=query)


def neuron_links(layer: int, neuron: int) -> None:
    """Draw the ways to a neuron's page and to Steering."""
    with st.container(horizontal=True):
        query = {"view": "unit", "layer": str(layer), "unit": str(neuron)}
        st.page_link("../pages/neurons.py", label="Open the neuron", icon=":material/hub:", query_params=query)
        steer_link(layer, neuron, label="Steer with it")
