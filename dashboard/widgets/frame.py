"""What every page is made of: its frame, token strips, figures, boxes for errors and missing data, share and download.

Token text, messages and names are hostile: everything that goes into HTML here is escaped, and everything that goes into
Markdown is escaped too. Colours come from numbers only.
"""

import html
import math
import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import lru_cache
from typing import Any, NamedTuple

import plotly.graph_objects as go
import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from dashboard.widgets import charts, url
from dashboard.widgets.copy_button import copy_button
from glp_core.errors import GlpError

STYLE = """
.glp-strip{white-space:pre-wrap;overflow-wrap:anywhere;line-height:1.75;font-size:.95rem}
.glp-strip span{border-radius:3px;padding:.14em 0;box-decoration-break:clone;-webkit-box-decoration-break:clone;cursor:default}
.glp-strip span.glp-mark{outline:2px solid currentColor;outline-offset:-1px}
.glp-strip i{font-style:normal;opacity:.75;font-size:.85em}
.glp-legend{display:flex;align-items:center;gap:.5rem;font-size:.8rem;opacity:.9;flex-wrap:wrap}
.glp-ramp{display:inline-block;width:8rem;height:.75rem;border-radius:3px;border:1px solid rgba(128,128,128,.5)}
[data-testid=stMainBlockContainer]{padding-top:4.2rem;padding-left:2.5rem;padding-right:2.5rem}
[data-testid=stSidebarUserContent]{padding-bottom:1rem}
[data-testid=stHeading] h1{padding:.2rem 0 .5rem;font-size:2.1rem}
[data-testid=stStatusWidget] button{display:none}
[data-testid=stPageLink] a{padding-left:0;padding-right:0}
[data-testid=stPageLink] p{white-space:normal}
[data-testid=stHeading] h2{font-size:1.35rem;padding:.6rem 0 .3rem}
[data-testid=stCaptionContainer]{opacity:.78!important}
[data-testid=stCaptionContainer] p{color:inherit;opacity:1}
[data-testid=stAlert] code{color:inherit;background:none;padding:0}
.glp-question{font-size:1.05rem;opacity:.75;margin:-.6rem 0 0 0}
.glp-facts{display:grid;grid-template-columns:auto 1fr;gap:.1rem .8rem;margin:0!important;padding:0!important;font-size:.85rem}
.glp-facts dt{opacity:.75;white-space:nowrap;font-weight:400;margin:0;padding:0}
.glp-facts dd{margin:0!important;padding:0;font-variant-numeric:tabular-nums;overflow-wrap:anywhere}
"""
"""Styles of this module's HTML; `style()` puts them on the page, an exported file carries them itself."""
LIGHT_INK = "#4B5563"
"""Of the words in light figures: Streamlit's own grey has a contrast of 3.7:1 only."""
KEPT_SPANS = 4096
"""Tokens whose HTML is kept: while texts are written, the same ones are drawn again and again."""
COMMAND = re.compile(r"`((?:python -m glp_core|make) [^`\n]*)`")
"""As messages quote it."""
WORDING = "frame_wording"
"""Session key of how boxes put what they say."""
DARK_STYLE = """
[data-testid=stBaseButton-primary]:not(:hover,:active,:disabled),[data-testid=stMultiSelect] span[title]{color:#0B1220}
"""
"""White words on the dark theme's light blue would have a contrast of 3:1 only; under the pointer a button is darker."""


class File(NamedTuple):
    """One file of a page's Download menu."""

    label: str
    """What the button says, for example "JSON"."""
    name: str
    """File name."""
    data: str | bytes | Callable[[], str | bytes]
    """Contents, or a function that makes them when the file is taken."""
    mime: str
    """Media type."""


def style(*more: str) -> None:
    """Put the styles of this module's HTML, and `more`, on the page (the entry does it once)."""
    dark = DARK_STYLE if st.context.theme.type == "dark" else ""
    st.html(f"<style>{STYLE}{dark}{''.join(more)}</style>")


def page_frame(title: str, question: str, link: Iterable[url.Param] = ()) -> DeltaGenerator:
    """Draw a page's title, its question and what is wrong with its link; return the slot at the right of the title.

    Args:
        link: every parameter that the page's address may hold.
    """
    notes = url.read_link(title, link)
    left, right = st.columns([3, 2], vertical_alignment="bottom")
    with left:
        st.title(title, anchor=False)
    st.html(f'<p class="glp-question">{html.escape(question)}</p>')
    if notes:
        notice_box("\n".join(notes))
    return right.container(horizontal=True, horizontal_alignment="right")


def heading(words: str) -> None:
    """Draw a section's heading, one level below the page's title."""
    st.header(words, anchor=False)


def share(page: str, values: Mapping[str, object], *, leaves_out: str = "") -> None:
    """Draw the Share menu: the page's address with these query parameters, to copy; `leaves_out` says what it does not hold."""
    link = url.page_link(page, values)
    with st.popover("Share", icon=":material/share:"):
        st.caption(f"This address opens the page as it is now. {leaves_out}")
        copy_button(link, key=f"share_{page}")  # above the link, which may be long: the menu scrolls
        st.code(link, language=None, wrap_lines=True)


def download(files: Sequence[File], *, key: str) -> None:
    """Draw the Download menu; without files it is there, disabled. Taking a file does not run the page again."""
    with st.popover("Download", icon=":material/download:", disabled=not files):
        for i, file in enumerate(files):
            st.download_button(
                file.label, file.data, file_name=file.name, mime=file.mime, on_click="ignore", key=f"{key}_{i}", width="stretch"
            )


def check_size(size: int, most: int) -> None:
    """Raise GlpError when an upload has more bytes than `most` MB of 2**20, as its uploader counts them too."""
    if size > most << 20:
        raise GlpError(f"The file has {size:,} bytes, wanted at most {most << 20:,} ({most} MB).")


def how_to_read(words: str) -> None:
    """Draw the folded "How to read this" with our own Markdown (never a model's text)."""
    with st.expander("How to read this", icon=":material/help:"):
        st.markdown(words)


def figure(drawn: go.Figure, *, key: str, alt: str, **options: Any) -> Any:
    """Draw a figure of `charts` as wide as its place; `alt` says in words what it shows. Return its event."""
    if st.context.theme.type != "dark":
        charts.write_in(drawn, LIGHT_INK)
    config = {"displaylogo": False} | options.pop("config", {})
    return st.plotly_chart(drawn, width="stretch", key=key, alt=alt, config=config, **options)


def let_boxes_say(wording: Callable[[str], str]) -> None:
    """Let what this session's boxes say go through `wording` first (the entry does it): it knows the workspace, widgets do not."""
    st.session_state[WORDING] = wording


def _box_words(words: str) -> str:
    wording: Callable[[str], str] = st.session_state.get(WORDING, str)
    parts = COMMAND.split(wording(words))  # text, command, text, …
    return "".join(f"`{visible(part)}`" if i % 2 else plain_markdown(part) for i, part in enumerate(parts))


class StoppedHere(GlpError):
    """Work that the person at the page stopped: there is no result, and nothing is wrong."""


def error_box(error: Exception | str) -> None:
    """Show a GlpError (or its message) as plain text in a red box; what was stopped in a blue one."""
    if isinstance(error, StoppedHere):
        st.info(_box_words(str(error)), icon=":material/stop_circle:")
        return
    st.error(_box_words(str(error)), icon=":material/error:")


@contextmanager
def boxed_errors() -> Iterator[None]:
    """Show a GlpError of the block as a box in its place; anything else is a bug and goes on."""
    try:
        yield
    except GlpError as error:
        error_box(error)


def notice_box(words: str) -> None:
    """Show a message, plain text, in a yellow box."""
    st.warning(_box_words(words), icon=":material/warning:")


def empty_report(what: str, command: str, cost: str = "") -> None:
    """Say that something has not been measured yet, and which command makes it."""
    time = f" It takes {plain_markdown(cost)}." if cost else ""
    st.info(f"{plain_markdown(what)} is not there yet. Make it with this command.{time}", icon=":material/terminal:")
    st.code(command, language="bash")


def plain_markdown(words: str) -> str:
    """Escape text so that Markdown shows it letter by letter."""
    return re.sub(r"([!-/:-@\[-`{-~])", r"\\\1", visible(words)).replace("\n", "  \n")


def facts(pairs: Iterable[tuple[str, str]], *, title: str = "") -> str:
    """Return the HTML of a two-column list of names and values, escaped."""
    rows = "".join(f"<dt>{html.escape(visible(k))}</dt><dd>{html.escape(visible(v))}</dd>" for k, v in pairs)
    head = f"<strong>{html.escape(visible(title))}</strong>" if title else ""
    return f'{head}<dl class="glp-facts">{rows}</dl>'


def token_strip(
    tokens: Sequence[str],
    values: Sequence[float] | None,
    *,
    scale: tuple[float, float],
    titles: Sequence[str] | None = None,
    diverging: bool = False,
    marked: Iterable[int] = (),
) -> str:
    """Return tokens as escaped HTML spans whose background shows their values; draw it with st.html.

    Control characters, bidirectional overrides and invisible characters become visible signs, a newline shows as ↵ and a break,
    so no token can restyle the page, hide text or turn it around.

    Args:
        values: one per token; NaN gives no colour; None colours nothing.
        scale: values that get no and the full colour; diverging: the value of full blue and of full orange, 0 gets no colour.
        titles: text on hover, one per token; the value when None.
        diverging: colour signed values blue to orange.
        marked: positions to outline (massive activations, the chosen token).
    """
    chosen = set(marked)
    spans = []
    for i, token in enumerate(tokens):
        value = None if values is None else float(values[i])
        colour = "" if value is None or math.isnan(value) else _colour(value, scale, diverging)
        title = titles[i] if titles is not None else ("" if value is None else f"{value:.3g}")
        spans.append(_span(token, colour, title, i in chosen))
    return f'<div class="glp-strip">{"".join(spans)}</div>'


@lru_cache(maxsize=KEPT_SPANS)
def _span(token: str, colour: str, title: str, marked: bool) -> str:
    look = f' style="background-color:{colour}"' if colour else ""
    mark = ' class="glp-mark"' if marked else ""
    return f'<span{mark}{look} title="{html.escape(visible(title), quote=True)}">{token_html(token)}</span>'


def _colour(value: float, scale: tuple[float, float], diverging: bool) -> str:
    low, high = scale
    if diverging:
        end = high if value >= 0 else -low
        return charts.diverging(value / end if end > 0 else 0.0)
    return charts.sequential((value - low) / (high - low) if high > low else 0.0)


def legend(low: str, high: str, *, diverging: bool = False, words: str = "") -> str:
    """Return the HTML of a ramp between two labels, with a few words on what it shows."""
    stops = [-1, -0.5, 0, 0.5, 1] if diverging else [0, 0.5, 1]
    ramp = ",".join(charts.diverging(s) if diverging else charts.sequential(s) for s in stops)
    bar = f'<span class="glp-ramp" style="background:linear-gradient(to right,{ramp})"></span>'
    ends = f"<span>{html.escape(low)}</span>{bar}<span>{html.escape(high)}</span>"
    return f'<div class="glp-legend">{html.escape(words)} {ends}</div>'


def token_html(token: str) -> str:
    """Return a token's text as escaped HTML with visible signs for what cannot be seen."""
    if token and not token.strip(" "):
        return token[:-1] + "<i>␣</i>" if len(token) > 1 else " "
    pieces = []
    for part in re.split(r"(\r\n|\n)", token):
        pieces.append("<i>↵</i><br>" if part in ("\r\n", "\n") else html.escape(visible(part), quote=True))
    return "".join(pieces)


def visible(words: str) -> str:
    """Replace control, format, bidirectional and unassigned characters by visible signs; newlines stay."""
    if words.replace("\n", "").isprintable():  # most texts, and many a second
        return words
    return "".join(_sign(c) for c in words)


def _sign(character: str) -> str:
    code = ord(character)
    if character == "\n" or unicodedata.category(character)[0] != "C" and character not in "\u2028\u2029":
        return character
    if code < 0x20:
        return chr(0x2400 + code)
    return "␡" if code == 0x7F else f"⟨U+{code:04X}⟩"
