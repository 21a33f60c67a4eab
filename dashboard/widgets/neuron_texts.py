"""A meta-neuron's texts as escaped HTML, every token's value as its colour, and its description."""

import html
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from dashboard.widgets import charts
from dashboard.widgets.frame import token_html, visible
from dashboard.widgets.numbers import PACKED_DIGITS, TRUE_DIGITS, in_tails, signed, value_words

if TYPE_CHECKING:
    from glp_core.neuron_index.neuron_data import Neuron, SideEvidence, Snippet

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
.glp-texts i{font-style:normal;opacity:.75;font-size:.85em}
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


def texts_html(neuron: "Neuron", snippets: Sequence["Snippet"], *, context: Context = "snippet", breaks: bool = True) -> str:
    """Return a neuron's texts as escaped HTML: value in tails, raw value and source, then the tokens in colour; a click opens the whole.

    Args:
        context: how much around the peak is shown: +-16 tokens, all tokens that keep a value, or the whole text.
        breaks: show line breaks as ↵ and a new line; otherwise as ↵ alone.
    """
    if not snippets:
        return '<div class="glp-texts"><p>No sampled text has a value here.</p></div>'
    rows = [_row(snippet, neuron, context, breaks) for snippet in snippets]
    return f'<div class="glp-texts">{"".join(rows)}</div>'


def _row(snippet: "Snippet", neuron: "Neuron", context: Context, breaks: bool) -> str:
    start, stop = _range(snippet, context)
    tokens = "".join(_token(snippet, i, neuron, breaks) for i in range(start, stop))
    before, after = "…" if start > 0 else "", "…" if stop < len(snippet.pieces) else ""
    source = html.escape(visible(snippet.source.split("_", 1)[-1].replace("_", " ")), quote=True)
    value = f'<b title="{value_words(snippet.value, neuron.tail)}">{in_tails(snippet.value, neuron.tail)}</b>'
    small = f'<small title="{source}">{signed(snippet.value)}<br>{source}</small>'
    head = f"{value}<div>{before}{tokens}{after}</div>{small}"
    whole = html.escape(visible("".join(snippet.pieces)))
    return f'<details><summary>{head}</summary><p lang="">{whole}</p></details>'


def _range(snippet: "Snippet", context: Context) -> tuple[int, int]:
    if context == "full":
        return 0, len(snippet.pieces)
    if context == "window":
        return snippet.start, snippet.stop
    return max(snippet.start, snippet.peak - SNIPPET_TOKENS), min(snippet.stop, snippet.peak + SNIPPET_TOKENS + 1)


def _token(snippet: "Snippet", i: int, neuron: "Neuron", breaks: bool) -> str:
    text, value = token_html(snippet.pieces[i]), float(snippet.values[i])
    text = text if breaks else text.replace("<br>", " ")
    if not math.isfinite(value):
        return f"<span>{text}</span>"
    peak, digits = (' class="peak"', TRUE_DIGITS) if i == snippet.peak else ("", PACKED_DIGITS)
    colour, title = charts.diverging(shade(value, neuron.scale)), value_words(value, neuron.tail, digits)
    return f'<span{peak} style="background-color:{colour}" title="{title}">{text}</span>'


def description_html(neuron: "Neuron") -> str:
    """Return the neuron's description, escaped, with who made it and, where measured, how true it is on held-out tokens."""
    if not neuron.description:
        return "<em>no description</em>"
    made = html.escape(visible(neuron.described_by))
    words = html.escape(visible(neuron.description))
    tag = f'{words} <small class="glp-tag" title="Who described the neuron">{made}</small>'
    measured = [
        f"{name}: {evidence_words(side)}" for name, side in (("high", neuron.high), ("low", neuron.low)) if side and side.keys
    ]
    return tag + (f"<br><small>{html.escape(' · '.join(measured))}</small>" if measured else "")


def evidence_words(side: "SideEvidence") -> str:
    """Return how true a side's description is: precision and recall on held-out tokens, with their numbers."""
    if side.precision is None or side.recall is None:
        return f"not measured: it fires on {side.firing} held-out tokens"
    if not side.named:
        return f"found none of {side.firing:,} tokens"
    return f"right {side.precision:.0%} of {side.named:,} token{'s' * (side.named != 1)}, found {side.recall:.0%} of {side.firing:,}"
