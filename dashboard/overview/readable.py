"""Readable neurons: those whose descriptions are truest on held-out texts, each a link to its page."""

from contextlib import suppress
from typing import TYPE_CHECKING

import streamlit as st

from dashboard.service import neurons
from dashboard.widgets import frame, url
from dashboard.widgets.starred import neuron_name
from glp_core.errors import GlpError

if TYPE_CHECKING:
    from glp_core.neuron_index.neuron_data import ReadableSide

SHOWN = 10


def draw() -> None:
    """Draw the list; nothing where no description was measured."""
    sides = []
    with suppress(GlpError):  # no index: the neurons' page names the command
        sides = neurons.index().most_readable(SHOWN)
    if not sides:
        return
    frame.heading("Readable neurons")
    st.caption(
        "Each description was tested on texts that it was not made from. *Right*: how many of the tokens that it names make the neuron "
        "fire. *Found*: how many of the tokens that make it fire it names."
    )
    for column, part in zip(st.columns(2, gap="large"), (sides[::2], sides[1::2]), strict=True):
        with column:
            for side in part:
                _link(side)


def _link(side: "ReadableSide") -> None:
    name, evidence = neuron_name(side.layer, side.neuron), side.evidence
    query = {"view": "unit", "layer": str(side.layer), "unit": str(side.neuron)}
    way = "positive" if side.side == "high" else "negative"
    label = f"**L{name}** turns strongly {way}: {frame.plain_markdown(evidence.words)}"
    with st.container(gap=None):
        st.page_link("../pages/neurons.py", label=label, icon=":material/hub:", query_params=url.kept(query))
        st.caption(
            f"right {evidence.precision:.0%} of {evidence.named:,} tokens · found {evidence.recall:.0%} of {evidence.firing:,}"
        )
