"""The map of all neurons as a WebGL scatter: points coloured by a property, those that a search misses dimmed."""

from collections.abc import Collection
from typing import Literal

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from dashboard.widgets import charts
from glp_core.files import Json

Colouring = Literal["layer", "kurtosis", "best task"]
KINDS = {"concepts": "concept profile (every task)", "writes": "write direction"}
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


def map_figure(frame: pd.DataFrame, colouring: Colouring, matches: Collection[int] | None = None) -> go.Figure:
    """Return the map.

    Args:
        frame: a row a neuron with x, y and the index table's columns.
        matches: positions in `frame` that a search found; the others are dimmed. None: no search.
    """
    lit = np.ones(len(frame), dtype=bool)
    if matches is not None:
        lit[:] = False
        lit[list(matches)] = True
    figure = go.Figure()
    if not lit.all():
        _trace(figure, frame[~lit], name="not found", marker={"color": "gray", "opacity": 0.12, "size": 4})
    for name, rows, marker in _groups(frame[lit], colouring):
        _trace(figure, rows, name=name, marker={"size": 5 if matches is None else 7, "opacity": 0.8} | marker)
    charts.layout(figure, height=620, legend=colouring != "kurtosis")
    figure.update_xaxes(visible=False)
    figure.update_yaxes(visible=False, scaleanchor="x")
    figure.update_layout(dragmode="lasso", legend={"itemsizing": "constant"})
    return figure


def _trace(figure: go.Figure, rows: pd.DataFrame, *, name: str, marker: Json) -> None:
    figure.add_trace(
        go.Scattergl(
            x=rows["x"], y=rows["y"], mode="markers", name=name, marker=marker, customdata=rows[["layer", "unit"]].to_numpy(),
            text=hover_texts(rows), hovertemplate="%{text}<extra></extra>",
        )
    )  # fmt: skip


def _groups(rows: pd.DataFrame, colouring: Colouring) -> list[tuple[str, pd.DataFrame, Json]]:
    """Return (name, rows, marker) of every trace."""
    if colouring == "kurtosis":
        bar = {"title": "kurtosis", "tickvals": [0, 1, 2, 3], "ticktext": ["1", "10", "100", "1,000"], "thickness": 12}
        values = np.log10(rows["kurtosis"].clip(lower=1))
        return [("neurons", rows, {"color": values, "colorscale": charts.SEQUENTIAL_SCALE, "showscale": True, "colorbar": bar})]
    key = rows["layer"].map("layer {}".format) if colouring == "layer" else rows["best_task"].fillna("none")
    if colouring == "best task":
        named = key[key != "none"].value_counts().index[:NAMED_TASKS]
        key = key.where(key.isin(named), "other tasks")
    order = sorted(key.unique(), key=lambda name: (name == "other tasks", name))
    colours = [
        "gray" if name == "other tasks" else charts.CATEGORIES[i % len(charts.CATEGORIES)] for i, name in enumerate(order)
    ]
    return [(charts.plain(name), rows[key == name], {"color": colour}) for name, colour in zip(order, colours, strict=True)]
