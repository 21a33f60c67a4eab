"""One command with a released prior, made by `export` or by hand, of one layer or of many: what it builds has that prior, and shows it."""

import random
import shutil

import pytest
import torch

from dashboard.service import workspace_facts
from glp_core.__main__ import main
from glp_core.building.state import BuildState
from glp_core.prior.checkpoint import save_glp
from glp_core.prior.glp import GLP
from glp_core.prior.network import DenoiserConfig
from glp_core.training.publishing import export
from glp_core.workspace import Workspace
from tests.support import tiny_build
from tests.support.pages import open_page
from tests.support.reference import ReferenceGlp, write_released_folder
from tests.support.tiny import LAYERS, WIDTH, tiny_glp
from tests.support.whole_build import QUERIES, SHOWN, kill_in, make_home, start, text_of

LAYER = (LAYERS - 1) // 2


def exported(home):
    save_glp(tiny_glp(), home / "glp", about={"llm": "gpt2", "layer": LAYER})
    export(home / "glp", home / "exported")
    return home / "exported"


def exported_of_many(home):
    draw = torch.Generator().manual_seed(3)
    mean, var = torch.randn(LAYERS, WIDTH, generator=draw), 0.5 + torch.rand(LAYERS, WIDTH, generator=draw)
    with torch.random.fork_rng():
        torch.manual_seed(3)
        glp = GLP(DenoiserConfig(WIDTH, 48, 64, 2, multi_layer_n_layers=LAYERS), mean, var).prepare()
    save_glp(glp, home / "glp", about={"llm": "gpt2", "layers": list(range(LAYERS))})
    export(home / "glp", home / "exported")
    return home / "exported"


def by_hand(home):
    return write_released_folder(home / "by_hand", d_input=WIDTH, layers=(LAYER,), statistics="broad")


def by_hand_of_many(home):
    return write_released_folder(home / "by_hand", d_input=WIDTH, multi=LAYERS, layers=range(LAYERS), statistics="layered")


def assert_prior(workspace, released):
    """Compare the workspace's prior with what a plain second implementation reads from the released folder, at its layer."""
    z = torch.randn(4, WIDTH, generator=torch.Generator().manual_seed(0))
    glp, plain = workspace.load_glp(dtype=torch.float32), ReferenceGlp.read(released)
    torch.testing.assert_close(glp.velocity(z, 0.3), plain.velocity(z, 0.3, LAYER), atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(glp.normalize(z), plain.normalize(z, LAYER), atol=1e-4, rtol=1e-4)


@pytest.fixture(scope="module")
def collected(tmp_path_factory):
    """A workspace with its activations, and no prior yet."""
    home = make_home(tmp_path_factory.mktemp("home"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GLP_EXPLORER_CACHE", str(home / "cache"))
        tiny_build.shrink(patch.setattr)
        line = ["build", "--workspace", home / "my", "--llm", home / "gpt2", "--device", "cpu", "--only", "collect"]
        assert main([str(word) for word in line]) == 0
        yield home


@pytest.mark.parametrize("make", [exported, by_hand, by_hand_of_many], ids=lambda make: make.__name__)
def test_a_build_with_it_ends_and_distances_are_measured_with_it(collected, tmp_path, monkeypatch, make):
    released, folder = make(tmp_path), tmp_path / "my"
    shutil.copytree(collected / "my", folder)
    line = ["build", "--workspace", folder, "--glp", released, "--device", "cpu", "--only", "evaluate,bank"]
    assert main([str(word) for word in line]) == 0
    made = {stage.name for stage in BuildState.read(folder).stages if stage.state == "done"}
    workspace = Workspace.open(folder)
    assert made == {"collect", "prior", "evaluate", "bank"} and workspace.layer == LAYER
    assert_prior(workspace, released)
    monkeypatch.setenv(workspace_facts.FOLDER_VARIABLE, str(folder))
    at = open_page("manifold", manifold_text="The cat sat on the mat.")
    measured = workspace.report("measures")["measures"]["error"]
    assert not at.error and f"{measured['n']:,} real activations" in text_of(at)
    assert (f"{LAYERS} layers, 0 to {LAYERS - 1}" in text_of(at)) == (make is by_hand_of_many)


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """A whole workspace, after its build was killed once and went on without a word about LLM or prior."""
    home = make_home(tmp_path_factory.mktemp("whole"))
    released = exported_of_many(home)
    kill_in(random.choice(("evaluate", "index", "probing", "steering")), home, "--llm", home / "gpt2", "--glp", released)
    between = BuildState.read(home / "my")
    assert between.state != "done"
    process = start(home)
    said = process.communicate()[1]
    assert process.returncode == 0, said
    return home, released


@pytest.mark.nightly
def test_a_whole_build_with_one_of_many_layers_ends_though_it_was_killed(built):
    home, released = built
    assert {stage.state for stage in BuildState.read(home / "my").stages} == {"done"}
    assert_prior(Workspace.open(home / "my"), released)


@pytest.mark.nightly
@pytest.mark.parametrize("name", SHOWN)
def test_every_page_of_it_shows_something_out_of_its_own_reports(built, monkeypatch, name):
    home, _ = built
    monkeypatch.setenv(workspace_facts.FOLDER_VARIABLE, str(home / "my"))
    monkeypatch.setenv("GLP_EXPLORER_CACHE", str(home / "cache"))
    at = open_page(name, **QUERIES.get(name, {}))
    assert not at.error and not [one.value for one in at.info if "not there yet" in one.value]
    text = text_of(at)
    assert SHOWN[name](Workspace.open(home / "my")) in text and "4 layers, 0 to 3" in text
