"""The Scaling page's figures: curves by size with the fitted law, residuals, scores against the loss. Numbers in, figures out."""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from dashboard.scaling.law import AXES, LOGARITHMIC, PAPER_ALPHA, PAPER_E, PAPER_FRECHET, SCORES, TITLES
from dashboard.widgets import charts
from glp_core.evaluation.runs import Run, points
from glp_core.evaluation.scaling_law import ScalingFit
from glp_core.files import Json

SYMBOLS = ("circle", "square", "diamond", "triangle-up", "cross", "x", "star")
OWN_DASH = "dot"


class Mark(NamedTuple):
    """What tells a run from the others, the same in all figures."""

    colour: str
    symbol: str


def marks(shipped: Sequence[Run], own: Sequence[Run]) -> dict[str, Mark]:
    """Return each run's mark by its name; of a shipped run and one's own with the same name, the shipped one's."""
    colours = [*charts.size_ramp(len(shipped)), *[charts.ORANGE] * len(own)]
    made: dict[str, Mark] = {}
    for i, (run, colour) in enumerate(zip([*shipped, *own], colours, strict=True)):
        made.setdefault(run.name, Mark(colour, SYMBOLS[i % len(SYMBOLS)]))
    return made


def column(name: str) -> str:
    """Return the table column of a score or an axis."""
    return {"loss": "validation_loss", "compute": "flops"}.get(name, name)


def curves(
    shipped: Sequence[Run],
    own: Sequence[Run],
    *,
    x: str,
    y: str,
    fit: ScalingFit | None,
    gaussian: float | None,
    paper: bool,
) -> go.Figure:
    """Draw one curve a run, with the Gaussian prior's loss and, for loss over compute, the law and its band.

    Args:
        x: compute, activations, parameters, loss or a score.
        y: loss or a score.
    """
    figure = go.Figure()
    if fit is not None and (x, y) == ("compute", "loss"):
        _law(figure, fit, paper=paper)
    mark = marks(shipped, own)
    for i, run in enumerate([*shipped, *own]):
        _run(figure, run, x, y, mark[run.name], own=i >= len(shipped))
    if y == "loss" and gaussian:
        words = f"Gaussian prior {gaussian:.3f}"
        figure.add_hline(y=gaussian, line={"dash": "dash", "color": charts.PURPLE, "width": 1.5})
        figure.add_scatter(x=[None], y=[None], mode="lines", line={"dash": "dash", "color": charts.PURPLE}, name=words)
    charts.layout(figure, x=TITLES[x], y=SCORES[y], height=460, log_x=x in LOGARITHMIC, log_y=y in LOGARITHMIC)
    if x in AXES:
        figure.update_xaxes(exponentformat="power", dtick=1 if x != "parameters" else None)
    elif x in LOGARITHMIC:
        figure.update_xaxes(**_plain_ticks([*shipped, *own], column(x), None))
    if y in LOGARITHMIC:
        figure.update_yaxes(**_plain_ticks([*shipped, *own], column(y), gaussian if y == "loss" else None))
    return figure


def _plain_ticks(runs: Sequence[Run], name: str, also: float | None) -> dict[str, list[float] | list[str]]:
    """Return ticks that write a short log axis in plain numbers."""
    values = points(list(runs)).get(name, pd.Series(dtype=float)).dropna()
    if values.empty:
        return {}
    low, high = min(values.min(), also or np.inf), max(values.max(), also or 0)
    ladder = [
        float(f"{m:.3g}") for decade in range(-3, 6) for m in 10.0**decade * np.array([1, 1.2, 1.4, 1.7, 2, 2.5, 3, 4, 5, 7])
    ]
    ticks = [t for t in ladder if 0.8 * low <= t <= 1.1 * high]
    return {"tickvals": ticks, "ticktext": [f"{t:g}" for t in ticks]}


def _law(figure: go.Figure, fit: ScalingFit, *, paper: bool) -> None:
    grid = np.geomspace(fit.compute[0], 10 * fit.compute[-1], 80)
    band = fit.curve(grid)
    figure.add_scatter(
        x=[*grid, *grid[::-1]],
        y=[*band.high, *band.low[::-1]],
        mode="lines",
        fill="toself",
        fillcolor="rgba(133,139,149,0.22)",
        line={"width": 0},
        hoverinfo="skip",
        name="95% band",
    )
    inside = grid <= fit.compute[-1]
    for part, dash, name in ((inside, "solid", "fitted law"), (~inside, "dot", "extrapolated 10 ×")):
        figure.add_scatter(
            x=grid[part],
            y=band.value[part],
            mode="lines",
            line={"color": charts.GREY, "dash": dash, "width": 2},
            name=name,
            hovertemplate="%{x:.2e} FLOPs: %{y:.3f}",
        )
    if paper:
        middle = float(np.exp(np.log(fit.compute).mean()))
        theirs = PAPER_E + (float(fit.curve([middle]).value[0]) - PAPER_E) * (grid / middle) ** -PAPER_ALPHA
        figure.add_scatter(
            x=grid,
            y=theirs,
            mode="lines",
            line={"color": charts.ORANGE, "dash": "longdashdot", "width": 1.5},
            name="the paper's E and α, moved to our level",
            hovertemplate="paper's shape: %{y:.3f}",
        )


def _run(figure: go.Figure, run: Run, x: str, y: str, mark: Mark, *, own: bool) -> None:
    rows = run.checkpoints.assign(parameters=run.parameters)
    across, up = column(x), column(y)
    if not {across, up} <= set(rows):
        return
    rows = rows[rows[up].notna() & rows[across].notna()]
    if rows.empty:
        return
    title = f"{'own: ' if own else ''}{run.name}, {run.parameters / 1e6:.1f} M{' (running)' if run.running else ''}"
    line = {"color": mark.colour, "dash": OWN_DASH if own else "solid", "width": 2}
    for part, more in _strands(rows, mark.symbol):
        figure.add_scatter(
            x=part[across],
            y=part[up],
            mode="markers" if x == "parameters" else "lines+markers",
            name=charts.plain(title),
            legendgroup=run.name,
            line=line | more.pop("line", {}),
            marker={"size": 8, "color": mark.colour} | more.pop("marker"),
            text=[hover(run, row) for _, row in part.iterrows()],
            customdata=[[run.name, float(row["activations"])] for _, row in part.iterrows()],
            hovertemplate="%{text}<extra></extra>",
            **more,
        )


def _strands(rows: pd.DataFrame, symbol: str) -> list[tuple[pd.DataFrame, Json]]:
    """Split a run where it had ended and then was made longer: the line that went on, and each old end as a branch off it."""
    trunk = rows[~rows["old_end"].astype(bool)]
    symbols = [f"{symbol}-open" if warming else symbol for warming in trunk["warming"].astype(bool)]
    strands: list[tuple[pd.DataFrame, Json]] = [(trunk, {"marker": {"symbol": symbols}})] if len(trunk) else []
    for _, end in rows[rows["old_end"].astype(bool)].iterrows():
        before = trunk[trunk["activations"] < end["activations"]].tail(1)
        part = pd.concat([before, end.to_frame().T]).infer_objects()
        marker = {"symbol": [*[symbol] * len(before), "star"], "size": [*[0] * len(before), 11]}
        strands.append((part, {"marker": marker, "line": {"dash": "dash", "width": 1}, "showlegend": not strands}))
    return strands


def hover(run: Run, row: pd.Series) -> str:
    """Return everything known of a checkpoint, one line a fact, safe to show."""
    lines = [f"<b>{charts.plain(run.name)}</b> {charts.plain(run.shape)}", f"{run.parameters / 1e6:.2f} M parameters"]
    lines += [f"{row['activations']:,.0f} activations, {row['flops']:.2e} FLOPs"]
    lines += [f"{SCORES[s]} {row[column(s)]:.4g}" for s in SCORES if column(s) in row and not math.isnan(row[column(s)])]
    if row["old_end"]:
        lines += ["the run had ended here, its rate fallen; then it was made longer"]
    if "learning_rate" in row and not math.isnan(row["learning_rate"]):
        lines += [f"learning rate {row['learning_rate']:.1e}{', still warming up' if row['warming'] else ''}"]
    return "<br>".join(lines)


def residuals(fit: ScalingFit, table: pd.DataFrame, mark: Mapping[str, Mark]) -> go.Figure:
    """Draw measured over fitted loss, by run."""
    figure = go.Figure()
    for name in dict.fromkeys(table["run"]):
        points = (table["run"] == name).to_numpy()
        figure.add_scatter(
            x=fit.compute[points],
            y=100 * fit.residuals[points],
            mode="markers",
            name=charts.plain(name),
            marker={"color": mark[name].colour, "symbol": mark[name].symbol, "size": 8},
            hovertemplate="%{x:.2e} FLOPs: %{y:+.2f}%",
        )
    figure.add_hline(y=0, line={"color": charts.GREY, "width": 1})
    charts.layout(figure, x=AXES["compute"], y="Above the law (%)", height=240, log_x=True)
    return figure.update_xaxes(exponentformat="power", dtick=1)


def score_against_loss(table: pd.DataFrame, score: str, mark: Mapping[str, Mark]) -> go.Figure:
    """Draw a downstream score against the loss, by run; for the Frechet distance with its value between two real samples."""
    figure = go.Figure()
    for name in dict.fromkeys(table["run"]):
        points = table[(table["run"] == name) & table[score].notna()]
        for part, more in _strands(points, mark[name].symbol):
            figure.add_scatter(
                x=part["validation_loss"],
                y=part[score],
                mode="lines+markers",
                name=charts.plain(name),
                legendgroup=name,
                line={"color": mark[name].colour, "width": 1.5} | more.pop("line", {}),
                marker={"size": 7, "color": mark[name].colour} | more.pop("marker"),
                hovertemplate="loss %{x:.3f}: %{y:.4g}",
                **more,
            )
    if score == "frechet" and "real_real" in table and table["real_real"].notna().any():
        figure.add_hline(y=float(table["real_real"].median()), line={"dash": "dash", "color": charts.GREY, "width": 1.5})
    charts.layout(figure, x="Validation loss (better to the right)", y=SCORES[score], height=280, log_y=score == "frechet")
    return figure.update_xaxes(autorange="reversed")


def paper_frechet() -> go.Figure:
    """Draw the paper's published Frechet curve."""
    figure = go.Figure()
    seen, distance = zip(*PAPER_FRECHET, strict=True)
    figure.add_scatter(
        x=seen, y=distance, mode="lines+markers", line={"color": charts.ORANGE}, hovertemplate="%{x:.2s} activations: %{y:.3f}"
    )
    charts.layout(figure, x=AXES["activations"], y="Frechet distance (theirs)", height=260, log_x=True, legend=False)
    return figure.update_xaxes(exponentformat="power")
