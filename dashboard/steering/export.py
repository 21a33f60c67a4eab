"""A comparison as files that open anywhere: JSON with every number, and one HTML page that fetches and runs nothing."""

from __future__ import annotations

import html
import json
import math
from dataclasses import asdict
from typing import TYPE_CHECKING

from dashboard.steering import board
from dashboard.steering.comparison import Comparison
from dashboard.steering.request import PROJECTIONS, TUNED, Request
from dashboard.steering.verdict import verdict
from dashboard.widgets import charts, frame
from glp_core.files import Json

if TYPE_CHECKING:
    from glp_core.steering.generation import Step


def as_json(comparison: Comparison, facts: Json) -> str:
    """Return the comparison as JSON: request, every token's numbers, summaries; numbers that are none are null."""
    columns = [
        {
            "arm": column.arm,
            "text": column.text,
            "log_probability": column.log_probability,
            "repetition": column.repetition,
            "repeated_tokens": column.repeated_tokens,
            "distance": column.distance,
            "concept": column.concept,
            "kept_push": column.kept_push,
            "cosine": column.cosine,
            "correction": column.correction,
            "distance_pushed": column.distance_pushed,
            "tokens": [_token(token) for token in column.tokens],
            "clean_log_probabilities": column.reading.log_probabilities if column.reading else None,
        }
        for column in comparison.columns.values()
    ]
    words = verdict(comparison)
    value = {
        "format": "glp-explorer steering 1",
        "workspace": facts,
        "request": _request(comparison.request),
        "finished": comparison.finished,
        "band": comparison.band,
        "milliseconds_per_step": comparison.milliseconds,
        "verdict": " ".join(words) if words else None,
        "columns": columns,
    }
    return json.dumps(_no_nan(value), indent=1, ensure_ascii=False)


def as_text(comparison: Comparison) -> str:
    """Return the texts and what is said of them as plain text, to paste into a message; signs that cannot be seen are shown."""
    request, words = comparison.request, verdict(comparison)
    head = f"{request.title}, strength {request.strength:+g} × median norm, seed {request.seed}\nPrompt: {request.prompt}"
    columns = [f"{charts.ARM_TITLES[column.arm]}:\n{_line_ends(column.text)}" for column in comparison.columns.values()]
    return frame.visible("\n\n".join([head, *columns, *([" ".join(words)] if words else [])]) + "\n")


def _line_ends(text: str) -> str:
    """Return a text whose line breaks at its end are signs: a column that breaks into nothing else would look whole."""
    kept = text.strip(" ")
    words = kept.rstrip("\n")
    return words + "↵" * (len(kept) - len(words))


def _token(token: Step) -> Json:
    """Return a token's numbers under the names that files of before have."""
    return {
        "arm": token.arm,
        "id": token.token,
        "text": token.text,
        "log_probability": token.log_probability,
        "distance_before": token.distance_before,
        "distance": token.distance_after,
        "kept": token.kept_push,
        "cosine": token.cosine,
        "correction": token.correction,
        "distance_pushed": token.distance_pushed,
        "seconds": token.seconds,
    }


def _no_nan(value: object) -> object:
    if isinstance(value, dict):
        return {key: _no_nan(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_no_nan(item) for item in value]
    return None if isinstance(value, float) and math.isnan(value) else value


def as_html(comparison: Comparison, colour: str, facts: Json, link: str) -> str:
    """Return one HTML file that opens anywhere: nothing is fetched, nothing runs, every text is escaped."""
    request = comparison.request
    settings = [
        ("Prompt", request.prompt),
        ("Mode", request.mode),
        ("Direction", request.title),
        ("Strength", f"{request.strength:+g} × median norm"),
        *_projections(request),
        ("Sampling", f"temperature {request.temperature:g}, seed {request.seed}, at most {request.max_tokens} tokens"),
        *((str(key), str(value)) for key, value in facts.items()),
        ("Address", link),
    ]
    words = verdict(comparison)
    line = board.verdict_html(words) if words else ""
    look = frame.STYLE + board.BOARD_STYLE
    body = (
        f"<h1>Steering towards “{html.escape(frame.visible(request.title))}”</h1>{frame.facts(settings)}"
        f"<div class='bar'>{board.legend(colour)}</div>{board.board(comparison, colour)}{line}"
        f"<h2>Distance by token</h2>{board.picture(comparison)}"
    )
    page = "body{font-family:system-ui,sans-serif;max-width:75rem;margin:1.5rem auto;padding:0 1rem;color-scheme:light dark}"
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">"
        f"<title>GLP Explorer: steering</title><style>{page}.bar{{margin:1rem 0 .5rem}}{look}</style></head><body>{body}</body></html>"
    )


def _request(request: Request) -> Json:
    """Return a request with the numbers that its walk really took: a tuned one has none of its own."""
    unused = dict.fromkeys(("walk_noise", "pushes", "hold", "bound")) if request.walk == TUNED else {}
    return asdict(request) | unused | {"walk_went": _walk(request)}


def _walk(request: Request) -> str:
    walk = request.walk_numbers
    return walk.words if walk else "as tuned, by the length of the push"


def _projections(request: Request) -> list[tuple[str, str]]:
    """Return how each projection of a comparison was set up."""
    noise = f"noise level {request.noise_level:g}"
    settings = {
        "walk": _walk(request),
        "glp": f"{noise}, {request.solver}, {request.steps} steps",
        "norm": "to the norm before the push",
        "gaussian": noise,
    }
    return [(name.capitalize(), settings[arm]) for name, arm in PROJECTIONS.items() if arm in request.arms]
