"""The Scaling page through the app's entry, over made-up runs that follow a known law."""

import base64
import json
import os
import time
from functools import partial
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from dashboard.scaling import law, run_files, view
from dashboard.service import resources, workspace_facts
from glp_core.errors import GlpError
from glp_core.evaluation.runs import fit_points, points, read_run, read_runs
from glp_core.evaluation.scaling_law import fit_law
from glp_core.jobs.runner import JobRunner
from tests.support import pages
from tests.support.run_fakes import write_extended_run, write_run, write_workspace


@pytest.fixture
def workspace(monkeypatch, tmp_path):
    """A workspace with no run yet; no model is loaded."""
    monkeypatch.setenv(workspace_facts.FOLDER_VARIABLE, str(write_workspace(tmp_path / "workspace")))
    runner = JobRunner()
    monkeypatch.setattr(resources, "runner", lambda: runner)
    idle = SimpleNamespace(live=False, state="failed", error=GlpError("no models in this test"), events=[])
    monkeypatch.setattr(resources, "warm_up", lambda: idle)
    monkeypatch.setattr(law, "fit_law", partial(fit_law, draws=60))
    return tmp_path / "workspace"


def open_page(**query):
    return pages.open_page("scaling", **query)


def said(at):
    kinds = ("subheader", "markdown", "caption", "info", "warning", "error")
    return "\n".join(str(element.value) for kind in kinds for element in at.get(kind))


def figures(at):
    return [json.loads(element.proto.spec) for element in at.get("plotly_chart")]


def test_without_runs_the_page_says_which_command_makes_them(workspace):
    at = open_page()
    assert "A training run is not there yet" in said(at).replace("\\", "")
    assert f"python -m glp_core sweep --workspace {workspace.name}" in [code.value for code in at.get("code")]


def test_runs_are_drawn_with_law_gaussian_prior_and_words(workspace):
    for parameters in (1_000_000, 4_000_000, 16_000_000):
        write_run(workspace / "runs", parameters=parameters)
    write_run(workspace / "runs", parameters=2_000_000, steps=1, scores=False)
    at = open_page()
    names = [trace.get("name") for trace in figures(at)[0]["data"]]
    assert "run4000000, 4.0 M" in names
    assert {"95% band", "fitted law", "extrapolated 10 ×", "Gaussian prior 1.442"} <= set(names)
    words = said(at)
    assert "ten times the compute lowers the loss by" in words
    assert "Rank correlation with the loss +1.00" in words.replace("\\", "")
    assert "GFLOP/s measured" in words
    look, *others = map(looks, figures(at)[:-1])  # the last one is the paper's
    assert others and all(other.items() <= look.items() for other in others)
    assert min(map(len, others)) < len(look), "one that was warming up is in no fit"


def test_a_run_beyond_the_fitted_range_that_ends_above_the_law_is_named(workspace):
    for parameters in (1_000_000, 4_000_000, 16_000_000):
        write_run(workspace / "runs", parameters=parameters)
    runs = read_runs(workspace / "runs")
    used = fit_points(runs, "frontier")
    fit = fit_law(used["flops"], used["validation_loss"])
    assert law.beyond_in_words(fit, runs) == ""
    late = write_run(workspace / "runs", parameters=2_000_000, name="late")
    table = pd.read_csv(late / "train.csv")
    table["flops"] *= 1000
    table.to_csv(late / "train.csv", index=False)
    assert law.beyond_in_words(fit, read_runs(workspace / "runs")).startswith(
        "late had more compute than the fitted range and ends above"
    )


def looks(figure):
    """Colour and symbols of each run's markers in a figure, by its name, whether it is still warming up or not."""
    runs = [trace for trace in figure["data"] if trace.get("name", "").startswith("run")]
    return {run["name"].split(",")[0]: (run["marker"]["color"], symbols(run["marker"]["symbol"])) for run in runs}


def symbols(stored):
    return {one.removesuffix("-open") for one in ([stored] if isinstance(stored, str) else stored)}


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
    command = f"python -m glp_core sweep --scores frechet delta_lm probing steering --workspace {workspace.name}"
    assert command in [code.value for code in at.get("code")]


def test_every_score_may_stand_on_either_axis(workspace):
    folder = write_run(workspace / "runs", parameters=2_000_000)
    table = pd.read_csv(folder / "evals.csv").assign(probing=lambda t: 0.6 + 0.01 * t.index, steering=0.4)
    table.to_csv(folder / "evals.csv", index=False)
    at = open_page(scaling_x="loss", scaling_y="probing AUC")
    layout = figures(at)[0]["layout"]
    assert layout["xaxis"]["title"]["text"] == "Validation loss" and layout["xaxis"]["type"] == "log"
    assert layout["yaxis"]["title"]["text"] == "Mean 1-D probing AUC"
    trace = next(trace for trace in figures(at)[0]["data"] if trace["name"] == "run2000000, 2.0 M")
    assert numbers(trace["y"]) == pytest.approx(table["probing"])
    at = open_page(scaling_x="probing AUC", scaling_y="Frechet distance")
    assert figures(at)[0]["layout"]["xaxis"]["title"]["text"] == "Mean 1-D probing AUC"
    words = said(at).replace("\\", "")
    assert words.count("Rank correlation with the loss") == 3  # Frechet, Delta LM, probing
    assert "one side is constant" in words  # steering


def numbers(values):
    """Return a trace's values, which plotly may have packed."""
    if isinstance(values, dict):
        return np.frombuffer(base64.b64decode(values["bdata"]), values["dtype"]).tolist()
    return list(values)


def test_captions_say_how_a_score_was_measured_and_when_runs_differ(workspace):
    for parameters, samples in ((1_000_000, 4000), (2_000_000, 4000)):
        folder = write_run(workspace / "runs", parameters=parameters)
        (folder / "evals.json").write_text(json.dumps({"frechet": {"samples": samples, "steps": 20}}))
    assert "samples 4,000, steps 20" in said(open_page()).replace("\\", "")
    (folder / "evals.json").write_text(json.dumps({"frechet": {"samples": 500, "steps": 20}}))
    words = said(open_page()).replace("\\", "")
    assert "not measured alike in all runs" in words and "within a run +1.00 to +1.00, 2 runs" in words


def test_a_run_that_was_made_longer_is_drawn_with_its_old_end_as_a_branch(workspace):
    write_run(workspace / "runs")
    write_extended_run(workspace / "runs")
    at = open_page()
    traces = [trace for trace in figures(at)[0]["data"] if trace.get("name") == "extended, 8.0 M"]
    line, branch = traces
    assert branch["marker"]["symbol"][-1] == "star" and numbers(branch["x"])[-1] == 6 * 8e6 * 524288
    assert numbers(branch["x"])[0] in numbers(line["x"]) and 6 * 8e6 * 524288 not in numbers(line["x"])
    assert branch["showlegend"] is False
    assert "fitted law" in [trace.get("name") for trace in figures(at)[0]["data"]]
    assert not at.warning


def keep_weights(folder, activations, parameters=12):
    """Write just enough of a GLP folder for the page to know it by."""
    header = json.dumps({"w": {"dtype": "BF16", "shape": [parameters], "data_offsets": [0, 2 * parameters]}}).encode()
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "final.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + bytes(2 * parameters))
    facts = {"denoiser": {"d_model": parameters}, "about": {"activations_seen": activations}}
    (folder / "config.json").write_text(json.dumps(facts))


@pytest.mark.parametrize(("run", "seen", "link"), [("kept", 4194304, True), ("kept", 32768, False), ("other", 4194304, False)])
def test_a_clicked_checkpoint_shows_its_numbers_and_the_way_to_steer_with_it(workspace, monkeypatch, run, seen, link):
    keep_weights(workspace / "glp", 1)
    for name in ("kept", "other"):
        write_run(workspace / "runs", name=name, parameters=2_000_000 + len(name))
    keep_weights(workspace / "runs" / "kept" / "glp", 4194304)
    assert "Click a point" in said(open_page())
    monkeypatch.setattr(view, "clicked", lambda _event: (run, float(seen)))
    at = open_page()
    facts = next(one.value for one in at.get("html") if "Checkpoint of" in one.value)
    assert f"Checkpoint of {run}" in facts and f"<dd>{seen:,.0f}</dd>" in facts and "<dt>Validation loss</dt>" in facts
    links = [one.proto for one in at.get("page_link")]
    assert [one.query_string for one in links] == (["prior=kept"] if link else [])
    assert ("weights of this checkpoint are not in the workspace" in said(at)) is not link


def test_a_click_is_read_from_what_the_chart_sends():
    event = SimpleNamespace(selection=SimpleNamespace(points=[{"x": 1}, {"customdata": ["demo", 32768.0]}]))
    assert view.clicked(event) == ("demo", 32768.0)
    assert view.clicked(SimpleNamespace(selection=SimpleNamespace(points=[]))) is None
    assert view.clicked(None) is None


def test_the_papers_law_is_drawn_labelled_and_only_where_it_can_be_compared(workspace):
    for parameters in (1_000_000, 16_000_000):
        write_run(workspace / "runs", parameters=parameters)
    label = "the paper's E and α, moved to our level"
    assert label not in [trace.get("name") for trace in figures(open_page())[0]["data"]]
    traces = {trace.get("name"): trace for trace in figures(open_page(scaling_paper="true"))[0]["data"]}
    x, y = (np.array(numbers(traces[label][axis])) for axis in "xy")
    slope = np.polyfit(np.log(x), np.log(y - 0.52), 1)[0]
    assert slope == pytest.approx(-0.169, abs=1e-6)
    others = figures(open_page(scaling_paper="true", scaling_x="activations"))[0]["data"]
    assert label not in [trace.get("name") for trace in others]


def test_the_hours_are_compute_over_the_measured_speed(workspace):
    for parameters in (1_000_000, 16_000_000):
        write_run(workspace / "runs", parameters=parameters)  # logged at 1 GFLOP/s
    at = open_page()
    at.number_input(key="scaling_budget").set_value(14.0).run()
    assert "27.8 hours on the machine of the runs (1 GFLOP/s measured)" in said(at).replace("\\", "")


def test_own_runs_below_the_operator_s_folder_are_compared_and_marked_while_they_run(workspace, tmp_path, monkeypatch):
    monkeypatch.setenv(run_files.RUNS_VARIABLE, str(tmp_path / "offered"))
    write_run(workspace / "runs")
    write_run(tmp_path / "offered" / "mine", parameters=3_000_000, planned=10**9, name="<b>mine")
    write_run(tmp_path / "elsewhere", name="secret")
    (tmp_path / "offered" / "link").symlink_to(tmp_path / "elsewhere")
    at = open_page()
    assert at.selectbox(key="scaling_own").options == ["mine"]
    at.selectbox(key="scaling_own").set_value("mine").run()
    names = [trace.get("name") for trace in figures(at)[0]["data"]]
    assert "own: &lt;b&gt;mine, 3.0 M (running)" in names
    assert "Still training" in said(at)


def test_without_a_folder_from_the_operator_no_path_can_be_named(workspace):
    write_run(workspace / "runs")
    at = open_page()
    assert run_files.RUNS_VARIABLE in said(at).replace("\\", "")
    assert not [box for box in at.text_input if "older" in box.label]
    assert run_files.shown(run_files.Own(str(workspace / "runs")))[1:] == ([], "")


class Upload:
    def __init__(self, path, name=None):
        self.name, self.content = name or path.name, path.read_bytes()

    def getvalue(self):
        return self.content


def test_an_uploaded_run_is_read_and_a_wrong_one_is_refused_without_a_path(workspace, tmp_path):
    folder = write_run(tmp_path / "mine", parameters=3_000_000)
    files = [Upload(folder / name) for name in ("train.csv", "config.json")]
    [run] = run_files.shown(run_files.Own(files=files)).own
    assert (run.name, round(run.parameters)) == ("uploaded run", 3_000_000)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"train": config["train"] | {"activations": 10**12}}))
    [run] = run_files.shown(run_files.Own(files=[files[0], Upload(folder / "config.json")])).own
    assert not run.finished and not run.running, "its log grows elsewhere"
    for wrong, words in (
        ([files[1]], "No train.csv in the upload"),
        ([Upload(folder / "train.csv", "../x")], "is no file of a run"),
    ):
        shown = run_files.shown(run_files.Own(files=wrong))
        assert words in shown.problem and "/" not in shown.problem.replace("../x", "") and not shown.own


def test_the_export_holds_every_checkpoint_and_no_formula(workspace):
    write_run(workspace / "runs", name="=cmd")
    write_run(workspace / "runs", parameters=2_000_000)
    text = run_files.export(read_runs(workspace / "runs"))
    assert text.count("\n") == 17
    assert "'=cmd" in text
    assert ",=cmd" not in text


def test_a_log_is_read_once_until_it_is_written_again(workspace, monkeypatch):
    folder, read = write_run(workspace / "runs", planned=10**9), []
    monkeypatch.setattr(run_files, "read_run", lambda folder: read.append(folder) or read_run(folder))
    before = [run_files.shown(run_files.Own()).runs[0] for _ in range(3)][-1]
    assert len(read) == 1 and before.running
    lines = (folder / "train.csv").read_text().splitlines()
    (folder / "train.csv").write_text("\n".join(lines[:-6]) + "\n")
    os.utime(folder / "train.csv", (0, 0))  # were it written within a tick of the clock, it would look as before
    after = run_files.shown(run_files.Own()).runs[0]
    assert len(after.log) == len(before.log) - 6
    (folder / "evals.csv").unlink()
    assert "frechet" in after.checkpoints and "frechet" not in run_files.shown(run_files.Own()).runs[0].checkpoints


def test_a_run_that_nobody_writes_any_more_stops_running(workspace, monkeypatch):
    write_run(workspace / "runs", planned=10**9)
    assert run_files.shown(run_files.Own()).running
    later = time.time() + 3600
    monkeypatch.setattr(time, "time", lambda: later)
    assert not run_files.shown(run_files.Own()).running


def test_a_shared_law_is_refitted_when_a_log_grows(workspace):
    folder = write_run(workspace / "runs")
    before = law.law(read_runs(workspace / "runs"), "all")
    lines = (folder / "train.csv").read_text().splitlines()
    (folder / "train.csv").write_text("\n".join(lines[:-6]) + "\n")
    os.utime(folder / "train.csv")
    assert len(law.law(read_runs(workspace / "runs"), "all").compute) < len(before.compute)


def test_the_law_counts_the_runs_that_it_is_fitted_to_and_says_when_own_ones_are_among_them(workspace, tmp_path, monkeypatch):
    monkeypatch.setenv(run_files.RUNS_VARIABLE, str(tmp_path / "offered"))
    for parameters in (1_000_000, 16_000_000):
        write_run(workspace / "runs", parameters=parameters)
    behind = write_run(workspace / "runs", parameters=4_000_000)
    lines = [line.split(",") for line in (behind / "train.csv").read_text().splitlines()]
    for line in lines[1:]:
        line[3:5] = [str(float(one) + 1) if one else "" for one in line[3:5]]  # beaten everywhere
    (behind / "train.csv").write_text("\n".join(map(",".join, lines)) + "\n")
    write_run(tmp_path / "offered" / "mine", parameters=2_000_000, name="own")
    at = open_page()
    assert " of 2 runs (compute-efficient frontier" in said(at) and "own runs are among them" not in said(at)
    at.selectbox(key="scaling_own").set_value("mine").run()
    assert " of 3 runs (compute-efficient frontier" in said(at) and "own runs are among them" in said(at)
    assert "Your own runs are not in it." in said(at)


def test_an_own_run_of_a_shipped_one_s_name_is_told_from_it(workspace, tmp_path, monkeypatch):
    monkeypatch.setenv(run_files.RUNS_VARIABLE, str(tmp_path / "offered"))
    write_run(workspace / "runs", name="small")
    write_run(tmp_path / "offered" / "mine", name="small", scores=False)
    shown = run_files.shown(run_files.Own("mine"))
    assert [run.name for run in shown.runs] == ["small", "small (own)"]
    assert not law.score_names(points(shown.own))[1:] and law.score_names(points(shown.shipped))[1:]


@pytest.mark.parametrize(("scale", "shift"), [(1, 20.0), (1e-6, 0.0)], ids=["high losses", "little compute"])
def test_questions_begin_within_their_limits_whatever_the_runs(workspace, scale, shift):
    for parameters in (1_000_000, 4_000_000):
        folder = write_run(workspace / "runs", parameters=parameters, scores=False)
        table = pd.read_csv(folder / "train.csv")
        table["flops"] *= scale
        table[["train_loss", "validation_loss"]] += shift
        table.to_csv(folder / "train.csv", index=False)
    at = open_page()
    assert not at.exception and "Target loss" in [one.label for one in at.number_input]


def test_a_link_holds_what_was_asked_of_the_law(workspace):
    for parameters in (1_000_000, 16_000_000):
        write_run(workspace / "runs", parameters=parameters)
    at = open_page(scaling_target="0.9", scaling_budget="14.5")
    assert at.number_input(key="scaling_target").value == 0.9 and at.number_input(key="scaling_budget").value == 14.5
    link = next(code.value for code in at.get("code") if "scaling?" in code.value)
    assert "scaling_target=0.9" in link and "scaling_budget=14.5" in link
    at = open_page(scaling_target="-3")
    assert "Target loss is '-3', wanted a number from 0.001 to 1,000" in said(at).replace("\\", "")
    assert not at.exception


def test_a_rank_correlation_has_an_interval_over_runs_where_there_are_enough():
    rng = np.random.default_rng(0)
    losses, runs = rng.random(40), np.repeat(list("abcd"), 10)
    table = pd.DataFrame({"run": runs, "validation_loss": losses, "frechet": losses + np.repeat([0, 1, 2, 3], 10)})
    words = law.correlation_in_words(table, "frechet")
    assert "40 checkpoints of 4 runs, interval over runs" in words
    assert "checkpoints of 2 runs: too few runs for an interval" in law.correlation_in_words(table[:20], "frechet")
    assert law.within_runs_in_words(table, "frechet").startswith("Rank correlation with the loss within a run +1.00 to +1.00")
    assert "No run has enough" in law.within_runs_in_words(table[::5], "frechet")
