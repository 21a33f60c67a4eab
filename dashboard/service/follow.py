"""Run one piece of work in the job queue while the page waits, shows how far it is, and stops it when the person goes on."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator
from typing import Any, TypeVar

import streamlit as st

from dashboard.service import resources
from dashboard.service.jobs import Cancelled, Job
from glp_core.errors import GlpError

Result = TypeVar("Result")
Report = Callable[[int, int, str], None]
"""Called by the work with what is done, what there is to do, and a few words."""

LOOKS_A_SECOND = 10
PATIENCE = 2.0
"""Seconds that a person's new request waits for the one that it replaces to leave the queue."""


def compute(title: str, work: Callable[[Cancelled, Report], Result], *, stop: bool = False) -> Result:
    """Return what `work(cancelled, report)` returns, run in the queue's thread.

    When the page runs again meanwhile (a click, the Stop button, a closed tab), the work is stopped.

    Args:
        title: what is done, in words, as in "reading the text".
        stop: draw a Stop button beside the progress.
    Raises:
        GlpError: the queue is full, or the work raises it.
    """
    told: list[tuple[int, int, str]] = []

    def events(cancelled: Cancelled) -> Generator[Result]:
        yield work(cancelled, lambda *progress: told.append(progress))

    job = _submit(events, title)
    slot = st.empty()
    try:
        with slot.container(horizontal=True, vertical_alignment="center"):
            bar = st.empty()
            if stop and not job.wait(0.3):
                st.button("Stop", icon=":material/stop:", key=f"stop_{title}")
        while not job.wait(1 / LOOKS_A_SECOND):
            _show(bar, job, title, told)
        return job.result()[0]
    finally:
        job.stop()
        slot.empty()


def _submit(events: Callable[[Cancelled], Generator[Any]], title: str) -> Job:
    """Queue the job, giving the request that it replaces a moment to go."""
    patient_until = time.monotonic() + PATIENCE
    while True:
        try:
            return resources.submit(events, title=title)
        except GlpError:
            if time.monotonic() > patient_until:
                raise
            time.sleep(0.05)


def _show(bar: Any, job: Job, title: str, told: list[tuple[int, int, str]]) -> None:
    if job.state == "waiting":
        ahead = resources.runner().position(job)
        loading = ", the models are loading" if resources.warm_up().live else f", {ahead} ahead"
        bar.progress(0.0, text=f"Waiting{loading} …")
    elif told:
        done, total, words = told[-1]
        bar.progress(min(1.0, done / max(1, total)), text=f"{title}: {words}" if words else title)
    else:
        bar.progress(0.0, text=f"{title} …")
