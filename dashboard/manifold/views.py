"""The Manifold page's views: the choice of one, and what has to be there before any can be drawn."""

import streamlit as st

from dashboard.manifold import evidence, map_view, measure, strength_view, text_view
from dashboard.manifold.measure import PARAMS, VIEWS
from dashboard.service import missing, workspace_facts
from dashboard.widgets import frame
from dashboard.widgets.frame import File

DRAW = {"Text": text_view.draw, "Strength": strength_view.draw, "Map": map_view.draw, "Evidence": evidence.draw}


def choose() -> str:
    """Draw the choice of a view; return it."""
    param = PARAMS["view"]
    return st.segmented_control(
        param.label, VIEWS, default=param.default, required=True, label_visibility="collapsed", **param.bound
    )


def draw(view: str) -> list[File]:
    """Draw a view, or what keeps it from being drawn; return its files to download."""
    if view == "Evidence":
        with frame.boxed_errors():
            return evidence.draw()
        return []
    if not measure.reference():
        missing.report(
            "A bank of real activations to compare with", workspace_facts.command("bank"), "some minutes", stage="bank"
        )
        return []
    with frame.boxed_errors():
        return DRAW[view]()
    return []
