"""JobRunner: order, bounds, cancelling, closed tabs, errors; in plain Python with generators that tests hold in their hand."""

import threading
import time
from contextlib import contextmanager
from types import SimpleNamespace

import pytest

from dashboard.service import follow, resources
from dashboard.service.jobs import JobRunner
from glp_core.errors import GlpError


class Gate:
    """A job's work that yields numbers until it is opened or cancelled."""

    def __init__(self, log=None, name=""):
        self.open, self.started, self.log, self.name = threading.Event(), threading.Event(), log, name

    def __call__(self, cancelled):
        self.started.set()
        if self.log is not None:
            self.log.append(self.name)
        for i in range(10_000):
            yield i
            if cancelled() or self.open.wait(0.005):
                return


def finished(job, seconds=5.0):
    assert job.wait(seconds), f"{job.title} is still {job.state}"
    return job.state


def opened(log=None, name=""):
    gate = Gate(log, name)
    gate.open.set()
    return gate


def test_a_job_yields_its_results_in_order_from_one_worker_thread():
    runner, threads = JobRunner(), set()

    def work(_cancelled):
        for i in range(5):
            threads.add(threading.current_thread().name)
            yield i

    jobs = [runner.submit(f"session {i}", work) for i in range(3)]
    assert [finished(job) for job in jobs] == ["done"] * 3
    assert [job.result() for job in jobs] == [[0, 1, 2, 3, 4]] * 3
    assert threads == {"jobs"}


def test_the_context_is_entered_in_the_worker_thread():
    entered = []

    @contextmanager
    def context():
        entered.append(threading.current_thread().name)
        yield

    runner = JobRunner(context=context)
    finished(runner.submit("a", opened()))
    assert entered == ["jobs"]


def test_sessions_are_served_in_turn_however_early_one_of_them_queued():
    runner, log, first = JobRunner(max_per_session=3), [], Gate()
    runner.submit("greedy", first, grace=None)
    assert first.started.wait(5)
    jobs = [runner.submit("greedy", opened(log, f"greedy {i}"), grace=None) for i in range(3)]
    jobs += [runner.submit(name, opened(log, name), grace=None) for name in ("anna", "ben")]
    assert [runner.position(job) for job in jobs] == [3, 4, 5, 1, 2]
    first.open.set()
    for job in jobs:
        finished(job)
    assert log == ["anna", "ben", "greedy 0", "greedy 1", "greedy 2"]


def test_a_session_may_have_one_running_and_one_waiting():
    runner, gate = JobRunner(), Gate()
    running = runner.submit("a", gate)
    assert gate.started.wait(5)
    waiting = runner.submit("a", opened())
    assert runner.load() == (1, 1)
    with pytest.raises(GlpError, match="One of your requests is waiting already"):
        runner.submit("a", opened())
    assert runner.position(running) == 0 and runner.position(waiting) == 1
    gate.open.set()
    assert finished(waiting) == "done"


def test_a_full_queue_refuses_and_says_so():
    runner, gate = JobRunner(max_waiting=2), Gate()
    runner.submit("a", gate, grace=None)
    assert gate.started.wait(5)
    waiting = [runner.submit(name, opened(), grace=None) for name in "bc"]
    with pytest.raises(GlpError, match="2 requests are waiting, and no more are taken"):
        runner.submit("d", opened())
    waiting[0].stop()  # a stopped request leaves the queue at once, and there is room again
    later = runner.submit("d", opened())
    gate.open.set()
    assert finished(later) == "done"
    assert waiting[0].state == "stopped" and waiting[0].events == []


def test_what_the_server_itself_loads_is_never_refused():
    runner, gate = JobRunner(max_waiting=2), Gate()
    runner.submit("a", gate, grace=None)
    assert gate.started.wait(5)
    waiting = [runner.submit("", opened(), grace=None) for _ in range(4)]
    gate.open.set()
    assert [finished(job) for job in waiting] == ["done"] * 4


def test_stop_ends_a_running_job_at_its_next_step_and_keeps_its_results():
    runner, gate = JobRunner(), Gate()
    job = runner.submit("a", gate)
    while len(job.events) < 3:
        job.wait(0.01)
    job.stop()
    assert finished(job, 1.0) == "stopped"
    assert job.result()[:3] == [0, 1, 2]
    assert runner.load() == (0, 0)


def test_stop_runs_the_generators_own_clean_up():
    runner, cleaned = JobRunner(), threading.Event()

    def work(_cancelled):
        try:
            while True:
                yield 1
        finally:
            cleaned.set()

    job = runner.submit("a", work)
    job.stop()
    finished(job)
    running = runner.submit("b", work)
    while not running.events:
        running.wait(0.01)
    running.stop()
    finished(running)
    assert cleaned.is_set()


def test_a_closed_tab_frees_the_worker_within_two_seconds():
    runner, gate = JobRunner(), Gate()
    abandoned = runner.submit("closed tab", gate)
    assert gate.started.wait(5)
    started = time.monotonic()
    other = runner.submit("somebody else", opened(), grace=None)
    assert finished(other) == "done"
    assert time.monotonic() - started < 2.0
    assert abandoned.state == "stopped"


def test_a_job_that_somebody_looks_at_is_not_given_up():
    runner, gate = JobRunner(), Gate()
    job = runner.submit("a", gate, grace=0.1)
    for _ in range(12):
        assert not job.wait(0.03)
    gate.open.set()
    assert finished(job) == "done"


def test_a_connected_session_keeps_its_job_through_a_slow_redraw():
    runner, gate, connected = JobRunner(), Gate(), threading.Event()
    connected.set()
    job = runner.submit("a", gate, grace=0.05, alive=connected.is_set)
    time.sleep(0.3)
    assert job.state == "running"
    connected.clear()
    time.sleep(0.3)
    assert job.state == "stopped"


def test_errors_come_through_and_the_worker_goes_on():
    runner = JobRunner()

    def bad_input(_cancelled):
        yield 1
        raise GlpError("Strength is nan.")

    def bug(_cancelled):
        yield 1 / 0

    job, broken = runner.submit("a", bad_input), runner.submit("b", bug)
    assert finished(job) == finished(broken) == "failed"
    with pytest.raises(GlpError, match="Strength is nan"):
        job.result()
    with pytest.raises(ZeroDivisionError):
        broken.result()
    assert finished(runner.submit("c", opened())) == "done"


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
