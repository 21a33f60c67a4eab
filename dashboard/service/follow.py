"""Follow a job while the page draws how far it is; or run one piece of work in the queue and wait for what it returns."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator
from typing import TypeVar

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from dashboard.service import resources, results
from dashboard.widgets import frame
from glp_core.errors import GlpError
from glp_core.jobs.job import Cancelled, Job, Work
from glp_core.jobs.pause import end_at_pauses, pause

Result = TypeVar("Result")
Report = Callable[[int, int, str], None]
"""Called by the work with what is done, what there is to do, and a few words."""

LOOKS_A_SECOND, LOOKS_OF_ALL = 9, 15
"""Of one page, and of all that follow a job: drawing takes time from the models, which many pages would use up."""
QUEUE_PLACE = "queue_place"
"""Session key of the sidebar's place for the queue: while the page follows a job, the sidebar does not draw itself."""
QUEUE_WORDS = "queue_words"
"""Session key of what stands there."""
STOPPED = "follow_stopped"
"""Session key of what this session stopped: it is not begun again by itself."""
PATIENCE = 2.0
"""Seconds that a person's new request waits for the one that it replaces to leave the queue."""


def keep_queue_place(place: DeltaGenerator | None) -> None:
    """Show how many jobs the device has in this place of the sidebar, and again whenever a job that is followed changes something.

    None: there is no such place (any more).
    """
    st.session_state[QUEUE_PLACE] = place
    st.session_state.pop(QUEUE_WORDS, None)
    show_queue()


def show_queue() -> None:
    """Show in the sidebar how many jobs the device has now."""
    if st.session_state.get(QUEUE_PLACE) is not None:
        running, waiting = resources.runner().load()
        words = "free" if not running + waiting else f"{running} running" + (f", {waiting} waiting" if waiting else "")
        if st.session_state.get(QUEUE_WORDS) != words:
            st.session_state[QUEUE_WORDS] = words
            st.session_state[QUEUE_PLACE].html(frame.facts([("Queue", words)]))


def follow(job: Job, draw: Callable[[], None], *, news: Callable[[], object] = lambda: None) -> None:
    """Call `draw` whenever something has changed, at most nine times a second and less often beside others, until the job has ended.

    The first event is drawn as soon as it is seen.

    Args:
        news: returns what `draw` shows beside the job's state, its number of events, its place in the queue and the models' loading.
    """
    drawn, runner, warm_up = None, resources.runner(), resources.warm_up()
    show_queue()
    while not job.wait(1 / (looks_a_second(runner.load()[0]) if job.events else LOOKS_A_SECOND)):
        now = (job.state, len(job.events), runner.position(job), warm_up.live, news())
        if now != drawn:
            show_queue()
            draw()
            drawn = now
    show_queue()


def looks_a_second(running: int) -> float:
    """Return how often a page looks at its job while so many run."""
    return min(LOOKS_A_SECOND, LOOKS_OF_ALL / max(1, running))


def waiting_words(job: Job, *, stop: bool = True) -> str:
    """Say why a job has not begun yet; `stop`: there is a button that cancels it."""
    if resources.warm_up().live:
        return "The models are loading; it starts by itself …"
    ahead = resources.runner().position(job)
    cancels = "; Stop cancels it" if stop else ""
    return f"Number {ahead} in the queue. It starts by itself{cancels}." if ahead else "Starting …"


def compute(
    title: str,
    work: Callable[[Cancelled, Report], Result],
    *,
    stop: bool = False,
    tokens: int = 0,
    on_stop: Callable[[], None] = lambda: None,
) -> Result:
    """Return what `work(cancelled, report)` returns, run in the queue's thread.

    When the page runs again meanwhile (a click, the Stop button, a closed tab), the work is stopped.

    Args:
        title: what is done, in words, as in "reading the text".
        stop: draw a Stop button beside the progress.
        tokens: that it may write; 0: it reads.
        on_stop: what the Stop button does beside (in a callback).
    Raises:
        GlpError: the queue is full, the visitor may not ask for so much, or the work raises it.
    """
    reports: list[tuple[int, int, str]] = []

    def events(cancelled: Cancelled) -> Generator[Result]:
        def report(*progress: int | str) -> None:
            reports.append(progress)  # type: ignore[arg-type]
            pause()

        end_at_pauses(cancelled)
        yield work(cancelled, report)

    job = _submit(events, title, tokens)
    slot = st.empty()
    try:
        with slot.container(horizontal=True, vertical_alignment="center"):
            bar = st.empty()
            if stop and not job.wait(0.3):
                st.button("Stop", icon=":material/stop:", key=f"stop_{title}", on_click=on_stop)
        follow(job, lambda: _show(bar, job, title, reports, stop=stop), news=lambda: len(reports))
        return job.result()[0]
    finally:
        job.stop()
        slot.empty()


def computed(
    title: str,
    work: Callable[[Cancelled, Report], Result],
    *made_from: object,
    stop: bool = False,
    pressed: bool = False,
    small: bool = False,
) -> Result:
    """Return the result that is kept of what `made_from` says; where there is none, `compute` it and keep it.

    Args:
        pressed: a button was pressed for it, so it begins though it was stopped before.
        small: keep it among the small results, of which more are kept.
    Raises:
        GlpError: the person has stopped it; a button goes on.
    """
    kept = results.small_results() if small else results.results()
    result = kept.get(*made_from)
    if result is None:
        if st.session_state.get(STOPPED) == made_from and not pressed:
            st.button(
                "Go on", icon=":material/play_arrow:", key="follow_go_on", on_click=st.session_state.pop, args=(STOPPED, None)
            )
            raise frame.StoppedHere("Stopped. Go on, or ask for something else.")

        def stopped() -> None:
            st.session_state[STOPPED] = made_from

        result = compute(title, work, stop=stop, on_stop=stopped)
        kept.put(result, *made_from)
    return result


def _submit(events: Work, title: str, tokens: int) -> Job:
    """Queue the job, giving the request that it replaces a moment to go."""
    patient_until = time.monotonic() + PATIENCE
    while True:
        try:
            return resources.submit(events, title=title, tokens=tokens)
        except GlpError:
            if time.monotonic() > patient_until:
                raise
            time.sleep(0.05)


def _show(bar: DeltaGenerator, job: Job, title: str, reports: list[tuple[int, int, str]], *, stop: bool) -> None:
    if job.state == "waiting":
        bar.progress(0.0, text=waiting_words(job, stop=stop))
    elif reports:
        done, total, words = reports[-1]
        bar.progress(min(1.0, done / max(1, total)), text=f"{title}: {words}" if words else title)
    else:
        bar.progress(0.0, text=f"{title} …")
