"""A meta-neuron's texts as escaped HTML, every token's value as its colour, and its description."""

import html
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from dashboard.widgets import charts
from dashboard.widgets.frame import token_html, visible
from dashboard.widgets.numbers import PACKED_DIGITS, TRUE_DIGITS, signed

if TYPE_CHECKING:
    from glp_core.neuron_index.neuron_data import Neuron, Snippet

Context = Literal["snippet", "window", "full"]
SNIPPET_TOKENS = 16
"""Tokens shown on either side of the peak."""

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
        scale: the value of full colour, the same for all lists of a neuron.
        context: how much around the peak is shown: +-16 tokens, all tokens that keep a value, or the whole text.
        breaks: show line breaks as ↵ and a new line; otherwise as ↵ alone.
    """
    if not snippets:
        return '<div class="glp-texts"><p>No sampled text has a value here.</p></div>'
    rows = [_row(snippet, scale, context, breaks) for snippet in snippets]
    return f'<div class="glp-texts">{"".join(rows)}</div>'


def _row(snippet: "Snippet", scale: float, context: Context, breaks: bool) -> str:
    start, stop = _range(snippet, context)
    tokens = "".join(_token(snippet, i, scale, breaks) for i in range(start, stop))
    before, after = "…" if start > 0 else "", "…" if stop < len(snippet.pieces) else ""
    source = html.escape(visible(snippet.source.split("_", 1)[-1].replace("_", " ")), quote=True)
    head = f'<b>{signed(snippet.value)}</b><div>{before}{tokens}{after}</div><small title="{source}">{source}</small>'
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
    peak, digits = (' class="peak"', TRUE_DIGITS) if i == snippet.peak else ("", PACKED_DIGITS)
    return f'<span{peak} style="background-color:{charts.diverging(shade(value, scale))}" title="{signed(value, digits)}">{text}</span>'


def description_html(neuron: "Neuron") -> str:
    """Return the neuron's description, escaped, with who made it."""
    if not neuron.description:
        return "<em>no description</em>"
    made = html.escape(visible(neuron.described_by))
    return f'{html.escape(visible(neuron.description))} <small class="glp-tag" title="Who described the neuron">{made}</small>'
