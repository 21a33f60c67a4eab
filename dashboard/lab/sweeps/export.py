"""A sweep as files that leave: one HTML page that fetches nothing, lines of JSON, a table, and the settings that run it again."""

from __future__ import annotations

import html
import json
from base64 import b64encode

import pandas as pd
import plotly.graph_objects as go

from dashboard.lab.sweeps import figures, results
from dashboard.lab.sweeps.results import Shown
from dashboard.service import workspace_facts
from dashboard.widgets import charts, frame, starred
from dashboard.widgets.frame import File
from glp_core.files import Json
from glp_core.steering.sweeps.cells import DRAWN, PROMPTED, UNSTEERED
from glp_core.steering.sweeps.config import ARMS
from glp_core.steering.sweeps.runs import COLUMNS, RunFacts, as_line, rows

POLICY = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data: blob:"
PAGE = (
    "body{font-family:system-ui,sans-serif;max-width:78rem;margin:1.5rem auto;padding:0 1rem;background:#fff;color:#1f2937}"
    "h2{margin-top:2rem}summary{cursor:pointer;padding:.25rem 0}pre{overflow:auto;max-height:20rem;background:#f3f4f6;padding:.6rem}"
)
CLICK = (
    "document.querySelectorAll('.plotly-graph-div').forEach(function(f){if(f.on)f.on('plotly_click',function(e){"
    "var d=e.points[0].customdata;if(!d)return;var t=document.getElementById(f.dataset.along+'|'+d[0]+'|'+Number(d[1]));"
    "if(t){t.open=true;t.scrollIntoView({behavior:'smooth'})}})})"
)
"""A click on a point opens its texts."""


def files(facts: RunFacts, shown: Shown) -> list[File]:
    """Return the downloads of a run."""
    name = facts.id
    again = workspace_facts.command(f"sweep-steering {name}.json")  # the thread that makes a download has no session
    return [
        File("HTML report", f"{name}.html", lambda: as_html(facts, shown, again), "text/html"),
        File("Settings, to run again", f"{name}.json", lambda: as_settings(shown), "application/json"),
        File("JSON lines: texts", f"{name}.jsonl", lambda: "".join(map(as_line, _lines(shown))), "application/jsonl"),
        File("CSV: texts", f"{name}.csv", lambda: starred.as_csv(as_table(shown)), "text/csv"),
        File("JSON: what was found", f"{name}_report.json", lambda: json.dumps(shown.report, indent=1), "application/json"),
    ]


def _lines(shown: Shown) -> list[Json]:
    return list(rows(shown.config, shown.found, shown.judged))


def as_settings(shown: Shown) -> str:
    """Return the settings as JSON, for `sweep-steering` and for the form."""
    return json.dumps(shown.config.to_json(), indent=1, ensure_ascii=False) + "\n"


def as_table(shown: Shown) -> pd.DataFrame:
    """Return a row for every text."""
    return pd.DataFrame(_lines(shown), columns=list(COLUMNS)).assign(
        marks=lambda table: [json.dumps(marks) if marks else "" for marks in table["marks"]]
    )


def as_html(facts: RunFacts, shown: Shown, again: str) -> str:
    """Return one HTML file that opens anywhere: figures with their library in it, every text escaped, nothing fetched.

    `again`: the command that runs the sweep again.
    """
    from plotly.offline import get_plotlyjs

    body = [_head(facts, shown)]
    for name, entry in shown.report.items():
        body.append(_direction(shown, name, entry))
    settings = as_settings(shown)
    data = b64encode(settings.encode()).decode()
    body.append(
        f"<h2>Run it again</h2><p><a download='{facts.id}.json' href='data:application/json;base64,{data}'>Save the settings</a> and run "
        f"<code>{_safe(again)}</code>, or upload them to the form of the Lab page.</p><pre>{_safe(settings)}</pre>"
    )
    look = PAGE + frame.STYLE + results.STYLE
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}"><title>GLP Explorer: sweep</title><style>{look}</style>'
        f"<script>{get_plotlyjs()}</script></head><body>{''.join(body)}<script>{CLICK}</script></body></html>"
    )


def _head(facts: RunFacts, shown: Shown) -> str:
    config, made = shown.config, shown.config.made_with
    scorers = {
        "probe": "the direction's probe",
        "lexicon": f"words: {', '.join(config.scorer.words)}",
        "server": config.scorer.model,
    }
    llm = made.get("llm")
    listed = [
        ("Directions", ", ".join(one.title for one in config.directions)),
        ("Prompts, seeds", f"{len(config.prompts)}, {len(config.seeds)}"),
        ("Texts", f"at most {config.tokens} tokens, temperature {config.temperature:g}"),
        ("Concept scored by", scorers[config.scorer.kind]),
        ("Language model", str(llm.get("title") or llm.get("name")) if isinstance(llm, dict) else ""),
        ("Layer, prior, number type", f"{made.get('layer')}, {made.get('glp')}, {made.get('dtype')}"),
        ("Begun", f"{facts.begun} UTC, {facts.done:,} of {facts.total:,} texts ({facts.state})"),
    ]
    return f"<h1>Sweep: {_safe(facts.title or facts.id)}</h1>{frame.facts(listed)}"


def _direction(shown: Shown, name: str, entry: Json) -> str:
    from glp_core.steering.sweeps import words
    from glp_core.steering.sweeps.pairs import pairs

    parts = [f"<h2>{_safe(entry['title'])}</h2>", *(f"<p>{_safe(said)}</p>" for said in words.found(entry))]
    parts.append(_figure(figures.frontiers(entry), name))
    parts += [
        f"<h3>{_safe(charts.ARM_TITLES[arm])}</h3>{_figure(figures.heat_map(entry, arm), name)}"
        for arm in figures.heat_arms(entry)
    ]
    found = pairs(shown.config, shown.found, name, shown.judged)
    if found:
        other_way = pairs(shown.config, shown.found, name, shown.judged, best_of="walk")
        said = _safe(results.pair_words(found, other_way)).replace("**", "")
        parts.append(f"<h3>Equally fluent: raw against the walk</h3><p>{said}</p>{results.pairs_html(found)}")
    parts.append("<h3>All texts</h3><p>A click on a point of the figure opens its texts.</p>")
    order = [UNSTEERED, PROMPTED, DRAWN, *ARMS]
    for cell in sorted(shown.found, key=lambda cell: (order.index(cell.arm), cell.noise_level or 0.0, cell.strength)):
        entries = shown.found[cell]
        if cell.direction == name and cell.arm != DRAWN:
            boxes = "".join(results.box(shown, text, entries, f"seed {text.seed}") for text in entries)
            called = f"{charts.ARM_TITLES[cell.arm]}, strength {cell.strength:g}" + (
                "" if cell.noise_level is None else f", noise level {cell.noise_level:g}"
            )
            place = _safe(f"{name}|{cell.series}|{cell.strength:g}")
            parts.append(
                f'<details id="{place}"><summary>{_safe(called)}</summary><div class="glp-texts glp-two">{boxes}</div></details>'
            )
    return "".join(parts)


def _figure(figure: go.Figure, along: str) -> str:
    """Return a figure's HTML without its library; its place says whose texts a click opens."""
    charts.write_in(figure, frame.LIGHT_INK)
    made = figure.to_html(full_html=False, include_plotlyjs=False, config={"displaylogo": False})
    return str(made).replace('class="plotly-graph-div"', f'class="plotly-graph-div" data-along="{_safe(along)}"', 1)


def _safe(words: str) -> str:
    return html.escape(frame.visible(words), quote=True)
