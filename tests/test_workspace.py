"""A workspace opens, saves and finds its parts; damage and absence are said."""

import hashlib
import json
import subprocess
import sys

import pytest
import torch

from glp_core import GlpError
from glp_core.devices import named_dtype
from glp_core.files import write_tensors
from glp_core.llm.sources import SMOLLM2, LlmSource
from glp_core.workspace import DEMO, Workspace


@pytest.fixture
def workspace(tmp_path):
    made = Workspace(tmp_path / "ws", "Tiny, layer 1", LlmSource("folder", str(tmp_path / "llm")), 1, "float32", 12.5)
    made.save()
    return made


def rewrite(workspace, **changes):
    path = workspace.folder / "workspace.json"
    facts = json.loads(path.read_text()) | changes
    path.write_text(json.dumps({key: value for key, value in facts.items() if value is not ...}))


def test_what_is_saved_opens_again(workspace):
    assert Workspace.open(workspace.folder) == workspace
    assert Workspace.open(str(workspace.folder)).versions["torch"]


def test_the_demo_is_the_default_and_whole(demo, demo_glp):
    assert Workspace.open() == demo == Workspace.open(DEMO)
    assert (demo.llm, demo.layer) == (SMOLLM2, 14)
    assert demo_glp.d_input == 576
    assert demo.covariance().shape == (576, 576)
    assert demo_glp.dtype == named_dtype("auto")


def test_the_demos_statistics_are_of_its_layer(demo, demo_llm, demo_glp):
    """Its latents of an ordinary text have about unit variance; another layer's would not."""
    ids = demo_llm.encode(
        "In the spring of that year the museum opened a new wing, which the city had paid for with a small tax."
    )
    z = demo_glp.normalize(demo_llm.activations([ids], demo.layer)[0][1:])
    assert 0.6 < z.square().mean() < 1.6


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"layer": -1}, "layer is -1"),
        ({"layer": "14"}, "layer is '14'"),
        ({"layer": True}, "layer is True"),
        ({"dtype": "float8"}, "dtype is 'float8'"),
        ({"dtype": ["auto"]}, "dtype is"),
        ({"median_norm": 0}, "median_norm is 0"),
        ({"median_norm": "157"}, "median_norm is '157'"),
        ({"name": " "}, "name is ' '"),
        ({"name": None}, "name is None"),
        ({"median_norm": ...}, "lacks median_norm"),
        ({"llm": {"kind": "wheel"}}, "no LLM source"),
        ({"llm": {"kind": "folder", "name": "x", "code": "y"}}, "no LLM source"),
        ({"llm": "x"}, "no LLM source"),
        ({"llm": {"kind": "hub", "name": "a/b"}}, "pinned revision"),
    ],
)
def test_damage_is_said_with_what_was_wanted(workspace, changes, words):
    rewrite(workspace, **changes)
    with pytest.raises(GlpError, match=words):
        Workspace.open(workspace.folder)


@pytest.mark.parametrize("text", ["", "{", "[1]", "null", '{"median_norm": NaN}'])
def test_what_is_no_workspace_file_is_refused(workspace, text):
    (workspace.folder / "workspace.json").write_text(text)
    with pytest.raises(GlpError, match="workspace.json"):
        Workspace.open(workspace.folder)


def test_a_median_norm_that_is_no_number_is_refused(workspace):
    path = workspace.folder / "workspace.json"
    for value in ("NaN", "Infinity", "-Infinity"):
        path.write_text(path.read_text().replace("12.5", value))
        with pytest.raises(GlpError, match="median_norm"):
            Workspace.open(workspace.folder)
        path.write_text(path.read_text().replace(value, "12.5"))


@pytest.mark.parametrize("folder", ["x" * 5_000, "a\0b"])
def test_a_folder_of_a_name_that_none_can_have_is_no_workspace(folder):
    with pytest.raises(GlpError, match="this is no workspace"):
        Workspace.open(folder)


def test_a_home_that_nobody_has_is_said():
    with pytest.raises(GlpError, match="Name the folder in full"):
        Workspace.open("~nobody-of-this-name/x")


def test_a_folder_without_a_workspace_is_said(tmp_path):
    with pytest.raises(GlpError, match="No workspace.json.*build --help"):
        Workspace.open(tmp_path)
    with pytest.raises(GlpError, match="No workspace.json"):
        Workspace.open(tmp_path / "nowhere")


def test_reports_come_back_stamped_and_are_none_before(workspace):
    assert workspace.report("bench") is None
    workspace.save_report("bench", {"speed": 2.5, "made_by": {"command": "make bench"}})
    found = workspace.report("bench")
    assert found["speed"] == 2.5
    stamp = found["made_by"]
    assert stamp["command"] == "make bench"
    assert stamp["torch"] == torch.__version__
    assert stamp["machine"]["cores"] >= 1
    assert stamp["date"].endswith("UTC")


def test_a_report_names_the_glp_that_it_was_made_with(workspace):
    workspace.save_report("bench", {"glp_digest": "of an older GLP"})
    assert workspace.report("bench")["glp_digest"] == "" == workspace.glp_digest()
    weights = workspace.folder / "glp" / "final.safetensors"
    weights.parent.mkdir(exist_ok=True)
    weights.write_bytes(b"weights")
    workspace.save_report("bench", {"glp_digest": "of an older GLP"})
    assert workspace.report("bench")["glp_digest"] == hashlib.sha256(b"weights").hexdigest()[:16]
    workspace.save_report("sae", {}, checkpoint=None)
    assert "glp_digest" not in workspace.report("sae")


@pytest.mark.parametrize("name", ["../workspace", "a/b", "", "A", "a.json"])
def test_a_report_name_cannot_leave_the_folder(workspace, name):
    with pytest.raises(GlpError, match="Report name"):
        workspace.report(name)
    with pytest.raises(GlpError, match="Report name"):
        workspace.save_report(name, {})


def test_a_report_with_values_that_are_not_numbers_is_not_written(workspace):
    with pytest.raises(ValueError, match="not JSON compliant"):
        workspace.save_report("bench", {"speed": float("nan")})
    assert workspace.report("bench") is None
    assert not list((workspace.folder / "reports").iterdir())


def test_a_direction_that_is_not_there_is_said(workspace):
    assert workspace.direction_names() == []
    with pytest.raises(GlpError, match="No direction 'joy'.*none"):
        workspace.direction("joy")
    for name in ("../../etc/passwd", "", "\x00"):
        with pytest.raises(GlpError, match="No direction"):
            workspace.direction(name)


def test_runs_are_the_folders_with_a_log(workspace):
    assert workspace.runs() == []
    for name in ("b", "a", "empty"):
        (workspace.folder / "runs" / name).mkdir(parents=True)
    for name in ("b", "a"):
        (workspace.folder / "runs" / name / "train.csv").write_text("step\n")
    assert [run.name for run in workspace.runs()] == ["a", "b"]


def test_large_data_lies_in_the_cache_by_a_safe_name(workspace, monkeypatch, tmp_path):
    monkeypatch.setenv("GLP_EXPLORER_CACHE", str(tmp_path / "cache"))
    assert workspace.store_folder == tmp_path / "cache/activations/tiny-layer-1"
    assert workspace.training_folder == tmp_path / "cache/training/tiny-layer-1"
    odd = Workspace(workspace.folder, "../../x", workspace.llm, 1, "auto", 1.0)
    assert odd.store_folder == tmp_path / "cache/activations/x"


def test_statistics_without_a_covariance_are_said(workspace):
    write_tensors(workspace.folder / "glp/statistics.safetensors", {"mean": torch.zeros(3), "var": torch.ones(3)})
    with pytest.raises(GlpError, match="hold no covariance"):
        workspace.covariance()


def test_a_workspace_without_a_glp_is_said(workspace):
    with pytest.raises(GlpError, match="glp"):
        workspace.load_glp()


def test_facts_and_the_index_of_neurons_are_read_without_waiting_for_torch():
    code = (
        "import sys; from glp_core.workspace import Workspace; from glp_core.neuron_index.reader import NeuronIndex; "
        "it = Workspace.open(); it.report('bench'); NeuronIndex.open(it.neurons).neuron(0, 0); print('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"
