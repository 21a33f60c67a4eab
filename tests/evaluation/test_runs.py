"""Run logs: what is read, what is refused and in which words."""

import json
import os
import time

import pytest

from glp_core.errors import GlpError
from glp_core.evaluation.runs import fit_points, points, read_run, read_runs
from glp_core.evaluation.scaling_law import fit_law
from tests.support.run_fakes import ALPHA, E, write_extended_run, write_run


def test_a_run_is_read_with_its_size_speed_and_scores(tmp_path):
    run = read_run(write_run(tmp_path, parameters=2_000_000))
    assert run.parameters == pytest.approx(2e6)
    assert run.flops_per_second == pytest.approx(1e9, rel=1e-3)
    assert run.shape == "2 blocks, 64 wide, 128 neurons"
    assert len(run.log) == 16
    assert len(run.checkpoints) == 8
    assert run.checkpoints["frechet"].notna().sum() == 7
    assert run.finished and not run.running


def test_checkpoints_before_the_peak_rate_are_warming_and_not_fitted(tmp_path):
    run = read_run(write_run(tmp_path))
    assert run.checkpoints["warming"].tolist() == [True] + [False] * 7
    assert len(fit_points([run], "all")) == 7


def test_the_frontier_leaves_out_what_is_beaten(tmp_path):
    write_run(tmp_path, parameters=1_000_000, noise=0)
    worse = write_run(tmp_path, parameters=1_000_001, noise=0, name="worse")
    text = (worse / "train.csv").read_text().splitlines()
    rows = [line.split(",") for line in text]
    for row in rows[1:]:
        row[4] = row[4] and f"{1.2 * float(row[4]):.5f}"
    (worse / "train.csv").write_text("\n".join(",".join(row) for row in rows))
    runs = read_runs(tmp_path)
    assert len(fit_points(runs, "all")) == 14
    assert set(fit_points(runs, "frontier")["run"]) == {"run1000000"}


def test_the_law_of_several_runs_comes_back(tmp_path):
    for parameters in (1_000_000, 4_000_000, 16_000_000):
        write_run(tmp_path, parameters=parameters)
    table = fit_points(read_runs(tmp_path), "all")
    fit = fit_law(table["flops"], table["validation_loss"])
    assert fit.e.low <= E <= fit.e.high
    assert fit.alpha.low <= ALPHA <= fit.alpha.high


def test_an_unfinished_run_is_running_only_while_its_log_is_fresh(tmp_path):
    folder = write_run(tmp_path, planned=10**9)
    assert read_run(folder).running
    old = time.time() - 3600
    os.utime(folder / "train.csv", (old, old))
    assert not read_run(folder).running
    assert not read_run(folder).finished


def test_a_run_that_was_made_longer_has_an_old_end_and_nothing_between_on_the_frontier(tmp_path):
    run = read_run(write_extended_run(tmp_path))
    marked = run.checkpoints.set_index("activations")["old_end"]
    assert marked[marked].index.tolist() == [524288]
    assert not run.checkpoints["warming"].iloc[1:].any() and run.checkpoints["warming"].iloc[0]
    assert run.finished
    efficient = fit_points([run], "frontier")["activations"].tolist()
    assert efficient == [65536, 131072, 262144, 524288, 1572864, 2097152]  # not those between, which the old end beats
    assert len(fit_points([run], "all")) == 8


def test_the_law_of_runs_some_of_which_were_made_longer(tmp_path):
    for parameters in (1_000_000, 4_000_000, 32_000_000):
        write_run(tmp_path, parameters=parameters)
    write_extended_run(tmp_path)
    for which in ("frontier", "all"):
        table = fit_points(read_runs(tmp_path), which)
        fit = fit_law(table["flops"], table["validation_loss"])
        assert fit.alpha.low <= ALPHA <= fit.alpha.high
        assert abs(fit.residuals).max() < 0.1
    beaten = {786432, 1048576}
    efficient = fit_points(read_runs(tmp_path), "frontier")
    assert not beaten & set(efficient[efficient["run"] == "extended"]["activations"])


def test_the_speed_is_that_of_a_typical_step(tmp_path):
    folder = write_run(tmp_path, parameters=2_000_000)
    lines = (folder / "train.csv").read_text().splitlines()
    rows = [line.split(",") for line in lines[1:]]
    for row in rows[9:]:
        row[-1] = f"{float(row[-1]) + 50_000:.1f}"  # a pause of 14 hours
    for row in rows[13:]:
        row[-1] = f"{float(row[-1]) - 200_000:.1f}"  # a clock that began anew
    (folder / "train.csv").write_text("\n".join([lines[0], *(",".join(row) for row in rows)]))
    assert read_run(folder).flops_per_second == pytest.approx(1e9, rel=0.01)
    (folder / "train.csv").write_text("\n".join(line.rsplit(",", 1)[0] for line in lines))
    assert not read_run(folder).flops_per_second > 0


def test_how_scores_were_measured_is_read_and_rubbish_says_nothing(tmp_path):
    folder = write_run(tmp_path)
    assert read_run(folder).measured == {}
    (folder / "evals.json").write_text('{"frechet": {"samples": 4000}, "beauty": {"x": 1}, "probing": 3}')
    assert read_run(folder).measured == {"frechet": {"samples": 4000}}
    (folder / "evals.json").write_text("[")
    assert read_run(folder).measured == {}


def test_runs_come_smallest_first_and_a_run_itself_is_a_folder_of_one(tmp_path):
    for parameters in (5_000_000, 1_000_000):
        write_run(tmp_path, parameters=parameters)
    assert [run.name for run in read_runs(tmp_path)] == ["run1000000", "run5000000"]
    assert [run.name for run in read_runs(tmp_path / "run5000000")] == ["run5000000"]
    assert set(points(read_runs(tmp_path))["run"]) == {"run1000000", "run5000000"}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("activations,flops\n1,2\n", "lacks the column.s. validation_loss"),
        ("activations,flops,validation_loss\n", "no rows yet"),
        ("activations,flops,validation_loss\n1,two,3\n", "line 2: flops is not a finite number"),
        ("activations,flops,validation_loss\n1,2,1.5\n2,inf,1.4\n", "line 3: flops is not a finite number"),
        ("activations,flops,validation_loss\n1,,1.5\n", "line 2: flops is not a finite number"),
        ("activations,flops,validation_loss\n0,2,1.5\n", "must be above 0"),
        ("activations,flops,validation_loss\n1,2,\n", "no row has a validation_loss"),
        ("", "not a table"),
    ],
)
def test_a_log_that_is_none_is_refused_with_file_and_line(tmp_path, text, words):
    folder = write_run(tmp_path)
    (folder / "train.csv").write_text(text)
    with pytest.raises(GlpError, match=words):
        read_run(folder)


def test_binary_rubbish_and_missing_parts_are_refused(tmp_path):
    folder = write_run(tmp_path)
    (folder / "train.csv").write_bytes(bytes(range(256)) * 10)
    with pytest.raises(GlpError, match="not a table"):
        read_run(folder)
    with pytest.raises(GlpError, match="No run in"):
        read_runs(folder / "..") if not (folder / "train.csv").unlink() else None
    with pytest.raises(GlpError, match="There is no folder"):
        read_runs(tmp_path / "nowhere")


def test_a_run_without_or_with_a_broken_configuration_is_refused(tmp_path):
    folder = write_run(tmp_path)
    (folder / "config.json").write_text("[1, 2]")
    with pytest.raises(GlpError, match="wanted a JSON object"):
        read_run(folder)
    (folder / "config.json").write_text("{")
    with pytest.raises(GlpError, match="not readable JSON"):
        read_run(folder)
    (folder / "config.json").unlink()
    with pytest.raises(GlpError, match="No config.json"):
        read_run(folder)


def test_a_run_from_given_weights_counts_what_they_had_seen(tmp_path):
    plain = read_run(write_run(tmp_path, name="plain"))
    folder = write_run(tmp_path, name="further")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"start": {"about": {"activations_seen": 5_000_000}}}))
    further = read_run(folder)
    assert (further.checkpoints["activations"] - plain.checkpoints["activations"]).eq(5_000_000).all()
    assert further.parameters == pytest.approx(plain.parameters) and further.finished
    assert further.checkpoints["flops"].tolist() == pytest.approx([6e6 * n for n in further.checkpoints["activations"]])
    assert further.checkpoints["frechet"].equals(plain.checkpoints["frechet"])
