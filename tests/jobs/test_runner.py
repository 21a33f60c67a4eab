"""JobRunner: order, bounds, cancelling, closed tabs, errors; in plain Python with generators that tests hold in their hand."""

import gc
import threading
import time
import weakref
from contextlib import contextmanager
from contextvars import ContextVar

import pytest
import torch

from glp_core.errors import GlpError
from glp_core.jobs.pause import is_shared, pause
from glp_core.jobs.runner import JobRunner
from glp_core.llm.site import Site
from glp_core.prior.likelihood import log_likelihood, velocity_of
from glp_core.steering.generation import Arm, Sampling, SharedBatch, generate
from tests.support import tiny
from tests.support.jobs import Gate, finished, opened


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
    job = runner.submit("a", gate, grace=0.6)
    for _ in range(12):
        assert not job.wait(0.07)
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


def test_whoever_asked_sees_what_an_error_means_once_the_work_has_let_go():
    kept, seen = [], []

    class Large:
        pass

    def work(_cancelled):
        large = Large()
        kept.append(weakref.ref(large))
        yield 1
        raise RuntimeError("out of memory")

    def told(error):
        gc.collect()
        seen.append(kept[0]())
        return GlpError(f"It is full: {error}")

    job = JobRunner(told=told).submit("a", work)
    assert finished(job) == "failed" and seen == [None]
    with pytest.raises(GlpError, match="It is full: out of memory"):
        job.result()


def test_the_worker_goes_on_where_an_error_cannot_be_told(caplog):
    def work(_cancelled):
        yield 1 / 0

    runner = JobRunner(told=lambda error: 1 / 0)
    job = runner.submit("a", work)
    assert finished(job) == "failed" and isinstance(job.error, ZeroDivisionError)
    assert finished(runner.submit("b", opened())) == "done" and "cannot be told" in caplog.text


def counting(log, name, n):
    def work(_cancelled):
        for _ in range(n):
            log.append(name)
            yield name

    return work


@pytest.mark.parametrize("stopped", [False, True], ids=["failed", "stopped"])
def test_a_job_that_has_ended_holds_nothing_of_its_work(stopped):
    class Large:
        """Stands for a batch's keys and values."""

    kept = []

    def work(cancelled):
        large = Large()
        kept.append(weakref.ref(large))
        while stopped and not cancelled():
            yield 1
        if stopped:
            return
        try:
            raise ValueError("inside")
        except ValueError as error:
            raise GlpError("too hot") from error

    job = JobRunner().submit("a", work)
    while stopped and not job.events:
        time.sleep(0.001)
    if stopped:
        job.stop()
    assert finished(job) == ("stopped" if stopped else "failed") and (stopped or str(job.error) == "too hot")
    gc.collect()
    assert kept and kept[0]() is None


def test_the_worker_goes_on_whatever_those_who_asked_raise(caplog):
    def broken():
        raise RuntimeError("the page is gone")

    runner = JobRunner()

    def work(_cancelled):
        yield 1
        yield 2

    untold = runner.submit("one", work, news=broken)
    unseen = runner.submit("two", lambda cancelled: iter(lambda: cancelled(), None), grace=0.0, alive=broken)
    assert finished(untold) == "done" and untold.result() == [1, 2]
    assert finished(unseen) == "stopped" and unseen.given_up
    assert finished(runner.submit("three", work)) == "done"
    assert "nobody could be told" in caplog.text and "cannot be told" in caplog.text


def test_an_error_that_is_asked_for_again_and_again_does_not_grow():
    def work(_cancelled):
        yield 1
        raise ZeroDivisionError

    job = JobRunner().submit("one", work)
    assert finished(job) == "failed"
    lengths = []
    for _ in range(3):
        with pytest.raises(ZeroDivisionError) as raised:
            job.result()
        lengths.append(len(raised.traceback))
    assert len(set(lengths)) == 1


def test_jobs_that_write_are_taken_in_turn_whatever_their_length():
    runner, log, hold = JobRunner(max_waiting=9), [], Gate()
    runner.submit("", hold, grace=None)
    assert hold.started.wait(5)
    jobs = [runner.submit(name, counting(log, name, n), grace=None, rows=3) for name, n in (("long", 40), ("short", 3))]
    hold.open.set()
    assert [finished(job) for job in jobs] == ["done"] * 2
    assert log[:6] == ["long", "short"] * 3 and len(log) == 43


def test_as_many_rows_are_written_as_there_is_room_for_and_nobody_overtakes():
    runner, first, second = JobRunner(most_rows=9), Gate(), Gate()
    running = [runner.submit(name, gate, grace=None, rows=3) for name, gate in (("a", first), ("b", second))]
    assert first.started.wait(5) and second.started.wait(5)
    many = runner.submit("c", opened(), grace=None, rows=6)
    few = runner.submit("d", opened(), grace=None, rows=1)
    long = runner.submit("e", opened(), grace=None)
    assert finished(long) == "done", "long work has a place of its own"
    assert [runner.position(job) for job in (*running, many, few)] == [0, 0, 1, 2]
    assert runner.load() == (2, 2)
    first.open.set()
    assert finished(many) == finished(few) == "done"
    assert running[1].state == "running"
    second.open.set()


def test_a_job_that_wants_more_rows_than_there_ever_are_runs_alone():
    assert finished(JobRunner(most_rows=8).submit("a", opened(), rows=100)) == "done"


def test_texts_flow_beside_long_work_that_asks_whether_it_is_cancelled():
    runner, began, ready = JobRunner(), threading.Event(), threading.Event()

    def long(cancelled):
        began.set()
        while not ready.is_set() and not cancelled():
            time.sleep(0.01)
        yield "long"

    def writing(_cancelled):
        for i in range(50):
            time.sleep(0.002)
            yield i
        ready.set()

    slow = runner.submit("a", long, grace=None)
    assert began.wait(5)
    quick = runner.submit("b", writing, grace=None, rows=3)
    assert finished(quick) == finished(slow) == "done"
    assert quick.result() == list(range(50)) and slow.result() == ["long"]


def test_long_work_gets_half_of_the_time_beside_texts():
    runner, stop, spent = JobRunner(), threading.Event(), {"long": 0.0, "text": 0.0}

    def spending(name):
        def work(cancelled):
            while not cancelled() and not stop.is_set():
                start = time.monotonic()
                time.sleep(0.005)
                spent[name] += time.monotonic() - start
                yield name

        return work

    jobs = [runner.submit("a", spending("long"), grace=None), runner.submit("b", spending("text"), grace=None, rows=1)]
    time.sleep(1.0)
    stop.set()
    assert [finished(job) for job in jobs] == ["done"] * 2
    assert 0.35 < spent["long"] / (spent["long"] + spent["text"]) < 0.65


def test_jobs_that_are_taken_in_turn_do_not_see_one_another_s_context():
    where, seen = ContextVar("where", default="outside"), {}

    def work(name):
        def steps(_cancelled):
            token = where.set(name)
            for _ in range(4):
                yield name
                seen.setdefault(name, set()).add(where.get())
            where.reset(token)

        return steps

    runner = JobRunner()
    jobs = [runner.submit(name, work(name), grace=None, rows=rows) for name, rows in (("a", 1), ("b", 1), ("c", 0))]
    assert [finished(job) for job in jobs] == ["done"] * 3
    assert seen == {name: {name} for name in "abc"}
    last = runner.submit("d", lambda _cancelled: iter([where.get()]))
    assert finished(last) == "done" and last.result() == ["outside"]


def test_nobody_begins_while_the_server_loads_models():
    runner, loading = JobRunner(), Gate()
    runner.submit("", loading, grace=None)
    assert loading.started.wait(5)
    jobs = [runner.submit("a", opened(), grace=None, rows=3), runner.submit("b", opened(), grace=None)]
    time.sleep(0.05)
    assert [job.state for job in jobs] == ["waiting"] * 2 and [runner.position(job) for job in jobs] == [1, 1]
    loading.open.set()
    assert [finished(job) for job in jobs] == ["done"] * 2


def test_whoever_asked_hears_of_every_event_and_of_the_end():
    runner, heard = JobRunner(), []
    box = []
    job = runner.submit("a", counting([], "x", 3), news=lambda: heard.append((len(box[0].events), box[0].live)))
    box.append(job)
    assert finished(job) == "done"
    time.sleep(0.05)
    assert heard[-1] == (3, False)


def test_texts_flow_beside_long_work_that_only_pauses():
    runner, ready = JobRunner(), threading.Event()

    def long(_cancelled):
        until = time.monotonic() + 5
        while not ready.is_set() and time.monotonic() < until:
            time.sleep(0.01)
            pause()
        yield is_shared()

    def writing(_cancelled):
        yield is_shared()
        ready.set()

    slow, quick = runner.submit("a", long, grace=None), runner.submit("b", writing, grace=None, rows=1)
    assert finished(slow) == "done" and ready.is_set()
    assert slow.result() == [True] and quick.result() == [False] and not is_shared()


def test_long_work_of_the_models_lets_texts_flow(tiny_llm, tiny_glp):
    site = Site(tiny_llm, 2, 5.0)
    runner, seen, batch = JobRunner(context=torch.inference_mode), [], SharedBatch()
    texts = [f"The cat number {i} sat on the mat and looked at the rain." for i in range(400)]

    def long(_cancelled):
        until = time.monotonic() + 15
        while len(seen) < 24 and time.monotonic() < until:  # it asks nobody: texts flow by the pauses of what it calls
            site.read([tiny_llm.encode(text) for text in texts[:40]])
            log_likelihood(velocity_of(tiny_glp), torch.randn(8, tiny.WIDTH), probes=2)
        yield len(seen)

    def writing(cancelled):
        steps = generate(site, tiny_llm.encode("The cat"), [Arm("plain")], Sampling(24), batch=batch, cancelled=cancelled)
        for step in steps:
            seen.append(step.token)
            yield step.token

    alone = [step.token for step in generate(site, tiny_llm.encode("The cat"), [Arm("plain")], Sampling(24))]
    seen += [None] * (24 - len(alone))
    jobs = [runner.submit("a", long, grace=None), runner.submit("b", writing, grace=None, rows=1)]
    assert finished(jobs[1], 20) == "done" and jobs[1].result() == alone
    assert finished(jobs[0], 20) == "done" and jobs[0].result()[0] >= 24
