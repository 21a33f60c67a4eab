"""How a steering comparison looks: the board of columns and the distance chart. HTML is escaped here."""

from __future__ import annotations

import html
import math
from functools import lru_cache
from typing import TYPE_CHECKING

import plotly.graph_objects as go

from dashboard.steering.comparison import Column, Comparison
from dashboard.steering.verdict import Verdict
from dashboard.widgets import charts, frame, svg

if TYPE_CHECKING:
    from glp_core.steering.generation import Step

FAR = 3.0
"""Manifold distance that gets the full colour; 1 is a typical real token."""
SURPRISING = 8.0
"""Surprise in nats that gets the full colour."""

BOARD_STYLE = """
.glp-columns{container-type:inline-size}
.glp-board{display:grid;grid-template-columns:repeat(auto-fit,minmax(190px,1fr));gap:.8rem}
@container (max-width:820px){.glp-board:has(> :nth-child(4)){grid-template-columns:1fr 1fr}}
@container (max-width:600px){.glp-board,.glp-board:has(> :nth-child(4)){grid-template-columns:1fr}}
.glp-verdict{font-size:1.02rem;line-height:1.55;margin:0}
.glp-card{border:1px solid rgba(128,128,128,.35);border-top-width:4px;border-radius:8px;padding:.6rem .8rem;min-width:0;
display:flex;flex-direction:column;gap:.5rem}
.glp-card h2{margin:0;padding:0;font-size:1rem;font-weight:600}
.glp-card h2 small{font-weight:400;opacity:.7;font-size:.8rem;margin-left:.4rem}
.glp-card .glp-strip{min-height:6rem;flex:1}
.glp-card .glp-strip{line-height:1.6}
.glp-card .glp-strip span:has(> br:last-child) + span:has(> i:first-child + br:last-child) br{display:none}
.glp-card .glp-facts{line-height:1.35;border-top:1px solid rgba(128,128,128,.25);padding-top:.4rem}
.glp-prompt{margin-bottom:.7rem}
.glp-prompt small{opacity:.75}
.glp-caret{display:inline-block;width:.5em;height:1em;vertical-align:text-bottom;background:currentColor;opacity:.6}
"""


def board(comparison: Comparison, colour: str, *, live: bool = False) -> str:
    """Return the HTML of the columns, tokens coloured by distance, surprise or none."""
    cards = "".join(_card(comparison, column, colour, live) for column in comparison.columns.values())
    return f'{pushed_prompt(comparison)}<div class="glp-columns"><div class="glp-board">{cards}</div></div>'


def pushed_prompt(comparison: Comparison) -> str:
    """Return the HTML of the prompt with the tokens outlined that the push acts on; nothing where it acts on new ones only."""
    if comparison.span is None:
        return ""
    first, last = comparison.span
    strip = frame.token_strip(comparison.prompt, None, scale=(0, 1), marked=range(max(1, first), last))
    return f'<div class="glp-prompt"><small>Outlined tokens of the prompt are pushed:</small>{strip}</div>'


def _card(comparison: Comparison, column: Column, colour: str, live: bool) -> str:
    if column.tokens:
        strip = _strip(column, colour, depends=comparison.request.depends)
    else:
        strip = f'<div class="glp-strip" style="opacity:.6">{"…" if live else "No text."}</div>'
    edge = charts.ARM_COLOURS[column.arm]
    head = (
        f"<h2>{html.escape(charts.ARM_TITLES[column.arm])}<small>{html.escape(_subtitle(comparison, column.arm))}</small></h2>"
    )
    numbers = frame.facts(_numbers(column, comparison.milliseconds, live))
    return f'<div class="glp-card" data-arm="{column.arm}" style="border-top-color:{edge}">{head}{strip}{numbers}</div>'


def _subtitle(comparison: Comparison, arm: str) -> str:
    request = comparison.request
    push, noise = request.push_words, f"noise {request.noise_level:g}"
    if arm == "walk":
        walk = request.walk_numbers
        return f"{push}, in {walk.pushes} parts" if walk else push
    subtitles = {
        "unsteered": "no push",
        "raw": push,
        "glp": f"{push}, {noise}",
        "norm": f"{push}, old norm",
        "gaussian": f"{push}, {noise}",
        "opposite": f"against {push}, projected" if request.others else f"{-request.strength:+.2g} × median norm, projected",
        "random": f"{push}, projected",
        "prompted": "no push, an instruction",
    }
    return subtitles[arm]


def _strip(column: Column, colour: str, *, depends: bool) -> str:
    surprise = column.surprise()
    distances = [token.distance_after for token in column.tokens]
    values = {"distance": distances, "surprise": surprise, "none": None}[colour]
    scale = (0.0, SURPRISING) if colour == "surprise" else (1.0, FAR)
    titles = [_title(token, nats) for token, nats in zip(column.tokens, surprise, strict=True)]
    massive = [i for i, distance in enumerate(distances) if math.isnan(distance)]
    marked = massive if len(massive) < len(distances) else []  # without a meter, no token has a distance
    if depends and column.arm not in ("unsteered", "prompted"):
        marked = [i for i, token in enumerate(column.tokens) if token.edited]
    return frame.token_strip([token.text for token in column.tokens], values, scale=scale, titles=titles, marked=marked)


@lru_cache(maxsize=frame.KEPT_SPANS)
def _title(token: Step, surprise: float) -> str:
    lines = [repr(token.text), f"distance {_shown(token.distance_after, '{:.2f}')}"]
    if not math.isnan(token.distance_before) and token.distance_before != token.distance_after:
        lines[-1] += f" (before the edit {token.distance_before:.2f})"
    lines.append(f"surprise {surprise:.2f} nats")
    if not math.isnan(token.kept_push):
        lines.append(f"kept {token.kept_push:.0%} of the push, cosine {token.cosine:.2f}, {token.correction:.2f} norms aside")
    return "\n".join(lines)


def _numbers(column: Column, milliseconds: float, live: bool) -> list[tuple[str, str]]:
    later = "…" if live else "–"
    return [
        ("log-probability", _shown(column.log_probability, "{:.2f} nats/token", later)),
        ("repetition", _repetition(column)),
        ("distance", _shown(column.distance, "{:.2f} (1 = typical)")),
        ("concept", _shown(column.concept, "{:.2f}", later)),
        ("kept push", _shown(column.kept_push, "{:.0%}")),
        ("time", _shown(milliseconds, "{:,.0f} ms/token")),
    ]


def _repetition(column: Column) -> str:
    return f"{_shown(column.repeated_tokens, '{:.0%}')} of tokens, {_shown(column.repetition, '{:.0%}')} of bigrams"


def _shown(value: float, form: str, missing: str = "–") -> str:
    return missing if math.isnan(value) else form.format(value)


def verdict_html(words: Verdict) -> str:
    """Return the HTML of the line under the board."""
    judgement, numbers = (html.escape(frame.visible(part)) for part in words)
    return f'<p class="glp-verdict"><strong>{judgement}</strong> {numbers}</p>'


def legend(colour: str) -> str:
    """Return the HTML of the legend for a colouring."""
    if colour == "distance":
        return frame.legend("1, typical", f"{FAR:g} or more, far", words="Manifold distance")
    if colour == "surprise":
        return frame.legend(
            "0", f"{SURPRISING:g} nats or more", words="Surprise of the unsteered model (while a column is written: its own)"
        )
    return '<div class="glp-legend">Hover over a token for its numbers.</div>'


def chart(comparison: Comparison) -> go.Figure:
    """Return the line chart of distance by token, with the band of real tokens shaded."""
    series, hover, names = {}, {}, {}
    for arm, column in comparison.columns.items():
        series[arm] = (list(range(1, len(column.tokens) + 1)), [token.distance_after for token in column.tokens])
        hover[arm] = [frame.visible(repr(token.text)) for token in column.tokens]
        names[arm] = charts.ARM_TITLES[arm]
    figure = charts.lines(series, names=names, hover=hover, x="token", y="manifold distance (1 = typical)", height=300)
    figure.update_xaxes(range=[0.5, comparison.request.max_tokens + 0.5])
    figure.update_yaxes(rangemode="tozero")
    if comparison.band:
        charts.shade(figure, *comparison.band, words="90% of real tokens", in_legend=True)
    return figure


def picture(comparison: Comparison) -> str:
    """Return the same chart as SVG, for streaming and for the exported page."""
    series = {arm: [token.distance_after for token in column.tokens] for arm, column in comparison.columns.items()}
    return svg.lines(
        [
            svg.Line(charts.ARM_TITLES[arm], values, charts.ARM_COLOURS[arm], charts.ARM_DASHES[arm])
            for arm, values in series.items()
        ],
        x="token",
        y="manifold distance (1 = typical)",
        length=comparison.request.max_tokens,
        band=comparison.band,
        band_words="90% of real tokens",
    )
