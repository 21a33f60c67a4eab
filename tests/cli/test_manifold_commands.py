"""The commands of the manifold page on a tiny store: what they write and what they refuse."""

import json
from functools import partial

import pytest
import torch

from glp_core.__main__ import main
from glp_core.data.corpus import Document
from glp_core.evaluation import zones
from glp_core.evaluation.measures import open_measures
from glp_core.neurons.planes import pca_plane
from glp_core.training.sae import Sae, save_sae
from tests.support import pages, tiny


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A tiny workspace, its model, a store of the model's activations, and the texts."""
    return pages.make_store(tmp_path_factory.mktemp("manifold"), train=60, held_out=100, activations=1000)


def test_bank_and_detection_are_made_from_the_store(made, monkeypatch):
    workspace, llm, store, documents = made
    monkeypatch.setattr(type(workspace), "load_llm", lambda _self: llm)
    monkeypatch.setattr(type(workspace), "documents", lambda _self, _split: documents[60:])
    monkeypatch.setattr("glp_core.cli.data.bank.umap_plane", lambda rows, others, progress: pca_plane(rows, others))
    where = ["--workspace", str(workspace.folder)]
    assert main(["bank", *where, "--store", str(store.folder), "--activations", "400", "--reference", "100"]) == 0
    ours = open_measures(workspace).bank
    assert len(ours) == 400 and ours.plane.shape == (400, 2)
    assert all(before or piece for before, piece, _ in ours.contexts[:20])
    measured = workspace.report("measures")["measures"]
    assert measured["mahalanobis"]["n"] == 100 and measured["error"]["n"] == workspace.report("reference")["n"]
    assert main(["detect", *where, "--activations", "60", "--likelihood", "0"]) == 0
    rows = workspace.report("detection")["rows"]
    assert {row["measure"] for row in rows} == {"error", "displacement", "mahalanobis", "neighbour"}
    assert {"layer 1", "layer 3", "shuffled text", "steered, strength 1"} <= {row["kind"] for row in rows}
    assert main(["bank", *where, "--activations", "3"]) == 1
    short = [Document(" ".join(document.text.split()[:3]), "short") for document in 3 * documents]
    monkeypatch.setattr(type(workspace), "documents", lambda _self, _split: short)
    assert main(["detect", *where, "--activations", "200", "--likelihood", "0"]) == 0, "as many short texts as it takes"


def test_a_scorecard_is_made_with_and_without_a_sparse_autoencoder(made, monkeypatch, tmp_path, capsys):
    workspace, llm, store, documents = made
    monkeypatch.setattr(type(workspace), "load_llm", lambda _self: llm)
    monkeypatch.setattr(type(workspace), "documents", lambda _self, _split: documents[60:])
    monkeypatch.setattr(type(workspace), "sae_path", tmp_path / "none.safetensors")
    command = ["scorecard", "--workspace", str(workspace.folder), "--store", str(store.folder)]
    command += ["--samples", "200", "--tested", "100", "--documents", "4", "--tokens", "12"]
    assert main(command) == 0
    assert "its rows are left out" in capsys.readouterr().err
    assert workspace.report("scorecard")["sae"] is None
    save_sae(Sae(tiny.WIDTH, 64, 4, torch.zeros(tiny.WIDTH), 1.0), tmp_path / "sae.safetensors", {})
    assert main([*command, "--sae", str(tmp_path / "sae.safetensors")]) == 0
    rows = workspace.report("scorecard")["rows"]
    assert {row["method"].split(",")[0] for row in rows} == {"real", "GLP", "PCA", "Gaussian", "SAE"}
    assert main([*command, "--sae", str(tmp_path / "nowhere.safetensors")]) == 1


def test_zones_are_measured_or_the_command_says_why_not(made, monkeypatch, tmp_path):
    monkeypatch.setattr(zones, "report", partial(zones.report, draws=20))
    workspace, llm, *_ = made
    monkeypatch.setattr(type(workspace), "load_llm", lambda _self: llm)
    prefixes = tmp_path / "prefixes.json"
    prefixes.write_text(json.dumps([f"the cat number {i}" for i in range(12)]))
    command = ["zones", "--workspace", str(workspace.folder), "--prefixes", str(prefixes), "--steered", "3", "--tokens", "5"]
    assert main(command) == 0
    report = workspace.report("zones")
    assert (
        50 <= report["n_texts"] <= 3 + 3 * 2 * 5 * 2
    )  # unsteered, and prefixes x directions x strengths x arms, empty ones left out
    assert {row["title"] for row in report["projection"]} == {"upwards", "positive sentiment"}
    assert report["own_texts_broken"]["temperature 1"] >= 0.05
    assert main([*command, "--directions", "nowhere"]) == 1
