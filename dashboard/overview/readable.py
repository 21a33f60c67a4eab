"""Neurons that a person can read: those whose descriptions are truest on held-out texts, each a link to its page."""

from contextlib import suppress

import streamlit as st

from dashboard.service import neurons, resources
from dashboard.widgets import frame, url
from dashboard.widgets.starred import neuron_name
from glp_core.errors import GlpError

SHOWN = 10


def draw() -> None:
    """Draw the list once the models are there (its index is read with their help); nothing where no description was measured."""
    loading = resources.warm_up().live
    st.fragment(_list, run_every=1.0 if loading else None)()


def _list() -> None:
    if resources.warm_up().live:
        return
    sides = []
    with suppress(GlpError):  # no index: the neurons' page names the command
        sides = neurons.index().most_readable(SHOWN)
    if not sides:
        return
    frame.heading("Neurons that a person can read")
    for column, part in zip(st.columns(2, gap="large"), (sides[::2], sides[1::2]), strict=True):
        with column:
            for side in part:
                name, evidence = neuron_name(side.layer, side.neuron), side.evidence
                query = {"view": "unit", "layer": str(side.layer), "unit": str(side.neuron)}
                label = f"**L{name}**, {side.side}: {frame.plain_markdown(evidence.words)}"
                st.page_link("../pages/neurons.py", label=label, icon=":material/hub:", query_params=url.kept(query))
                st.caption(
                    f"Of {evidence.named:,} held-out tokens that this names, {evidence.precision:.0%} make it fire; of {evidence.firing:,} "
                    f"that make it fire, this names {evidence.recall:.0%}."
                )
