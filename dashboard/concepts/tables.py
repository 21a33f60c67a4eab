"""Concepts: the 113 probing tasks as a table and figures, and the texts of a concept of one's own."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from dashboard.widgets import charts
from glp_core.data.task_words import task_words
from glp_core.files import Json

KINDS = {"glp": "GLP neuron", "mlp": "raw MLP neuron", "layer": "layer dimension", "sae": "SAE latent"}

INTUITIVE = {"96_spam_is", "113_movie_sent", "159_code_Python", "160_code_HTML", "156_athlete_sport_baseball"}
"""Tasks that explain themselves."""


def task_table(report: Json) -> pd.DataFrame:
    """Return a row a task: what it asks, its best neuron and the test AUC of the best neuron of each kind."""
    rows = []
    for row in report["rows"]:
        best = row["glp"]
        example = (row["examples"]["positive"] or [""])[0]
        words = task_words(row["task"])
        rows.append(
            {"task": row["task"], "title": words.title, "asks": words.positive or row["asks"], "example": example[:200]}
            | {"neuron": f"L{best['layer']}/{best['unit']}", "low": best["ci"][0], "high": best["ci"][1]}
            | {kind: row[kind]["auc"] for kind in KINDS if kind in row}
            | {"n_test": row["n_test"]}
        )
    return pd.DataFrame(rows)


def first_task(names: Sequence[str], areas: Sequence[float]) -> str:
    """Return the task that the page opens on: of those whose classes everybody knows the one told apart best, else the first."""
    intuitive = [(area, name) for name, area in zip(names, areas, strict=True) if name in INTUITIVE]
    return max(intuitive)[1] if intuitive else names[0]


def matching(table: pd.DataFrame, words: str) -> pd.DataFrame:
    """Return the rows that hold every word in their name, question, example or neuron."""
    text = (
        table["task"] + " " + table["title"] + " " + table["asks"] + " " + table["example"] + " " + table["neuron"]
    ).str.lower()
    keep = np.ones(len(table), dtype=bool)
    for word in words.lower().split():
        keep &= text.str.contains(word, regex=False).to_numpy()
    return table[keep].reset_index(drop=True)


def verdict(report: Json) -> str:
    """Say in one sentence who is ahead in the mean, whichever way it falls."""
    means, best = report["mean_auc"], report["best_baseline"]
    low, high = report["paired_difference_ci"]
    against = f"the best baseline, {KINDS[best]}s ({means[best]:.3f})"
    numbers = f"mean paired difference {report['paired_difference']:+.3f}, 95% CI {low:+.3f} to {high:+.3f}, {report['n_tasks']} tasks"
    if low > 0:
        return f"GLP neurons ({means['glp']:.3f}) are ahead of {against}: {numbers}."
    if high < 0:
        return f"GLP neurons ({means['glp']:.3f}) are behind {against}: {numbers}."
    return f"GLP neurons ({means['glp']:.3f}) and {against} cannot be told apart: {numbers}."


def dots_figure(rows: pd.DataFrame) -> go.Figure:
    """Return the AUC of each kind as dots on one axis, a line a task, the GLP's 95% interval as a bar; one task has a line a kind."""
    figure = go.Figure()
    alone = len(rows) == 1
    titles = [charts.plain(title) for title in rows["title"]]
    for kind, colour, symbol in zip(
        KINDS, (charts.BLUE, charts.ORANGE, charts.GREEN, charts.PURPLE), ("circle", "diamond", "square", "x"), strict=True
    ):
        if kind not in rows:
            continue
        error = {"type": "data", "symmetric": False, "thickness": 1, "width": 0}
        error |= {"array": rows["high"] - rows[kind], "arrayminus": rows[kind] - rows["low"]}
        figure.add_scatter(
            x=rows[kind], y=[KINDS[kind]] if alone else titles, mode="markers", name=KINDS[kind], customdata=rows[["task"]],
            marker={"color": colour, "symbol": symbol, "size": 9}, error_x=error if kind == "glp" else None,
            hovertemplate="%{y}<br>" + KINDS[kind] + " %{x:.3f}<extra></extra>",
        )  # fmt: skip
    figure.add_vline(x=0.5, line={"width": 1, "dash": "dot", "color": "gray"})
    lines = len(figure.data) if alone else len(rows)
    height = 70 + 20 * lines if alone else 148 + 20 * lines
    charts.layout(figure, x="test AUC" if alone else "test AUC (0.5 = chance)", height=height, legend=not alone)
    if not alone:
        # the figure is taller than its box: axis and legend stay at the end that is seen first
        figure.update_layout(xaxis_side="top", margin_t=124, legend_y=1 + 54 / (height - 132))
    figure.update_yaxes(range=[lines - 0.4, -0.6])
    return figure


def scores_figure(values: np.ndarray, labels: np.ndarray, *, name: str) -> go.Figure:
    """Return the histogram of a neuron's values, a colour a class, shares of each class."""
    figure = go.Figure()
    edges = np.histogram_bin_edges(values[np.isfinite(values)], bins=40)
    bins = {"start": float(edges[0]), "end": float(edges[-1]), "size": float(edges[1] - edges[0])}
    for label, title, colour in ((0, "negative class", charts.BLUE), (1, "positive class", charts.ORANGE)):
        of_class = values[labels == label]
        figure.add_histogram(
            x=of_class, xbins=bins, histnorm="percent", name=f"{title} (n = {len(of_class):,})", marker_color=colour, opacity=0.65,
            hovertemplate="value %{x}<br>%{y:.1f}% of the class<extra></extra>",
        )  # fmt: skip
    figure.update_layout(barmode="overlay")
    return charts.layout(figure, x=f"{name} on the last token", y="% of class", height=280)


def roc_figure(false_positive: np.ndarray, true_positive: np.ndarray, auc: float) -> go.Figure:
    """Return the ROC curve with chance as a dotted diagonal."""
    figure = go.Figure()
    figure.add_scatter(
        x=false_positive, y=true_positive, mode="lines", line={"color": charts.ORANGE, "width": 3}, name=f"AUC {auc:.3f}",
        hovertemplate="false positives %{x:.2f}<br>true positives %{y:.2f}<extra></extra>",
    )  # fmt: skip
    figure.add_scatter(
        x=[0, 1], y=[0, 1], mode="lines", line={"color": "gray", "width": 1, "dash": "dot"}, name="chance", hoverinfo="skip"
    )
    return charts.layout(figure, x="false positive rate", y="true positive rate", height=280)
