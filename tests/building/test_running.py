"""A build at work: what fails takes only what needs it along, a stop is a stop, and build.json says where it is."""

import fcntl
import threading
from argparse import Namespace
from dataclasses import replace
from types import SimpleNamespace

import pytest

from glp_core.building.about import ABOUT, About
from glp_core.building.running import STOPPED, Build
from glp_core.building.stages import Stage
from glp_core.building.state import LOCK, BuildState, StageRecord, at_work, building
from glp_core.cli.building import build as build_command
from glp_core.errors import GlpError
from tests.support import full_card

CHAIN = {"a": (), "b": ("a",), "c": ("b",), "d": ("a",)}


class Nobody:
    def __init__(self):
        self.heard = []

    def began(self, record):
        self.heard.append(("began", record.name))

    def moved(self, record):
        self.heard.append((record.percent, record.words))

    def ended(self, record):
        self.heard.append((record.state, record.name))


@pytest.fixture
def build(tmp_path):
    about = About("something", "all", ())
    stages = [Stage(name, about, (), needs, ((name, "--n", "1"), (f"{name}-again",))) for name, needs in CHAIN.items()]
    state = BuildState(effort="quick", stages=[StageRecord(name, "", "", state="planned", estimate=1.0) for name in CHAIN])
    return Build(tmp_path, state, stages, Nobody())


def states(build):
    return {stage.name: stage.state for stage in BuildState.read(build.folder).stages}


def test_all_commands_run_in_order_and_are_remembered_as_settings(build):
    ran = []
    build.state.of("b").stale = True
    assert build.run(lambda command: ran.append(" ".join(command)) or 0)
    assert ran[:4] == ["a --n 1", "a-again", "b --n 1", "b-again"]
    stored = BuildState.read(build.folder)
    assert stored.state == "done" and stored.percent == 100
    assert stored.of("b").settings == ["b --n 1", "b-again"] and stored.of("b").effort == "quick"
    assert not stored.of("b").stale


def test_a_failure_takes_only_what_needs_it_along_and_says_why(build):
    def run(command):
        if command[0] == "b":
            raise GlpError("b has no such thing.")
        return 0

    assert build.run(run)
    assert states(build) == {"a": "done", "b": "failed", "c": "failed", "d": "done"}
    stored = BuildState.read(build.folder)
    assert stored.state == "failed" and stored.of("b").error == "b has no such thing." and "'b'" in stored.of("c").error


def test_every_stage_is_told_as_begun_once_those_too_that_cannot_be_tried(build):
    def run(command):
        if command[0] == "b":
            raise GlpError("b has no such thing.")
        return 0

    build.run(run)
    told = [(what, name) for what, name in build.told.heard if isinstance(what, str)]
    assert [name for what, name in told if what == "began"] == list("abcd")
    assert ("failed", "c") in told and told.index(("began", "c")) < told.index(("failed", "c"))


def test_what_torch_cannot_do_is_the_failure_of_one_stage(build, caplog):
    def run(command):
        if command[0] == "b":
            raise NotImplementedError("The operator 'aten::x' is not implemented for MPS.\nA long story")
        return 0

    assert build.run(run)
    assert states(build) == {"a": "done", "b": "failed", "c": "failed", "d": "done"}
    said = BuildState.read(build.folder).of("b").error
    assert said.startswith("it broke off: NotImplementedError: The operator 'aten::x' is not implemented for MPS. The lines")
    assert "--device cpu" in said and "A long story" in caplog.text


def test_a_command_that_stopped_itself_ends_the_build(build):
    assert not build.run(lambda command: STOPPED if command[0] == "b" else 0)
    assert states(build) == {"a": "done", "b": "stopped", "c": "missing", "d": "missing"}


def test_an_interruption_is_passed_on_after_it_is_written_down(build):
    def run(command):
        if command[0] == "b-again":
            raise KeyboardInterrupt
        return 0

    with pytest.raises(KeyboardInterrupt):
        build.run(run)
    assert states(build)["b"] == "stopped" and BuildState.read(build.folder).state == "stopped"


def test_progress_of_both_commands_counts_towards_their_stage(build):
    shares = []

    def run(command):
        build.progressed("step", 1, 2, "things")
        shares.append(build.state.of(command[0][0]).percent)
        return 0

    build.run(run)
    assert shares[:2] == [24, 74]
    assert (24, "step: 1 of 2 things") in build.told.heard


def test_a_bug_is_no_failure_of_a_stage(build):
    def run(command):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        build.run(run)


def test_a_stage_begins_with_the_memory_that_the_one_before_has_let_go(build, monkeypatch, tmp_path):
    card, seen = full_card.insert(monkeypatch, free=0), []

    def run(_args):
        seen.append(card.free)
        card.free, card.cached = 0, 10
        if len(seen) == 1:
            raise GlpError("The first stage fails.")

    monkeypatch.setattr(build_command, "parse", lambda _line: (SimpleNamespace(run=run), Namespace()))
    workspace = SimpleNamespace(folder=tmp_path, store_folder=tmp_path)
    build.stages = [replace(stage, needs=()) for stage in build.stages]
    build.run(lambda command: build_command._run_command(command, workspace, None, build))
    assert seen[1:] == [10] * 6


def test_a_killed_build_counts_as_stopped(tmp_path):
    state = BuildState(
        state="running", stages=[StageRecord("a", "", "", state="running"), StageRecord("b", "", "", state="planned")]
    )
    state.save(tmp_path)
    with building(tmp_path):
        assert [one.state for one in BuildState.read(tmp_path).stages] == ["running", "planned"]
    stored = BuildState.read(tmp_path)
    assert stored.state == "stopped" and [one.state for one in stored.stages] == ["stopped", "missing"]


def test_two_builds_do_not_work_in_one_folder(tmp_path):
    assert not at_work(tmp_path)
    with building(tmp_path):
        assert at_work(tmp_path)
        with pytest.raises(GlpError, match="Another build is at work"), building(tmp_path):
            pass
    assert not at_work(tmp_path)


def test_those_who_look_do_not_turn_a_build_away(tmp_path):
    with building(tmp_path / "new"):
        pass
    assert not (tmp_path / "new").exists() and not at_work(tmp_path / "new")
    (tmp_path / "new").mkdir()
    with (tmp_path / "new" / LOCK).open("w") as looks:
        fcntl.flock(looks, fcntl.LOCK_SH)
        assert not at_work(tmp_path / "new")
        threading.Timer(0.1, fcntl.flock, (looks, fcntl.LOCK_UN)).start()
        with building(tmp_path / "new"):
            assert at_work(tmp_path / "new")


def test_a_damaged_file_is_named(tmp_path):
    (tmp_path / "build.json").write_text('{"stages": [3]}')
    with pytest.raises(GlpError, match="build.json is damaged"):
        BuildState.read(tmp_path)


def test_what_a_later_version_wrote_is_left_out(tmp_path):
    (tmp_path / "build.json").write_text(
        '{"name": "my", "mood": "good", "stages": [{"name": "a", "title": "", "page": "", "x": 1}]}'
    )
    assert BuildState.read(tmp_path).of("a").state == "missing"


def test_every_stage_needs_stages_that_come_before_it():
    names = list(ABOUT)
    assert all(names.index(need) < names.index(name) for name, about in ABOUT.items() for need in about.needs)
