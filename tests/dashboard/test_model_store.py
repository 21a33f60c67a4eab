"""ModelStore: what is kept, what is let go when memory is short, and what a running job holds; with things that are only sizes."""

import threading

import pytest

from dashboard.service import model_store
from dashboard.service.model_store import RESERVE, ModelStore

GB = 1 << 30


class Machine:
    """Memory that fills as a store loads, and counts what is loaded."""

    def __init__(self, size=8 * GB):
        self.size, self.loads, self.releases = size, [], 0
        self.store = ModelStore(lambda: self.size - self.store.size(), self.release)

    def release(self):
        self.releases += 1

    def load(self, owner, kind="llm", key="", size=2 * GB, **options):
        def load():
            self.loads.append(f"{owner} {kind}{key}")
            return size

        return self.store.get(owner, kind, key, load, size=lambda thing: thing, **options)


def test_a_model_is_loaded_once():
    machine = Machine()
    assert machine.load("a") == machine.load("a") == 2 * GB
    assert machine.loads == ["a llm"] and machine.releases == 0


def test_nothing_is_let_go_while_there_is_room():
    machine = Machine(size=6 * GB + RESERVE)
    for owner in "abc":
        machine.load(owner, needs=2 * GB)
    assert machine.store.owners() == ["a", "b", "c"]


def test_the_workspace_used_least_recently_goes_as_a_whole_when_memory_is_short():
    machine = Machine(size=6 * GB + RESERVE)
    machine.load("a"), machine.load("a", "glp", size=1 * GB), machine.load("b")
    machine.load("a")
    machine.load("c", needs=2 * GB)
    assert machine.store.owners() == ["a", "c"] and machine.releases == 1
    machine.load("b", needs=2 * GB)
    assert machine.store.owners() == ["c", "b"]
    machine.load("a", "glp", size=1 * GB)
    assert machine.loads == ["a llm", "a glp", "b llm", "c llm", "b llm", "a glp"]


def test_no_more_goes_than_room_is_needed():
    machine = Machine(size=6 * GB + RESERVE)
    machine.load("a"), machine.load("b"), machine.load("c")
    machine.load("d", size=1 * GB, needs=1 * GB)
    assert machine.store.owners() == ["b", "c", "d"]
    machine.load("e", size=5 * GB, needs=5 * GB)
    assert machine.store.owners() == ["d", "e"]


def test_what_a_running_job_holds_stays_and_goes_afterwards():
    machine = Machine(size=4 * GB + RESERVE)
    with machine.store.holding("a"), machine.store.holding("a"):
        machine.load("a"), machine.load("b")
        machine.load("c", needs=2 * GB)
        assert machine.store.owners() == ["a", "c"]
    with machine.store.holding("c"):
        machine.load("b", needs=2 * GB)
    assert machine.store.owners() == ["c", "b"]


def test_with_all_held_a_model_is_loaded_all_the_same():
    machine = Machine(size=2 * GB)
    with machine.store.holding("a"):
        machine.load("a")
        machine.load("b", needs=2 * GB)
    assert machine.store.owners() == ["a", "b"]


def test_the_size_of_the_last_time_counts_where_none_is_known_beforehand():
    machine = Machine(size=4 * GB + RESERVE)
    machine.load("a", size=3 * GB)
    machine.load("b", size=1 * GB)
    machine.size -= 1 * GB
    machine.load("b", "glp", size=0)
    assert machine.store.owners() == ["b"]
    machine.load("a", size=3 * GB)
    assert machine.store.owners() == ["a"]


def test_of_one_kind_a_few_are_kept_and_a_new_version_takes_the_place_of_the_old():
    machine = Machine()
    for key in (0, 1, 2, 0, 3, 0, 1):
        machine.load("a", "run", key, size=1, most=3)
    assert machine.loads == [f"a run{key}" for key in (0, 1, 2, 3, 1)]
    machine.load("a", "glp", "old"), machine.load("a", "glp", "new")
    assert machine.store.size() == 3 + 2 * GB


def test_where_free_memory_is_not_known_two_workspaces_are_kept():
    store = ModelStore(lambda: None)
    for owner in "abac":
        store.get(owner, "llm", "", lambda: 1)
    assert store.owners() == ["a", "c"] and model_store.MOST_OWNERS == 2


def test_what_could_not_be_loaded_is_tried_again_and_nothing_stays():
    store = ModelStore(lambda: None)
    with pytest.raises(OSError, match="disk"):
        store.get("a", "llm", "", lambda: (_ for _ in ()).throw(OSError("disk")))
    assert store.owners() == [] and store.get("a", "llm", "", lambda: None) is None


def test_two_threads_that_want_the_same_load_it_once_and_what_is_there_is_not_waited_for():
    store, began, go = ModelStore(lambda: None), threading.Event(), threading.Event()
    store.get("b", "llm", "", lambda: "there")
    loads = []

    def load():
        loads.append(1)
        began.set()
        go.wait(5)
        return "new"

    threads = [threading.Thread(target=lambda: store.get("a", "llm", "", load)) for _ in range(2)]
    for thread in threads:
        thread.start()
    assert began.wait(5)
    assert store.get("b", "llm", "", lambda: pytest.fail("was there")) == "there"
    go.set()
    for thread in threads:
        thread.join(5)
    assert len(loads) == 1
