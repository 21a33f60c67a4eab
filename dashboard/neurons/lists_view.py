"""The view "lists": starred neurons, their name, and the list as a link or a file."""

from __future__ import annotations

from typing import TYPE_CHECKING

import streamlit as st

from dashboard.neurons import shared
from dashboard.widgets import frame, starred
from dashboard.widgets.neuron_rows import neuron_rows
from dashboard.widgets.starred import neuron_name
from glp_core.errors import GlpError

if TYPE_CHECKING:
    from glp_core.neuron_index.reader import NeuronIndex


def draw(index: NeuronIndex) -> list[frame.File]:
    """Draw the view; return the list as files to download."""
    name, members = st.columns([1, 2])
    with name:
        st.text_input("Name of the list", key="neurons_list", bind="query-params", max_chars=60, placeholder="my neurons")
    problem = st.session_state.pop("lists_problem", None)
    with members:
        if not problem:  # what was typed stays to be corrected
            st.session_state["lists_neurons"] = ", ".join(neuron_name(*neuron) for neuron in shared.starred())
        st.text_input("Starred neurons, as layer/neuron", key="lists_neurons", on_change=_edited, placeholder="0/12, 1/1044")
    if problem:
        frame.error_box(problem)
    rows = starred.list_rows(shared.starred(), index.table())
    if rows.empty:
        st.info(
            "No neuron is starred yet. Press Star on a neuron, or begin with the most interesting ones.", icon=":material/star:"
        )
        st.button(
            "Star the ten most interesting neurons", on_click=_star_interesting, args=(index.interesting(10),), type="primary"
        )
        return []
    listed = shared.table_rows(index.table().iloc[(rows["layer"] * index.d_mlp + rows["neuron"]).tolist()])
    st.caption(
        f"{len(listed)} starred, each with how readable it is · click one to open it · this page's address holds the list"
    )
    neuron_rows(listed, label="Starred neurons", key="lists_rows", on_choose=shared.open_named)
    st.button("Clear the list", key="lists_clear", on_click=shared.keep_stars, args=("",), type="tertiary")
    with st.expander("As a table"):
        st.dataframe(starred.safe_cells(rows), hide_index=True, alt="Starred neurons")
    title = st.session_state.get("neurons_list") or "my neurons"
    return [
        frame.File("JSON", "neurons.json", starred.as_json(title, rows), "application/json"),
        frame.File("CSV", "neurons.csv", starred.as_csv(rows), "text/csv"),
    ]


def _edited() -> None:
    try:
        neurons = starred.parse_neurons(st.session_state["lists_neurons"])
    except GlpError as error:
        st.session_state["lists_problem"] = str(error)
        return
    shared.keep_stars(starred.format_neurons(neurons))


def _star_interesting(neurons: list[starred.NeuronId]) -> None:
    shared.keep_stars(starred.format_neurons(neurons))
