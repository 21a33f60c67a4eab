"""The commands of the scaling page on a tiny store: what they write, how they go on, and what they refuse."""

import json
import math
import shutil

import pytest
import torch

from glp_core.__main__ import main
from glp_core.cli.training import sweep
from glp_core.data.store import ActivationStore
from glp_core.errors import GlpError
from glp_core.evaluation.runs import read_runs
from glp_core.prior.checkpoint import load_glp
from glp_core.training import kept_weights
from tests.support import pages, tiny
from tests.support.run_fakes import ALPHA, write_extended_run, write_run

SIZE = (48, 64, 1)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A tiny workspace and a store of its model's activations, with two runs of a sweep."""
    home = tmp_path_factory.mktemp("sweep")
    workspace, llm, store, documents = pages.make_store(home, train=200, held_out=100, activations=4000)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sweep, "SIZES", {"one": SIZE, "two": (64, 96, 1)})
        command = ["sweep", "--workspace", str(workspace.folder), "--store", str(store.folder), "--out", str(home / "out")]
        assert main([*command, "--sizes", "one", "two", "--activations", "98304", "--dtype", "float32"]) == 0
    return workspace, llm, store, home, documents


def command_of(made, *words):
    workspace, _, store, home, _ = made
    where = ["--workspace", str(workspace.folder), "--store", str(store.folder), "--out", str(home / "out")]
    return ["sweep", *where, *([] if "--existing" in words else ["--dtype", "float32"]), *words]


def test_a_sweep_publishes_a_log_for_each_size(made):
    runs = read_runs(made[0].folder / "runs")
    assert [run.name for run in runs] == ["one", "two"]
    assert all(run.finished and len(run.checkpoints) >= 7 for run in runs)


@pytest.mark.parametrize("more", [("--sizes", "small"), ("--activations", "4096"), ("--dtype", "auto")], ids=" ".join)
def test_what_only_training_heeds_is_refused_for_existing_runs(made, capsys, more):
    assert main(command_of(made, "--existing", "two", *more)) == 1
    assert f"{more[0]} is of runs that are trained, and --existing trains none" in capsys.readouterr().err


def test_sizes_share_stream_rows_seed_and_schedule_and_may_differ_in_length(made, monkeypatch, tmp_path):
    read = []
    whole, held_out = ActivationStore.batches, ActivationStore.validation
    monkeypatch.setattr(ActivationStore, "batches", lambda self, *a, **k: read.append((a, k)) or whole(self, *a, **k))
    monkeypatch.setattr(ActivationStore, "validation", lambda self, n=None: read.append(n) or held_out(self, n))
    monkeypatch.setattr(sweep, "SIZES", {"one": SIZE, "two": (64, 96, 1)})
    words = command_of(made, "--sizes", "one", "two", "--activations", "4096", "two=6144")
    words[words.index("--out") + 1] = str(tmp_path)
    assert main(words) == 0
    half = len(read) // 2
    assert read[0] == read[half] == 16_384 and read[1] == read[half + 1]
    plans = [json.loads((tmp_path / name / "run.json").read_text())["train"] for name in ("one", "two")]
    same = set(plans[0]) - {"d_model", "d_mlp", "activations", "learning_rate", "first_checkpoint"}
    assert {key: plans[0][key] for key in same} == {key: plans[1][key] for key in same}
    assert [plan["activations"] for plan in plans] == [4096, 6144]
    assert plans[0]["learning_rate"] / plans[1]["learning_rate"] == pytest.approx((64 / 48) ** 0.5, rel=1e-3)


def test_a_stopped_sweep_goes_on_with_the_size_that_it_was_in(made, monkeypatch, tmp_path):
    monkeypatch.setattr(sweep, "SIZES", {"one": SIZE, "two": (64, 96, 1)})
    words = command_of(made, "--sizes", "one", "two", "--activations", "16384")
    words[words.index("--out") + 1] = str(tmp_path / "out")
    words[words.index("--workspace") + 1] = str(pages.make_workspace(tmp_path / "workspace").folder)
    steps = []
    one_step = sweep.Trainer._train_step

    def counted(trainer, acts):
        steps.append(trainer.config.d_model)
        if len(steps) == 12:
            raise KeyboardInterrupt
        return one_step(trainer, acts)

    monkeypatch.setattr(sweep.Trainer, "_train_step", counted)
    assert main(words) == 130
    assert steps == [48] * 8 + [64] * 4
    assert main(words) == 0
    assert steps[12:] == [64] * 8  # killed before its first save, so from its beginning; the finished size is left alone
    assert len(read_runs(tmp_path / "workspace" / "runs")) == 2


@pytest.mark.parametrize("word", ["many", "-5", "0", "huge=5", "one="])
def test_lengths_that_are_none_are_refused(word):
    with pytest.raises(GlpError, match="SIZE=number"):
        sweep.activations_of([word])


def test_the_five_sizes_go_from_2_to_70_million_and_keep_eight_checkpoints_each(tmp_path):
    lengths = sweep.activations_of(["400000", "small=3_000_000"])
    parameters = []
    for name, (d_model, d_mlp, n_layers) in sweep.SIZES.items():
        glp = tiny.GLP(tiny.DenoiserConfig(576, d_model, d_mlp, n_layers), torch.zeros(576), torch.ones(576))
        parameters.append(sum(p.numel() for p in glp.network.parameters()) / 1e6)
        config = sweep.plan(name, lengths[name], tmp_path / name)
        assert sweep.n_checkpoints(config) >= 8
        assert config.activations == (3_000_000 if name == "small" else 400_000)
    assert parameters == sorted(parameters) and 2 < parameters[0] < 3 and 60 < parameters[-1] < 75
    assert sweep.plan("demo", 10_000_000, tmp_path).first_checkpoint == 32


def test_a_run_that_is_made_longer_keeps_its_first_checkpoint(tmp_path):
    short = sweep.plan("small", 400_000, tmp_path)
    (tmp_path / "run.json").write_text(json.dumps({"train": {"first_checkpoint": short.first_checkpoint}}))
    assert short.first_checkpoint == sweep.plan("small", 10_000_000, tmp_path).first_checkpoint < 32


def test_scores_of_an_earlier_run_of_that_name_do_not_stay(made):
    workspace, _, _, home, _ = made
    published = workspace.folder / "runs" / "two" / "evals.csv"
    published.write_text("activations,frechet\n98304,1.0\n")
    assert main(command_of(made, "--existing", "two")) == 0
    assert not published.exists()
    (home / "out" / "two" / "evals.csv").write_text("activations,frechet\n98304,2.0\n")
    assert main(command_of(made, "--existing", "two")) == 0
    assert read_runs(workspace.folder / "runs")[1].checkpoints["frechet"].dropna().tolist() == [2.0]
    (home / "out" / "two" / "evals.csv").unlink()


def test_final_weights_are_kept_in_bfloat16_and_load_beside_the_log(made, capsys):
    workspace, _, _, home, _ = made
    assert main(command_of(made, "--existing", "one", "--keep-weights", "one")) == 0
    kept, trained = (load_glp(folder) for folder in (workspace.folder / "runs" / "one" / "glp", home / "out" / "one"))
    weights = kept.network.out_proj.weight
    assert weights.equal(trained.network.out_proj.weight.bfloat16().float())
    assert (workspace.folder / "runs" / "one" / "glp" / "statistics.safetensors").stat().st_size < 1000
    assert main(command_of(made, "--existing", "one", "--keep-weights", "two")) == 1
    assert "none of this command's runs" in capsys.readouterr().err


def test_the_old_end_of_a_run_that_goes_on_is_neither_scored_nor_kept(made, tmp_path):
    folder = tmp_path / "one"
    shutil.copytree(made[3] / "out" / "one", folder)
    assert kept_weights.kept_checkpoints(folder)[98304] == "final"
    config = json.loads((folder / "config.json").read_text())
    config["about"]["activations_seen"] = 131072
    (folder / "config.json").write_text(json.dumps(config))
    shutil.copy(folder / "final.safetensors", folder / "checkpoints" / "activations_131072.safetensors")
    found = kept_weights.kept_checkpoints(folder)
    assert 98304 not in found and found[131072] == "checkpoints/activations_131072"
    with pytest.raises(GlpError, match="let the run end first"):
        kept_weights.keep_final(folder, tmp_path / "glp")


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
    assert report["flops_per_second"] == pytest.approx(1e9, rel=1e-3)
    assert report["correlations"]["frechet"]["value"] > 0.9
    assert report["correlations"]["frechet"]["n"] == 16 and report["correlations"]["probing"] is None
    (workspace.folder / "runs" / "run16000000" / "evals.json").write_text(
        json.dumps({"frechet": {"samples": 2000, "steps": 50}})
    )
    (workspace.folder / "runs" / "run4000000" / "evals.json").write_text(json.dumps({"frechet": {"samples": 500, "steps": 50}}))
    assert main(command) == 0
    alone = workspace.report("scaling")["correlations"]["frechet"]
    assert alone["n"] == 9 and "of 2 runs" in alone["measure"], "of scores that were measured otherwise, no numbers are pooled"
    std = workspace.load_glp().normalizer.std[0]
    assert report["gaussian_loss"] == pytest.approx(
        math.pi / 2 * float((1 / std).mean()), rel=1e-4
    )  # activations' covariance is 1


def test_the_report_tells_runs_that_were_made_longer_and_how_scores_were_measured(tmp_path):
    workspace = pages.make_workspace(tmp_path / "workspace")
    for parameters in (1_000_000, 16_000_000):
        write_run(workspace.folder / "runs", parameters=parameters)
    folder = write_extended_run(workspace.folder / "runs")
    (folder / "evals.json").write_text(json.dumps({"probing": {"every": 5}}))
    assert main(["scaling", "--workspace", str(workspace.folder)]) == 0
    runs = {run["name"]: run for run in workspace.report("scaling")["runs"]}
    assert runs["extended"]["old_ends"] == [524288] and runs["run1000000"]["old_ends"] == []
    assert runs["extended"]["measured"] == {"probing": {"every": 5}} and runs["extended"]["checkpoints"] == 9
