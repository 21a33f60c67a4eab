"""The Manifold page's views: a text measured token by token, and the map. Draws; computes nothing."""

from typing import Any

import pandas as pd
import streamlit as st

from dashboard.manifold import controls, figures, map_plane, strength_view
from dashboard.manifold import measure as manifold
from dashboard.manifold.measure import MEASURES, PARAMS, UNITS, VIEWS
from dashboard.service import follow, results, workspace_facts
from dashboard.widgets import frame, starred, url
from dashboard.widgets.frame import File
from glp_core.errors import GlpError

BANK = "python -m glp_core bank"


def view_choice() -> str:
    """Draw the choice of a view; return it."""
    param = PARAMS["view"]
    return st.segmented_control(
        param.label,
        VIEWS,
        default=param.default,
        required=True,
        label_visibility="collapsed",
        **controls.bound("view"),
    )


def draw(view: str) -> list[File]:
    """Draw a view, or what keeps it from being drawn; return its files to download."""
    if not manifold.reference():
        frame.empty_report("A bank of real activations to compare with", BANK, "some minutes")
        return []
    if manifold.stale():
        frame.notice_box(f"The reference was measured with another GLP. Measure it again with `{BANK} --keep`.")
    try:
        return {"Text": text_view, "Strength": strength_view.draw, "Map": map_view}[view]()
    except GlpError as error:
        frame.error_box(error)
        return []


def link() -> dict[str, Any]:
    """Return what the page's address holds."""
    chosen = st.session_state.get("manifold_direction")
    return url.current(list(PARAMS.values())) | ({"manifold_direction": chosen} if chosen else {})


def text_view() -> list[File]:
    """Draw a text's tokens coloured by where they lie among real activations."""
    st.text_area("Text", PARAMS["text"].default, height=100, **controls.bound("text"))
    with st.container(horizontal=True, vertical_alignment="bottom"):
        names = list(MEASURES)
        st.selectbox("Measure", names, names.index(PARAMS["measure"].default), width=220, **controls.bound("measure"))
        _example_texts()
    wanted = controls.values()
    measure = MEASURES[wanted["measure"]]
    made_from = ("manifold", str(workspace_facts.folder()), manifold.glp_stamp(), wanted["text"], measure)
    reading = results.results().get(*made_from)
    if reading is None:
        reading = follow.compute(
            "measuring the text",
            lambda cancelled, report: manifold.read_text(wanted["text"], measure, cancelled, report),
            stop=True,
        )
        results.results().put(reading, *made_from)
    titles = [_title(reading, i) for i in range(len(reading.tokens))]
    st.html(frame.legend("50% or less", "100%", words="Colour: share of real activations that are less far off"))
    st.html(frame.token_strip(reading.tokens, reading.shares, scale=(0.5, 1.0), titles=titles, marked=reading.massive))
    known = [share for share in reading.shares if share == share]
    if known:
        beyond = sum(share > 0.95 for share in known) / len(known)
        st.markdown(
            f"**{beyond:.0%}** of {len(known)} tokens lie beyond 95% of real ones, where 5% of a real text's do on average."
        )
    frame.figure(
        figures.histogram(reading, UNITS[measure]),
        key="manifold_histogram",
        alt="The text's tokens among real activations",
    )
    table = pd.DataFrame(
        {
            "token": [frame.visible(token) for token in reading.tokens],
            UNITS[measure]: reading.values,
            "percentile": [100 * share for share in reading.shares],
        }
    )
    if measure == "likelihood":
        table["standard error"] = reading.errors
    titles_of = {inner: outer for outer, inner in MEASURES.items()}
    for other, shares in reading.others.items():
        table[f"percentile, {titles_of[other]}"] = [100 * share for share in shares]
    with st.expander("Every token", icon=":material/table_rows:"):
        st.dataframe(table, hide_index=True, height=320)
    return [File("CSV: every token", "tokens.csv", starred.as_csv(table), "text/csv")]


def _title(reading: manifold.TextReading, i: int) -> str:
    if i == 0:
        return "the first token is never scored"
    if i in reading.massive:
        return "a massive activation (attention sink): left alone, not scored"
    error = f" ± {reading.errors[i]:.3f}" if reading.errors[i] == reading.errors[i] else ""
    return f"{reading.values[i]:.3f}{error}, farther off than {reading.shares[i]:.0%} of real activations"


def _example_texts() -> None:
    def take() -> None:
        if st.session_state.manifold_example in manifold.TEXTS:
            st.session_state[PARAMS["text"].key] = manifold.TEXTS[st.session_state.manifold_example]

    st.selectbox(
        "Example texts",
        list(manifold.TEXTS),
        index=None,
        placeholder="Example texts",
        key="manifold_example",
        on_change=take,
        label_visibility="collapsed",
        width=220,
    )


def map_view() -> list[File]:
    """Draw real and other activations on one plane."""
    with st.container(horizontal=True, vertical_alignment="bottom"):
        method = st.segmented_control(
            "Plane", map_plane.METHODS, default="PCA", required=True, key="manifold_plane", bind="query-params"
        )
        st.select_slider(
            "Steps of the generated ones",
            (1, 2, 4, 10, 20, 50),
            PARAMS["steps"].default,
            width=260,
            **controls.bound("steps"),
        )
        direction = controls.direction()
        st.slider("Strength", -3.0, 3.0, PARAMS["strength"].default, 0.25, width=200, **controls.bound("strength"))
        with_text = st.toggle("Own text", key="manifold_map_text", help="Adds the tokens of the text of the Text view.")
    wanted = controls.values()
    text = wanted["text"] if with_text else ""
    request = map_plane.MapRequest(method, wanted["steps"], direction, wanted["strength"], text)
    made_from = ("manifold map", str(workspace_facts.folder()), manifold.glp_stamp(), request)
    found = results.results().get(*made_from)
    if found is None:
        found = follow.compute(
            "laying out activations", lambda cancelled, report: map_plane.plane(request, cancelled, report), stop=True
        )
        results.results().put(found, *made_from)
    frame.figure(figures.plane(found), key="manifold_map", alt="Real and other activations on a plane")
    rows = [f"- {frame.plain_markdown(name)}: {words}" for name, words in found.tests.items()]
    st.markdown("How well a classifier tells them from real ones (0.5: not at all; 95% intervals):\n" + "\n".join(rows))
    frames = [pd.DataFrame(found.real, columns=["x", "y"]).assign(kind="real", text=found.contexts)]
    frames += [
        pd.DataFrame(points, columns=["x", "y"]).assign(kind=kind, text=found.texts.get(kind, ""))
        for kind, points in found.others.items()
    ]
    return [File("CSV: all points", "map.csv", starred.as_csv(pd.concat(frames)), "text/csv")]
