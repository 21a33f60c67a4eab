"""What stored runs say of projection: does it bring pushed activations nearer, and is its text the more fluent at equal concept?"""

from collections.abc import Sequence

import plotly.graph_objects as go
import streamlit as st

from dashboard.manifold import concept_fluency
from dashboard.service import workspace_facts
from dashboard.widgets import charts, frame
from glp_core.files import Json

WANTED = 0.95


def draw() -> None:
    """Draw the figures of the reports that are there, and name the commands of those that are not."""
    st.subheader("What does projection buy?", anchor=False)
    zones, steering = workspace_facts.report("zones"), workspace_facts.report("steering_sentiment")
    if zones:
        frame.figure(lowered(zones["projection"]), key="manifold_lowered", alt="Share of prompts that projection brings nearer")
        st.markdown(lowered_words(zones["projection"]))
        frame.figure(broken(zones), key="manifold_broken", alt="Share of broken texts by manifold distance")
    else:
        frame.empty_report("Zones and how often projection lowers the distance", "python -m glp_core zones", "some minutes")
    if steering:
        concept_fluency.draw([report for report in (steering, workspace_facts.report("steering_gentle")) if report])
    else:
        frame.empty_report("Concept against fluency", "python -m glp_core steer-sentiment", "some minutes")


def lowered(rows: Sequence[Json]) -> go.Figure:
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


def lowered_words(rows: Sequence[Json]) -> str:
    """Say on how many prompts projection lowers the percentile at strengths of 1 and more."""
    strong = [row for row in rows if row["strength"] >= 1]
    if not strong:
        return ""
    worst, enough = min(strong, key=lambda row: row["lower_percentile"]), sum(r["lower_percentile"] >= WANTED for r in strong)
    nearest = min(row["nearer"] for row in strong)
    return (
        f"At strengths of 1 and more, projection lowers the denoising-error percentile on at least **{worst['lower_percentile']:.0%}** of "
        f"{worst['n']} prompts (lowest: {frame.plain_markdown(worst['title'])}, strength {worst['strength']:g}); on 95% or more in "
        f"**{enough} of {len(strong)}** pairs of direction and strength. A percentile cannot fall where both lie beyond all real "
        f"activations; the distance itself falls on at least {nearest:.0%}."
    )


def broken(zones: Json) -> go.Figure:
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
