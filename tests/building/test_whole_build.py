"""One command makes all that the pages show, of an LLM of another family than the demo's, killed twice on the way."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from dashboard.service import workspace_facts
from glp_core.building.state import BuildState
from glp_core.files import file_digest, write_json
from glp_core.workspace import DEMO
from tests.support.damage_readers import unknown
from tests.support.pages import open_page
from tests.support.tiny import tiny_model, tiny_tokenizer

ROOT = Path(__file__).resolve().parents[2]
EARLY, LATE = ("prior", "evaluate", "directions", "index"), ("strengths", "probing", "zones", "steering")
PAGES = {
    "overview": "gpt2",
    "steering": "Click-bait",
    "neurons": "192",
    "concepts": "AUC",
    "scaling": "quick",
    "manifold": "200",
}
"""Page to something of this model on it."""


def digest_of(folder):
    return {str(path): file_digest(path) for path in sorted(folder.rglob("*")) if path.is_file()}


def start(home):
    line = [
        sys.executable,
        "-m",
        "tests.support.tiny_build",
        "--workspace",
        home / "my",
        "--llm",
        home / "gpt2",
        "--device",
        "cpu",
    ]
    environment = os.environ | {"GLP_EXPLORER_CACHE": str(home / "cache"), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(line, cwd=ROOT, env=environment, stderr=subprocess.PIPE, text=True)


def kill_in(stage, home):
    """Start a build and kill it while it is in `stage`, or in the one after when that was over at once."""
    process, path, reached = start(home), home / "my" / "build.json", False
    while not reached:
        assert process.poll() is None, process.stderr.read()
        known = json.loads(path.read_text())["stages"] if path.is_file() else []
        reached = any(one["name"] == stage and one["state"] in ("running", "done") for one in known)
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.communicate()


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    home = tmp_path_factory.mktemp("home")
    tiny_model("gpt2").save_pretrained(home / "gpt2")
    tiny_tokenizer().save_pretrained(home / "gpt2")
    write_json(
        home / "my" / "prefixes.json",
        [f"The {thing} that we saw was" for thing in ["cat", "film", "rain", "mat", "mind", "model"] * 2],
    )
    return home


@pytest.fixture(scope="module")
def built(home):
    demo = digest_of(DEMO)
    kill_in(random.choice(EARLY), home)
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


@pytest.mark.parametrize("name", PAGES)
def test_every_page_shows_something_of_that_model(built, home, monkeypatch, name):
    monkeypatch.setenv(workspace_facts.FOLDER_VARIABLE, str(home / "my"))
    monkeypatch.setenv("GLP_EXPLORER_CACHE", str(home / "cache"))
    at = open_page(name)
    assert not [one.value for one in at.info if "not there yet" in one.value]
    kinds = ("html", "markdown", "caption", "selectbox", "multiselect", "metric", "plotly_chart")
    assert PAGES[name] in " ".join(str(one.proto) for kind in kinds for one in at.get(kind))
