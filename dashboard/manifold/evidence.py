"""The Manifold page's Evidence view: one question at a time, answered from stored runs."""

import streamlit as st

from dashboard.manifold import frontier, reports, zones
from dashboard.manifold.measure import PARAMS, QUESTIONS
from dashboard.widgets.frame import File

DRAW = dict(zip(QUESTIONS, (frontier.draw, zones.draw, reports.detection, reports.scorecard), strict=True))


def draw() -> list[File]:
    """Draw the choice of a question and what the reports answer; return the numbers to download."""
    param = PARAMS["evidence"]
    question = st.segmented_control(
        param.label, QUESTIONS, default=param.default, required=True, label_visibility="collapsed", **param.bound
    )
    return DRAW[question]()
