"""One unit in pictures: its signed histogram, its texts with every token's value as colour, its noise axis. Draws nothing itself."""

import html
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Literal

import numpy as np
import plotly.graph_objects as go

from dashboard.widgets import charts
from dashboard.widgets.frame import token_html, visible

if TYPE_CHECKING:
    from glp_core.neuron_index.reader import Snippet, Unit
    from glp_core.neuron_index.reading import NoiseAxis

Context = Literal["snippet", "window", "full"]
SNIPPET_TOKENS = 16
"""Tokens shown on either side of the peak."""
NOISE_LINES = 6
"""Tokens drawn on the noise axis: those where the unit is strongest."""

STYLE = """
.glp-texts{font-size:.9rem;line-height:1.6}
.glp-texts details{border-top:1px solid rgba(128,128,128,.25);padding:.3rem 0}
.glp-texts summary{display:grid;grid-template-columns:4.6rem 1fr;gap:.1rem .7rem;cursor:pointer;list-style:none}
.glp-texts summary::-webkit-details-marker{display:none}
.glp-texts summary:focus-visible{outline:2px solid currentColor;outline-offset:2px}
.glp-texts b{font-variant-numeric:tabular-nums;text-align:right}
.glp-texts small{grid-column:1;opacity:.65;overflow:hidden;text-overflow:ellipsis;text-align:right;font-size:.68rem;line-height:1.25}
.glp-texts div{grid-column:2;grid-row:1/span 2;overflow-wrap:anywhere;white-space:pre-wrap}
.glp-texts p{margin:.4rem 0 .2rem 5.3rem;overflow-wrap:anywhere;white-space:pre-wrap;opacity:.85}
.glp-texts span{border-radius:3px;padding:.12em 0}
.glp-texts span.peak{box-shadow:inset 0 -2px 0 currentColor;font-weight:600}
.glp-texts i{font-style:normal;opacity:.6;font-size:.85em}
.glp-tag{border:1px solid rgba(128,128,128,.5);border-radius:4px;padding:0 .3rem;opacity:.8;white-space:nowrap}
.glp-interval{font-size:.85rem;padding:.15rem .5rem;border-radius:4px;margin-top:.4rem}
.glp-effects{display:flex;flex-wrap:wrap;gap:.3rem}
.glp-effects span{border-radius:4px;padding:.05rem .4rem;font-family:monospace;font-size:.82rem;white-space:pre}
"""


def shade(value: float, scale: float) -> float:
    """Return -1 to 1 for a value on a list's common scale: the logarithm of 1 + 9 |v| / scale, so that weak values show too."""
    if not math.isfinite(value) or scale <= 0:
        return 0.0
    return math.copysign(math.log10(1 + 9 * min(1.0, abs(value) / scale)), value)


def texts_html(snippets: Sequence["Snippet"], scale: float, *, context: Context = "snippet", breaks: bool = True) -> str:
    """Return a list of texts as escaped HTML: value and source, then the tokens in colour; a click opens the whole text.

    Args:
        scale: the value of full colour, the same for all lists of a unit.
        context: how much around the peak is shown: +-16 tokens, all tokens that keep a value, or the whole text.
        breaks: show line breaks as ↵ and a new line; otherwise as ↵ alone.
    """
    if not snippets:
        return '<div class="glp-texts"><p>No texts: no token falls here.</p></div>'
    rows = [_row(snippet, scale, context, breaks) for snippet in snippets]
    return f'<div class="glp-texts">{"".join(rows)}</div>'


def _row(snippet: "Snippet", scale: float, context: Context, breaks: bool) -> str:
    start, stop = _range(snippet, context)
    tokens = "".join(_token(snippet, i, scale, breaks) for i in range(start, stop))
    before, after = "…" if start > 0 else "", "…" if stop < len(snippet.pieces) else ""
    source = html.escape(visible(snippet.source.split("_", 1)[-1].replace("_", " ")), quote=True)
    head = f'<b>{snippet.value:+.4f}</b><div>{before}{tokens}{after}</div><small title="{source}">{source}</small>'
    whole = html.escape(visible("".join(snippet.pieces)))
    return f'<details><summary>{head}</summary><p lang="">{whole}</p></details>'


def _range(snippet: "Snippet", context: Context) -> tuple[int, int]:
    if context == "full":
        return 0, len(snippet.pieces)
    if context == "window":
        return snippet.start, snippet.stop
    return max(snippet.start, snippet.peak - SNIPPET_TOKENS), min(snippet.stop, snippet.peak + SNIPPET_TOKENS + 1)


def _token(snippet: "Snippet", i: int, scale: float, breaks: bool) -> str:
    text, value = token_html(snippet.pieces[i]), float(snippet.values[i])
    text = text if breaks else text.replace("<br>", " ")
    if not math.isfinite(value):
        return f"<span>{text}</span>"
    peak = ' class="peak"' if i == snippet.peak else ""
    return f'<span{peak} style="background-color:{charts.diverging(shade(value, scale))}" title="{value:+.4f}">{text}</span>'


def description_html(unit: "Unit") -> str:
    """Return the unit's description, escaped, with who made it."""
    if not unit.description:
        return "<em>no description</em>"
    made = html.escape(visible(unit.described_by))
    return f'{html.escape(visible(unit.description))} <small class="glp-tag" title="Who described the unit">{made}</small>'


def effects_html(effects: Sequence[tuple[str, float]]) -> str:
    """Return tokens with their scores as chips, colour by score on their own scale."""
    most = max((abs(score) for _, score in effects), default=0.0)
    chips = [
        f'<span style="background-color:{charts.diverging(score / most if most else 0.0)}" title="{score:+.4f}">'
        f"{html.escape(visible(text).replace(chr(10), '↵'))}</span>"
        for text, score in effects
    ]
    return f'<div class="glp-effects">{"".join(chips)}</div>'


def histogram(unit: "Unit", *, log: bool, markers: Mapping[str, float]) -> go.Figure:
    """Return the unit's signed histogram over the corpus, with a labelled line for every marker."""
    left, right = unit.edges[:-1], unit.edges[1:]
    centres, total = (left + right) / 2, int(unit.counts.sum())
    colours = [charts.ORANGE if centre >= 0 else charts.BLUE for centre in centres]
    hover = [
        f"{low:+.3f} to {high:+.3f}<br>{int(count):,} of {total:,} tokens"
        for low, high, count in zip(left, right, unit.counts, strict=True)
    ]
    figure = go.Figure()
    # on a log axis an empty bin has no place: leave it out
    heights = np.where(unit.counts > 0, unit.counts, np.nan) if log else unit.counts
    figure.add_bar(
        x=centres, y=heights, width=right - left, marker={"color": colours, "line": {"width": 0}},
        text=hover, textposition="none", hovertemplate="%{text}<extra></extra>",
    )  # fmt: skip
    for i, (words, value) in enumerate(markers.items()):
        inside = min(max(value, float(unit.edges[0])), float(unit.edges[-1]))
        figure.add_vline(
            x=inside, line={"color": charts.GREEN, "width": 2, "dash": "solid" if i == 0 else "dot"},
            annotation={"text": f"{charts.plain(visible(words))} {value:+.2f}", "yshift": 0 if i == 0 else -14, "font": {"size": 11}},
        )  # fmt: skip
    charts.layout(figure, x="value of the unit", y="tokens", height=230, log_y=log, legend=False)
    figure.update_layout(bargap=0, margin={"t": 22})
    if log:
        figure.update_yaxes(dtick=1, exponentformat="power")
    return figure


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
    """Return tokens x units (units, tokens) as a heat map of value / tail, blue to orange around 0."""
    words = [charts.plain(visible(piece).replace("\n", "↵")) for piece in pieces]
    figure = go.Figure(
        go.Heatmap(
            z=normalised, y=list(names), colorscale=charts.DIVERGING_SCALE, zmid=0, zmin=-1, zmax=1,
            text=[words] * len(names), hovertemplate="%{y} on “%{text}”<br>value / tail %{z:.3f}<extra></extra>",
            colorbar={"title": "value / tail", "thickness": 10},
        )
    )  # fmt: skip
    charts.layout(figure, height=110 + 22 * len(names), legend=False)
    figure.update_yaxes(autorange="reversed", type="category")
    figure.update_xaxes(tickvals=list(range(len(words))), ticktext=words, tickangle=-60 if len(words) <= 80 else -90)
    if len(words) > 80:
        figure.update_xaxes(showticklabels=False, title="tokens, in order")
    return figure
