"""Where steered text breaks, and how often projection brings a pushed activation nearer: from the report of `zones`."""

import json
import math
from collections.abc import Sequence

import numpy as np
import plotly.graph_objects as go
import streamlit as st

from dashboard.service import missing, workspace_facts
from dashboard.widgets import charts, frame
from dashboard.widgets.frame import File
from glp_core.files import Json

GOAL = 0.95
"""Share of prompts on which projection should lower the percentile."""


def draw() -> list[File]:
    """Draw both figures, or name the command that measures them; return the report."""
    report = workspace_facts.report("zones")
    if not report:
        missing.report("The distance at which text breaks", workspace_facts.command("zones"), "some minutes", stage="zones")
        return []
    frame.heading("At what distance does text break?")
    frame.figure(broken(report), key="manifold_broken", alt="Share of broken texts by manifold distance")
    st.caption(
        "Points: texts in bins of about equal number. Grey curve: the fit, whose quarter and three quarters are the borders."
    )
    frame.heading("Does projection bring a pushed activation back among real ones?")
    frame.figure(lowered(report["projection"]), key="manifold_lowered", alt="Share of prompts with a lower percentile")
    st.markdown(lowered_words(report["projection"]))
    return [File("JSON: zones", "zones.json", json.dumps(report, indent=1), "application/json")]


def broken(report: Json) -> go.Figure:
    """Draw the share of broken texts by mean distance, and where the zones begin."""
    bins = report["bins"]
    figure = go.Figure()
    figure.add_scatter(
        x=[row["distance"] for row in bins],
        y=[100 * row["broken"] for row in bins],
        mode="lines+markers",
        line={"color": charts.PURPLE},
        text=[f"{row['n']} texts" for row in bins],
        hovertemplate="distance %{x:.2f}: %{y:.0f}% broken, %{text}",
    )
    borders = {name: report["borders"][name]["value"] for name in ("drifting", "broken")}
    for name, value in borders.items():
        if value is not None:
            figure.add_vline(x=value, line={"dash": "dash", "color": charts.GREY}, annotation_text=f"{name} from {value:.2f}")
    if len(bins) > 1 and all(borders.values()) and borders["drifting"] < borders["broken"]:
        x = np.linspace(bins[0]["distance"], bins[-1]["distance"], 100)
        figure.add_scatter(
            x=x,
            y=100 * fitted(x, borders["drifting"], borders["broken"]),
            mode="lines",
            line={"color": charts.GREY, "width": 2},
            hovertemplate="distance %{x:.2f}: %{y:.0f}% by the fit",
        )
    return charts.layout(figure, x="Mean manifold distance of a text", y="Broken texts (%)", height=300, legend=False)


def fitted(distance: np.ndarray, drifting: float, broken: float) -> np.ndarray:
    """Return the logistic curve of log distance that is a quarter at the one border and three quarters at the other."""
    low, high = math.log(drifting), math.log(broken)
    return 1 / (1 + np.exp(-2 * math.log(3) / (high - low) * (np.log(distance) - (low + high) / 2)))


def lowered(rows: Sequence[Json]) -> go.Figure:
    """Draw the share of prompts whose denoising-error percentile projection lowers, by strength, a line for each direction."""
    figure = go.Figure()
    for i, title in enumerate(dict.fromkeys(row["title"] for row in rows)):
        line = [row for row in rows if row["title"] == title]
        figure.add_scatter(
            x=[row["strength"] for row in line],
            y=[100 * row["lower_percentile"] for row in line],
            mode="lines+markers",
            name=charts.plain(title),
            line={
                "color": charts.CATEGORIES[i % len(charts.CATEGORIES)],
                "dash": DASHES[i // len(charts.CATEGORIES) % len(DASHES)],
            },
            text=[
                f"percentile {100 * row['percentile_raw']:.1f} raw, {100 * row['percentile_glp']:.1f} projected (medians); nearer on "
                f"{row['nearer']:.0%}; {row['n']} prompts"
                for row in line
            ],
            hovertemplate="strength %{x}: %{y:.0f}%<br>%{text}",
        )
    figure.add_hline(y=100 * GOAL, line={"dash": "dash", "color": charts.GREY}, annotation_text=f"{GOAL:.0%}")
    charts.layout(figure, x="Strength (× median activation norm)", y="Prompts with a lower percentile (%)", height=380)
    return figure.update_yaxes(range=[0, 103])


DASHES = ("solid", "dot", "dash")


def lowered_words(rows: Sequence[Json]) -> str:
    """Say on how many prompts projection lowers the percentile at strengths of 1 and more."""
    strong = [row for row in rows if row["strength"] >= 1]
    if not strong:
        return ""
    worst, enough = min(strong, key=lambda row: row["lower_percentile"]), sum(r["lower_percentile"] >= GOAL for r in strong)
    nearest = min(row["nearer"] for row in strong)
    share = f"at least {nearest:.0%}" if nearest < 1 else "every one"
    return (
        f"At strengths of 1 and more, projection lowers the denoising-error percentile on {GOAL:.0%} or more of the prompts in "
        f"**{enough} of {len(strong)}** pairs of direction and strength; at worst on **{worst['lower_percentile']:.0%}** of {worst['n']} "
        f"({frame.plain_markdown(worst['title'])}, strength {worst['strength']:g}). A percentile cannot fall where both lie beyond all "
        f"real activations; the distance itself falls on {share} of the prompts."
    )
