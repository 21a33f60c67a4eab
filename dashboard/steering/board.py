"""How a steering comparison looks: the board of columns, the distance chart, and the files to download. HTML is escaped here."""

import html
import json
from dataclasses import asdict
from typing import Any

import plotly.graph_objects as go

from dashboard.steering.request import Column, Comparison, Token
from dashboard.widgets import charts, frame, svg

FAR = 3.0
"""Manifold distance that gets the full colour; 1 is a typical real token."""
SURPRISING = 8.0
"""Surprise in nats that gets the full colour."""

BOARD_STYLE = """
.glp-board{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,210px),1fr));gap:.8rem}
.glp-card{border:1px solid rgba(128,128,128,.35);border-top-width:4px;border-radius:8px;padding:.6rem .8rem;min-width:0;
display:flex;flex-direction:column;gap:.5rem}
.glp-card h4{margin:0;padding:0;font-size:1rem;font-weight:600}
.glp-card h4 small{font-weight:400;opacity:.7;font-size:.8rem;margin-left:.4rem}
.glp-card .glp-strip{min-height:9.5rem;flex:1}
.glp-card .glp-facts{border-top:1px solid rgba(128,128,128,.25);padding-top:.4rem}
.glp-caret{display:inline-block;width:.5em;height:1em;vertical-align:text-bottom;background:currentColor;opacity:.6}
"""


def board(told: Comparison, colour: str, *, live: bool = False) -> str:
    """Return the HTML of the columns, tokens coloured by distance, surprise or none."""
    cards = "".join(_card(told, column, colour, live) for column in told.columns.values())
    return f'<div class="glp-board">{cards}</div>'


def _card(told: Comparison, column: Column, colour: str, live: bool) -> str:
    if column.tokens:
        strip = _strip(column, colour)
    else:
        strip = f'<div class="glp-strip" style="opacity:.6">{"…" if live else "No text."}</div>'
    edge = charts.ARM_COLOURS[column.arm]
    head = f"<h4>{html.escape(charts.ARM_TITLES[column.arm])}<small>{html.escape(_subtitle(told, column.arm))}</small></h4>"
    numbers = frame.facts(_numbers(column, told.milliseconds, live))
    return f'<div class="glp-card" data-arm="{column.arm}" style="border-top-color:{edge}">{head}{strip}{numbers}</div>'


def _subtitle(told: Comparison, arm: str) -> str:
    wanted = told.request
    push = f"{wanted.strength:+.2g} × median norm"
    noise = f"noise {wanted.noise_level:g}"
    more = {
        "unsteered": "as the model writes",
        "raw": push,
        "glp": f"{push}, {noise}",
        "norm": f"{push}, old norm",
        "gaussian": f"{push}, {noise}",
    }
    return more[arm]


def _strip(column: Column, colour: str) -> str:
    surprise = column.surprise()
    values = {"distance": [t.distance for t in column.tokens], "surprise": surprise, "none": None}[colour]
    scale = (0.0, SURPRISING) if colour == "surprise" else (1.0, FAR)
    titles = [_title(token, nats) for token, nats in zip(column.tokens, surprise, strict=True)]
    marked = [i for i, token in enumerate(column.tokens) if token.distance != token.distance and _measured(column)]
    return frame.token_strip([t.text for t in column.tokens], values, scale=scale, titles=titles, marked=marked)


def _measured(column: Column) -> bool:
    return any(token.distance == token.distance for token in column.tokens)


def _title(token: Token, surprise: float) -> str:
    lines = [repr(token.text), f"distance {_shown(token.distance, '{:.2f}')}"]
    if token.distance_before == token.distance_before and token.distance_before != token.distance:
        lines[-1] += f" (before the edit {token.distance_before:.2f})"
    lines.append(f"surprise {surprise:.2f} nats")
    if token.kept == token.kept:
        lines.append(f"kept {token.kept:.0%} of the push")
    return "\n".join(lines)


def _numbers(column: Column, milliseconds: float, live: bool) -> list[tuple[str, str]]:
    later = "…" if live else "–"
    return [
        ("log-probability", _shown(column.log_probability, "{:.2f} nats/token", later)),
        ("repetition", _shown(column.repetition, "{:.0%} of bigrams")),
        ("distance", _shown(column.distance, "{:.2f} (1 = typical)")),
        ("concept", _shown(column.concept, "{:.2f}", later)),
        ("kept push", _shown(column.kept, "{:.0%}")),
        ("time", _shown(milliseconds, "{:.0f} ms/token")),
    ]


def _shown(value: float, form: str, missing: str = "–") -> str:
    return missing if value != value else form.format(value)


def legend(colour: str) -> str:
    """Return the HTML of the legend for a colouring."""
    if colour == "distance":
        return frame.legend("1, typical", f"{FAR:g} or more, far", words="Manifold distance")
    if colour == "surprise":
        return frame.legend(
            "0", f"{SURPRISING:g} nats or more", words="Surprise of the unsteered model (while writing, of the column's own)"
        )
    return '<div class="glp-legend">Hover a token for its numbers.</div>'


def chart(told: Comparison) -> go.Figure:
    """Return the line chart of distance by token, with the band of real tokens shaded."""
    series, hover, names = {}, {}, {}
    for arm, column in told.columns.items():
        series[arm] = (list(range(1, len(column.tokens) + 1)), [t.distance for t in column.tokens])
        hover[arm] = [frame.visible(repr(t.text)) for t in column.tokens]
        names[arm] = charts.ARM_TITLES[arm]
    figure = charts.lines(series, names=names, hover=hover, x="token", y="manifold distance (1 = typical)", height=300)
    figure.update_xaxes(range=[0.5, told.request.max_tokens + 0.5])
    figure.update_yaxes(rangemode="tozero")
    if told.band:
        charts.shade(figure, *told.band, words="90% of real tokens")
    return figure


def picture(told: Comparison) -> str:
    """Return the same chart as SVG, for streaming and for the exported page."""
    series = {arm: [t.distance for t in column.tokens] for arm, column in told.columns.items()}
    return svg.lines(
        [
            svg.Line(charts.ARM_TITLES[arm], values, charts.ARM_COLOURS[arm], charts.ARM_DASHES[arm])
            for arm, values in series.items()
        ],
        x="token",
        y="manifold distance (1 = typical)",
        length=told.request.max_tokens,
        band=told.band,
        band_words="90% of real tokens",
    )


def as_json(told: Comparison, facts: dict[str, Any]) -> str:
    """Return the comparison as JSON: request, every token's numbers, summaries; numbers that are none are null."""
    columns = [
        {
            "arm": column.arm,
            "text": column.text,
            "log_probability": column.log_probability,
            "repetition": column.repetition,
            "distance": column.distance,
            "concept": column.concept,
            "kept_push": column.kept,
            "tokens": [token._asdict() for token in column.tokens],
            "clean_log_probabilities": column.reading.log_probabilities if column.reading else None,
        }
        for column in told.columns.values()
    ]
    value = {
        "format": "glp-explorer steering 1",
        "workspace": facts,
        "request": asdict(told.request),
        "finished": told.finished,
        "band": told.band,
        "milliseconds_per_step": told.milliseconds,
        "columns": columns,
    }
    return json.dumps(_no_nan(value), indent=1, ensure_ascii=False)


def _no_nan(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _no_nan(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_no_nan(item) for item in value]
    return None if isinstance(value, float) and value != value else value


def as_html(told: Comparison, colour: str, facts: dict[str, Any], link: str) -> str:
    """Return one HTML file that opens anywhere: nothing is fetched, nothing runs, every text is escaped."""
    wanted = told.request
    settings = [
        ("Prompt", wanted.prompt),
        ("Mode", wanted.mode),
        ("Direction", wanted.title),
        ("Strength", f"{wanted.strength:+g} × median norm"),
        ("Projection", f"noise level {wanted.noise_level:g}, {wanted.solver}, {wanted.steps} steps"),
        ("Sampling", f"temperature {wanted.temperature:g}, seed {wanted.seed}, at most {wanted.max_tokens} tokens"),
        *((str(key), str(value)) for key, value in facts.items()),
        ("Address", link),
    ]
    look = frame.STYLE + BOARD_STYLE
    body = (
        f"<h1>Steering towards “{html.escape(frame.visible(wanted.title))}”</h1>{frame.facts(settings)}"
        f"<div class='bar'>{legend(colour)}</div>{board(told, colour)}"
        f"<h2>Distance by token</h2>{picture(told)}"
    )
    page = "body{font-family:system-ui,sans-serif;max-width:75rem;margin:1.5rem auto;padding:0 1rem;color-scheme:light dark}"
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">"
        f"<title>GLP Explorer: steering</title><style>{page}.bar{{margin:1rem 0 .5rem}}{look}</style></head><body>{body}</body></html>"
    )
