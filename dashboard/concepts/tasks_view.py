"""The Concepts page's first half: the 113 tasks, and the evidence for the chosen one."""

from __future__ import annotations

import html
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import streamlit as st

from dashboard.concepts import tables
from dashboard.service import missing, neurons, workspace_facts
from dashboard.service.directions import pushes
from dashboard.widgets import frame, neuron_links, neuron_texts, starred, url
from dashboard.widgets.starred import neuron_name
from glp_core.errors import GlpError
from glp_core.files import Json

if TYPE_CHECKING:
    from collections.abc import Mapping


DOTS_HEIGHT = 1010
"""Pixels: about as high as the chosen task's evidence beside it."""
TEXTS = 5
"""Of each end of the neuron that are shown."""


def draw() -> None:
    """Draw the table of tasks and the chosen one's evidence."""
    report = workspace_facts.report("probing")
    if report is None:
        missing.report(
            "The probing benchmark", workspace_facts.command("probe"), "about half an hour on two cores", stage="probing"
        )
        return
    table = tables.task_table(report)
    st.markdown(frame.plain_markdown(tables.verdict(report)))
    _means(report)
    left, right = st.columns([3, 2], gap="medium")
    with left:
        matches = _search(table)
    with right, st.container(border=True):
        task = _chosen_task(table, matches)
        if task:
            _task(report, table, task)
    if task:
        best = next(row["glp"] for row in report["rows"] if row["task"] == task)
        _neuron_texts(best["layer"], best["unit"])


def link() -> list[url.Param]:
    """Return the parameter of the page's link that names a task, where tasks were probed."""
    report = workspace_facts.report("probing")
    names = [row["task"] for row in report["rows"]] if report else []
    areas = [row["glp"]["auc"] for row in report["rows"]] if report else []
    return [url.choice("task", "Task", tables.first_task(names, areas), names)] if names else []


def _means(report: Json) -> None:
    measured = {kind: title for kind, title in tables.KINDS.items() if kind in report["mean_auc"] and kind in report["ci"]}
    for column, (kind, title) in zip(st.columns(len(measured), gap="small"), measured.items(), strict=True):
        low, high = report["ci"][kind]
        column.metric(
            title, f"{report['mean_auc'][kind]:.3f}", border=True,
            help=f"Mean test AUC of the best one over {report['n_tasks']} tasks, 95% bootstrap CI over tasks {low:.3f} to {high:.3f}.",
        )  # fmt: skip


def _search(table: pd.DataFrame) -> pd.DataFrame:
    """Draw search and table (or dots); return the rows that are left."""
    with st.container(horizontal=True, vertical_alignment="bottom"):
        words = st.text_input(
            "Search the tasks",
            key="concepts_search",
            bind="query-params",
            placeholder="for example: sentiment, python, athlete",
            max_chars=100,
        )
        show = st.segmented_control(
            "Show as", ("dots", "table"), default="dots", required=True, key="concepts_show", bind="query-params"
        )
    matches = tables.matching(table, words).sort_values("glp", ascending=False, ignore_index=True)
    if matches.empty:
        frame.notice_box(f"No task matches {words}: try one word, for example code, review or news.")
        return matches
    st.caption(f"{len(matches)} of {len(table)} tasks, best GLP neuron first · click a {'row' if show == 'table' else 'dot'}")
    if show == "table":
        _table(matches)
        return matches
    with st.container(height=min(DOTS_HEIGHT, 168 + 20 * len(matches)), border=False):
        frame.figure(
            tables.dots_figure(matches), key="concepts_dots", alt="Test AUC of the best neuron of each kind, a line a task",
            on_select=_clicked_dot, selection_mode="points",
        )  # fmt: skip
    return matches


def _table(matches: pd.DataFrame) -> None:
    st.session_state["concepts_order"] = matches["task"].tolist()
    columns = {
        kind: st.column_config.NumberColumn(title, format="%.3f", min_value=0.0, max_value=1.0)
        for kind, title in tables.KINDS.items()
    }
    columns |= {
        "low": st.column_config.NumberColumn("95% low", format="%.3f"),
        "high": st.column_config.NumberColumn("95% high", format="%.3f"),
        "title": st.column_config.TextColumn("task", width=190),
        "asks": st.column_config.TextColumn("positive texts", width="large"),
    }
    st.dataframe(
        starred.safe_cells(matches), hide_index=True, height=DOTS_HEIGHT, key="concepts_table",
        on_select=_clicked_cell, selection_mode="single-cell",
        column_order=["title", "glp", "mlp", "layer", "sae", "neuron", "low", "high", "asks", "example", "n_test"],
        column_config=columns | {"n_test": "test texts"}, alt="The tasks with the test AUC of the best neuron of each kind",
    )  # fmt: skip


def _clicked_cell() -> None:
    cells = st.session_state["concepts_table"]["selection"]["cells"]
    if cells:
        _choose(st.session_state["concepts_order"][cells[0][0]])


def _clicked_dot() -> None:
    points = st.session_state["concepts_dots"]["selection"]["points"]
    if points and points[0].get("customdata"):
        _choose(str(points[0]["customdata"][0]))


def _choose(task: str) -> None:
    st.query_params["task"] = task


def _chosen_task(table: pd.DataFrame, matches: pd.DataFrame) -> str | None:
    """Draw the choice among the tasks that the search left; return the one that the URL names if it is there, else the first.

    Without a search the page opens on a task that explains itself. None: the search left nothing.
    """
    if matches.empty:
        st.caption("No task matches the search.")
        return None
    names = matches["task"].tolist()
    searched = len(matches) < len(table)
    asked = st.query_params.get("task", "")
    task = asked if asked in names else names[0] if searched else tables.first_task(names, matches["glp"].tolist())
    titles = dict(zip(matches["task"], matches["title"], strict=True))
    st.session_state["concepts_task_box"] = task
    label = f"Task, of the {len(matches)} that match" if searched else "Task"
    st.selectbox(label, names, format_func=titles.__getitem__, key="concepts_task_box", on_change=_chose_in_box)
    return task


def _chose_in_box() -> None:
    _choose(st.session_state["concepts_task_box"])


def _task(report: Json, table: pd.DataFrame, task: str) -> None:
    row = next(row for row in report["rows"] if row["task"] == task)
    best = row["glp"]
    name = f"L{neuron_name(best['layer'], best['unit'])}"
    asks = table.loc[table["task"] == task, "asks"].iloc[0]
    st.html(f"<div><b>Positive:</b> {html.escape(frame.visible(asks))}</div>")
    frame.figure(tables.dots_figure(table[table["task"] == task]), key="concepts_one", alt="The four AUCs of this task")
    side = "high" if best["sign"] > 0 else "low"
    st.caption(
        f"Best GLP neuron {name}: test AUC {best['auc']:.3f} (95% CI {best['ci'][0]:.3f} to {best['ci'][1]:.3f}; validation "
        f"{best['validation_auc']:.3f}); {side} on the positive class. {row['n_train']:,} texts to train on, {row['n_validation']:,} to "
        f"choose by, {row['n_test']:,} to test on; {row['positive_share']:.0%} are positive."
    )
    push = partial(pushes.of_neuron, best["layer"], best["unit"], best["sign"])
    neuron_links.neuron_links(best["layer"], best["unit"], push)
    scores = _scores(task, best["sign"])
    if scores is not None:
        values, labels, (false_positive, true_positive, auc) = scores
        frame.figure(tables.scores_figure(values, labels, name=name), key="concepts_scores", alt=f"Values of {name} by class")
        frame.figure(
            tables.roc_figure(false_positive, true_positive, auc), key="concepts_roc", alt=f"ROC of {name}, AUC {auc:.3f}"
        )
    _examples(row["examples"])


def _scores(task: str, sign: int) -> tuple[np.ndarray, np.ndarray, tuple[np.ndarray, np.ndarray, float]] | None:
    """Return the best neuron's values on the test rows, their labels, and the ROC on its side; None when they were not stored."""
    from glp_core.neurons.probing import task_scores
    from glp_core.stats import roc

    try:
        scores = task_scores(workspace_facts.read(), task)
    except GlpError as error:
        frame.notice_box(str(error))
        return None
    return scores.values, scores.labels, roc(sign * scores.values, scores.labels)


def _examples(examples: Mapping[str, list[str]]) -> None:
    with st.expander("Two example texts of each class"):
        for title in ("positive", "negative"):
            st.caption(title)
            for text in examples[title]:
                st.text(frame.visible(text[:600]))


def _neuron_texts(layer: int, neuron: int) -> None:
    try:
        with st.spinner(neurons.OPENING):
            shown = neurons.index().neuron(layer, neuron)
    except GlpError as error:
        frame.notice_box(str(error))
        return
    frame.heading(f"What else L{neuron_name(layer, neuron)} fires on")
    st.html(f"<style>{neuron_texts.STYLE}</style>" + neuron_texts.description_html(shown))
    ends = (("Most positive texts", shown.top), ("Most negative texts", shown.bottom))
    for column, (title, snippets) in zip(st.columns(2, gap="medium"), ends, strict=True):
        with column:
            st.caption(title)
            st.html(neuron_texts.texts_html(shown, snippets[:TEXTS]))


def files() -> list[frame.File]:
    """Return the table of tasks as files to download."""
    report = workspace_facts.report("probing")
    if report is None:
        return []
    table = tables.task_table(report)
    return [
        frame.File("CSV", "concepts.csv", starred.as_csv(table), "text/csv"),
        frame.File("JSON", "concepts.json", table.to_json(orient="records", indent=1), "application/json"),
    ]
