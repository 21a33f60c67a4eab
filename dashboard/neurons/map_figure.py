"""The map of all neurons as a WebGL scatter: points coloured by a property, those that a search misses dimmed, regions by name."""

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Literal

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from dashboard.widgets import charts, labels
from dashboard.widgets.starred import neuron_name
from glp_core.data.task_words import task_words
from glp_core.files import Json

if TYPE_CHECKING:
    from glp_core.neurons.regions import Region

Colouring = Literal["layer", "kurtosis", "best task"]
KINDS = {"concepts": "concept profile (every task)", "writes": "write direction"}
HEIGHT = 620
"""Pixels."""
MOST_REGIONS = 40
LONGEST_NAME = 30
"""Characters of a region's name on the map."""
NAMED_TASKS = 8
"""Tasks that get a colour of their own; the others share grey."""


def hover_texts(frame: pd.DataFrame) -> list[str]:
    """Return what a point says under the pointer: neuron, description, strongest tokens; safe for Plotly."""
    texts = []
    for row in frame.itertuples():
        lines = [f"L{row.layer}/{row.unit} · kurtosis {row.kurtosis:.0f}", charts.plain(str(row.description)[:90])]
        lines += [f"+ {charts.plain(str(row.top_tokens)[:60])}", f"− {charts.plain(str(row.bottom_tokens)[:60])}"]
        texts.append("<br>".join(lines))
    return texts


def map_figure(
    frame: pd.DataFrame, colouring: Colouring, matches: Collection[int] | None = None, regions: Sequence["Region"] = ()
) -> go.Figure:
    """Return the map; every point carries its neuron's name, layer/neuron, as customdata.

    Args:
        frame: a row a neuron with x, y and the index table's columns.
        matches: positions in `frame` that a search found; the others are dimmed. None: no search.
        regions: whose names are drawn, the largest first; one that would cover another is left out.
    """
    lit = np.ones(len(frame), dtype=bool)
    if matches is not None:
        lit[:] = False
        lit[list(matches)] = True
    figure = go.Figure()
    if not lit.all():
        _trace(figure, frame[~lit], name="no match", marker={"color": "gray", "opacity": 0.12, "size": 4})
    for name, rows, marker in _groups(frame[lit], colouring):
        _trace(figure, rows, name=name, marker={"size": 5 if matches is None else 7, "opacity": 0.8} | marker)
    charts.layout(figure, height=HEIGHT, legend=colouring != "kurtosis")
    figure.update_xaxes(visible=False)
    figure.update_yaxes(visible=False, scaleanchor="x")
    # Streamlit lets a click select in this mode only: with lasso as the mode a click would do nothing
    figure.update_layout(dragmode="pan", clickmode="event+select", legend={"itemsizing": "constant"})
    _name_regions(figure, frame, regions)
    return figure


def shortened(name: str) -> str:
    """Return a region's name as it fits on the map."""
    return name if len(name) <= LONGEST_NAME else name[: LONGEST_NAME - 1].rstrip() + "…"


def _name_regions(figure: go.Figure, frame: pd.DataFrame, regions: Sequence["Region"]) -> None:
    """Write the names of regions at their middles, as many as there is room for."""
    # both axes have one scale, so the wider side of the map decides
    reach = max(float(np.ptp(frame["x"])), float(np.ptp(frame["y"])), 1e-9)
    left, low = float(frame["x"].min()), float(frame["y"].min())
    points = [
        ((region.x - left) / reach, (region.y - low) / reach, shortened(region.name)) for region in regions[:MOST_REGIONS]
    ]
    for region, label in zip(regions, labels.Room(HEIGHT, HEIGHT).label(points), strict=False):
        if label.text:
            figure.add_annotation(
                x=region.x, y=region.y, text=charts.plain(label.text), showarrow=False, font={"size": 11, "color": "white"},
                yshift={"top center": 9, "bottom center": -9}.get(label.place, 0),
                xanchor={"middle right": "left", "middle left": "right"}.get(label.place, "center"),
                bgcolor="rgba(30,36,48,.82)", borderpad=2, captureevents=False,
            )  # fmt: skip


def _trace(figure: go.Figure, rows: pd.DataFrame, *, name: str, marker: Json) -> None:
    # names as lists of text: plotly packs arrays of numbers, and Streamlit hands these on as dictionaries
    carried = [[neuron_name(layer, neuron)] for layer, neuron in zip(rows["layer"], rows["unit"], strict=True)]
    figure.add_trace(
        go.Scattergl(
            x=rows["x"], y=rows["y"], mode="markers", name=name, marker=marker, customdata=carried,
            text=hover_texts(rows), hovertemplate="%{text}<extra></extra>",
        )
    )  # fmt: skip


def _groups(rows: pd.DataFrame, colouring: Colouring) -> list[tuple[str, pd.DataFrame, Json]]:
    """Return (name, rows, marker) of every trace."""
    if colouring == "kurtosis":
        bar = charts.COLOUR_BAR | {"title": "kurtosis", "tickvals": [0, 1, 2, 3], "ticktext": ["1", "10", "100", "1,000"]}
        values = np.log10(rows["kurtosis"].clip(lower=1))
        return [("neurons", rows, {"color": values, "colorscale": charts.SEQUENTIAL_SCALE, "showscale": True, "colorbar": bar})]
    tasks = rows["best_task"].map(lambda name: task_words(name).title if isinstance(name, str) else "none")
    key = rows["layer"].map("layer {}".format) if colouring == "layer" else tasks
    if colouring == "best task":
        named = key[key != "none"].value_counts().index[:NAMED_TASKS]
        key = key.where(key.isin(named), "other tasks")
    order = sorted(key.unique(), key=lambda name: (name == "other tasks", name))
    colours = [
        "gray" if name == "other tasks" else charts.CATEGORIES[i % len(charts.CATEGORIES)] for i, name in enumerate(order)
    ]
    return [(charts.plain(name), rows[key == name], {"color": colour}) for name, colour in zip(order, colours, strict=True)]
