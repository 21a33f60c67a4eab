"""The Scaling page through the app's entry, over made-up runs that follow a known law."""

import json
import os
from types import SimpleNamespace

import pytest
from streamlit.testing.v1 import AppTest

from dashboard import about, resources, scaling
from dashboard.jobs import JobRunner
from glp_core.errors import GlpError
from glp_core.runs import read_runs
from tests.run_fakes import write_run, write_workspace


@pytest.fixture
def workspace(monkeypatch, tmp_path):
    """A workspace with no run yet; no model is loaded."""
    monkeypatch.setenv(about.FOLDER_VARIABLE, str(write_workspace(tmp_path / "workspace")))
    runner = JobRunner()
    monkeypatch.setattr(resources, "runner", lambda: runner)
    idle = SimpleNamespace(live=False, state="failed", error=GlpError("no models in this test"), events=[])
    monkeypatch.setattr(resources, "warm_up", lambda: idle)
    return tmp_path / "workspace"


def open_page(**query):
    at = AppTest.from_file("../dashboard/app.py", default_timeout=60).run()
    at.switch_page("../pages/scaling.py")
    for key, value in query.items():
        at.query_params[key] = value
    at.run()
    assert not at.exception, at.exception
    return at


def said(at):
    kinds = ("subheader", "markdown", "caption", "info", "warning", "error")
    return "\n".join(str(element.value) for kind in kinds for element in at.get(kind))


def figures(at):
    return [json.loads(element.proto.spec) for element in at.get("plotly_chart")]


def test_without_runs_the_page_says_which_command_makes_them(workspace):
    at = open_page()
    assert "A training run is not there yet" in said(at).replace("\\", "")
    assert "python -m glp_core sweep" in [code.value for code in at.get("code")]


def test_runs_are_drawn_with_law_gaussian_prior_and_words(workspace):
    for parameters in (1_000_000, 4_000_000, 16_000_000):
        write_run(workspace / "runs", parameters=parameters)
    at = open_page()
    names = [trace.get("name") for trace in figures(at)[0]["data"]]
    assert "run4000000, 4.0 M" in names
    assert {"95% band", "fitted law", "extrapolated 10 ×", "Gaussian prior 1.442"} <= set(names)
    words = said(at)
    assert "ten times the compute lowers the loss by" in words
    assert "Rank correlation with the loss +1.00" in words.replace("\\", "")
    assert "GFLOP/s measured" in words


def test_two_questions_both_ways_and_the_warning_far_out(workspace):
    for parameters in (1_000_000, 16_000_000):
        write_run(workspace / "runs", parameters=parameters)
    at = open_page()
    at.number_input(key="scaling_target").set_value(0.3).run()
    assert "no compute reaches it" in said(at)
    assert "Extrapolation" not in said(at)
    at.number_input(key="scaling_budget").set_value(20.0).run()
    assert "Extrapolation" in said(at)
    assert not at.exception


def test_points_that_carry_no_law_are_drawn_without_one(workspace):
    write_run(workspace / "runs", steps=3)
    at = open_page()
    assert "No law is drawn" in said(at)
    assert "at least 4 points" in said(at).replace("\\", "")
    assert "fitted law" not in [trace.get("name") for trace in figures(at)[0]["data"]]


def test_the_link_sets_the_axes_and_a_bad_one_is_told(workspace):
    write_run(workspace / "runs")
    at = open_page(scaling_x="activations", scaling_y="Frechet distance", scaling_fit="rubbish")
    assert figures(at)[0]["layout"]["xaxis"]["title"]["text"] == "Activations seen"
    assert figures(at)[0]["layout"]["yaxis"]["title"]["text"] == "Frechet distance"
    assert "rubbish" in said(at)


def test_a_score_that_was_not_measured_names_its_command(workspace):
    write_run(workspace / "runs", scores=False)
    at = open_page(scaling_y="Delta LM")
    assert "python -m glp_core sweep --scores frechet delta_lm" in [code.value for code in at.get("code")]


def test_own_runs_are_compared_and_marked_while_they_run(workspace, tmp_path):
    write_run(workspace / "runs")
    write_run(tmp_path / "mine", parameters=3_000_000, planned=10**9, name="<b>mine")
    at = open_page()
    at.text_input(key="scaling_own").set_value(str(tmp_path / "mine")).run()
    names = [trace.get("name") for trace in figures(at)[0]["data"]]
    assert "own: &lt;b&gt;mine, 3.0 M (running)" in names
    assert "Still training" in said(at)


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("/nowhere/at/all", "There is no folder"),
        ("//server/share", "Network paths"),
        ("x" * 600, "no folder"),
        ("/dev", "No run"),
    ],
)
def test_a_folder_that_is_none_is_refused_and_the_shipped_runs_stay(workspace, path, words):
    write_run(workspace / "runs")
    at = open_page()
    at.text_input(key="scaling_own").set_value(path).run()
    assert words in at.error[0].value.replace("\\", "")
    assert "fitted law" in [trace.get("name") for trace in figures(at)[0]["data"]]


def test_the_export_holds_every_checkpoint_and_no_formula(workspace):
    write_run(workspace / "runs", name="=cmd")
    write_run(workspace / "runs", parameters=2_000_000)
    text = scaling.export(read_runs(workspace / "runs"))
    assert text.count("\n") == 17
    assert "'=cmd" in text
    assert ",=cmd" not in text


def test_a_shared_law_is_refitted_when_a_log_grows(workspace):
    folder = write_run(workspace / "runs")
    before = scaling.law(read_runs(workspace / "runs"), "all")
    lines = (folder / "train.csv").read_text().splitlines()
    (folder / "train.csv").write_text("\n".join(lines[:-6]) + "\n")
    os.utime(folder / "train.csv")
    assert len(scaling.law(read_runs(workspace / "runs"), "all").compute) < len(before.compute)
