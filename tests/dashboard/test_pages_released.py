"""A workspace whose prior is a released folder, of one layer or of many: the commands measure it, the pages show it."""

import shlex
import shutil
from dataclasses import replace
from functools import partial

import pytest
import torch

from dashboard.manifold.measure import QUESTIONS
from dashboard.service import resources
from glp_core.__main__ import main
from glp_core.cli.neurons import probe
from glp_core.data import corpus
from glp_core.evaluation import solver_error, zones
from glp_core.files import write_json
from glp_core.llm.sources import LlmSource
from glp_core.neurons import maps, planes, umap
from glp_core.neurons.planes import pca_plane
from glp_core.prior.checkpoint import load_glp
from glp_core.prior.distance import ManifoldMeter
from glp_core.steering.trials import elsewhere
from glp_core.training.publishing import export
from glp_core.training.sae import SaeConfig, save_sae
from glp_core.training.sae_training import train_sae
from glp_core.workspace import Workspace
from tests.cli.conftest import SMALL_STEPS
from tests.support import lab_acts, pages, tiny
from tests.support.reference import write_released_folder
from tests.support.steering_page import run
from tests.support.tiny_build import scattered
from tests.support.whole_build import SHOWN, text_of


def one_layer(home, workspace):
    export(workspace.folder / "glp", home / "released")
    return home / "released"


def many_layers(home, workspace):
    return write_released_folder(home / "released", d_input=tiny.WIDTH, multi=4, statistics="layered")


def shrink(patch):
    """Let the commands try little, and lay maps out at random: what is tested is that they run, and with which prior."""
    few = tuple(task for task in corpus.tasks() if task.name in TASKS)
    patch.setattr(probe, "tasks", lambda: few)
    patch.setattr(probe, "READINGS", probe.READINGS[:2])
    patch.setattr(solver_error, "LEVELS", solver_error.LEVELS[2:4])
    patch.setattr(solver_error, "EXACT_CALLS", 60)
    patch.setattr(zones, "report", partial(zones.report, draws=20))
    patch.setattr(elsewhere, "loss_rises", partial(elsewhere.loss_rises, tokens=12))
    for module in (umap, planes, maps):
        patch.setattr(module, "run_umap", scattered)


TASKS = ("92_glue_sst2", "105_click_bait")
TEXTS = "--prefixes {home}/prefixes.json --limit 3 --tokens 4"
COMMANDS = f"""
evaluate --store {{home}}/store --activations 128 --samples 64 --documents 6 --tokens 12
bank --store {{home}}/store --activations 100 --reference 50
direction {{home}}/texts.csv --name films
direction --neuron 1/3 --name neuron
index --documents 40
solvers --store {{home}}/store --training 8 --held-out 8
detect --activations 50 --likelihood 0
scorecard --store {{home}}/store --sae {{home}}/sae.safetensors --samples 128 --tested 64 --documents 4 --tokens 12
probe --sae {{home}}/sae.safetensors --activations {{home}}/probing --train 16 --validation 12 --test 16
map --neighbours 5
describe
zones --prefixes {{home}}/prefixes.json --steered 3 --tokens 5
tune-walk --directions up {TEXTS} --strengths 0.5 --forms raw 'glp 0.25' 'walk 0.25 x 4*' 'walk 0.1 x 8'
steer --directions up {TEXTS} --strengths 0.5 1.5 --documents 2
strengths --directions up {TEXTS} --strengths 0.5 1.5
first-press {TEXTS}
steer-sentiment --direction up {TEXTS} --strengths 0.5 1.5
pareto
export --to {{home}}/exported
train {" ".join(SMALL_STEPS)} --store {{home}}/store --activations 640 --validation 64 --from {{home}}/exported --run on --keep-weights
sweep-steering {{home}}/sweep.json
"""
"""All that know a prior, one a line, in an order in which each has what it needs."""


@pytest.fixture(scope="module", params=[one_layer, many_layers], ids=lambda make: make.__name__)
def measured(request, tmp_path_factory):
    """A workspace with a released folder as its prior, after every command that its pages need."""
    home = tmp_path_factory.mktemp("released")
    workspace, llm, store, documents = pages.make_store(home, train=40, held_out=40, activations=600)
    source = LlmSource("folder", str(home / "llm"), title="Tiny-Instruct")
    Workspace(workspace.folder, workspace.name, source, 2, "float32", store.median_norm).save()
    folder = request.param(home, workspace)
    shutil.rmtree(workspace.folder / "glp")
    shutil.copytree(folder, workspace.folder / "glp")
    for report in (workspace.folder / "reports").glob("*"):
        report.unlink()
    write_json(home / "prefixes.json", [f"the cat and {i}" for i in range(20)])
    write_json(home / "sweep.json", replace(lab_acts.SWEEP, arms=("raw", "walk"), prompts=("The cat", "A film")).to_json())
    rows = [(f"a good film {i}", 1) for i in range(8)] + [(f"the rain {i}", 0) for i in range(8)]
    (home / "texts.csv").write_text("text,label\n" + "\n".join(f"{text},{label}" for text, label in rows))
    sae, facts = train_sae(store, SaeConfig(expansion=2, k=4, activations=1024, batch=256))
    save_sae(sae, home / "sae.safetensors", facts)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GLP_EXPLORER_CACHE", str(home / "cache"))
        patch.setenv("GLP_EXPLORER_DEVICE", "cpu")
        patch.setattr(Workspace, "load_llm", lambda _self: llm)
        split = {"train": documents[:40], "validation": documents[40:]}
        patch.setattr(Workspace, "documents", lambda _self, name: split[name])
        patch.setattr("glp_core.cli.data.bank.umap_plane", lambda rows, others, progress: pca_plane(rows, others))
        shrink(patch)
        for line in COMMANDS.strip().splitlines():
            name, *words = shlex.split(line.format(home=home))
            assert main([name, "--workspace", str(workspace.folder), *words]) == 0, name
    return Workspace.open(workspace.folder)


@pytest.fixture
def shown(measured, monkeypatch):
    pages.use_workspace(monkeypatch, measured.folder)
    return measured


def test_the_commands_measure_it(measured):
    report, own = measured.report("evaluate"), measured.load_glp()
    assert report["glp_digest"] == measured.glp_digest() and report["delta_lm"]["by_noise_level"]["0.5"]["glp"]["n"] == 6
    assert measured.covariance().shape == (tiny.WIDTH, tiny.WIDTH)
    assert set(measured.report("measures")["measures"]) == {"error", "displacement", "mahalanobis", "neighbour", "likelihood"}
    assert own.config.multi_layer_n_layers is None
    layers = measured.report("layers")
    assert layers is None if not measured.load_glp(whole=True).layers else set(layers["layers"]) == {"0", "1", "3"}


def test_every_report_was_made_with_it(measured):
    reports = [path.stem for path in (measured.folder / "reports").glob("*.json")]
    digests = {name: measured.report(name).get("glp_digest", measured.glp_digest()) for name in reports}
    assert len(reports) >= 14 and set(digests.values()) == {measured.glp_digest()}
    if measured.report("layers"):
        assert measured.load_glp().fitted_steps == measured.load_glp(whole=True).fitted_at[measured.layer] != ()
    acts = torch.randn(3, tiny.WIDTH, generator=torch.Generator().manual_seed(0))
    further = load_glp(measured.folder / "runs" / "on" / "glp")
    assert further.config.multi_layer_n_layers is None, "what is trained on one layer's activations serves that layer"
    torch.testing.assert_close(further.normalize(acts), measured.load_glp().normalize(acts))


VIEWS = {
    "overview": [{}],
    "neurons": [
        {"view": "unit", "layer": "1", "unit": "3", "unit_noise": "true"},
        {"view": "map"},
        {"view": "lists", "stars": "1/3,0/2"},
    ],
    "concepts": [{}, {"concepts_show": "table", "task": TASKS[1]}],
    "scaling": [{}, {"scaling_x": "activations", "scaling_paper": "true"}],
    "manifold": [{"manifold_view": "Evidence", "manifold_evidence": one} for one in QUESTIONS]
    + [{"manifold_measure": one, "manifold_text": "The cat sat"} for one in ("Mahalanobis", "nearest neighbour")],
    "lab": [{"lab_view": "Direction"}, {"lab_view": "Sweep"}, {"lab_view": "Saved runs"}],
}
"""Page to what its address says of each of its views; those that are not here have a test of their own."""


@pytest.mark.parametrize("page", VIEWS)
def test_every_view_of_a_page_shows_what_was_measured(page, shown):
    said = ""
    for query in VIEWS[page]:
        at = pages.open_page(page, **query)
        commands = [one.value for one in (*at.error, *at.info, *at.warning) if "python -m glp_core" in one.value]
        lacking = [words for words in commands if not words.startswith("Expect a small effect")]
        assert not at.error and not lacking, query
        said += text_of(at)
    if page in ("overview", "neurons", "concepts", "manifold"):
        assert SHOWN[page](shown) in said


def test_steering_runs_with_every_projection(shown):
    projected = {"steering_projection": "paper's projection", "steering_solver": "ab2"}
    for query in ({"steering_extra": "paper's projection"}, {"steering_extra": "Gaussian prior"}, {"prior": "on"}, projected):
        at = run(pages.open_page("steering", steering_tokens="3", steering_prompt="The cat", **query))
        assert not at.error, at.error[0].value
        assert "say which" not in str(at.main)


def test_meta_neurons_read_a_text(shown):
    at = pages.open_page("neurons", text="The cat sat on the mat.")
    assert not at.error and not at.exception


def test_the_manifold_measures_a_text_and_a_push(shown):
    for query in ({}, {"manifold_measure": "log-likelihood"}, {"manifold_view": "Map"}):
        at = pages.open_page("manifold", manifold_text="The cat sat on the mat.", **query)
        assert not at.error and not at.exception
    at = pages.open_page("manifold", manifold_view="Strength", manifold_prompts="3")
    at.button(key="manifold_run").click().run()
    assert not at.error and not at.exception


def test_the_manifold_measures_a_text_at_another_layer_against_real_activations_there(shown):
    if shown.report("layers") is None:
        assert "manifold_layer" not in [box.key for box in pages.open_page("manifold").selectbox]
        return
    text = "The cat sat on the mat."
    at = pages.open_page("manifold", manifold_text=text, manifold_layer="1")
    assert not at.error and at.selectbox(key="manifold_layer").value == 1
    site = resources.site(1)
    acts = site.activations([site.llm.encode(text)])[0][1:].float()
    own = ManifoldMeter(shown.load_glp(whole=True).at(1), shown.report("layers")["layers"]["1"]["reference"]).distance(acts)
    table = at.dataframe[0].value
    assert table.iloc[1:, 1].to_list() == pytest.approx(own.tolist(), rel=1e-4)
    at = pages.open_page("manifold", manifold_text=text, manifold_layer="1", manifold_measure="displacement")
    assert any("Layer 1 is measured by the denoising error only" in one.value for one in at.error)


def test_steering_at_another_layer_of_the_prior_is_done_there_and_says_so(shown):
    if shown.report("layers") is None:
        assert "steering_layer" not in [box.key for box in pages.open_page("steering").selectbox]
        return
    query = {"steering_tokens": "3", "steering_prompt": "The cat", "steering_layer": "1"}
    at = run(pages.open_page("steering", **query))
    assert not at.error and at.selectbox(key="steering_layer").value == 1
    assert any("projected at layer 1" in one.value and "made at layer 2" in one.value for one in at.caption)
    assert resources.meter(1) is resources.meter(1), "whoever shares a step shares its meter"
    elsewhere = resources.site(1)
    assert (elsewhere.layer, elsewhere.median_norm) == (1, shown.report("layers")["layers"]["1"]["median_norm"])
    vector = shown.direction("films").vector
    prior = shown.load_glp(whole=True).at(1)
    assert torch.equal(resources.prior("", 1).velocity(vector[None], 0.4), prior.velocity(vector[None], 0.4))
    at = run(pages.open_page("steering", **query | {"steering_extra": "Gaussian prior"}))
    assert any("is of layer 2" in str(one.value) for one in at.error)


def test_the_sidebar_says_which_layers_are_served_and_that_a_prior_is_a_transfer(shown, monkeypatch):
    at = pages.open_page("overview")
    said = " ".join(element.proto.body for element in at.get("html"))
    assert ("4 layers, 0 to 3" in said) == (shown.report("layers") is not None)
    assert "Transfer" not in said
    monkeypatch.setattr(Workspace, "transferred_from", lambda _self: "org/Tiny-Base")
    at = pages.open_page("overview")
    said = " ".join(element.proto.body for element in at.get("html"))
    assert "trained on org/Tiny-Base" in said and "activations of org/Tiny-Base: a transfer" in said
    assert ("how many is not recorded" in said) == (shown.report("layers") is not None)
