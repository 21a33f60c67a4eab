"""The commands of the scaling and manifold pages on a tiny store: sweep, scaling, bank, detect; what they write and what they refuse."""

import math

import pandas as pd
import pytest
import torch

from glp_core import checkpoint_scores
from glp_core.__main__ import main
from glp_core.activations import collect
from glp_core.cli import bank as bank_command
from glp_core.cli import detect, sweep
from glp_core.corpus import Document
from glp_core.runs import read_runs
from tests import pages, tiny
from tests.run_fakes import ALPHA, write_run

SIZE = (48, 64, 1)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A tiny workspace and a store of its model's activations, with two runs of a sweep."""
    home = tmp_path_factory.mktemp("sweep")
    workspace, llm = pages.make_workspace(home / "workspace"), tiny.make_tiny_llm()
    documents = [Document(f"The cat number {i} sat on the mat and looked at rain {i * i}.", "made up") for i in range(300)]
    store = collect(llm, workspace.layer, documents[:200], documents[200:], home / "store", n_activations=4000)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sweep, "SIZES", {"one": SIZE, "two": (64, 96, 1)})
        command = ["sweep", "--workspace", str(workspace.folder), "--store", str(store.folder), "--out", str(home / "out")]
        assert main([*command, "--sizes", "one", "two", "--activations", "98304", "--dtype", "float32"]) == 0
    return workspace, llm, store, home, documents


def test_a_sweep_publishes_a_log_for_each_size(made):
    runs = read_runs(made[0].folder / "runs")
    assert [run.name for run in runs] == ["one", "two"]
    assert all(run.finished and len(run.checkpoints) == 3 for run in runs)


def test_checkpoints_are_scored_once_and_published(made, monkeypatch):
    workspace, llm, store, home, documents = made
    monkeypatch.setattr(type(workspace), "load_llm", lambda _self: llm)
    monkeypatch.setattr(checkpoint_scores, "documents", lambda _split: documents[200:])
    command = ["sweep", "--workspace", str(workspace.folder), "--store", str(store.folder), "--out", str(home / "out")]
    command += ["--existing", "one", "--scores", "frechet", "--samples", "100"]
    assert main(command) == 0
    table = pd.read_csv(workspace.folder / "runs" / "one" / "evals.csv")
    assert table["activations"].tolist() == [32768, 65536, 98304]
    assert (table["frechet"] > 0).all() and table["real_real"].nunique() == 1
    monkeypatch.setitem(checkpoint_scores.WAYS, "frechet", lambda *_: pytest.fail("scored twice"))
    assert main(command) == 0


def test_delta_lm_of_a_checkpoint_is_the_rise_of_the_loss(made, monkeypatch):
    workspace, llm, store, home, documents = made
    monkeypatch.setattr(type(workspace), "load_llm", lambda _self: llm)
    monkeypatch.setattr(checkpoint_scores, "documents", lambda _split: documents[200:])
    scorer = checkpoint_scores.Scorer(workspace, store, n_documents=4, tokens=12)
    glp = checkpoint_scores.load_glp(home / "out" / "two")
    found = scorer.delta_lm(glp)["delta_lm"]
    assert found == scorer.delta_lm(glp)["delta_lm"]
    assert found != 0
    assert torch.isfinite(scorer.base).all()


def test_a_run_that_is_not_there_is_refused(made, capsys):
    workspace, _, store, home, _ = made
    command = ["sweep", "--workspace", str(workspace.folder), "--store", str(store.folder), "--out", str(home / "out")]
    assert main([*command, "--existing", "../one"]) == 1
    assert "no run" in capsys.readouterr().err


def test_the_law_is_fitted_reported_and_refused_when_points_are_few(tmp_path, capsys):
    workspace = pages.make_workspace(tmp_path / "workspace")
    command = ["scaling", "--workspace", str(workspace.folder)]
    write_run(workspace.folder / "runs", steps=3)
    assert main(command) == 1
    assert "at least 4 points" in capsys.readouterr().err
    for parameters in (4_000_000, 16_000_000):
        write_run(workspace.folder / "runs", parameters=parameters)
    assert main(command) == 0
    report = workspace.report("scaling")
    low, high = report["alpha"]["ci"]
    assert low <= ALPHA <= high
    assert report["n_runs"] == 3 and report["n_checkpoints"] == 19
    assert report["correlations"]["frechet"]["value"] > 0.9
    assert report["correlations"]["probing"] is None
    std = workspace.load_glp().normalizer.std[0]
    assert report["gaussian_loss"] == pytest.approx(
        math.pi / 2 * float((1 / std).mean()), rel=1e-4
    )  # activations' covariance is 1


def test_bank_and_detection_are_made_from_the_store(made, monkeypatch):
    workspace, llm, store, _, documents = made
    monkeypatch.setattr(type(workspace), "load_llm", lambda _self: llm)
    monkeypatch.setattr("glp_core.bank.documents", lambda _split: documents[200:])
    monkeypatch.setattr(detect, "documents", lambda _split: documents[200:])
    where = ["--workspace", str(workspace.folder)]
    assert main(["bank", *where, "--store", str(store.folder), "--activations", "400", "--reference", "100"]) == 0
    ours = bank_command.measures_of(workspace).bank
    assert len(ours) == 400
    assert all(before or piece for before, piece, _ in ours.contexts[:20])
    assert workspace.report("measures")["measures"]["error"]["n"] == 100
    assert main(["detect", *where, "--activations", "60", "--samples", "100"]) == 0
    rows = workspace.report("detection")["rows"]
    assert {row["measure"] for row in rows} == {"error", "displacement", "mahalanobis", "neighbour"}
    assert {"layer 1", "layer 3", "shuffled text", "steered, strength 1"} <= {row["kind"] for row in rows}
    samples = {row["sample"]: row for row in workspace.report("scorecard")["two_sample"]}
    assert {"real", "GLP, 1 step", "GLP, 20 steps", "Gaussian prior"} == samples.keys() - {"GLP, 4 steps"}
    assert main(["bank", *where, "--activations", "3"]) == 1
