"""What speaks for a direction that was made: verdict, scores of texts, likeness to the stored directions; the builder's right column."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import plotly.graph_objects as go
import streamlit as st

from dashboard.lab.asked import Result
from dashboard.service import resources, workspace_facts
from dashboard.widgets import charts, frame
from glp_core.checked.shapes import Many, check
from glp_core.errors import GlpError

if TYPE_CHECKING:
    from glp_core.steering.directions import Direction
    from glp_core.steering.origins.evidence import Evidence

FEW = 20
"""Texts a side below which a missing effect says little."""
SHOWN_ALIKE = 5
HOVER = 90
"""Characters of a text on hover."""


def draw(result: Result) -> None:
    """Draw the evidence for a direction."""
    if result.evidence is None and not math.isnan(result.direction.auroc):
        st.markdown(
            f"**Measured elsewhere**: AUROC {result.direction.auroc:.2f}, as its file says. Measure it on texts of your own."
        )
    elif result.evidence is None:
        st.markdown("**Not measured on texts.** Switch on *Measure it on texts* for an AUROC and a concept probe.")
    else:
        verdict(result.evidence)
        alt = "Every text's projection on the direction, positive texts above, negative texts below."
        frame.figure(scores_figure(result.evidence, result.texts), key="lab_scores", alt=alt)
    for line in meaning(result.direction):
        st.caption(frame.plain_markdown(line))
    rows = alike(result.direction)
    if rows:
        chance = 1.96 / math.sqrt(len(result.direction.vector))
        st.html(frame.facts([(title, f"{cosine:+.2f}") for title, cosine in rows], title="Cosine to the stored directions"))
        st.caption(f"Two random directions: within ±{chance:.2f} in 95% of cases.")


def verdict(evidence: Evidence) -> None:
    """Say first whether it is a direction, then the numbers."""
    area, n = evidence.auroc, len(evidence.scores)
    numbers = (
        f"AUROC {area.value:.2f}, 95% interval {area.low:.2f} to {area.high:.2f}, on {n} texts, each left out of what it tests."
    )
    fewest = min(int(evidence.labels.sum()), int((1 - evidence.labels).sum()))
    few = f" {fewest} texts a side are few: {FEW} or more would tell." if fewest < FEW else ""
    if area.high < 0.5:
        st.warning(f"**It points the other way.** {numbers} Positive texts lie lower along it.", icon=":material/swap_horiz:")
    elif evidence.is_chance:
        st.warning(f"**No better than chance.** {numbers}{few}", icon=":material/warning:")
    else:
        st.success(f"**It tells the texts apart.** {numbers}", icon=":material/check:")


def scores_figure(evidence: Evidence, texts: tuple[Sequence[str], Sequence[str]]) -> go.Figure:
    """Return every text as a dot at its projection, a row a class, with the text on hover."""
    figure = go.Figure()
    jitter = np.random.default_rng(0).uniform(-0.3, 0.3, len(evidence.scores))
    for label, title, colour, symbol, height in (
        (1, "positive", charts.ORANGE, "circle", 1),
        (0, "negative", charts.BLUE, "diamond", 0),
    ):
        of = evidence.labels == label
        side = texts[1 - label]
        shown = [charts.plain(frame.visible(side[number][:HOVER])) for number in evidence.numbers[of]]
        figure.add_scatter(
            x=evidence.scores[of], y=height + jitter[of], mode="markers", name=f"{title} (n = {of.sum():,})", text=shown,
            marker={"color": colour, "symbol": symbol, "size": 7, "opacity": 0.75}, hovertemplate="%{x:.2f}<br>%{text}<extra></extra>",
        )  # fmt: skip
    charts.layout(figure, x="projection, × the layer's median norm", height=230)
    figure.update_yaxes(visible=False, range=[-0.6, 1.6])
    return figure


def meaning(direction: Direction) -> list[str]:
    """Return what plus and minus mean, with an example of each."""
    try:
        classes = check(direction.about.get("classes", []), Many({"label": str, "n": object, "examples": Many(str)}), "classes")
    except GlpError:
        return []  # of another program's file
    return [
        f"{sign} means {entry['label']!r}: {entry['n']} texts, such as {entry['examples'][0][:HOVER]!r}."
        for sign, entry in zip(("Plus", "Minus"), classes, strict=False)
        if entry["examples"]
    ]


def alike(direction: Direction) -> list[tuple[str, float]]:
    """Return the stored directions that are most like it or most unlike it, with their cosines."""
    found = []
    for facts in workspace_facts.directions():
        try:
            other = resources.direction(facts.name)
        except GlpError:
            continue  # of another layer, or damaged: reported where it is used
        if other.vector.shape == direction.vector.shape:
            found.append((facts.title, float(other.vector @ direction.vector)))
    return sorted(found, key=lambda one: -abs(one[1]))[:SHOWN_ALIKE]
