"""The Manifold page's Evidence view: one question at a time, answered from stored runs."""

from collections.abc import Callable
from functools import partial

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from dashboard.manifold import frontier, pareto, reports, zones
from dashboard.manifold.measure import PARAMS, QUESTIONS
from dashboard.service import workspace_facts
from dashboard.widgets.frame import File


def concept_and_fluency(row: DeltaGenerator) -> list[File]:
    """Draw the comparison over all directions where it was made, with the measured numbers behind it folded; else those alone."""
    report = workspace_facts.report("pareto")
    if report is None:
        return frontier.draw()
    files = pareto.draw(report, row)
    with st.expander("The same along positive sentiment, in log-probability and repetition", icon=":material/ssid_chart:"):
        return files + frontier.draw()


def draw() -> list[File]:
    """Draw a row of controls, a question and what its answer lets one choose, and what the reports answer; return the numbers."""
    param = PARAMS["evidence"]
    row = st.container(horizontal=True, vertical_alignment="bottom", gap="medium")
    question = row.segmented_control(
        param.label, QUESTIONS, default=param.default, required=True, label_visibility="collapsed", **param.bound
    )
    return _answers(row)[question]()


def _answers(row: DeltaGenerator) -> dict[str, Callable[[], list[File]]]:
    answers = (partial(concept_and_fluency, row), zones.draw, partial(reports.detection, row), reports.scorecard)
    return dict(zip(QUESTIONS, answers, strict=True))
