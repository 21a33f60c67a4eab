"""The Manifold page's Map view: real, generated and steered activations, and one's own text, on one plane."""

from functools import partial

import pandas as pd
import streamlit as st

from dashboard.manifold import controls, figures, map_plane, measure
from dashboard.manifold.map_plane import MapRequest
from dashboard.manifold.measure import PARAMS, PLANES, STEPS
from dashboard.service import follow, workspace_facts
from dashboard.widgets import frame, starred
from dashboard.widgets.frame import File
from dashboard.widgets.webgl_figure import webgl_figure


def draw() -> list[File]:
    """Draw real and other activations on one plane; return the points to download."""
    with st.container(horizontal=True, vertical_alignment="bottom"):
        st.segmented_control("Plane", PLANES, default="PCA", required=True, **PARAMS["plane"].bound)
        st.select_slider("Steps of generated activations", STEPS, PARAMS["steps"].default, width=190, **PARAMS["steps"].bound)
        direction = controls.direction()
        st.slider("Strength", -3.0, 3.0, PARAMS["strength"].default, 0.25, width=160, **PARAMS["strength"].bound)
        with_text = st.toggle("Your text", False, **PARAMS["with_text"].bound)
    if with_text:
        controls.text_box()
    values = controls.values()
    text = values["text"] if with_text else ""
    request = MapRequest(values["plane"], values["steps"], direction, values["strength"], text)
    made_from = ("manifold map", str(workspace_facts.folder()), measure.written(direction), request)
    plane = follow.computed("laying out activations", partial(map_plane.plane, request), *made_from, stop=True)
    points = _table(plane)
    webgl_figure(figures.plane(plane), points, key="manifold_map", alt="Real and other activations on a plane")
    if plane.cut:
        st.caption(plane.cut)
    rows = [f"- {frame.plain_markdown(name)}: {words}" for name, words in plane.tests.items()]
    st.caption(
        "The figure opens on nearly all points; a double click shows those far outside too. Hover over a point for its token."
    )
    question = (
        "How well can they be told from real activations of other documents? Accuracy, where 0.5 is chance, with 95% intervals:"
    )
    st.markdown("\n".join([question, *rows]))
    return [File("CSV: all points", "map.csv", starred.as_csv(points), "text/csv")]


def _table(plane: measure.MapPlane) -> pd.DataFrame:
    """Return all points, each with its kind and its text."""
    tables = [pd.DataFrame(plane.real, columns=["x", "y"]).assign(kind="real", text=plane.contexts)]
    tables += [
        pd.DataFrame(points, columns=["x", "y"]).assign(kind=kind, text=plane.texts.get(kind, ""))
        for kind, points in plane.others.items()
    ]
    return pd.concat(tables, ignore_index=True)
