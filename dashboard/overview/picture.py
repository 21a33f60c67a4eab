"""The picture of the data flow: text, layers, activation, push, GLP, layers, text; and what is read on the way."""

import html

from dashboard.widgets import charts

LIGHT_TEXT, DARK_TEXT = "#31333F", "#E6E8EB"


def picture(layer: int, *, dark: bool) -> str:
    """Return the data flow as SVG: text, layers, activation, push, GLP, layers, text; and what is read on the way."""
    ink = DARK_TEXT if dark else LIGHT_TEXT
    boxes = [
        (10, "text", "your prompt", charts.GREY),
        (190, "layers", f"0 to {layer}", charts.GREY),
        (370, "activation", "+ strength × direction", charts.ORANGE),
        (590, "GLP", "add noise, denoise", charts.BLUE),
        (790, "layers", f"{layer + 1} to the last", charts.GREY),
        (970, "text", "steered and fluent", charts.GREY),
    ]
    widths = [150, 150, 190, 170, 150, 150]
    parts = []
    for (x, title, words, colour), width in zip(boxes, widths, strict=True):
        parts.append(
            f'<rect x="{x}" y="96" width="{width}" height="66" rx="10" fill="{colour}" fill-opacity="0.14" stroke="{colour}" '
            f'stroke-width="2"/>{_words(x + width / 2, 124, title, ink, bold=True)}{_words(x + width / 2, 146, words, ink)}'
        )
    for (x, *_), width, (after, *_) in zip(boxes, widths, boxes[1:], strict=False):
        parts.append(f'<path d="M{x + width + 3} 129H{after - 6}" stroke="{ink}" stroke-width="2" marker-end="url(#tip)"/>')
    reads = [(465, "Manifold distance", "how far from a real activation?"), (675, "Meta-neurons", "the GLP's hidden neurons")]
    for x, title, words in reads:
        parts.append(f'<path d="M{x} 94V66" stroke="{ink}" stroke-width="1.5" stroke-dasharray="4 4" marker-end="url(#tip)"/>')
        parts.append(_words(x, 32, title, ink, bold=True) + _words(x, 52, words, ink))
    tip = '<marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
    tip += f'<path d="M0 0L8 4L0 8z" fill="{ink}"/></marker>'
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 1130 172" font-family="sans-serif"><defs>{tip}</defs>'
        f"{''.join(parts)}</svg>"
    )


def _words(x: float, y: float, words: str, ink: str, *, bold: bool = False) -> str:
    weight = ' font-weight="600" font-size="17"' if bold else ' font-size="14" opacity="0.85"'
    return f'<text x="{x:.0f}" y="{y}" fill="{ink}" text-anchor="middle"{weight}>{html.escape(words)}</text>'
