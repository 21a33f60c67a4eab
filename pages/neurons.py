"""Meta-neurons: which neurons fire on a text, what one neuron is, the map of all, and lists of some."""

from __future__ import annotations

import streamlit as st

from dashboard.neurons import lists_view, map_view, one_neuron, over_text, shared
from dashboard.service import missing, neurons, workspace_facts
from dashboard.widgets import frame, neuron_texts, url
from dashboard.widgets.frame import GlpError

QUESTIONS = {
    "text": "Which neurons fire here, and on what?",
    "unit": "What is this neuron, in both directions?",
    "map": "Which neurons are alike?",
    "lists": "Which neurons do I want to keep?",
}
VIEWS = {"text": over_text, "unit": one_neuron, "map": map_view, "lists": lists_view}
HOW_TO_READ = """
- A **meta-neuron** is a hidden neuron of the GLP, named layer/neuron, for example L1/1044. Its values are signed and rarely zero, so
  every list here has two ends.
- **Tails**: a neuron's values are measured by its own tail, the absolute value that one token in a thousand reaches. +1 means: as
  strong as that token. This makes neurons comparable; the raw value stands beside it.
- **Descriptions** are made from the tokens on which the neuron fires, without any model's opinion. Half of the held-out texts chose the
  words, the other half says how true they are: of the tokens that they name, how many are above the tail (*right*), and of those above
  it, how many they name (*found*). The most readable neurons come first.
- **Colour**: orange is positive, blue negative. One neuron's lists share one scale, logarithmic so that weak values show; hover for the
  value, in the digits that are true: three at the underlined token, two elsewhere.
- **Massive activations** (attention sinks) and each text's first token are not read.
- The reading in use stands beside the choice of a view; other noise levels are on a neuron's noise axis.
"""


def draw() -> None:
    """Draw the page."""
    view = shared.view_in_url()
    slot = frame.page_frame("Meta-neurons", QUESTIONS[view], shared.link(workspace_facts.glp().n_layers))
    st.html(f"<style>{neuron_texts.STYLE}</style>")
    try:
        with st.spinner(neurons.OPENING):
            index = neurons.index()
    except GlpError as error:
        missing.report("The meta-neuron index", workspace_facts.command("index"), "about an hour on two cores", stage="index")
        frame.notice_box(str(error))
        return
    for words in index.problems:
        workspace_facts.note_damage(f"A part of the index is left out: {words}")
    shared.remember_stars(index)
    _choice(view, index)
    files = []
    with frame.boxed_errors():
        files = VIEWS[view].draw(index)
    frame.how_to_read(HOW_TO_READ)
    with slot:
        frame.share("neurons", url.query())
        frame.download(files, key="neurons_download")


def _choice(view: str, index: neurons.NeuronIndex) -> None:
    st.session_state["neurons_view"] = view
    with st.container(horizontal=True, vertical_alignment="center"):
        st.segmented_control(
            "View", list(shared.VIEWS), format_func=shared.VIEWS.get, required=True, key="neurons_view", on_change=shared.change_view,
            label_visibility="collapsed",
        )  # fmt: skip
        stars = len(shared.starred())
        made = f"read at {index.reading.title} · {index.n_neurons:,} neurons · {index.n_tokens:,} tokens"
        st.caption(f"{made} · {stars} starred" if stars else made)


draw()
