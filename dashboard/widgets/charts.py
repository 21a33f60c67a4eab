"""Plotly figures with one look, and the palette: numbers in, figures out.

Colours work on light and dark pages (at least 3:1 for lines) and for colour-blind readers; a second mark (dash, symbol, value
on hover) always says the same as the colour. Knows nothing of Streamlit: draw with `components.figure`.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import plotly.graph_objects as go

GREY, ORANGE, BLUE, GREEN, PURPLE = "#858B95", "#DD6B10", "#2F7FD1", "#2A9D6F", "#9A6BD0"
BROWN, ROSE, TEAL, OLIVE = "#9A7B3E", "#C2456E", "#2E8FA3", "#7F8A2B"

ARM_TITLES = {
    "unsteered": "Unsteered",
    "raw": "Raw steered",
    "walk": "Manifold walk",
    "glp": "Paper's projection",
    "norm": "Norm-restored",
    "gaussian": "Gaussian prior",
    "prompted": "Prompted",
    "opposite": "Wrong sign",
    "random": "Random direction",
}
"""The arms of a comparison, as every page calls them."""
ARM_COLOURS = {
    "unsteered": GREY, "raw": ORANGE, "walk": GREEN, "glp": BLUE, "norm": BROWN, "gaussian": PURPLE, "prompted": ROSE,
    "opposite": TEAL, "random": OLIVE,
}  # fmt: skip
"""The arms keep these colours on every page."""
ARM_DASHES = {
    "unsteered": "dot", "raw": "dash", "walk": "solid", "glp": "longdashdot", "norm": "dashdot", "gaussian": "longdash",
    "prompted": "3px,8px", "opposite": "12px,3px,2px,3px", "random": "2px,4px,8px,4px",
}  # fmt: skip
CATEGORIES = (BLUE, ORANGE, GREEN, PURPLE, GREY)
"""For anything else that needs telling apart, in this order."""

BAND = "rgba(42,157,111,0.16)"
"""Fill of a good range (on the manifold); use AMBER and RED for the zones beyond it."""
AMBER, RED = "rgba(221,160,16,0.16)", "rgba(208,60,60,0.18)"

SEQUENTIAL_HUE, NEGATIVE_HUE, POSITIVE_HUE = (146, 64, 196), (24, 112, 205), (222, 100, 10)
STRONGEST = 0.58
"""Opacity at the end of a ramp: text in the page's colour stays readable on it (4.5:1), light and dark."""

TOOLBAR = 32
"""Pixels at a figure's right for plotly's buttons, one under another; across the top they would cover the legend."""
COLOUR_BAR = {"thickness": 12, "xpad": 22}
"""Look of a bar that explains colours: its numbers end where those buttons begin."""


def sequential(share: float) -> str:
    """Return a CSS colour for 0 (none) to 1 (most): one hue over the page's background."""
    return _rgba(SEQUENTIAL_HUE, share)


def diverging(share: float) -> str:
    """Return a CSS colour for -1 (blue) over 0 (none) to 1 (orange)."""
    return _rgba(POSITIVE_HUE if share >= 0 else NEGATIVE_HUE, abs(share))


def _rgba(hue: tuple[int, int, int], share: float) -> str:
    opacity = STRONGEST * min(1.0, max(0.0, share)) if not math.isnan(share) else 0.0
    return f"rgba({hue[0]},{hue[1]},{hue[2]},{opacity:.3f})"


NEGATIVE, POSITIVE = "#1870CD", "#DE640A"
"""Lines and bars of signed values, as the ends of the diverging ramp."""

SEQUENTIAL_SCALE = [[0.0, "#EADDF3"], [0.25, "#C9A2E3"], [0.5, "#A86BD0"], [0.75, "#7F3FAE"], [1.0, "#4E1B75"]]
"""Plotly colorscale of the sequential ramp, for heatmaps and for points coloured by a value."""
DIVERGING_SCALE = [
    [0.0, "rgba(24,112,205,1)"], [0.25, "rgba(24,112,205,0.5)"], [0.5, "rgba(128,128,128,0.06)"], [0.75, "rgba(222,100,10,0.5)"],
    [1.0, "rgba(222,100,10,1)"],
]  # fmt: skip
"""Plotly colorscale for signed values over the page's background; set cmid=0."""


def size_ramp(n: int) -> list[str]:
    """Return n colours from small to large (for example model sizes): one ramp from green over blue to purple."""
    stops = ((42, 170, 110), (47, 127, 209), (154, 80, 200))
    return [_between(stops, i / max(1, n - 1)) for i in range(n)]


def _between(stops: Sequence[tuple[int, int, int]], share: float) -> str:
    position = share * (len(stops) - 1)
    i = min(int(position), len(stops) - 2)
    part = position - i
    return "#" + "".join(f"{round(a + (b - a) * part):02X}" for a, b in zip(stops[i], stops[i + 1], strict=True))


def layout(
    figure: go.Figure,
    *,
    x: str = "",
    y: str = "",
    height: int = 320,
    log_x: bool = False,
    log_y: bool = False,
    legend: bool = True,
) -> go.Figure:
    """Give a figure the common look: axis titles with units, legend above, buttons at the right, hover per point; return it."""
    look = figure.layout  # set one by one: update_layout and update_xaxes take three times as long
    look.height, look.showlegend = height, legend
    look.margin = {"l": 8, "r": TOOLBAR, "t": 28 if legend else 8, "b": 8}
    for axis, title, log in ((look.xaxis, x, log_x), (look.yaxis, y, log_y)):
        axis.title, axis.type, axis.zeroline, axis.automargin = title, "log" if log else None, False, True
    look.legend = {"orientation": "h", "x": 0, "y": 1.02, "xanchor": "left", "yanchor": "bottom"}
    look.paper_bgcolor = look.plot_bgcolor = look.modebar.bgcolor = "rgba(0,0,0,0)"
    look.modebar.orientation, look.modebar.remove = "v", "autoscale"
    look.hoverlabel.namelength = -1
    return figure


def write_in(figure: go.Figure, ink: str) -> None:
    """Write a figure's axes and notes in a colour, but for notes that have one of their own."""
    for axis in (*figure.select_xaxes(), *figure.select_yaxes()):
        axis.tickfont.color = axis.title.font.color = ink
    for note in figure.layout.annotations:
        note.font.color = note.font.color or ink


def shade(
    figure: go.Figure,
    low: float,
    high: float,
    *,
    colour: str = BAND,
    words: str = "",
    at: str = "top left",
    in_legend: bool = False,
) -> go.Figure:
    """Shade the y range low to high across the whole figure, with a few words at one of its corners; return the figure.

    Args:
        in_legend: say the words in the legend, where lines may run anywhere in the range.
    """
    said = {"name": words, "showlegend": True} if in_legend else {"annotation_text": words, "annotation_position": at}
    figure.add_hrect(y0=low, y1=high, fillcolor=colour, line_width=0, layer="below", **said)
    return figure


def lines(
    series: Mapping[str, tuple[Sequence[float], Sequence[float]]],
    *,
    names: dict[str, str] | None = None,
    hover: Mapping[str, Sequence[str]] | None = None,
    **look: Any,
) -> go.Figure:
    """Draw one line a key (x values, y values); keys that name an arm get its colour and dash.

    Args:
        names: what the legend says for a key.
        hover: one plain text a point; it is escaped here.
        look: passed to `layout`.
    """
    figure = go.Figure()
    for i, (key, (x, y)) in enumerate(series.items()):
        colour = ARM_COLOURS.get(key, CATEGORIES[i % len(CATEGORIES)])
        text = [plain(t) for t in hover[key]] if hover and key in hover else None
        figure.add_scatter(
            x=list(x),
            y=list(y),
            name=(names or {}).get(key, key),
            mode="lines+markers",
            line={"color": colour, "dash": ARM_DASHES.get(key, "solid"), "width": 2},
            marker={"size": 4},
            text=text,
            hovertemplate="%{text}<br>%{y:.3g}" if text else "%{x}: %{y:.3g}",
        )
    return layout(figure, **look)


def plain(text: str) -> str:
    """Escape what plotly would read as markup in hover texts."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
