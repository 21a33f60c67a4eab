"""The Manifold page's Evidence view: one question at a time, answered from stored runs."""

import streamlit as st

from dashboard.manifold import frontier, pareto, reports, zones
from dashboard.manifold.measure import PARAMS, QUESTIONS
from dashboard.service import workspace_facts
from dashboard.widgets.frame import File


def concept_and_fluency() -> list[File]:
    """Draw the comparison over all directions where it was made, with the measured numbers behind it folded; else those alone."""
    report = workspace_facts.report("pareto")
    if report is None:
        return frontier.draw()
    files = pareto.draw(report)
    with st.expander("The same along positive sentiment, in log-probability and repetition", icon=":material/ssid_chart:"):
        return files + frontier.draw()


DRAW = dict(zip(QUESTIONS, (concept_and_fluency, zones.draw, reports.detection, reports.scorecard), strict=True))


def draw() -> list[File]:
    """Draw the choice of a question and what the reports answer; return the numbers to download."""
    param = PARAMS["evidence"]
    question = st.segmented_control(
        param.label, QUESTIONS, default=param.default, required=True, label_visibility="collapsed", **param.bound
    )
    return DRAW[question]()
