"""Concepts: Which neuron detects a concept? 113 tasks with the evidence, and concepts of your own."""

import streamlit as st

from dashboard.concepts import own_view, tasks_view
from dashboard.widgets import frame, url

TASKS, OWN = PARTS = ("113 tasks", "Your own concept")
HOW_TO_READ = """
- Each **task** asks for one property of a text. Every kind of neuron is searched for the one that tells the classes apart best: 512
  candidates on training texts, the choice on validation texts, and the **AUC** reported once, on test texts. 0.5 is chance, 1 is perfect.
- One dot for each kind: **GLP neuron** (hidden neuron of the generative prior), **raw MLP neuron** and **layer dimension** of the LLM
  itself, **SAE latent** of a sparse autoencoder trained on the same activations. The bar is the GLP neuron's 95% interval (Hanley and
  McNeil).
- **Your own concept**: the best neuron on some of the texts is tested on the others (cross-validation), and the labels are shuffled many
  times to see how often chance finds a neuron that is as good (p-value).
"""


def _link() -> list[url.Param]:
    """Return all that the page's link may hold."""
    return [
        *own_view.TEXTS,
        own_view.FOUND,
        url.choice("concepts_part", "Part", TASKS, PARTS),
        url.choice("concepts_show", "Show as", "dots", ("dots", "table")),
        url.text("concepts_search", "Search", "", 100, empty=True),
        *tasks_view.link(),
    ]


def draw() -> None:
    """Draw the page."""
    slot = frame.page_frame("Concepts", "Is there a neuron for my concept?", _link())
    part = st.segmented_control(
        "Part", PARTS, default=TASKS, required=True, key="concepts_part", bind="query-params", label_visibility="collapsed"
    )
    files: list[frame.File] = []
    with frame.boxed_errors():
        if part == OWN:
            files = own_view.draw()
        else:
            tasks_view.draw()
            files = tasks_view.files()
    frame.how_to_read(HOW_TO_READ)
    with slot:
        frame.share("concepts", url.query())
        frame.download(files, key="concepts_download")


draw()
