"""Concept against fluency, from stored runs: at an equal concept score, is projected text the more fluent one?"""

from collections.abc import Mapping, Sequence
from itertools import pairwise

import numpy as np
import plotly.graph_objects as go
import streamlit as st

from dashboard.widgets import charts, frame
from glp_core.files import Json

FLUENCY = {
    "log_probability": "Mean log-probability of a token (unsteered model)",
    "repeated_bigrams": "Share of repeated bigrams (lower is better)",
}
BETTER = {"log_probability": max, "repeated_bigrams": min}
COMPARED = {"log_probability": "likelier", "repeated_bigrams": "less repetitive"}
SCORES = 20
"""Concept scores at which the lines are compared."""
GLP_LOOKS = tuple({"color": charts.ARM_COLOURS["glp"], "dash": dash} for dash in (charts.ARM_DASHES["glp"], "dot"))

Report = Json
Rows = Sequence[Json]


def draw(reports: Sequence[Report]) -> None:
    """Draw both measures of fluency against concept, a line for each report's projection, and compare them in words."""
    for place, measure in zip(st.columns(2), FLUENCY, strict=True):
        with place:
            drawn = concept_against(reports, measure)
            frame.figure(drawn, key=f"manifold_concept_{measure}", alt=f"Concept score against {FLUENCY[measure]}")
    for report in reports:
        st.markdown(matched_words(report["rows"], report["settings"]["noise_level"]))
    st.caption(
        "Scores are compared from the unsteered texts' to the highest that both reach, at each arm's best strength for it, read between "
        "the measured strengths. Log-probability alone flatters repetition: read both figures together. Bars: 95% over prefixes."
    )


def concept_against(reports: Sequence[Report], measure: str) -> go.Figure:
    """Draw fluency against the concept's score, a line through the strengths for the raw push and for each report's GLP."""
    figure = go.Figure()
    for arm in ("unsteered", "raw"):
        look = {"color": charts.ARM_COLOURS[arm], "dash": charts.ARM_DASHES[arm]}
        _line(figure, _of(reports[0]["rows"], arm), measure, charts.ARM_TITLES[arm], look)
    for report, look in zip(reports, GLP_LOOKS, strict=False):
        name = f"{charts.ARM_TITLES['glp']}, noise level {report['settings']['noise_level']:g}"
        _line(figure, _of(report["rows"], "glp"), measure, name, look)
    return charts.layout(figure, x="Concept score (numbers: strength)", y=FLUENCY[measure], height=400)


def _line(figure: go.Figure, rows: Rows, measure: str, name: str, look: Mapping[str, str]) -> None:
    if rows:
        figure.add_scatter(
            x=[row["concept"] for row in rows],
            y=[row[measure] for row in rows],
            error_y=_bars(rows, measure),
            mode="lines+markers+text",
            name=name,
            line=dict(look),
            text=[f"{row['strength']:g}" for row in rows],
            textposition="top center",
            hovertemplate="strength %{text}<br>concept %{x:.2f}<br>%{y:.2f}",
        )


def _of(rows: Rows, *arms: str) -> list[Json]:
    return sorted((row for row in rows if row["arm"] in arms), key=lambda row: row["strength"])


def _bars(rows: Rows, name: str) -> Json:
    """Return 95% intervals as thin error bars."""
    found = [row.get(f"{name}_ci") or [row[name], row[name]] for row in rows]
    above = [high - row[name] for row, (_, high) in zip(rows, found, strict=True)]
    below = [row[name] - low for row, (low, _) in zip(rows, found, strict=True)]
    return {"array": above, "arrayminus": below, "thickness": 1, "width": 2}


def at_concept(rows: Rows, arm: str, measure: str, concept: float) -> float | None:
    """Return an arm's best fluency at a concept score, read off the line through its strengths, from the unsteered texts on.

    None where the line does not reach the score.
    """
    found = []
    for start, end in pairwise(_of(rows, "unsteered", arm)):
        low, high = sorted((start["concept"], end["concept"]))
        if low <= concept <= high:
            share = (concept - start["concept"]) / (end["concept"] - start["concept"]) if high > low else 0.0
            found.append(start[measure] + share * (end[measure] - start[measure]))
    return BETTER[measure](found) if found else None


def matched(rows: Rows, measure: str) -> list[tuple[float, float, float]]:
    """Return concept scores, evenly from the unsteered texts' to the highest that both arms reach, with the GLP's and raw fluency."""
    starts, tops = ([row["concept"] for row in _of(rows, arm)] for arm in ("unsteered", "glp"))
    raw = [row["concept"] for row in _of(rows, "raw")]
    if not (starts and tops and raw):
        return []
    found = []
    for concept in np.linspace(starts[0], min(max(tops), max(raw)), SCORES + 1)[1:].tolist():
        ours, theirs = (at_concept(rows, arm, measure, concept) for arm in ("glp", "raw"))
        if ours is not None and theirs is not None:
            found.append((concept, ours, theirs))
    return found


def matched_words(rows: Rows, noise_level: float) -> str:
    """Say at how many concept scores that both arms reach the projected text is the more fluent one, by both measures."""
    told = []
    for measure, words in COMPARED.items():
        pairs = matched(rows, measure)
        if not pairs:
            continue
        wins = sum(ours != theirs and BETTER[measure](ours, theirs) == ours for _, ours, theirs in pairs)
        concept, ours, theirs = pairs[-1]
        told.append(f"**{words} at {wins} of {len(pairs)}** (at {concept:.2f}: {ours:.2f} against {theirs:.2f})")
    reach = {arm: max((row["concept"] for row in _of(rows, arm)), default=float("nan")) for arm in ("raw", "glp")}
    if not told:
        return f"At noise level {noise_level:g} there is no concept score that raw and projected texts both reach."
    return (
        f"**Noise level {noise_level:g}.** Of the concept scores that both reach, projected text is {' and '.join(told)}. The highest "
        f"score: raw {reach['raw']:.2f}, projected {reach['glp']:.2f}."
    )
