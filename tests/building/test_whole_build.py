"""One command makes all that the pages show, of an LLM of another family than the demo's, killed twice on the way."""

import random

import pytest

from dashboard.service import workspace_facts
from glp_core.building.state import BuildState
from glp_core.files import file_digest
from glp_core.workspace import DEMO, Workspace
from tests.support.damage_readers import unknown
from tests.support.pages import open_page
from tests.support.whole_build import QUERIES, SHOWN, kill_in, make_home, start, text_of

EARLY, LATE = ("prior", "evaluate", "directions", "index"), ("strengths", "probing", "zones", "steering")


def digest_of(folder):
    return {str(path): file_digest(path) for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    return make_home(tmp_path_factory.mktemp("home"))


@pytest.fixture(scope="module")
def built(home):
    demo = digest_of(DEMO)
    kill_in(random.choice(EARLY), home, "--llm", home / "gpt2")
    between = BuildState.read(home / "my")
    kill_in(random.choice(LATE), home)
    process = start(home)
    said = process.communicate()[1]
    assert process.returncode == 0, said
    assert digest_of(DEMO) == demo
    return between, said


def test_it_ends_with_every_stage_done_and_none_done_twice(built, home):
    between, said = built
    state = BuildState.read(home / "my")
    assert between.state == "stopped" and state.state == "done"
    assert {stage.state for stage in state.stages} == {"done"}
    before = {stage.name: stage.seconds for stage in between.stages if stage.state == "done"}
    assert before and {name: state.of(name).seconds for name in before} == before
    assert not any(f"  {name:<11} " in said for name in before)


def test_every_file_of_it_is_of_a_kind_that_is_tried_damaged(built, home):
    assert not unknown(home / "my")


@pytest.mark.parametrize("name", SHOWN)
def test_every_page_shows_something_out_of_that_workspaces_own_reports(built, home, monkeypatch, name):
    monkeypatch.setenv(workspace_facts.FOLDER_VARIABLE, str(home / "my"))
    monkeypatch.setenv("GLP_EXPLORER_CACHE", str(home / "cache"))
    at = open_page(name, **QUERIES.get(name, {}))
    assert not at.error and not [one.value for one in at.info if "not there yet" in one.value]
    assert SHOWN[name](Workspace.open(home / "my")) in text_of(at)
