"""Ways on: from a direction to Steering, and from a meta-neuron to its page and to Steering along the direction that it writes."""

from collections.abc import Callable
from typing import NamedTuple

import streamlit as st

from dashboard.widgets import url
from dashboard.widgets.starred import neuron_name


class Push(NamedTuple):
    """How far the Steering page pushes when a link opens it."""

    strength: float
    deviations: float | None = None
    """Its length in standard deviations of real activations along the direction, where it was chosen by them."""
    measured: bool = True
    """Whether anything of the workspace tells that this is a good strength."""

    @property
    def words(self) -> str:
        """What the link does, in words."""
        words = f"Opens Steering at strength {self.strength:+.1f}".replace("-", "−")
        if self.deviations is None:
            return f"{words}."
        return f"{words}: {abs(self.deviations):.1f} standard deviations of real activations along the direction."


def push_link(title: str, find: Callable[[], Push | None], *, label: str) -> None:
    """Draw the way to the Steering page along the direction of that title.

    Args:
        find: returns the push that the page opens with; None while the models that tell it are being loaded.
    """

    def link() -> None:
        push = find()
        query = {"steering_direction": title} | ({} if push is None else {"steering_strength": f"{push.strength:g}"})
        words = "The models are being loaded." if push is None else push.words
        st.page_link(
            "../pages/steering.py", label=label, icon=":material/tune:", help=words, disabled=push is None,
            query_params=url.kept(query),
        )  # fmt: skip

    if find() is None:
        st.fragment(link, run_every=1.0)()
    else:
        link()


def steer_link(layer: int, neuron: int, find: Callable[[], Push | None], *, label: str) -> None:
    """Draw `push_link` along the direction that a neuron writes."""
    push_link(f"neuron L{neuron_name(layer, neuron)}", find, label=label)


def neuron_links(layer: int, neuron: int, find: Callable[[], Push | None]) -> None:
    """Draw the ways to a neuron's page and to Steering with the push that makes a text more of what it was found for."""
    with st.container(horizontal=True):
        query = {"view": "unit", "layer": str(layer), "unit": str(neuron)}
        st.page_link("../pages/neurons.py", label="Open the neuron", icon=":material/hub:", query_params=url.kept(query))
        steer_link(layer, neuron, find, label="Steer with it")
