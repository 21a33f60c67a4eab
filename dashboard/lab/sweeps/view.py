"""The Lab's Sweep view: a form with its predicted time, Run and Stop, and what the sweep finds while it runs."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import streamlit as st

from dashboard.lab.sweeps import export, form, results, running
from dashboard.lab.sweeps.results import Shown
from dashboard.service import missing, workspace_facts
from dashboard.service import results as kept
from dashboard.service.visitors import origin
from dashboard.widgets import frame, url
from dashboard.widgets.frame import File
from glp_core.errors import GlpError
from glp_core.steering.sweeps.runs import ID, RunFacts, Runs, found_in

if TYPE_CHECKING:
    from dashboard.lab.sweeps.running import Sweeping
    from glp_core.steering.sweeps.config import SweepConfig

PROBLEM = "lab_sweep_problem"
EVERY = 2.0
"""Seconds between two looks at a sweep that runs."""


def run_name(name: str) -> str:
    """Return the name of a saved run; GlpError for what is none."""
    if not ID.fullmatch(name) or not Runs(workspace_facts.folder() / "sweeps").path(name).exists():
        raise GlpError(f"there is no saved run {url.shorten(name)}.")
    return name


RUN = url.parsed("lab_run", "Run", run_name)


def params() -> list[url.Param]:
    """Return what the page's address may hold for this view."""
    return [RUN]


def draw() -> list[File]:
    """Draw the view; return the files of the run that is shown."""
    if not workspace_facts.directions():
        missing.report("A direction to push along", workspace_facts.command("directions"), "some minutes", stage="directions")
        return []
    run = url.value(RUN)
    runs = Runs(workspace_facts.folder() / "sweeps")
    facts = config = None
    with frame.boxed_errors():
        if run:
            facts, config = runs.facts(run), runs.config(run)
    live = _live(run)
    if facts is not None and config is not None:
        live = live or _went_on(facts)
    here = origin.on_this_machine_only()
    with st.expander("What to sweep", expanded=config is None, icon=":material/tune:"):
        asked = form.draw(config)
    with frame.boxed_errors():
        _buttons(asked, live, here)
    if problem := st.session_state.pop(PROBLEM, ""):
        frame.error_box(problem)
    if facts is None or config is None:
        st.info(
            "An example is filled in. Run writes every prompt under every arm at every strength, and shows what each arm gains of the "
            "concept and what it costs of fluency. What is written once is not written again.",
            icon=":material/play_arrow:",
        )
        return []
    return _following(live) if live is not None else _ended(facts, config)


def _live(run: str) -> Sweeping | None:
    sweeping = running.sweepings().of(workspace_facts.folder(), run) if run else None
    return sweeping if sweeping is not None and sweeping.live else None


def _went_on(facts: RunFacts) -> Sweeping | None:
    """Go on with a run that a killed server left in the middle."""
    if facts.state != "running" or not origin.on_this_machine_only():
        return None
    with frame.boxed_errors():
        return running.sweepings().start(workspace_facts.folder(), facts.id)
    return None


def _buttons(asked: SweepConfig | None, live: Sweeping | None, here: bool) -> None:
    """Draw Run and Stop, and what a run will cost."""
    words, why = "", None if here else "Sweeps are written on the machine itself. Ask whoever runs this dashboard."
    if asked is None:
        why = "The form asks for something that does not fit."
    elif live is None:
        total, done, time = form.cost(asked)
        words = (
            f"{total:,} texts, {time}" if not done else f"{total:,} texts, {done:,} of them are written; {time} for the others"
        )
        words = f"{total:,} texts, all written already" if done == total else words
    with st.container(horizontal=True, vertical_alignment="center"):
        st.button(
            "Running" if live else "Run", type="primary", icon=":material/play_arrow:", key="lab_sweep_run", help=why,
            disabled=why is not None or live is not None, on_click=_start,
        )  # fmt: skip
        st.button(
            "Stop",
            icon=":material/stop:",
            key="lab_sweep_stop",
            disabled=live is None or not here,
            on_click=_stop,
            args=(live,),
        )
        st.caption(words)


def _start() -> None:
    """Begin the sweep that the form asks for (in a callback, which may come before the page is drawn with the last change)."""
    try:
        if origin.on_this_machine_only():
            url.put(RUN, running.begin(form.asked()))
    except GlpError as error:
        st.session_state[PROBLEM] = str(error)


def _stop(live: Sweeping) -> None:
    """End a sweep (in a callback)."""
    if origin.on_this_machine_only():
        live.stop()


@st.fragment(run_every=EVERY)
def _following(live: Sweeping) -> list[File]:
    """Draw a sweep while it runs."""
    if not live.live:
        st.rerun()
    facts = live.facts
    left = "" if math.isnan(live.left) else f", about {form.duration(live.left)} to go"
    st.progress(min(1.0, facts.done / max(1, facts.total)), text=f"{facts.done:,} of {facts.total:,} texts{left}. {live.words}")
    results.draw(_now(live), key="lab_live", live=True)
    return []


def _now(live: Sweeping) -> Shown:
    """Return what a sweep has found, computed anew when there is more."""
    from glp_core.steering.sweeps.analysis import analyse

    made_from = ("sweep", live.run, live.facts.done, live.words)
    shown: Shown | None = kept.results().get(*made_from)
    if shown is None:
        found, judged = live.store.found(live.config), live.judged()
        shown = Shown(live.run, live.config, found, judged, analyse(live.config, found, judged))
        kept.results().put(shown, *made_from)
    return shown


def _ended(facts: RunFacts, config: SweepConfig) -> list[File]:
    """Draw a run that has ended."""
    if facts.state == "failed":
        frame.error_box(f"The sweep ended: {facts.error} What was written is kept; Run writes what is missing.")
    elif facts.state != "done":
        frame.notice_box(f"Stopped after {facts.done:,} of {facts.total:,} texts. Run writes only the others.")
    shown = saved(facts.id)
    results.draw(shown, key="lab_ended")
    return export.files(facts, shown)


def saved(run: str) -> Shown:
    """Return a run as it was saved."""
    folder = workspace_facts.folder() / "sweeps"
    path = Runs(folder).path(run)
    return _saved(folder, run, workspace_facts.written(path / "texts.jsonl"), workspace_facts.written(path / "config.json"))


@st.cache_resource(show_spinner=False, max_entries=6)
def _saved(folder: object, run: str, *files_written: float) -> Shown:
    from pathlib import Path

    from glp_core.steering.sweeps.analysis import analyse

    runs = Runs(Path(str(folder)))
    config = runs.config(run)
    found, judged = found_in(runs.texts(run))
    return Shown(run, config, found, judged, analyse(config, found, judged))
