"""A workspace whose prior is a released folder, of one layer or of many: the commands measure it, the pages show it."""

import json
import shutil

import pytest
import torch

from dashboard.service import resources
from glp_core.__main__ import main
from glp_core.llm.sources import LlmSource
from glp_core.neurons.planes import pca_plane
from glp_core.prior.distance import ManifoldMeter
from glp_core.training.publishing import export
from glp_core.workspace import Workspace
from tests.support import pages, tiny
from tests.support.reference import write_released_folder
from tests.support.steering_page import run


def one_layer(home, workspace):
    export(workspace.folder / "glp", home / "released")
    return home / "released"


def many_layers(home, workspace):
    return write_released_folder(home / "released", d_input=tiny.WIDTH, multi=4, statistics="layered")


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
    (workspace.folder / "prefixes.json").write_text(json.dumps([f"the cat and {i}" for i in range(20)]))
    rows = [(f"a good film {i}", 1) for i in range(8)] + [(f"the rain {i}", 0) for i in range(8)]
    (home / "texts.csv").write_text("text,label\n" + "\n".join(f"{text},{label}" for text, label in rows))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GLP_EXPLORER_CACHE", str(home / "cache"))
        patch.setattr(Workspace, "load_llm", lambda _self: llm)
        split = {"train": documents[:40], "validation": documents[40:]}
        patch.setattr(Workspace, "documents", lambda _self, name: split[name])
        patch.setattr("glp_core.cli.data.bank.umap_plane", lambda rows, others, progress: pca_plane(rows, others))

        def command(name, *words):
            assert main([name, "--workspace", str(workspace.folder), "--device", "cpu", *map(str, words)]) == 0, name

        sizes = ("--activations", 128, "--samples", 64, "--documents", 6, "--tokens", 12)
        command("evaluate", "--store", store.folder, *sizes)
        command("bank", "--store", store.folder, "--activations", 100, "--reference", 50)
        command("direction", home / "texts.csv", "--name", "films")
        command("index", "--documents", 40)
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


def test_steering_runs_with_every_projection(shown):
    for extra in ("paper's projection", "Gaussian prior"):
        at = run(pages.open_page("steering", steering_tokens="3", steering_prompt="The cat", steering_extra=extra))
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
