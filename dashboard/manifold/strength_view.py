"""The Manifold page's Strength view: distance against strength for every arm, live; what is measured once is not measured again."""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace

import pandas as pd
import plotly.graph_objects as go
import streamlit as st

from dashboard.manifold import controls, figures, measure
from dashboard.manifold.measure import PARAMS, Sweep
from dashboard.service import missing, resources, results, workspace_facts
from dashboard.service.follow import follow, waiting_words
from dashboard.widgets import frame, starred
from dashboard.widgets.frame import File
from dashboard.widgets.texts import long_text
from glp_core.errors import GlpError
from glp_core.files import Json
from glp_core.jobs.job import Job
from glp_core.steering.strength_grid import ARMS, PROMPT_TOKENS, STRENGTHS, Cell, Spread

RUN = "manifold_run_of"
REFUSED = "manifold_refused"
"""Session key of the request that the queue did not take last, and why."""
TOTAL = len(ARMS) * len(STRENGTHS)
ALT = "Manifold distance against strength, one line an arm"
BROUGHT_BACK = {"walk": "the manifold walk", "glp": "the paper's projection"}
"""Arms that are said to bring an activation nearer, in words."""

Cells = Mapping[Cell, Spread]


@dataclass(frozen=True)
class SweepRun:
    """A sweep that this session asked for."""

    request: Sweep
    job: Job


def draw() -> list[File]:
    """Draw the view; return its files to download."""
    with st.container(horizontal=True, vertical_alignment="bottom"):
        direction = controls.direction()
        st.number_input("Prompts", 2, measure.MOST_PROMPTS, PARAMS["prompts"].default, 10, width=110, **PARAMS["prompts"].bound)
        place = st.container(horizontal=True, width="content")
    with st.expander("Your own prompts, one per line", icon=":material/edit:"):
        long_text.text_area(PARAMS["own"], "Your own prompts", key=controls.OWN_BOX, label_visibility="collapsed")
        st.caption(f"The first {measure.MOST_PROMPTS} lines are taken, and of each its first {PROMPT_TOKENS - 1} tokens.")
    if not direction:
        missing.report("A direction to push along", workspace_facts.command("directions"), "some minutes", stage="directions")
        return []
    request = _request()
    run = _run_of(request)
    with place:
        _buttons(len(_measured(request)), live=run is not None and run.job.live)
    if run is not None and run.job.live:
        _follow(run)
        st.rerun()  # the buttons say something else now
    refused, problem = st.session_state.get(REFUSED, (None, ""))
    if refused == request:
        frame.error_box(problem)
    elif run is not None and isinstance(run.job.error, GlpError):
        frame.error_box(run.job.error)
    elif run is not None and run.job.error is not None:
        run.job.result()
    cells = _measured(request)
    if not cells:
        st.info(
            f"An example is filled in. Press Run to push the last token of {len(request.prompts)} prompts along the direction, and to see "
            "how far from real activations that takes it: raw, walked and projected.",
            icon=":material/play_arrow:",
        )
        return []
    if len(cells) < TOTAL:
        frame.notice_box(f"Stopped after {len(cells)} of {TOTAL} points. Go on measures only the others.")
    return _show(cells, len(request.prompts))


def _request() -> Sweep:
    """Return what the widgets ask for; GlpError when a value does not fit."""
    values = controls.values()
    own = tuple(line for line in values["own"].splitlines() if line.strip())[: measure.MOST_PROMPTS]
    prompts = own or measure.prompts(values["prompts"])
    direction = controls.direction_name(values["direction"])
    return Sweep(str(workspace_facts.folder()), measure.written(direction), direction, prompts)


def _buttons(count: int, *, live: bool) -> None:
    """Draw Run and Stop; what cannot be pressed says why."""
    if live:
        words, why = "Running", "Stop ends it; what has been measured is kept."
    elif count == TOTAL:
        words, why = "Measured", f"All {TOTAL} points are there. Choose another direction or other prompts to run again."
    else:
        words, why = "Go on" if count else "Run", None
    st.button(
        words,
        type="primary",
        icon=":material/play_arrow:",
        key="manifold_run",
        disabled=why is not None,
        help=why,
        on_click=_start,
    )
    st.button("Stop", icon=":material/stop:", key="manifold_stop", disabled=not live, on_click=_stop)


def _start() -> None:
    """Queue what is not measured yet of what the widgets ask for (in a callback)."""
    st.session_state.pop(REFUSED, None)
    _stop()
    with suppress(GlpError):  # the view says what is wrong with the request
        request = _request()
        _submit(request)


def _submit(request: Sweep) -> None:
    done = frozenset(_measured(request))
    try:
        job = resources.submit(lambda cancelled: measure.sweep(request, done, cancelled), title="distance by strength")
        st.session_state[RUN] = SweepRun(request, job)
    except GlpError as error:
        st.session_state[REFUSED] = request, str(error)


def _stop() -> None:
    run = st.session_state.get(RUN)
    if run is not None:
        run.job.stop()


def _run_of(request: Sweep) -> SweepRun | None:
    """Return this session's run when it is of that request; one at work stays it though files are written meanwhile."""
    run: SweepRun | None = st.session_state.get(RUN)
    if run is None:
        return None
    asked = replace(request, written=run.request.written) if run.job.live else request
    return run if run.request == asked else None


def _measured(request: Sweep) -> Cells:
    """Return what is measured of a request, by this session's run and by any session before."""
    spreads: list[Spread] = list(results.small_results().get("sweep", request) or [])
    run = _run_of(request)
    spreads += run.job.events if run is not None else []
    return {(spread.arm, spread.strength): spread for spread in spreads}


def _follow(run: SweepRun) -> None:
    """Draw a sweep while it runs; keep what it measured, also when the person leaves."""
    bar, slot, drawn = st.empty(), st.empty(), set[int]()

    def show() -> None:
        cells = _measured(run.request)
        counted = f"{len(cells)} of {TOTAL} points, {len(run.request.prompts)} prompts each"
        bar.progress(min(1.0, len(cells) / TOTAL), text=waiting_words(run.job) if run.job.state == "waiting" else counted)
        if len(cells) not in drawn:  # it may be only its place in the queue that is new
            drawn.add(len(cells))
            with slot.container():
                frame.figure(_figure(cells), key=f"manifold_sweep_{len(cells)}", alt=ALT)

    try:
        follow(run.job, show)
    finally:
        results.small_results().put(list(_measured(run.request).values()), "sweep", run.request)
    bar.empty()
    slot.empty()


def _figure(cells: Cells) -> go.Figure:
    ordered = sorted(cells.values(), key=lambda spread: (ARMS.index(spread.arm), spread.strength))
    return figures.sweep(ordered, measure.band(), workspace_facts.report("zones"))


def _show(cells: Cells, n_prompts: int) -> list[File]:
    """Draw what is measured, say what it shows, and return it as a table."""
    frame.figure(_figure(cells), key="manifold_sweep", alt=ALT)
    lines = [sentence for arm in BROUGHT_BACK if (sentence := nearer_words(cells, arm))]
    if lines:
        st.markdown("At strengths of 1 and more, " + "; ".join(lines) + ".")
    if sinks := n_prompts - next(iter(cells.values())).n:
        st.caption(f"Left out: {sinks} of {n_prompts} prompts, which end with an attention sink. That is never pushed.")
    words, how = zone_words(workspace_facts.report("zones"))
    st.caption(f"The bands hold the middle half of the prompts. {words}", help=how or None)
    table = pd.DataFrame(
        [[s.arm, s.strength, *s.quantiles, s.lower] for s in cells.values()],
        columns=["arm", "strength", "5%", "25%", "median", "75%", "95%", "share nearer than raw"],
    )
    return [File("CSV: distances", "distance_by_strength.csv", starred.as_csv(table), "text/csv")]


def nearer_words(cells: Cells, arm: str) -> str:
    """Say on how many prompts an arm is nearer than the raw push at strengths of 1 and more, or nothing when none is measured."""
    strong = [spread for spread in cells.values() if spread.arm == arm and spread.strength >= 1]
    if not strong:
        return ""
    worst = min(strong, key=lambda spread: spread.lower)
    if worst.lower == 1:
        return f"{BROUGHT_BACK[arm]} brings the activation nearer on **all {worst.n} prompts**"
    return (
        f"{BROUGHT_BACK[arm]} brings the activation nearer on **at least {worst.lower:.0%}** of {worst.n} prompts "
        f"(fewest at strength {worst.strength:g})"
    )


def zone_words(report: Json | None) -> tuple[str, str]:
    """Say what the zones mean, or that there are none; and how they were measured."""
    real = "The shaded range is where 90% of real held-out tokens lie."
    if not report:
        command = workspace_facts.command("zones")
        return f"No zones (on the manifold, drifting, broken) are drawn: `{command}` measures them. {real}", ""
    borders = []
    for name in ("drifting", "broken"):
        border = report["borders"][name]
        share = report["borders"]["share_broken"][name]
        if border["value"] is None:
            borders.append(f"{name}, where {share:.0%} of texts are broken, lies beyond the distances that were seen")
            continue
        low, high = ("no bound" if end is None else f"{end:.2f}" for end in border.get("ci", (None, None)))
        borders.append(f"{name} from {border['value']:.2f} [{low}, {high}], where {share:.0%} of texts are broken")
    area, limits = report["auroc"], report["limits"]
    words = (
        f"Zones by measured fluency: {'; '.join(borders)}. The curves are of last tokens, the zones of whole texts, so a curve may enter a "
        "zone before texts do: at which strengths a direction's texts break, its slider on Steering says."
    )
    how = (
        f"{report['n_texts']:,} texts, {report['n_broken']:,} broken; a logistic fit on a text's mean distance, 95% intervals over "
        f"prefixes and directions; AUROC of distance for broken {area['value']:.2f} [{area['ci'][0]:.2f}, {area['ci'][1]:.2f}]. "
        f"Broken: mean log-probability under {limits['log_probability']:.2f}, less likely than 95% of texts that the model "
        f"draws at temperature 1, or more than {limits['repetition']:.0%} repeated bigrams, more than 95% of its greedy texts have."
    )
    return (words if figures.zone_edges(report) else f"{words} {real}"), how
