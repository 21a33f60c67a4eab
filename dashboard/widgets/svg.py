"""Small charts as SVG text: for pictures that are redrawn many times a second, and for files that open anywhere.

Strokes and texts are mid-grey or the palette's, readable on light and dark. Knows numbers and names; escapes every text.
"""

import base64
import html
import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

DASH_PATTERNS = {
    "solid": "",
    "dot": "2 3",
    "dash": "7 4",
    "dashdot": "7 3 2 3",
    "longdash": "12 4",
    "longdashdot": "12 4 2 4",
}
"""Of plotly's names; it also takes lengths, such as 3px,8px."""
GREY = "#808790"
BAND = 'fill="#2A9D6F" opacity="0.16"'


class Line(NamedTuple):
    """One line of a chart."""

    name: str
    values: Sequence[float]
    """One a token; nan leaves a gap."""
    colour: str
    dash: str
    """As plotly has it: a key of DASH_PATTERNS, or lengths."""


def lines(
    drawn: Sequence[Line],
    *,
    x: str,
    y: str,
    length: int,
    band: tuple[float, float] | None = None,
    band_words: str = "",
    width: int = 1000,
    height: int = 300,
) -> str:
    """Return a line chart of values by position, 1 to at least `length`, with a shaded band."""
    left, right, top, bottom = 48, 12, 30, 40
    numbers = [v for line in drawn for v in line.values if not math.isnan(v)]
    high = 1.08 * max([*numbers, (band or (0, 1))[1], 1.0])
    count = max([2, length, *(len(line.values) for line in drawn)])

    def at(position: float, value: float) -> str:
        across = left + (width - left - right) * (position - 1) / (count - 1)
        return f"{across:.1f},{top + (height - top - bottom) * (1 - value / high):.1f}"

    parts = []
    if band:
        (x0, y0), (x1, y1) = (at(1, band[1]).split(","), at(count, band[0]).split(","))
        parts.append(
            f'<rect x="{x0}" y="{y0}" width="{float(x1) - float(x0):.1f}" height="{float(y1) - float(y0):.1f}" {BAND}/>'
        )
    for tick in _ticks(high):
        across, down = at(1, tick).split(",")
        parts.append(f'<line x1="{across}" x2="{width - right}" y1="{down}" y2="{down}" stroke="{GREY}" opacity="0.25"/>')
        parts.append(_text(left - 6, float(down) + 4, f"{tick:g}", anchor="end"))
    for line in drawn:
        parts += [_path(points, line) for points in _runs(line.values, at)]
    offset = left
    for line in drawn:
        parts.append(_path([f"{offset},12", f"{offset + 28},12"], line))
        parts.append(_text(offset + 34, 16, line.name))
        offset += 60 + 7 * len(line.name)
    if band:
        parts.append(f'<rect x="{offset}" y="6" width="28" height="12" {BAND}/>' + _text(offset + 34, 16, band_words))
    parts.append(_text((left + width) / 2, height - 8, x, anchor="middle"))
    parts.append(_text(left, height - 24, "1", anchor="middle") + _text(width - right, height - 24, str(count), anchor="end"))
    parts.append(
        f'<g transform="translate(13 {(top + height - bottom) / 2}) rotate(-90)">{_text(0, 0, y, anchor="middle")}</g>'
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="100%" role="img" '
        f'aria-label="{html.escape(y)} by {html.escape(x)}" font-family="sans-serif">{"".join(parts)}</svg>'
    )


def image(drawn: str, alt: str) -> str:
    """Return an SVG as an <img> tag that st.html lets through."""
    data = base64.b64encode(drawn.encode()).decode()
    return f'<img alt="{html.escape(alt, quote=True)}" style="width:100%" src="data:image/svg+xml;base64,{data}">'


def _text(x: float, y: float, words: str, *, anchor: str = "start") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" fill="{GREY}" font-size="12" text-anchor="{anchor}">{html.escape(words)}</text>'


def _path(points: Sequence[str], line: Line) -> str:
    dash = DASH_PATTERNS.get(line.dash, line.dash.replace("px", "").replace(",", " "))
    pattern = f' stroke-dasharray="{dash}"' if dash else ""
    return f'<polyline points="{" ".join(points)}" fill="none" stroke="{line.colour}" stroke-width="2"{pattern}/>'


def _runs(values: Sequence[float], at: Callable[[int, float], str]) -> list[list[str]]:
    runs: list[list[str]] = [[]]
    for i, value in enumerate(values, 1):
        if not math.isnan(value):
            runs[-1].append(at(i, value))
        elif runs[-1]:
            runs.append([])
    return [run for run in runs if run]


def _ticks(high: float) -> list[float]:
    step = next(s * 10.0**e for e in range(-2, 6) for s in (1, 2, 5) if high / (s * 10.0**e) <= 6)
    return [i * step for i in range(int(high / step) + 1)]
