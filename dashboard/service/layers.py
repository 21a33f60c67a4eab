"""The LLM layers to choose from where the prior serves several: the workspace's own, and those that `evaluate` has measured too.

Directions, bank and neuron index belong to the workspace's own layer. Read from small JSON files; loads nothing.
"""

from contextlib import suppress
from typing import NamedTuple

import streamlit as st

from dashboard.service import workspace_facts
from dashboard.widgets import url
from glp_core.errors import GlpError
from glp_core.files import Json


class Measured(NamedTuple):
    """What is known of another layer than the workspace's own."""

    median_norm: float
    reference: Json
    """What distances at the layer are compared with."""


def own() -> int:
    """Return the workspace's layer; GlpError when it is no workspace."""
    return workspace_facts.read().layer


def others() -> dict[int, Measured]:
    """Return the other layers that can be chosen; none with a prior of one layer, or before `evaluate` has been run."""
    if not workspace_facts.glp().depth:
        return {}
    measured: dict[int, Measured] = {}
    with suppress(GlpError, AttributeError, KeyError, TypeError, ValueError):  # a damaged report offers no choice
        for layer, row in (workspace_facts.report("layers") or {})["layers"].items():
            measured[int(layer)] = Measured(float(row["median_norm"]), dict(row["reference"]))
    return measured


def of(layer: int | None) -> Measured | None:
    """Return what is known of a layer that is not the workspace's own; None for its own, or for no choice.

    Raises:
        GlpError: the layer was not measured.
    """
    if layer is None or layer == own():
        return None
    found = others().get(layer)
    if found is None:
        raise GlpError(f"Layer {layer} was not measured: do it with `{workspace_facts.command('evaluate')}`.")
    return found


def params(page: str) -> dict[str, url.Param]:
    """Return the parameter that chooses a layer on a page, by its short name; nothing where there is no choice."""
    with suppress(GlpError):
        measured = others()
        if measured:
            return {"layer": url.choice(f"{page}_layer", "Layer", own(), sorted({own(), *measured}))}
    return {}


def choose(param: url.Param | None) -> int | None:
    """Draw the choice, where there is one; return the layer."""
    if param is None:
        return None
    listed = sorted({own(), *others()})
    words = "The prior serves these layers of the LLM. Directions, bank and neurons were made at the workspace's own."
    chosen: int = st.selectbox("Layer", listed, listed.index(param.default), width=90, help=words, **param.bound)
    return chosen
