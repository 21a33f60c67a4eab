"""A GLP goes out of a workspace: exported as a released folder, pushed to the hub."""

import shutil
from types import SimpleNamespace

import pytest
import torch
import yaml
from safetensors.torch import load_file

from glp_core import GlpError, Workspace, load_glp, save_glp
from glp_core.__main__ import main
from glp_core.llm.sources import LlmSource
from glp_core.prior.facts import GlpFacts
from tests.support import pages, tiny
from tests.support.reference import ReferenceGlp, write_released_folder

ABOUT = {"llm": "Tiny", "layer": 2, "activations_seen": 7}


@pytest.fixture
def workspace(tmp_path):
    """A workspace of layer 2 of an LLM of the hub."""
    made = pages.make_workspace(tmp_path / "ws")
    workspace = Workspace(made.folder, made.name, LlmSource("hub", "org/Tiny", revision="0123456"), 2, "float32", 5.0)
    workspace.save()
    save_glp(tiny.tiny_glp(), made.folder / "glp", about=ABOUT, covariance=torch.eye(tiny.WIDTH))
    return workspace


def run(command, workspace, *words):
    return main([command, "--workspace", str(workspace.folder), *map(str, words)])


def multi(folder):
    return write_released_folder(folder, d_input=tiny.WIDTH, multi=4, statistics="layered")


def velocities(glp, layer=None):
    return glp.velocity(torch.randn(5, tiny.WIDTH, generator=torch.Generator().manual_seed(1)), 0.3, layer)


def test_an_exported_glp_is_the_same_to_us_and_to_the_papers_code(workspace, tmp_path):
    out = tmp_path / "out"
    assert run("export", workspace, "--to", out) == 0
    ours, back, reference = load_glp(workspace.folder / "glp"), load_glp(out), ReferenceGlp.read(out)
    assert torch.equal(velocities(back), velocities(ours)) and torch.equal(back.normalizer.std, ours.normalizer.std)
    torch.testing.assert_close(velocities(ours), velocities(reference), rtol=1e-5, atol=1e-5)
    acts, noise = torch.randn(4, tiny.WIDTH), torch.randn(4, tiny.WIDTH)
    torch.testing.assert_close(ours.project(acts, noise=noise), reference.project(acts, 0.5, 20, noise), rtol=1e-4, atol=1e-4)
    assert all(name.startswith("model.") for name in load_file(out / "final.safetensors"))
    config = yaml.safe_load((out / "config.yaml").read_text())
    assert config["model_name"] == "org/Tiny" and "rep_statistic" in config  # what the paper's loader puts a path into
    assert config["glp_kwargs"]["normalizer_config"] == {"rep_statistic": "${rep_statistic}"}
    assert config["glp_kwargs"]["tracedict_config"] == {"layer_prefix": "model.layers", "layers": [2], "retain": "output"}
    facts = GlpFacts.read(out)
    assert facts == GlpFacts.read(workspace.folder / "glp") and facts.about == ABOUT
    assert "Tiny" in (out / "README.md").read_text()


def test_weights_are_exported_in_their_own_dtype_over_an_earlier_export_only(workspace, tmp_path, capsys):
    save_glp(load_glp(workspace.folder / "glp", dtype=torch.bfloat16), workspace.folder / "glp", about=ABOUT)
    for _ in range(2):
        assert run("export", workspace, "--to", tmp_path / "out") == 0
    assert load_file(tmp_path / "out/final.safetensors")["model.ln.weight"].dtype == torch.bfloat16
    (tmp_path / "full").mkdir()
    (tmp_path / "full/letter.txt").write_text("dear")
    assert run("export", workspace, "--to", tmp_path / "full") == 1 and "holds something else" in capsys.readouterr().err


def test_a_multi_layer_glp_goes_in_and_out_whole(workspace, tmp_path):
    released = multi(tmp_path / "released")
    shutil.rmtree(workspace.folder / "glp")
    shutil.copytree(released, workspace.folder / "glp")
    assert run("export", workspace, "--to", tmp_path / "out") == 0
    for folder in (workspace.folder / "glp", tmp_path / "out"):
        assert torch.equal(velocities(load_glp(folder), 3), velocities(load_glp(released), 3))
    assert GlpFacts.read(tmp_path / "out").depth == 4
    torch.testing.assert_close(
        velocities(workspace.load_glp()), velocities(ReferenceGlp.read(released), 2), rtol=1e-4, atol=1e-4
    )


class FakeHub:
    """What the hub is asked for; it refuses whoever is not logged in."""

    def __init__(self, token):
        self.token, self.asked = token, []

    def create_repo(self, hub_id, *, private, exist_ok):
        if not self.token:
            raise OSError("401 Unauthorized")
        self.asked.append((hub_id, private))

    def upload_folder(self, *, repo_id, folder_path, commit_message):
        self.asked.append((repo_id, sorted(path.name for path in folder_path.iterdir())))
        return SimpleNamespace(oid="c0ffee")


def test_an_export_is_pushed_with_the_users_token(workspace, tmp_path, monkeypatch, capsys):
    hub = FakeHub("secret")
    monkeypatch.setattr("huggingface_hub.HfApi", lambda: hub)
    assert run("export", workspace, "--to", tmp_path / "out", "--push", "me/glp", "--private") == 0
    files = ["README.md", "config.yaml", "final.safetensors", "rep_statistics.pt"]
    assert hub.asked == [("me/glp", True), ("me/glp", files)]
    assert "me/glp@c0ffee" in capsys.readouterr().err
    hub.token = ""
    assert run("export", workspace, "--to", tmp_path / "out", "--push", "me/glp") == 1
    assert "hf auth login" in capsys.readouterr().err and load_glp(tmp_path / "out")
    with pytest.raises(GlpError, match="no hub id"):
        from glp_core.training.publishing import push

        push(tmp_path / "out", "no id")
