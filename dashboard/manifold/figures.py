"""The Manifold page's figures: a text among real tokens, distance by strength, activations on a plane. Numbers in, figures out."""

import math
from collections.abc import Sequence

import numpy as np
import plotly.graph_objects as go

from dashboard.manifold.measure import ARMS, KINDS, OWN, MapPlane, MeasuredText
from dashboard.widgets import charts
from dashboard.widgets.numbers import share_words
from glp_core.files import Json
from glp_core.steering.strength_grid import Spread

RANDOM_COLOUR, RANDOM_DASH = "#C2456E", "dot"
OUTSIDE = 0.02
"""Share of the points that may lie outside of the map as it opens, along each axis."""
KIND_SYMBOLS = ("diamond", "square", "triangle-up", "star")


def histogram(reading: MeasuredText, unit: str) -> go.Figure:
    """Draw the measure's density over real activations, from its quantiles, and the text's tokens as marks under it."""
    quantiles = np.asarray(reading.quantiles)
    edges = np.unique(quantiles)
    shares = np.interp(edges, quantiles, np.linspace(0, 1, len(quantiles)))
    bins = np.linspace(quantiles[0], quantiles[-2], 41)
    height = np.diff(np.interp(bins, edges, shares)) / np.diff(bins)
    figure = go.Figure()
    figure.add_bar(
        x=(bins[:-1] + bins[1:]) / 2,
        y=height,
        width=np.diff(bins),
        name=f"{reading.n_real:,} real activations",
        marker={"color": charts.GREY, "opacity": 0.45, "line": {"width": 0}},
        hoverinfo="skip",
    )
    scored = [i for i, value in enumerate(reading.values) if not math.isnan(value)]
    figure.add_scatter(
        x=[reading.values[i] for i in scored],
        y=[-0.05 * float(height.max())] * len(scored),
        mode="markers",
        name="this text's tokens",
        marker={"symbol": "line-ns-open", "size": 14, "color": charts.PURPLE, "line": {"width": 2}},
        text=[
            charts.plain(f"{reading.tokens[i]!r}: farther off than {share_words(reading.shares[i])} of real ones")
            for i in scored
        ],
        hovertemplate="%{text}<br>%{x:.3f}",
    )
    charts.layout(figure, x=unit, y="density", height=300)
    return figure.update_yaxes(showticklabels=False)


ZONES = (("on the manifold", charts.BAND), ("drifting", charts.AMBER), ("broken", charts.RED))


def zone_edges(zones: Json | None) -> list[float] | None:
    """Return where the drifting and the broken zone begin by a report of zones, as far as it found them; None without one."""
    borders = (zones or {}).get("borders")
    if not borders:
        return None
    values = [borders[name]["value"] for name in ("drifting", "broken")]
    return [value for value in values if value is not None] if values[0] is not None else []


def sweep(spreads: Sequence[Spread], band: tuple[float, float] | None, zones: Json | None = None) -> go.Figure:
    """Draw the median distance by strength of each arm with the band of half of the prompts, over the zones.

    Without a report of zones the range of real tokens is shaded instead.
    """
    figure = go.Figure()
    for arm, name in ARMS.items():
        cells = [spread for spread in spreads if spread.arm == arm]
        if not cells:
            continue
        colour = charts.ARM_COLOURS.get(arm, RANDOM_COLOUR)
        x = [spread.strength for spread in cells]
        red, green, blue = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
        figure.add_scatter(
            x=[*x, *x[::-1]],
            y=[*(cell.quantiles[3] for cell in cells), *(cell.quantiles[1] for cell in cells[::-1])],
            mode="lines",
            fill="toself",
            fillcolor=f"rgba({red},{green},{blue},0.14)",
            line={"width": 0},
            hoverinfo="skip",
            showlegend=False,
        )
        figure.add_scatter(
            x=x,
            y=[cell.quantiles[2] for cell in cells],
            mode="lines+markers",
            name=name,
            line={"color": colour, "dash": charts.ARM_DASHES.get(arm, RANDOM_DASH), "width": 2},
            marker={"size": 5},
            text=[_hover(cell) for cell in cells],
            hovertemplate="%{text}",
        )
    edges = zone_edges(zones)
    if edges:
        top = max([edges[-1] * 1.15, *(value for spread in spreads for value in spread.quantiles)])
        for (words, colour), low, high in zip(ZONES, [0.0, *edges], [*edges, top], strict=False):
            charts.shade(figure, low, high, colour=colour, words=words, at="top right")
        figure.update_yaxes(range=[0, top])
    elif band:
        charts.shade(figure, *band, words="90% of real tokens", at="top right")
    charts.layout(figure, x="Strength (× median activation norm)", y="Manifold distance (1 = a typical real token)", height=440)
    return figure.update_xaxes(range=[-0.05, 2.4])  # room for the zones' names at the right


def _hover(spread: Spread) -> str:
    low, _, middle, _, high = spread.quantiles
    nearer = "" if math.isnan(spread.lower) else f"<br>nearer than the raw push on {spread.lower:.0%} of prompts"
    return f"{ARMS[spread.arm]}, strength {spread.strength:g}<br>median {middle:.2f}, 90% from {low:.2f} to {high:.2f}{nearer}"


def plane(layout: MapPlane) -> go.Figure:
    """Draw real activations in grey and each other kind in its colour and shape; few points far outside are left for a double click."""
    figure = go.Figure()
    figure.add_trace(
        go.Scattergl(
            x=layout.real[:, 0],
            y=layout.real[:, 1],
            mode="markers",
            name=f"real, held out ({len(layout.real):,})",
            marker={"color": charts.GREY, "size": 4, "opacity": 0.45},
            text=[charts.plain(text) for text in layout.contexts],
            hovertemplate="%{text}",
        )
    )
    colours = dict(zip(KINDS, (charts.ARM_COLOURS[arm] for arm in ("raw", "walk", "glp")), strict=True)) | {OWN: charts.ROSE}
    for i, (name, points) in enumerate(layout.others.items()):
        figure.add_trace(
            go.Scattergl(
                x=points[:, 0],
                y=points[:, 1],
                mode="markers",
                name=f"{name} ({len(points):,})",
                marker={
                    "color": colours.get(name, charts.PURPLE),
                    "symbol": KIND_SYMBOLS[i % len(KIND_SYMBOLS)],
                    "size": 9 if name == OWN else 6,
                    "opacity": 0.75,
                },
                text=[charts.plain(text) for text in layout.texts.get(name, [])] or None,
                hovertemplate=f"{name}<br>%{{text}}" if layout.texts.get(name) else name,
            )
        )
    charts.layout(figure, x=layout.axes[0], y=layout.axes[1], height=600)
    across, up = (
        _middle(np.concatenate([kind[:, axis] for kind in (layout.real, *layout.others.values())])) for axis in (0, 1)
    )
    return figure.update_xaxes(range=across).update_yaxes(range=up)


def _middle(values: np.ndarray) -> list[float]:
    """Return the ends of an axis that leaves out the few values (n,) far outside."""
    low, high = np.quantile(values, [OUTSIDE / 2, 1 - OUTSIDE / 2])
    margin = 0.06 * (high - low) or 1.0
    return [float(low - margin), float(high + margin)]
