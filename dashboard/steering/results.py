"""A run on the page: what is wrong with its inputs, its columns while they are written and afterwards, its files to download."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

import streamlit as st

from dashboard.service import machine, missing, priors, resources, workspace_facts
from dashboard.service.follow import follow, waiting_words
from dashboard.steering import board, export, undone
from dashboard.steering.run import SteeringRun, error
from dashboard.steering.verdict import verdict
from dashboard.widgets import frame, svg
from dashboard.widgets.copy_button import copy_button
from glp_core.errors import GlpError

CHART_WORDS = "Manifold distance by token, one line for each column, the range of real tokens shaded."


def messages() -> None:
    """Show what was wrong with the values of the last Run."""
    if error():
        frame.error_box(error())


class Places:
    """Where a run is drawn: the same places while it streams and when it has ended, so that nothing jumps."""

    def __init__(self) -> None:
        self.asked, self.note, self.board, self.verdict = st.empty(), st.empty(), st.empty(), st.empty()
        self.legend, self.chart = st.empty(), st.empty()


def stream(places: Places, run: SteeringRun, colour: str) -> None:
    """Draw a live run until it has ended, each update one escaped HTML text."""
    warm_up, noted = resources.warm_up(), True
    loading = warm_up.live

    def draw() -> None:
        nonlocal noted
        if loading and not warm_up.live:
            st.rerun()  # the sidebar can say now what the models run in; the run goes on and is drawn again
        if run.job.events and noted:
            places.note.empty()
            noted = False
        elif not run.job.events:
            words = "Reading the prompt …" if run.job.state == "running" else waiting_words(run.job)
            places.note.info(words, icon=":material/hourglass:")
        comparison = run.comparison()
        places.board.html(board.board(comparison, colour, live=True))
        if comparison.band:
            places.chart.html(svg.image(board.picture(comparison), CHART_WORDS))

    places.legend.html(board.legend(colour))
    follow(run.job, draw)


def of_other_settings(places: Places, run: SteeringRun, changed: Sequence[str]) -> None:
    """Say that the texts are of other settings than those above them, of which, and what was changed since."""
    asked = run.request
    words = frame.plain_markdown(
        f"“{textwrap.shorten(asked.prompt, 60, placeholder=' …')}”, {asked.title.lower()}, {asked.push_words}"
    )
    places.asked.caption(
        f":material/history: Still the last run: {words}. Changed since: {', '.join(changed)}. Press Run for new texts."
    )


def ended(places: Places, run: SteeringRun, colour: str) -> None:
    """Draw an ended run; raise what it raised unless that is fit to be shown."""
    job, comparison = run.job, run.comparison()
    if isinstance(job.error, GlpError):
        with places.note:
            frame.error_box(job.error)
    elif job.error is not None:
        job.result()
    elif job.state == "stopped":
        words = (
            "Stopped when you left the page or lost the connection; under More you can let runs go on. "
            if job.given_up
            else "Stopped. "
        )
        words += "The text so far is kept; log-probability and concept are measured when a run has finished."
        places.note.info(words, icon=":material/stop_circle:")
    if not comparison.started:
        return
    places.board.html(f'<div data-run="{job.state}">{board.board(comparison, colour)}</div>')
    line = verdict(comparison)
    if line is not None:
        places.verdict.html(board.verdict_html(line))
    with places.legend.container(horizontal=True, vertical_alignment="center"):
        st.html(board.legend(colour), width="content")
        copy_button(export.as_text(comparison), key="steering_copy", label="Copy texts")
    with places.chart:
        if comparison.band:
            frame.figure(board.chart(comparison), key="steering_chart", alt=CHART_WORDS)
        else:
            with st.container():
                missing.report(
                    "The reference that distances are measured against", workspace_facts.command("evaluate"), stage="evaluate"
                )
    undone.draw(run, comparison, colour)


def files(run: SteeringRun | None, colour: str, link: str) -> list[frame.File]:
    """Return the downloads of an ended run; none before."""
    if run is None or run.live:
        return []
    comparison = run.comparison()
    if not comparison.started:
        return []
    workspace, listed = workspace_facts.read(), priors.listed()
    prior = next((one for one in listed if one.name == run.request.prior), listed[0])
    made_with = {
        "workspace": workspace.name,
        "LLM": workspace.llm.label,
        "layer": workspace.layer if run.request.layer is None else run.request.layer,
    }
    made_with |= {"prior": prior.name, "GLP parameters": prior.parameters}
    made_with |= {"device": machine.device_title(), "number type": machine.number_type()}
    as_json, as_html = workspace_facts.bound(export.as_json), workspace_facts.bound(export.as_html)
    return [
        frame.File("JSON", "steering.json", lambda: as_json(comparison, made_with), "application/json"),
        frame.File("Text", "steering.txt", lambda: export.as_text(comparison), "text/plain"),
        frame.File("HTML page", "steering.html", lambda: as_html(comparison, colour, made_with, link), "text/html"),
    ]
