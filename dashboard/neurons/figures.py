"""One neuron in pictures: its signed histogram, the tokens that it promotes, its noise axis. Draws nothing itself."""

import html
import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
import plotly.graph_objects as go

from dashboard.widgets import charts
from dashboard.widgets.frame import visible
from dashboard.widgets.numbers import signed

if TYPE_CHECKING:
    from glp_core.neuron_index.neuron_data import Neuron
    from glp_core.neuron_index.reading import NoiseAxis

LEAST_BINS_BETWEEN_TICKS = 6
"""So that their labels do not overlap."""
MARK_HEIGHT = 14
"""Pixels of the words at a marker: they stand above the bars, one over the other."""
NOISE_LINES = 6
"""Tokens drawn on the noise axis: those where the neuron is strongest."""


def effects_html(effects: Sequence[tuple[str, float]]) -> str:
    """Return tokens with their scores as chips, colour by score on their own scale."""
    most = max((abs(score) for _, score in effects), default=0.0)
    chips = [
        f'<span style="background-color:{charts.diverging(score / most if most else 0.0)}" title="{signed(score)}">'
        f"{html.escape(visible(text).replace(chr(10), '↵'))}</span>"
        for text, score in effects
    ]
    return f'<div class="glp-effects">{"".join(chips)}</div>'


def histogram(neuron: "Neuron", *, log: bool, markers: Mapping[str, float]) -> go.Figure:
    """Return the neuron's signed histogram over the corpus, every bin as wide as the next, with a labelled line for every marker."""
    tail = neuron.tail or 1.0
    edges, total = neuron.edges.astype(float) / tail, int(neuron.counts.sum())
    places = np.arange(len(edges))
    colours = [charts.ORANGE if low + high >= 0 else charts.BLUE for low, high in pairwise(edges)]
    hover = [
        f"{signed(low)} to {signed(high)} tails<br>raw {signed(low * tail)} to {signed(high * tail)}<br>"
        f"{int(count):,} of {total:,} tokens"
        for (low, high), count in zip(pairwise(edges), neuron.counts, strict=True)
    ]
    figure = go.Figure()
    # on a log axis an empty bin has no place: leave it out
    heights = np.where(neuron.counts > 0, neuron.counts, np.nan) if log else neuron.counts
    figure.add_bar(
        x=places[:-1] + 0.5, y=heights, width=1, marker={"color": colours, "line": {"width": 0}},
        text=hover, textposition="none", hovertemplate="%{text}<extra></extra>",
    )  # fmt: skip
    for i, (words, value) in enumerate(markers.items()):
        place = float(np.interp(value / tail, edges, places))
        note = {
            "text": f"{charts.plain(visible(words))} {signed(value / tail)}",
            "xanchor": "left" if place < places[-1] / 2 else "right",
            "yanchor": "bottom",
            "yshift": MARK_HEIGHT * i,
            "font": {"size": 11},
        }
        figure.add_vline(
            x=place, line={"color": charts.GREEN, "width": 2, "dash": "solid" if i == 0 else "dot"}, annotation=note
        )
    unit = f"value in tails (1 = {signed(tail)[1:]})" if neuron.tail else "value: this neuron has no tail"
    charts.layout(figure, x=unit, y="tokens", height=230, log_y=log, legend=False)
    figure.update_layout(bargap=0, margin={"t": 8 + MARK_HEIGHT * len(markers)})
    ticks = axis_ticks(edges)
    figure.update_xaxes(
        tickvals=np.interp(ticks, edges, places),
        ticktext=[f"{tick:g}" for tick in ticks],
        tickangle=0,
        range=[0, len(edges) - 1],
    )
    if log:
        figure.update_yaxes(dtick=1, exponentformat="power")
    return figure


def axis_ticks(edges: np.ndarray) -> list[float]:
    """Return round values for an axis on which bins of these edges (n,) are equally wide: 0, powers of ten, then 2 and 5 times those."""
    largest = float(np.abs(edges[[0, -1]]).max())
    if not largest:
        return [0.0]
    top = math.floor(math.log10(largest))
    sizes = [float(f"{digit}e{power}") for digit in (1, 2, 5) for power in range(top - 2, top + 1)]
    ticks = [0.0, *(sign * size for size in sizes for sign in (-1, 1))]
    places = np.interp(ticks, edges, np.arange(len(edges)))
    shown: list[int] = []
    for i in sorted(range(len(ticks)), key=lambda i: (ticks[i] != 0, f"{abs(ticks[i]):e}"[0] != "1", -abs(ticks[i]))):
        inside = edges[0] <= ticks[i] <= edges[-1]
        if inside and all(abs(places[i] - places[other]) >= LEAST_BINS_BETWEEN_TICKS for other in shown):
            shown.append(i)
    return sorted(ticks[i] for i in shown)


def noise_figure(axis: "NoiseAxis", pieces: Sequence[str]) -> go.Figure:
    """Return value against noise level: the mean over seeds with one standard deviation, and the noise-free value dotted."""
    figure = go.Figure()
    strongest = np.argsort(-np.abs(axis.noise_free).max(0))[:NOISE_LINES]
    for i, token in enumerate(strongest):
        colour = charts.CATEGORIES[i % len(charts.CATEGORIES)]
        symbol = ("circle", "square", "diamond", "x", "triangle-up", "star")[i]
        values, name = axis.values[:, :, token], charts.plain(visible(pieces[token]).strip() or "␣")
        figure.add_scatter(
            x=axis.sigmas, y=values.mean(1), name=name, mode="lines+markers", line={"color": colour, "width": 2},
            marker={"symbol": symbol, "size": 8}, error_y={"type": "data", "array": values.std(1, ddof=1), "thickness": 1.2, "width": 3},
            hovertemplate=f"{name}<br>sigma %{{x}}: %{{y:.3f}} ± %{{error_y.array:.3f}}<extra></extra>",
        )  # fmt: skip
        figure.add_scatter(
            x=axis.sigmas, y=axis.noise_free[:, token], mode="lines", line={"color": colour, "width": 1.2, "dash": "dot"},
            showlegend=False, hovertemplate=f"{name}, no noise<br>sigma %{{x}}: %{{y:.3f}}<extra></extra>",
        )  # fmt: skip
    charts.layout(figure, x="noise level sigma", y="value", height=300)
    figure.update_xaxes(tickvals=list(axis.sigmas))
    return figure


def heat_map(pieces: Sequence[str], names: Sequence[str], normalised: np.ndarray) -> go.Figure:
    """Return tokens x neurons (neurons, tokens) as a heat map of values in tails, blue to orange around 0."""
    words = [charts.plain(visible(piece).replace("\n", "↵")) for piece in pieces]
    figure = go.Figure(
        go.Heatmap(
            z=normalised, y=list(names), colorscale=charts.DIVERGING_SCALE, zmid=0, zmin=-1, zmax=1,
            text=[words] * len(names), hovertemplate="%{y} on “%{text}”<br>%{z:.2f} tails<extra></extra>",
            colorbar=charts.COLOUR_BAR | {"title": "tails"},
        )
    )  # fmt: skip
    charts.layout(figure, height=110 + 22 * len(names), legend=False)
    figure.update_yaxes(autorange="reversed", type="category", showgrid=False)
    figure.update_xaxes(tickvals=list(range(len(words))), ticktext=words, tickangle=-60 if len(words) <= 80 else -90)
    if len(words) > 80:
        figure.update_xaxes(showticklabels=False, title="tokens, in order")
    return figure
