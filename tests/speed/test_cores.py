"""Threads beside other programs: what is looked at, when they become fewer, and when all of them are back."""

import os
import threading
from types import SimpleNamespace

import psutil
import pytest
import torch

from glp_core.jobs.runner import JobRunner
from glp_core.speed import cores
from glp_core.speed.cores import Cores


@pytest.fixture
def machine(monkeypatch):
    """A machine of two cores, and a third that this process may not use; time and other programs' work are told it."""
    now = SimpleNamespace(at=100.0, others=0.0, own=0.0, elsewhere=0.0)

    def times(percpu):
        each = (now.others + now.own) / 2
        busy = [each, each, now.elsewhere]
        return [SimpleNamespace(user=one, system=0.0, nice=0.0, idle=now.at - one) for one in busy]

    own = SimpleNamespace(cpu_times=lambda: (now.own, 0.0, 50.0, 50.0))
    monkeypatch.setattr(cores, "psutil", SimpleNamespace(cpu_times=times, Process=lambda: own))
    monkeypatch.setattr(cores, "time", SimpleNamespace(monotonic=lambda: now.at))
    monkeypatch.setattr(cores, "_cores", lambda: {0, 1})

    def passes(seconds, *, others, own=0.0):
        now.at += seconds
        now.others += others * seconds
        now.own += own * seconds
        now.elsewhere += seconds

    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    yield passes
    torch.set_num_threads(threads)


def settled(one):
    one.settle()
    return torch.get_num_threads()


def test_half_of_the_threads_compute_while_others_take_a_good_part_of_the_cores(machine):
    one = Cores()
    machine(1.2, others=0.3, own=1.7)
    assert settled(one) == 2, "its own work is nobody else's"
    machine(0.5, others=1.0, own=1.0)
    assert settled(one) == 2, "a second has not passed"
    machine(0.7, others=1.0, own=1.0)
    assert settled(one) == 1
    machine(1.1, others=0.5, own=1.0)
    assert settled(one) == 1, "a quarter of the cores is enough to go on so"
    machine(1.1, others=0.1, own=1.0)
    assert settled(one) == 2


def test_what_was_long_ago_says_nothing_of_now(machine):
    one = Cores()
    machine(600, others=1.8)
    assert settled(one) == 2
    machine(1.1, others=1.0, own=1.0)
    assert settled(one) == 1
    machine(600, others=0.0)
    assert settled(one) == 1
    machine(1.1, others=0.0, own=1.0)
    assert settled(one) == 2


def test_one_thread_stays_one(machine):
    torch.set_num_threads(1)
    one = Cores()
    machine(1.1, others=2.0)
    assert settled(one) == 1


def test_a_real_look_counts_the_cores_that_may_be_used_and_this_process(monkeypatch):
    first = cores._look()
    sum(i * i for i in range(3_000_000))
    second = cores._look()
    assert 0 < second.own - first.own <= sum(psutil.Process().cpu_times()[:2])
    assert second.busy >= first.busy > 0 and second.at > first.at
    assert cores._cores() <= set(range(os.cpu_count()))
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    assert len(cores._cores()) == os.cpu_count()


def test_threads_are_settled_in_the_worker_before_every_step():
    settled = []

    def work(_cancelled):
        yield from range(3)

    job = JobRunner(before=lambda: settled.append(threading.current_thread().name)).submit("", work)
    assert job.wait(10) and job.result() == [0, 1, 2]
    assert settled == ["jobs"] * 4
