"""What a page lacks: the complete command, and the button that makes it, with progress and Stop; a script stands in for the build."""

import re
import sys
import time
from pathlib import Path

import pytest

from dashboard.service import making, missing
from dashboard.service.making import Makings
from dashboard.service.visitors import origin
from glp_core.building.about import ABOUT
from glp_core.building.state import BuildState, StageRecord, building
from glp_core.errors import GlpError
from tests.support.pages import open_page

WORKS = """
import sys, time, pathlib
folder = pathlib.Path(sys.argv[sys.argv.index("--workspace") + 1])
print("loading the model", file=sys.stderr, flush=True)
(folder / "argv").write_text("\\n".join(sys.argv[1:]))
while not (folder / "go").exists(): time.sleep(0.02)
if (folder / "fails").exists(): sys.exit("No texts are left.")
"""


def patient(check, seconds=10):
    deadline = time.monotonic() + seconds
    while not check():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.fixture
def started(monkeypatch, tmp_path):
    """Let a script that waits for a file be the build; return what the server has started."""
    script = tmp_path / "build.py"
    script.write_text(WORKS)
    monkeypatch.setattr(making, "BUILD", (str(script),))
    kept = Makings()
    monkeypatch.setattr(missing, "makings", lambda: kept)
    yield kept
    kept.end()


def words(at):
    kinds = (at.error, at.info, at.warning, at.get("progress"))
    texts = [getattr(one, "value", None) or one.proto.text for kind in kinds for one in kind]
    return re.sub(r"\\(.)", r"\1", " ".join(map(str, texts)))


def test_a_process_gets_a_stage_of_the_list_and_the_folder_and_nothing_else():
    line = making.command_line(Path("/some where/my"), "index")
    assert line == [sys.executable, "-m", "glp_core", "build", "--workspace", "/some where/my", "--only", "index"]
    for stage in ("index,map", "--llm", "", "index; rm"):
        with pytest.raises(GlpError, match="There is no stage"):
            making.command_line(Path("/my"), stage)


def test_a_stage_is_made_in_a_process_that_is_followed_to_its_end(started, tmp_path):
    made = started.start(tmp_path, "index")
    patient(lambda: made.lines)
    assert made.live and made.progress() == (ABOUT["index"].title, 0, "loading the model")
    with pytest.raises(GlpError, match="the index of meta-neurons is being made in this workspace"):
        started.start(tmp_path, "map")
    (tmp_path / "go").touch()
    patient(lambda: not made.live)
    assert made.state == "done" and (tmp_path / "argv").read_text().split("\n")[1:] == [str(tmp_path), "--only", "index"]
    assert started.start(tmp_path, "map").stage == started.of(tmp_path).stage == "map"


def test_stop_ends_it_and_a_failure_says_why(started, tmp_path):
    made = started.start(tmp_path, "index")
    made.stop()
    patient(lambda: not made.live)
    assert made.state == "stopped"
    (tmp_path / "go").touch(), (tmp_path / "fails").touch()
    made = started.start(tmp_path, "index")
    patient(lambda: not made.live)
    assert made.state == "failed" and made.error() == "No texts are left."


def test_the_end_of_the_server_ends_what_it_started(started, tmp_path):
    made = [started.start(tmp_path / name, "index") for name in ("a", "b") if not (tmp_path / name).mkdir()]
    started.end()
    assert [one.live for one in made] == [False, False]


def test_the_builds_own_words_count_where_it_has_any(started, tmp_path):
    made = started.start(tmp_path, "map")
    stages = [StageRecord("index", "the index", "Meta-neurons", "running", 40, "texts"), StageRecord("map", "maps", "")]
    BuildState("my", "quick", state="running", stages=stages).save(tmp_path)
    with building(tmp_path):
        assert made.progress() == ("the index", 40, "texts")
    (tmp_path / "go").touch(), (tmp_path / "fails").touch()
    patient(lambda: not made.live)
    stages[0].state, stages[0].error = "failed", "the disk is full"
    BuildState("my", "quick", state="failed", stages=stages).save(tmp_path)
    assert made.error() == "No texts are left.", "another build's failures are not this one's"
    BuildState("my", "quick", state="failed", pid=made._process.pid, stages=stages).save(tmp_path)
    assert made.error() == "the index: the disk is full"


def test_a_page_without_its_part_shows_the_command_and_to_others_than_this_machine_no_button(llm, workspace):
    at = open_page("neurons")
    assert f"python -m glp_core index --workspace {workspace.folder.name}" in [one.value for one in at.code]
    assert not [one for one in at.button if one.label == "Make it here"]


def test_the_button_makes_it_shows_how_far_and_can_be_stopped(llm, workspace, started, local):
    at = open_page("neurons")
    at.button(key="make_index").click().run()
    patient(lambda: started.of(workspace.folder).lines)
    assert "Making the index of meta-neurons: 0%" in words(at)
    at.switch_page("../pages/manifold.py").run()
    assert "Making" in " ".join(one.value for one in at.sidebar.get("html")) and not [
        one for one in at.button if one.label == "Make it here"
    ]
    at.switch_page("../pages/neurons.py").run()
    at.button(key="stop_making_index").click().run()
    patient(lambda: not started.of(workspace.folder).live)
    assert "Stopped. What is made stays" in words(at.run())
    (workspace.folder / "go").touch(), (workspace.folder / "fails").touch()
    at.button(key="make_index").click().run()
    patient(lambda: not started.of(workspace.folder).live)
    assert "It could not be made. No texts are left." in words(at.run()) and at.button(key="make_index")


def test_a_build_of_a_terminal_keeps_the_button_back(llm, workspace, started, local):
    stages = [StageRecord("bank", "real activations", "Manifold", "running", 7)]
    BuildState("my", "quick", state="running", stages=stages).save(workspace.folder)
    with building(workspace.folder):
        button = open_page("neurons").button(key="make_index")
        assert button.disabled and "real activations, 7%" in button.help
    assert not open_page("neurons").button(key="make_index").disabled


def test_without_directions_steering_offers_to_make_them(llm, workspace, started, local):
    for path in (workspace.folder / "directions").glob("*"):
        path.unlink()
    at = open_page("steering")
    assert at.button(key="make_directions").label == "Make it here"
    assert f"python -m glp_core directions --workspace {workspace.folder}" in [one.value for one in at.code]


@pytest.mark.parametrize(
    ("address", "names", "ip", "headers", "local"),
    [
        ("127.0.0.1", [], None, {}, True),
        ("127.0.0.1", ["127.0.0.1", "localhost", "::1"], "127.0.0.1", {}, True),
        ("0.0.0.0", [], None, {}, False),
        (None, [], None, {}, False),
        ("127.0.0.1", ["127.0.0.1", "glp.example"], None, {}, False),
        ("127.0.0.1", [], "10.0.0.5", {}, False),
        ("127.0.0.1", [], None, {"X-Forwarded-For": "10.0.0.5"}, False),
    ],
)
def test_only_a_server_that_this_machine_alone_can_reach_offers_the_button(monkeypatch, address, names, ip, headers, local):
    options = {"server.address": address, "server.allowedHosts": names}

    class Context:
        ip_address = ip

    Context.headers = headers
    monkeypatch.setattr(origin.st, "get_option", options.get)
    monkeypatch.setattr(origin.st, "context", Context)
    assert origin.on_this_machine_only() is local
