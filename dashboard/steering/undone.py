"""Did the prior undo my steering? The fold below the board: what the projection left of the push, and controls of the comparison."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from typing import TYPE_CHECKING

import pandas as pd
import plotly.graph_objects as go
import streamlit as st

from dashboard.service import follow, resources
from dashboard.service.results import small_results
from dashboard.steering import board
from dashboard.steering.comparison import CleanReading, Column, Comparison, Event, collect
from dashboard.steering.request import Request
from dashboard.steering.run import SteeringRun, arms_of, made_from, projector
from dashboard.steering.verdict import NAMES, SHOWS
from dashboard.widgets import charts, frame
from glp_core.errors import GlpError
from glp_core.jobs.job import Cancelled

if TYPE_CHECKING:
    from glp_core.prior.projection import Kind, Projector

FOLD = "steering_undone"
LARGELY = 0.5
"""Share of the push from which on it is called largely kept; below half of it, mostly undone."""
CONTROLS = ("opposite", "random", "norm", "gaussian", "prompted")
"""Arms of the controls, as `glp_core.steering.trials.controls` names them."""
WHAT_THEY_ARE = (
    "Controls: the **wrong sign** and a **random direction** of the same length go through the same projection, so what they change is "
    "the projection's doing; the **restored norm** and the **Gaussian prior** take the GLP's place; **prompted** asks in words, no push."
)


def draw(run: SteeringRun, comparison: Comparison, colour: str) -> None:
    """Draw the fold of an ended run; nothing where no column was pushed and projected."""
    projected = [column for column in comparison.columns.values() if not math.isnan(column.kept_push)]
    if not projected:
        return
    with st.expander("Did the prior undo my steering?", icon=":material/undo:", on_change="rerun", key=FOLD) as fold:
        if not fold.open:  # drawing it takes as long as the rest of an ended run
            return
        st.markdown(frame.plain_markdown(words(comparison, projected[0])))
        controls = None
        with frame.boxed_errors():
            controls = _controls(run)
        shown = [*comparison.columns.values(), *(controls.columns.values() if controls else ())]
        st.dataframe(table(shown), hide_index=True, width="stretch", column_config=COLUMNS, placeholder="–")
        frame.figure(chart([one for one in shown if not math.isnan(one.kept_push)]), key="steering_kept", alt=CHART_WORDS)
        if controls is not None:
            st.markdown(WHAT_THEY_ARE)
            st.html(f'<div data-controls="done">{board.board(controls, colour)}</div>')


def words(comparison: Comparison, column: Column) -> str:
    """Return whether a projection undid the push, in words, with the numbers that say so."""
    name, kept = NAMES[column.arm], column.kept_push
    moved_by = column.concept - comparison.columns["unsteered"].concept
    gain = math.copysign(1.0, comparison.request.strength) * moved_by
    if kept >= LARGELY:
        first = f"No: {name} kept most of the push."
    elif kept >= LARGELY / 2:
        first = f"In part: {name} took away more than half of the push."
    else:
        first = f"Along the direction, yes: {name} took away most of the push."
    if not math.isnan(gain):
        moved = f"the concept moved by {moved_by:+.2f}"
        through = kept < LARGELY and gain >= SHOWS
        first += f" Even so {moved}." if through else f" In the text, {moved}."
    numbers = (
        f"It left {kept:.0%} of the push, a mean over tokens. What the activation moved by in all has a cosine of {column.cosine:.2f} to "
        f"the push, and lies {column.correction:.2f} median norms aside from it."
    )
    if not math.isnan(column.distance_pushed):
        numbers += (
            f" The manifold distance was {column.distance_before:.2f} before the push, {column.distance_pushed:.2f} after it and "
            f"{column.distance:.2f} after the projection."
        )
    return f"{first} {numbers}"


CHART_WORDS = "Share of the push that is left along the direction, by token, a line for each projected column."
COLUMNS = {
    "Column": st.column_config.TextColumn(width="medium"),
    "Push kept": st.column_config.NumberColumn(
        format="%.0f%%", help="Share of the push left along its direction, mean over tokens."
    ),
    "Cosine": st.column_config.NumberColumn(format="%.2f", help="Between the push and all that the activation moved by."),
    "Aside": st.column_config.NumberColumn(
        format="%.2f", help="What the projection did at right angles to the push, in median norms."
    ),
    "Before": st.column_config.NumberColumn(format="%.2f", help="Manifold distance before the push; 1 is a typical token."),
    "Pushed": st.column_config.NumberColumn(format="%.2f", help="Manifold distance after the push, before the projection."),
    "After": st.column_config.NumberColumn(format="%.2f", help="Manifold distance of what went on."),
    "Concept": st.column_config.NumberColumn(format="%.2f", help="Probability that the text shows the concept."),
    "Repeats": st.column_config.NumberColumn(format="%.0f%%", help="Share of tokens that occurred before."),
    "Log-prob.": st.column_config.NumberColumn(format="%.2f", help="Nats a token, under the unsteered model."),
}


def table(columns: list[Column]) -> pd.DataFrame:
    """Return a row for each column of texts."""
    return pd.DataFrame(
        [
            {
                "Column": charts.ARM_TITLES[one.arm],
                "Push kept": 100 * one.kept_push,
                "Cosine": one.cosine,
                "Aside": one.correction,
                "Before": one.distance_before,
                "Pushed": one.distance_pushed,
                "After": one.distance,
                "Concept": one.concept,
                "Repeats": 100 * one.repeated_tokens,
                "Log-prob.": one.log_probability,
            }
            for one in columns
        ]
    )


def chart(columns: list[Column]) -> go.Figure:
    """Return the share of the push that each token kept, with nothing and all of it marked."""
    series = {one.arm: (list(range(1, len(one.tokens) + 1)), [token.kept_push for token in one.tokens]) for one in columns}
    hover = {one.arm: [frame.visible(repr(token.text)) for token in one.tokens] for one in columns}
    figure = charts.lines(series, names=charts.ARM_TITLES, hover=hover, x="token", y="share of the push kept", height=240)
    figure.update_yaxes(tickformat=".0%")
    for share in (0, 1):
        figure.add_hline(y=share, line={"width": 1, "dash": "dot", "color": charts.GREY})
    return figure


def _controls(run: SteeringRun) -> Comparison | None:
    """Return the controls of a run that are kept, or were asked for just now; draw their button until then."""
    key = (*made_from(run.request), "controls")
    kept: Comparison | None = small_results().get(*key)
    if kept is not None:
        return kept
    here = st.empty()
    if not here.button(
        "Run the controls",
        icon=":material/science:",
        key="steering_controls",
        disabled=run.live or run.outdated,
        help=WHAT_THEY_ARE,
    ):
        return None
    here.empty()
    events = follow.compute(
        "writing the controls",
        lambda cancelled, report: _write(run.request, cancelled, report),
        stop=True,
        tokens=len(CONTROLS) * run.request.max_tokens,
    )
    read = {event.arm for event in events if isinstance(event, CleanReading)}
    comparison = collect(run.request, events, [arm for arm in CONTROLS if arm in read])
    small_results().put(comparison, *key)
    return comparison


def _write(request: Request, cancelled: Cancelled, report: Callable[[int, int, str], None]) -> list[Event]:
    """Write and read the controls of a request; for jobs only."""
    from glp_core.steering.generation import Sampling, clean_reading, decode
    from glp_core.steering.origins.recipes import instruction
    from glp_core.steering.trials.controls import control_rows

    site, direction = resources.site(request.layer), resources.direction(request.direction)
    chat = [{"role": "user", "content": request.prompt}]
    ids = site.llm.encode_chat(chat) if request.mode == "chat" else site.llm.encode(request.prompt)
    compared = arms_of(request, site.llm, ids)[2]
    rows = control_rows(
        site.llm,
        request.prompt,
        compared,
        instead=dict(_instead(request)),
        instruction=instruction(direction),
        chat=request.mode == "chat",
        seed=request.seed,
    )
    sampling = Sampling(request.max_tokens, request.temperature, seed=request.seed)
    events: list[Event] = []
    written: dict[str, list[int]] = {row.arm.name: [] for row in rows}
    with closing(decode(site, rows, sampling, meter=resources.meter(request.layer), cancelled=cancelled)) as steps:
        for _, step in steps:
            written[step.arm].append(step.token)
            events.append([step])
            report(step.step + 1, request.max_tokens, "")
    if cancelled():
        raise GlpError("Stopped.")
    log_probabilities, means = clean_reading(resources.site(), rows[0].prompt, list(written.values()))
    concepts = direction.concept(means).tolist()
    events += [CleanReading(arm, *read) for arm, *read in zip(written, log_probabilities, concepts, strict=True)]
    return events


def _instead(request: Request) -> Iterator[tuple[Kind, Projector]]:
    yield "norm", projector(request, "norm")
    with suppress(GlpError):  # no covariance, or another layer than its own
        yield "gaussian", projector(request, "gaussian")
