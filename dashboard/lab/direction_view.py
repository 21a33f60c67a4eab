"""The Lab's Direction view: from left to right texts, method, evidence; below, the workspace's directions."""

import streamlit as st

from dashboard.lab import evidence, kept
from dashboard.lab.asked import Asked, Fit, FromFile, FromInstructions, Pooling, Result, work
from dashboard.lab.sources import PARAMS, SOURCES
from dashboard.service import follow, results, workspace_facts
from dashboard.widgets import frame, url
from dashboard.widgets.frame import File
from glp_core.steering.direction_facts import METHODS, Method

POOLINGS: dict[str, Pooling] = {"last token": "last", "mean over tokens": "mean"}
FROM = url.choice("lab_from", "Made from", next(iter(SOURCES)), list(SOURCES))
METHOD = url.choice("lab_method", "Method", METHODS["diffmean"], list(METHODS.values()))
POOLING = url.choice("lab_pooling", "Activation of a text", next(iter(POOLINGS)), list(POOLINGS))


def params() -> list[url.Param]:
    """Return what the page's address may hold for this view."""
    return [FROM, METHOD, POOLING, *PARAMS]


def draw() -> list[File]:
    """Draw the builder and the directions that there are; return the files to download."""
    builder()
    return kept.draw()


def builder() -> None:
    """Draw the builder: where from, how, and what speaks for it."""
    source = st.segmented_control(FROM.label, list(SOURCES), default=FROM.default, required=True, **FROM.bound)
    left, middle, right = st.columns([5, 3, 5], gap="medium")
    with middle:
        frame.heading("2. Method")
        fit = _fit(source)
        button = st.empty()
    asked = None
    with left:
        frame.heading(f"1. {source.capitalize()}")
        with frame.boxed_errors():
            asked = SOURCES[source](fit)
    pressed = button.button("Make it", type="primary", icon=":material/explore:", key="lab_make", disabled=asked is None)
    with right:
        frame.heading("3. Evidence")
        result = None
        with frame.boxed_errors():
            result = _made(asked, pressed)
        if result is None:
            measured = ": each text tests a direction that was made without it" if source in ("texts", "instructions") else ""
            st.caption(f"Press **Make it**{measured}.")
        else:
            evidence.draw(result)
            kept.keep(result.direction)


def _fit(source: str) -> Fit:
    method: Method = "diffmean"
    pooling: Pooling = "mean"
    if source in ("texts", "instructions"):
        words = "DiffMean: the mean of the one class minus that of the other. Pairs: the first text of both boxes, and so on."
        title = st.selectbox(METHOD.label, list(METHODS.values()), help=words, **METHOD.bound)
        method = next(key for key, value in METHODS.items() if value == METHOD.check(title))
    if source == "instructions":
        st.caption("Activations are averaged over each answer's tokens.")
    else:
        chosen = st.radio(POOLING.label, list(POOLINGS), **POOLING.bound)
        pooling = POOLINGS[POOLING.check(chosen)]
    return Fit(method, pooling)


def _made(asked: Asked | None, pressed: bool) -> Result | None:
    """Return the direction that is asked for when it is kept in memory, or when the button was pressed."""
    if asked is None:
        return None
    folder = workspace_facts.folder()
    made_from = ("direction", folder, workspace_facts.times("workspace.json", "glp/final.safetensors"), asked)
    store = results.small_results()
    result = store.get(*made_from)
    if result is None and pressed:
        title = {FromInstructions: "answering", FromFile: "reading the file"}.get(type(asked), "reading the texts")
        tokens = asked.answer_tokens if isinstance(asked, FromInstructions) else 0
        result = follow.compute(title, lambda cancelled, report: work(asked, cancelled, report), stop=True, tokens=tokens)
        store.put(result, *made_from)
    return result
