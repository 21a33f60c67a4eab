"""The choice of a prior: which GLPs a workspace offers, and that the Steering page projects with the one that its link names."""

import re

import pytest

from dashboard.service import priors, resources, workspace_facts
from glp_core.errors import GlpError
from glp_core.llm.site import Site
from glp_core.prior.checkpoint import save_glp
from glp_core.prior.projection import make_projector
from glp_core.steering.generation import Arm, Sampling, generate
from tests.support import pages, tiny
from tests.support.run_fakes import write_run
from tests.support.steering_page import board, open_page, run

SEEN = 196608


@pytest.fixture
def workspace(monkeypatch, tmp_path):
    """A workspace with its own GLP, and a run whose final weights are kept."""
    made = pages.make_workspace(tmp_path / "workspace")
    llm = pages.use_workspace(monkeypatch, made.folder)
    folder = write_run(made.folder / "runs", name="small")
    save_glp(tiny.tiny_glp(seed=1), folder / "glp", about={"activations_seen": SEEN})
    return made, llm


def written(workspace, llm, glp):
    direction = workspace.direction("positive")
    projector = make_projector("glp", glp=glp, noise_level=0.5, steps=3, solver="radau")
    arms = [Arm("glp", direction.vector, 2.0, projector)]
    return "".join(step.text for step in generate(Site(llm, 2, 5.0), llm.encode("The cat"), arms, Sampling(12)))


def test_the_link_chooses_the_glp_that_projects(workspace):
    query = {"steering_tokens": "12", "steering_prompt": "The cat", "steering_strength": "2.0"}
    query |= {"steering_projection": "paper's projection"}
    texts = {}
    for name in ("workspace", "small"):
        at = run(open_page(**query, prior=name))
        assert at.selectbox(key="prior").value == name and not at.warning and not at.error
        texts[name] = board(at)["glp"]
        assert f"prior={name}" in next(one.value for one in at.code if "steering_seed" in one.value)
    assert resources.prior("small").network.out_proj.weight.equal(tiny.tiny_glp(seed=1).network.out_proj.weight)
    for name, text in texts.items():
        expected = written(*workspace, resources.prior(name))
        assert re.sub(r"[␣↵\s]", "", text) == re.sub(r"[␣↵\s]", "", expected)
    assert texts["small"] != texts["workspace"]


def test_a_prior_that_is_none_is_told_and_the_workspaces_own_is_used(workspace):
    at = open_page(prior="../../etc")
    assert "Prior is '../../etc', wanted one of: workspace, small" in re.sub(r"\\(.)", r"\1", at.warning[0].value)
    assert at.selectbox(key="prior").value == "workspace"
    with pytest.raises(GlpError, match="no prior 'other'"):
        resources.prior("other")


def test_a_workspace_with_one_prior_offers_no_choice_but_checks_the_link(workspace):
    (workspace[0].folder / "runs" / "small" / "glp" / "final.safetensors").write_bytes(b"damaged")
    at = open_page(prior="small")
    assert "prior" not in [box.key for box in at.selectbox]
    assert "wanted one of: workspace" in re.sub(r"\\(.)", r"\1", at.warning[0].value)


def test_the_own_glp_has_the_name_of_its_run_and_checkpoints_find_their_weights(workspace):
    folder = workspace[0].folder
    assert [prior.name for prior in priors.listed()] == ["workspace", "small"]
    mine = write_run(folder / "runs", name="mine")
    (mine / "config.json").write_text((folder / "glp" / "config.json").read_text())
    assert [prior.name for prior in priors.listed()] == ["mine", "small"]
    assert resources.prior("mine") is resources.glp()
    assert priors.of_checkpoint("small", SEEN).folder == folder / "runs" / "small" / "glp"
    assert priors.of_checkpoint("mine", 2_000_000).folder == folder / "glp"
    assert priors.of_checkpoint("small", SEEN / 2) is None
    assert priors.listed()[0].parameters == workspace_facts.glp().parameters


def test_loaded_priors_are_bounded(workspace, monkeypatch):
    made = []
    monkeypatch.setattr("glp_core.prior.checkpoint.load_glp", lambda folder, **_: made.append(folder) or tiny.tiny_glp())
    folder = workspace[0].folder
    for i in [0, 1, 2, 3, 3, 0]:
        name = f"run{i}"
        if not (folder / "runs" / name).exists():
            write_run(folder / "runs", name=name)
            save_glp(tiny.tiny_glp(), folder / "runs" / name / "glp", about={"activations_seen": SEEN})
        resources.prior(name)
    assert [one.parent.name for one in made] == ["run0", "run1", "run2", "run3", "run0"]
