"""What a page lacks: which command makes it and, where the app listens on this machine only, a button that does, with progress and Stop."""

import streamlit as st

from dashboard.service import workspace_facts
from dashboard.service.making import Making, makings, progress
from dashboard.service.visitors import origin
from dashboard.widgets import frame
from glp_core.building.about import ABOUT
from glp_core.errors import GlpError
from glp_core.workspace import DEMO

PROBLEM = "making_problem"
LOOKS_EVERY = 1.0
"""Seconds between two looks at a build."""


def report(what: str, command: str, cost: str = "", *, stage: str) -> None:
    """Say that something has not been made yet, with the command that makes it and the button that lets a build make it.

    Args:
        cost: how long the command takes.
        stage: of a build.
    """
    frame.empty_report(what, command, cost)
    button(stage)


def button(stage: str) -> None:
    """Draw the button that makes a stage, or how far it is; nothing for the demo, which ships whole, and where others may look on."""
    folder = workspace_facts.folder()
    if folder != DEMO and origin.on_this_machine_only():
        making = makings().of(folder)
        live = making is not None and making.live
        st.fragment(_button, run_every=LOOKS_EVERY if live else None)(stage, live)


def _button(stage: str, was_live: bool) -> None:
    making = makings().of(workspace_facts.folder())
    if was_live != (making is not None and making.live):
        st.rerun()  # the page looks every second from now on; or it has the thing, or the reason why not
    if problem := st.session_state.pop(PROBLEM, ""):
        frame.error_box(problem)
    if making is not None and making.live:
        _progress(making)
        return
    if making is not None and making.stage == stage:
        _last(making)
    elsewhere = progress(workspace_facts.folder())
    st.button(
        "Make it here",
        icon=":material/build:",
        key=f"make_{stage}",
        disabled=elsewhere is not None,
        help=f"A build is at work in this workspace: {elsewhere.title}, {elsewhere.percent}%." if elsewhere else None,
        on_click=_start,
        args=(stage,),
    )


def _progress(making: Making) -> None:
    now = making.progress()
    with st.container(horizontal=True, vertical_alignment="center"):
        st.progress(now.percent / 100, text=frame.plain_markdown(f"Making {now.title}: {now.percent}%. {now.words}"))
        st.button("Stop", icon=":material/stop:", key=f"stop_making_{making.stage}", on_click=making.stop)


def _last(making: Making) -> None:
    """Say how the last try to make this ended."""
    if making.state == "failed":
        frame.error_box(f"It could not be made. {making.error()}")
    elif making.state == "stopped":
        st.info("Stopped. What is made stays; the next try goes on from there.", icon=":material/stop_circle:")


def _start(stage: str) -> None:
    """Begin to make a stage (in a callback)."""
    try:
        if origin.on_this_machine_only():
            makings().start(workspace_facts.folder(), stage)
    except GlpError as error:
        st.session_state[PROBLEM] = str(error)


def sidebar() -> None:
    """Draw how far the build is that was started here, on every page."""
    making = makings().of(workspace_facts.folder())
    if making is not None and making.live and origin.on_this_machine_only():
        st.fragment(_beside, run_every=LOOKS_EVERY)(making)


def _beside(making: Making) -> None:
    if making.live:
        now = making.progress()
        st.html(frame.facts([("Making", f"{now.title}, {now.percent}%")]))
    else:
        words = {"done": "is made", "stopped": "stopped", "failed": "could not be made"}[making.state]
        st.html(frame.facts([("Making", f"{ABOUT[making.stage].title}: {words}")]))
