"""Following a job: what the sidebar says of the queue meanwhile, and whether a run goes on when its person goes to another page."""

import threading
import time
from types import SimpleNamespace

import pytest

from dashboard.service import follow, resources
from dashboard.service.results import Results
from dashboard.widgets import frame
from glp_core.errors import GlpError
from glp_core.jobs.pause import pause
from glp_core.jobs.runner import JobRunner
from tests.support.jobs import Gate, finished


def test_the_sidebar_counts_every_job_while_a_page_follows_one(monkeypatch):
    runner, first_gate, second_gate, shown = JobRunner(), Gate(), Gate(), []
    monkeypatch.setattr(resources, "runner", lambda: runner)
    monkeypatch.setattr(resources, "warm_up", lambda: SimpleNamespace(live=False))
    monkeypatch.setattr(follow.st, "session_state", {})
    follow.keep_queue_place(SimpleNamespace(html=shown.append))
    first = runner.submit("a", first_gate, grace=None)
    first_gate.started.wait(5)
    second = runner.submit("b", second_gate, grace=None)
    follow.follow(first, first_gate.open.set)
    second_gate.open.set()
    finished(second)
    follow.keep_queue_place(SimpleNamespace(html=shown.append))
    assert "free" in shown[0] and "1 running, 1 waiting" in shown[1] and "free" in shown[-1]


def test_a_run_goes_on_when_its_person_goes_to_another_page_only_where_that_was_chosen(monkeypatch, workspace):
    runner, names = JobRunner(), iter(["stays", "goes"])
    monkeypatch.setattr(resources, "runner", lambda: runner)
    monkeypatch.setattr(resources, "connected", lambda _session: True)
    monkeypatch.setattr(resources, "session_id", lambda: next(names))
    monkeypatch.setattr(resources.st, "session_state", {})
    resources.on_page("steering")
    jobs = [resources.submit(Gate(), title="steering", rows=3, stays=stays) for stays in (True, False)]
    time.sleep(1.2)  # nobody has looked for longer than a job is kept without anybody there
    assert [job.state for job in jobs] == ["running"] * 2
    resources.on_page("neurons")
    time.sleep(0.1)  # without a look: it would count as one
    assert [job.state for job in jobs] == ["running", "stopped"] and [job.given_up for job in jobs] == [False, True]
    jobs[0].stop()
    assert finished(jobs[0]) == "stopped" and not jobs[0].given_up
    resources.on_page("steering")
    names = iter(["again"])
    job = resources.submit(Gate(), title="steering", rows=3)
    job.beat()
    resources.on_page("steering")
    time.sleep(0.1)
    assert job.state == "running", "the same page is drawn again"
    job.beat()
    resources.on_page("neurons")
    assert finished(job) == "stopped" and job.given_up, "at once, however lately it was looked at"


def test_work_that_only_pauses_ends_once_nobody_waits_for_it(monkeypatch):
    runner, ticks = JobRunner(), []

    def work(_cancelled, _report):
        while not ticks or time.monotonic() < ticks[0] + 5:
            ticks.append(time.monotonic())
            pause()
            time.sleep(0.001)

    def leave(job, *_drawing, **_news):
        while not ticks:
            time.sleep(0.001)
        job.stop()
        assert finished(job) == "failed"

    monkeypatch.setattr(follow, "_submit", lambda events, *_words: runner.submit("a", events, grace=None))
    monkeypatch.setattr(follow, "follow", leave)
    with pytest.raises(GlpError, match=r"Stopped\."):
        follow.compute("counting", work)
    assert ticks[-1] < ticks[0] + 2


def test_many_pages_look_less_often_than_one():
    assert follow.looks_a_second(1) == follow.LOOKS_A_SECOND > 5
    assert [n * follow.looks_a_second(n) for n in (4, 8, 12)] == [follow.LOOKS_OF_ALL] * 3
    assert follow.looks_a_second(12) >= 1, "a crowd's texts still grow before one's eyes"


def test_what_a_person_has_stopped_begins_again_only_when_asked(monkeypatch):
    session, counted, buttons = {}, [], {}
    fake = SimpleNamespace(session_state=session, button=lambda label, **how: buttons.update({label: how}))
    monkeypatch.setattr(follow, "st", fake)
    monkeypatch.setattr(follow.results, "results", Results)

    def compute(_title, work, *, stop, on_stop):
        counted.append(work)
        if stop and len(counted) == 1:
            on_stop()
            raise GlpError("stopped in its midst")
        return work

    monkeypatch.setattr(follow, "compute", compute)

    def asked(*made_from, **how):
        return follow.computed("laying out", "made", *made_from, stop=True, **how)

    with pytest.raises(GlpError, match="in its midst"):
        asked("a")
    with pytest.raises(frame.StoppedHere, match="Go on"):
        asked("a")
    assert len(counted) == 1 and asked("b") == "made" and asked("a", pressed=True) == "made"
    buttons["Go on"]["on_click"](*buttons["Go on"]["args"])
    assert asked("a") == "made" and not session


def test_who_waits_without_a_stop_button_is_told_of_none(monkeypatch):
    runner, free = JobRunner(), threading.Event()
    monkeypatch.setattr(follow.resources, "runner", lambda: runner)
    monkeypatch.setattr(follow.resources, "warm_up", lambda: SimpleNamespace(live=False))

    def work(_cancelled):
        free.wait(10)
        yield 1

    first, second = (runner.submit(name, work, grace=None) for name in "ab")
    try:
        assert follow.waiting_words(second) == "Number 1 in the queue. It starts by itself; Stop cancels it."
        assert follow.waiting_words(second, stop=False) == "Number 1 in the queue. It starts by itself."
    finally:
        free.set()
    assert first.wait(5) and second.wait(5)
