"""Concept against fluency, from stored runs: at an equal concept score, which text is the more fluent one?"""

import json
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import plotly.graph_objects as go
import streamlit as st

from dashboard.service import missing, workspace_facts
from dashboard.widgets import charts, frame, labels
from dashboard.widgets.frame import File
from glp_core.files import Json

FLUENCY = {
    "log_probability": "Mean log-probability of a token (unsteered model)",
    "repeated_bigrams": "Share of repeated bigrams (lower is better)",
}
BETTER = {"log_probability": max, "repeated_bigrams": min}
COMPARED = {"log_probability": "likelier", "repeated_bigrams": "less repetitive"}
SCORES = 20
"""Concept scores at which the lines are compared."""
HEIGHT, DRAWN = 400, (360.0, 250.0)
"""Of a figure in pixels; width and height of the drawing in it, about, for its labels."""

Rows = Sequence[Json]


class ArmLine(NamedTuple):
    """An arm's line through its strengths."""

    name: str
    rows: Rows
    """By strength."""
    look: Mapping[str, str]
    """Colour and dash."""


def draw() -> list[File]:
    """Draw both measures of fluency against concept and compare the arms in words; return the reports."""
    reports = [report for name in ("steering_sentiment", "steering_gentle") if (report := workspace_facts.report(name))]
    if not reports:
        missing.report(
            "Concept against fluency",
            workspace_facts.command("steer"),
            "hours on two cores, minutes on a GPU",
            stage="steering",
        )
        return []
    frame.heading("At an equal concept score, is projected text more fluent?")
    shown = lines(reports)
    if not shown:
        frame.notice_box("The report of steered texts holds no arm with a concept score and both measures of fluency.")
        return []
    for place, measure in zip(st.columns(2), FLUENCY, strict=True):
        with place:
            alt = f"Concept score against {FLUENCY[measure]}"
            frame.figure(concept_against(shown, measure), key=f"manifold_concept_{measure}", alt=alt)
    for report in reports:
        for arm in ("walk", "glp"):
            if any(row["arm"] == arm for row in report["rows"]):
                st.markdown(matched_words(report["rows"], arm, _title(arm, report)))
    st.caption(
        "Texts are compared at concept scores from that of unsteered text to the highest that both arms reach, each arm at its best "
        "strength for the score, interpolated between measured strengths. Log-probability alone flatters repetition: read both figures "
        "together. Bars: 95% over prefixes. Numbers at the points are strengths: the lowest, the highest and 1; hover shows all."
    )
    return [File("JSON: concept and fluency", "concept_fluency.json", json.dumps(reports, indent=1), "application/json")]


def lines(reports: Sequence[Json]) -> list[ArmLine]:
    """Return the lines to draw: unsteered, raw and walk once, the paper's projection for each report."""
    first = reports[0]["rows"]
    drawn = [ArmLine(charts.ARM_TITLES[arm], _of(first, arm), _look(arm)) for arm in ("unsteered", "raw", "walk")]
    for report, dash in zip(reports, (charts.ARM_DASHES["glp"], "dot"), strict=False):
        drawn.append(ArmLine(_title("glp", report), _of(report["rows"], "glp"), _look("glp") | {"dash": dash}))
    return [line for line in drawn if line.rows]


def _title(arm: str, report: Json) -> str:
    level = report.get("settings", {}).get("noise_level")
    return f"{charts.ARM_TITLES[arm]}, noise level {level:g}" if arm == "glp" and level is not None else charts.ARM_TITLES[arm]


def _look(arm: str) -> dict[str, str]:
    return {"color": charts.ARM_COLOURS[arm], "dash": charts.ARM_DASHES[arm]}


def concept_against(shown: Sequence[ArmLine], measure: str) -> go.Figure:
    """Draw fluency against the concept's score, a line through the strengths for each arm, labels where there is room for them."""
    figure = go.Figure()
    concepts = [row["concept"] for line in shown for row in line.rows]
    values = [row[measure] for line in shown for row in line.rows]
    ends = (min(concepts), max(concepts)), (min(values), max(values))
    room, spots = labels.Room(*DRAWN), []
    for line in shown:
        across = labels.scaled([row["concept"] for row in line.rows], *ends[0])
        spots.append([*zip(across, labels.scaled([row[measure] for row in line.rows], *ends[1]), strict=True)])
        room.line(spots[-1])
    for line, points in zip(shown, spots, strict=True):
        words = [f"{row['strength']:g}" for row in line.rows]
        shown_words = [text if row["strength"] in _named(line.rows) else "" for text, row in zip(words, line.rows, strict=True)]
        placed = room.label((*point, text) for point, text in zip(points, shown_words, strict=True))
        figure.add_scatter(
            x=[row["concept"] for row in line.rows],
            y=[row[measure] for row in line.rows],
            error_y=_bars(line.rows, measure),
            mode="lines+markers+text",
            name=line.name,
            line=dict(line.look),
            text=[label.text for label in placed],
            textposition=[label.place for label in placed],
            customdata=words,
            hovertemplate="strength %{customdata}<br>concept %{x:.2f}<br>%{y:.2f}",
        )
    return charts.layout(figure, x="Concept score", y=FLUENCY[measure], height=HEIGHT)


def _named(rows: Rows) -> set[float]:
    """Return the strengths whose points get a label: the ends and 1."""
    strengths = [row["strength"] for row in rows]
    return {min(strengths), max(strengths), 1.0}


def _of(rows: Rows, *arms: str) -> list[Json]:
    """Return the rows of arms by strength; texts without words have no numbers."""
    there = (row for row in rows if row["arm"] in arms and all(row.get(name) is not None for name in ("concept", *FLUENCY)))
    return sorted(there, key=lambda row: row["strength"])


def _bars(rows: Rows, name: str) -> Json:
    """Return 95% intervals as thin error bars."""
    intervals = [row.get(f"{name}_ci") or [row[name], row[name]] for row in rows]
    above = [high - row[name] for row, (_, high) in zip(rows, intervals, strict=True)]
    below = [row[name] - low for row, (low, _) in zip(rows, intervals, strict=True)]
    return {"array": above, "arrayminus": below, "thickness": 1, "width": 2}


def at_concept(rows: Rows, arm: str, measure: str, concept: float) -> float | None:
    """Return an arm's best fluency at a concept score, read off the line through its strengths, from the unsteered texts on.

    None where the line does not reach the score.
    """
    values = []
    for start, end in pairwise(_of(rows, "unsteered", arm)):
        low, high = sorted((start["concept"], end["concept"]))
        if low <= concept <= high:
            share = (concept - start["concept"]) / (end["concept"] - start["concept"]) if high > low else 0.0
            values.append(start[measure] + share * (end[measure] - start[measure]))
    return BETTER[measure](values) if values else None


class Pair(NamedTuple):
    """Fluency at one concept score."""

    concept: float
    brought_back: float
    raw: float


def matched(rows: Rows, arm: str, measure: str) -> list[Pair]:
    """Return concept scores, evenly from the unsteered texts' to the highest that an arm and raw both reach, with both fluencies."""
    starts, tops, raw = ([row["concept"] for row in _of(rows, one)] for one in ("unsteered", arm, "raw"))
    if not (starts and tops and raw):
        return []
    pairs = []
    for concept in np.linspace(starts[0], min(max(tops), max(raw)), SCORES + 1)[1:].tolist():
        back, pushed = (at_concept(rows, one, measure, concept) for one in (arm, "raw"))
        if back is not None and pushed is not None:
            pairs.append(Pair(concept, back, pushed))
    return pairs


def matched_words(rows: Rows, arm: str, title: str) -> str:
    """Say at how many concept scores that both reach an arm's text is more fluent than the raw one, by both measures."""
    parts = []
    for measure, words in COMPARED.items():
        pairs = matched(rows, arm, measure)
        if not pairs:
            continue
        wins = sum(pair.brought_back != pair.raw and BETTER[measure](pair[1:]) == pair.brought_back for pair in pairs)
        last = pairs[-1]
        parts.append(
            f"**{words} at {wins} of {len(pairs)}** (at {last.concept:.2f}: {last.brought_back:.2f} against {last.raw:.2f})"
        )
    if not parts:
        return f"**{title}.** There is no concept score that both it and raw reach."
    reach = {one: max(row["concept"] for row in _of(rows, one)) for one in ("raw", arm)}
    return (
        f"**{title}.** At the concept scores that both it and raw reach, its text is {' and '.join(parts)}. Highest score: "
        f"raw {reach['raw']:.2f}, this {reach[arm]:.2f}."
    )
