"""What stored runs say of projection: does it bring pushed activations nearer, and is its text the more fluent at equal concept?"""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import plotly.graph_objects as go
import streamlit as st

from dashboard import about, charts, components
from dashboard.steering import ARM_TITLES

WANTED = 0.95
FLUENCY = {
    "log_probability": "Mean log-probability of a token (unsteered model)",
    "repeated_bigrams": "Share of repeated bigrams (lower is better)",
}


def draw() -> None:
    """Draw the figures of the reports that are there, and name the commands of those that are not."""
    st.subheader("What does projection buy?", anchor=False)
    zones, steering = about.report("zones"), about.report("steering_sentiment")
    if zones:
        components.figure(
            lowered(zones["projection"]), key="manifold_lowered", alt="Share of prompts that projection brings nearer"
        )
        st.markdown(lowered_words(zones["projection"]))
        components.figure(broken(zones), key="manifold_broken", alt="Share of broken texts by manifold distance")
    else:
        components.empty_report(
            "Zones and how often projection lowers the distance", "python -m glp_core zones", "some minutes"
        )
    if steering:
        left, right = st.columns(2)
        for place, measure in zip((left, right), FLUENCY, strict=True):
            with place:
                drawn = concept_against(steering["rows"], measure)
                components.figure(drawn, key=f"manifold_concept_{measure}", alt=f"Concept score against {FLUENCY[measure]}")
        st.markdown(matched_words(steering["rows"]))
    else:
        components.empty_report("Concept against fluency", "python -m glp_core steer-sentiment", "some minutes")


def lowered(rows: Sequence[Mapping[str, Any]]) -> go.Figure:
    """Draw the share of prompts whose denoising-error percentile projection lowers, by strength, a line for each direction."""
    figure = go.Figure()
    for i, title in enumerate(dict.fromkeys(row["title"] for row in rows)):
        mine = [row for row in rows if row["title"] == title]
        figure.add_scatter(
            x=[row["strength"] for row in mine],
            y=[100 * row["lower_percentile"] for row in mine],
            mode="lines+markers",
            name=charts.plain(title),
            line={
                "color": charts.CATEGORIES[i % len(charts.CATEGORIES)],
                "dash": ("solid", "dot")[i // len(charts.CATEGORIES) % 2],
            },
            text=[
                f"percentile {100 * row['percentile_raw']:.1f} raw, {100 * row['percentile_glp']:.1f} projected (medians); nearer on "
                f"{row['nearer']:.0%}; {row['n']} prompts"
                for row in mine
            ],
            hovertemplate="strength %{x}: %{y:.0f}%<br>%{text}",
        )
    figure.add_hline(y=100 * WANTED, line={"dash": "dash", "color": charts.GREY}, annotation_text="95%")
    charts.layout(figure, x="Strength (× median activation norm)", y="Prompts with a lower percentile (%)", height=330)
    return figure.update_yaxes(range=[0, 103])


def lowered_words(rows: Sequence[Mapping[str, Any]]) -> str:
    """Say on how many prompts projection lowers the percentile at strengths of 1 and more."""
    strong = [row for row in rows if row["strength"] >= 1]
    if not strong:
        return ""
    worst, enough = min(strong, key=lambda row: row["lower_percentile"]), sum(r["lower_percentile"] >= WANTED for r in strong)
    nearest = min(row["nearer"] for row in strong)
    return (
        f"At strengths of 1 and more, projection lowers the denoising-error percentile on at least **{worst['lower_percentile']:.0%}** of "
        f"{worst['n']} prompts (lowest: {components.plain_markdown(worst['title'])}, strength {worst['strength']:g}); on 95% or more in "
        f"**{enough} of {len(strong)}** pairs of direction and strength. A percentile cannot fall where both lie beyond all real "
        f"activations; the distance itself falls on at least {nearest:.0%}."
    )


def broken(zones: Mapping[str, Any]) -> go.Figure:
    """Draw the share of broken texts by mean distance, and where the zones begin."""
    bins = zones["bins"]
    figure = go.Figure()
    figure.add_scatter(
        x=[row["distance"] for row in bins],
        y=[100 * row["broken"] for row in bins],
        mode="lines+markers",
        line={"color": charts.PURPLE},
        text=[f"{row['n']} texts" for row in bins],
        hovertemplate="distance %{x:.2f}: %{y:.0f}% broken, %{text}",
    )
    for name in ("drifting", "broken"):
        value = zones["borders"][name]["value"]
        if value is not None:
            figure.add_vline(x=value, line={"dash": "dash", "color": charts.GREY}, annotation_text=f"{name} from {value:.2f}")
    return charts.layout(figure, x="Mean manifold distance of a text", y="Broken texts (%)", height=300, legend=False)


def concept_against(rows: Sequence[Mapping[str, Any]], measure: str) -> go.Figure:
    """Draw fluency against the concept's score, a line through the strengths for the raw push and for the GLP."""
    figure = go.Figure()
    for arm in ("unsteered", "raw", "glp"):
        mine = sorted((row for row in rows if row["arm"] == arm), key=lambda row: row["strength"])
        if not mine:
            continue
        figure.add_scatter(
            x=[row["concept"] for row in mine],
            y=[row[measure] for row in mine],
            error_y=_bars(mine, measure),
            error_x=_bars(mine, "concept"),
            mode="lines+markers+text",
            name=ARM_TITLES[arm],
            line={"color": charts.ARM_COLOURS[arm], "dash": charts.ARM_DASHES[arm]},
            text=[f"{row['strength']:g}" for row in mine],
            textposition="top center",
            hovertemplate="strength %{text}<br>concept %{x:.2f}<br>%{y:.2f}",
        )
    return charts.layout(figure, x="Concept score (numbers: strength)", y=FLUENCY[measure], height=380)


def _bars(rows: Sequence[Mapping[str, Any]], name: str) -> dict[str, Any]:
    """Return 95% intervals as thin error bars."""
    found = [row.get(f"{name}_ci") or [row[name], row[name]] for row in rows]
    above = [high - row[name] for row, (_, high) in zip(rows, found, strict=True)]
    below = [row[name] - low for row, (low, _) in zip(rows, found, strict=True)]
    return {"array": above, "arrayminus": below, "thickness": 1, "width": 2}


def matched(rows: Sequence[Mapping[str, Any]], measure: str, strength: float) -> tuple[float, float] | None:
    """Return how fluent the GLP's texts are at a strength, and the raw push's at its own best strength of the same concept score.

    Raw values are read off the line through its strengths, from the unsteered texts on. None where that line does not reach the score.
    """
    ours = next(row for row in rows if row["arm"] == "glp" and row["strength"] == strength)
    line = sorted((row for row in rows if row["arm"] in ("unsteered", "raw")), key=lambda row: row["strength"])
    found = []
    for start, end in pairwise(line):
        low, high = sorted((start["concept"], end["concept"]))
        if low <= ours["concept"] <= high:
            share = (ours["concept"] - start["concept"]) / (end["concept"] - start["concept"]) if high > low else 0.0
            found.append(start[measure] + share * (end[measure] - start[measure]))
    if not found:
        return None
    return ours[measure], min(found) if measure == "repeated_bigrams" else max(found)


def matched_words(rows: Sequence[Mapping[str, Any]]) -> str:
    """Say at which strengths the projected text is the more fluent one at matched concept, by both measures."""
    strengths = sorted(row["strength"] for row in rows if row["arm"] == "glp")
    told = []
    for measure, words in (("log_probability", "likelier"), ("repeated_bigrams", "less repetitive")):
        wins, unmatched = 0, 0
        for strength in strengths:
            pair = matched(rows, measure, strength)
            if pair is None:
                unmatched += 1
                continue
            ours, theirs = pair
            wins += ours < theirs if measure == "repeated_bigrams" else ours > theirs
        told.append(f"**{words}** than raw text of the same concept score at {wins} of {len(strengths) - unmatched}")
    reach = {arm: max((row["concept"] for row in rows if row["arm"] == arm), default=float("nan")) for arm in ("raw", "glp")}
    return (
        f"Matched by concept score, projected text is {' and '.join(told)} strengths; at {unmatched} of {len(strengths)} no raw push "
        f"reaches the projected one's score (highest: raw {reach['raw']:.2f}, GLP {reach['glp']:.2f}). Log-probability alone "
        "flatters repetition: read both figures together. 95% intervals are over prefixes."
    )
