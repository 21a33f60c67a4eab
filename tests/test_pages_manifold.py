"""The Manifold page through the app's entry, with a tiny real model and a bank of its activations; the map; damaged and missing parts."""

import json
import math

import numpy as np
import pytest
import torch
from streamlit.testing.v1 import AppTest

from dashboard import kept, manifold, resources
from glp_core.activation_map import Pca, pca_map, umap_map
from glp_core.bank import Bank
from glp_core.errors import GlpError
from glp_core.manifold import ManifoldMeter, make_reference
from glp_core.measures import Measures, reference
from tests import pages


@pytest.fixture
def bare(tmp_path, monkeypatch):
    """A workspace without a bank, with a tiny model in the place of the wheel's."""
    workspace = pages.make_workspace(tmp_path / "workspace")
    llm = pages.use_workspace(monkeypatch, workspace.folder)
    kept.results.clear()
    return workspace, llm


@pytest.fixture
def workspace(bare):
    """A workspace with a bank of the tiny model's activations, and what the commands measure on it."""
    workspace, llm = bare
    words = ["the", "cat", "sat", "on", "a", "mat", "and", "the", "rain", "fell", "on", "every", "house", "in", "town"]
    rng = np.random.default_rng(0)
    rows = [llm.encode(" ".join(rng.choice(words, 12))) for _ in range(30)]
    acts = torch.cat([part[1:] for part in llm.activations(rows, workspace.layer)]).float()
    documents = torch.cat([torch.full((len(row) - 1,), i) for i, row in enumerate(rows)])
    contexts = [("a <b>", f"t{i}", "c") for i in range(len(acts))]
    bank = Bank(acts.half().float(), documents, contexts, {"llm": "tiny"})
    bank.save(workspace.folder / "bank")
    glp = workspace.load_glp()
    workspace.save_report("reference", make_reference(glp, acts))
    measures = Measures(ManifoldMeter(glp, workspace.report("reference")), workspace.covariance(), bank)
    about = {"activations_seen": 2_000_000}
    workspace.save_report("measures", {"measures": reference(measures, n=100), "glp": about})
    (workspace.folder / "prefixes.json").write_text(json.dumps([f"the cat and {i}" for i in range(20)]))
    return workspace


def open_page(**query):
    at = AppTest.from_file(pages.ENTRY, default_timeout=pages.SECONDS)
    at.query_params.update(query)
    at.run()
    at.switch_page("../pages/manifold.py")
    at.query_params.update(query)
    at.run()
    assert not at.exception, at.exception
    return at


def said(at):
    kinds = ("markdown", "caption", "info", "warning", "error")
    return "\n".join(str(element.value) for kind in kinds for element in at.get(kind)).replace("\\", "")


def figures(at):
    return [json.loads(element.proto.spec) for element in at.get("plotly_chart")]


def test_without_a_bank_the_page_names_the_command(bare):
    at = open_page()
    assert "A bank of real activations to compare with is not there yet" in said(at)
    assert "python -m glp_core bank" in [code.value for code in at.get("code")]


def test_a_text_is_measured_and_coloured_and_the_first_token_is_not(workspace):
    at = open_page(manifold_text="the cat <script> sat")
    strip = next(html.value for html in at.get("html") if "glp-strip" in html.value)
    assert "<script>" not in strip
    assert "the first token is never scored" in strip
    assert "of real activations" in strip
    assert "tokens lie beyond 95% of real ones" in said(at)
    assert figures(at)[0]["data"][0]["name"] == "100 real activations"


def test_the_log_likelihood_shows_its_standard_error(workspace):
    at = open_page(manifold_measure="log-likelihood", manifold_text="the cat sat")
    strip = next(html.value for html in at.get("html") if "glp-strip" in html.value)
    assert "±" in strip


def test_a_sweep_runs_to_its_end_and_says_what_projection_did(workspace):
    at = open_page(manifold_view="Strength", manifold_prompts="8")
    assert "press Run" in said(at)
    at.button(key="manifold_run").click().run()
    assert "8 prompts" in said(at)
    names = [trace.get("name") for trace in figures(at)[0]["data"] if trace.get("showlegend") is not False]
    assert names == list(manifold.ARMS.values())
    assert "No zones" in said(at)


def test_own_prompts_are_used_and_a_stop_keeps_what_there_is(workspace):
    at = open_page(manifold_view="Strength")
    at.text_area(key="manifold_own").set_value("the cat sat\n\nthe rain fell\na house").run()
    at.button(key="manifold_run").click().run()
    request, job = at.session_state["manifold_job"]
    assert request.prompts == ("the cat sat", "the rain fell", "a house")
    assert job.state == "done"
    assert len(job.events) == len(manifold.STRENGTHS) * len(manifold.ARMS)


def test_at_strength_zero_nothing_but_projection_moves_anything(workspace):
    spreads = list(manifold.sweep(manifold.Sweep("up", ("the cat sat", "the rain fell", "a mat")), lambda: False))
    at_zero = {spread.arm: spread.quantiles[2] for spread in spreads if spread.strength == 0}
    assert at_zero["raw"] == pytest.approx(at_zero["norm"], rel=1e-4)
    assert at_zero["raw"] == pytest.approx(at_zero["random"], rel=1e-4)
    assert math.isnan(next(spread for spread in spreads if spread.arm == "raw").lower)
    assert list(manifold.sweep(manifold.Sweep("up", ("the cat sat", "the rain")), lambda: True)) == []


def test_the_map_shows_each_kind_and_tests_it(workspace):
    at = open_page(manifold_view="Map", manifold_steps="4")
    names = [trace["name"] for trace in figures(at)[0]["data"]]
    assert names[0].startswith("real, held out")
    assert any(name.startswith("generated, 4 steps") for name in names)
    assert any(name.startswith("steered, then projected") for name in names)
    assert "logistic" in said(at) and "nearest neighbour" in said(at)
    assert "&lt;b&gt;" in figures(at)[0]["data"][0]["text"][0]


def test_a_reference_of_another_glp_is_told(workspace):
    report = workspace.report("measures")
    workspace.save_report("measures", report | {"glp": {"activations_seen": 1}})
    assert "measured with another GLP" in said(open_page())


def test_a_bank_that_does_not_fit_is_shown_as_a_message(workspace):
    (workspace.folder / "bank" / "bank.json").write_text('{"contexts": []}')
    resources.runner()
    assert "do not belong together" in said(open_page(manifold_text="another text"))


def test_reports_become_tables(workspace):
    rows = [
        {"kind": kind, "measure": "error", "auroc": value, "ci": [value, value], "n": 5}
        for kind, value in (("a", 0.5), ("b", 0.9))
    ]
    workspace.save_report("detection", {"rows": rows, "n_real": 5})
    test = {"accuracy": 0.61, "ci": [0.58, 0.64], "n": 100, "drawn": 0.7, "real": 0.5}
    workspace.save_report(
        "scorecard", {"two_sample": [{"sample": "GLP, 1 step", "logistic": test, "neighbour": test}], "n": 50}
    )
    at = open_page()
    frames = [frame.value for frame in at.dataframe]
    assert any("0.61 [0.58, 0.64]" in frame.to_csv() for frame in frames)


def test_pca_of_training_rows_is_the_fit_and_agrees_with_scikit_learn():
    from sklearn.decomposition import PCA

    rows = np.random.default_rng(0).normal(size=(60, 8)).astype(np.float32) * np.arange(1, 9)
    plane, others, share = pca_map(rows, {"same": rows[:10]})
    theirs = PCA(2).fit(rows)
    assert np.abs(plane) == pytest.approx(np.abs(theirs.transform(rows)), abs=1e-3)
    assert share == pytest.approx(theirs.explained_variance_ratio_, rel=1e-4)
    assert others["same"] == pytest.approx(plane[:10], abs=1e-4)
    with pytest.raises(GlpError, match="at least 3"):
        Pca(rows[:2])


def test_umap_puts_training_rows_where_the_fit_put_them_and_can_be_stopped():
    rng = np.random.default_rng(0)
    rows = np.concatenate([rng.normal(size=(40, 6)), rng.normal(size=(40, 6)) + 8]).astype(np.float32)
    plane, others = umap_map(rows, {"same": rows}, neighbours=10)
    assert others["same"] == pytest.approx(plane, abs=1e-4)
    with pytest.raises(GlpError, match="Stopped"):
        umap_map(rows, {}, neighbours=10, cancelled=lambda: True)
    with pytest.raises(GlpError, match="more than 10"):
        umap_map(rows[:5], {}, neighbours=10)
