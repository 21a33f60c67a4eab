"""Comparing arms on outcomes whose answer is known, through the same report that the commands write."""

import json

import pytest

from glp_core.errors import GlpError
from glp_core.steering.direction_facts import report_name
from glp_core.steering.trials.outcomes import Outcome
from glp_core.steering.trials.pareto import pareto
from glp_core.steering.trials.report import summarise
from tests.report_rows import pareto_rows
from tests.support.steering_reports import ARMS, report


def test_the_better_arm_is_ahead_and_the_words_follow_the_numbers():
    found = pareto({"good": report(0.0), "bad": report(-0.35)})
    json.dumps(found, allow_nan=False)
    good, bad = found["directions"]["good"], found["directions"]["bad"]
    assert good["differences"]["walk-raw"]["verdict"] == good["differences"]["walk-glp"]["verdict"] == "ahead"
    assert bad["differences"]["walk-raw"]["verdict"] == "behind"
    assert good["sentence"].startswith("The walk is, against raw steering ahead over all strengths, ahead at strengths of 1")
    assert "against raw steering behind over all strengths" in bad["sentence"]
    counts = found["summary"]["walk-raw"]["over_strengths"]
    assert counts == {"ahead": 1, "level": 0, "behind": 1}
    first = found["summary"]["verdicts"][0]
    assert (first["against"], first["where"], first["directions"]) == (
        "raw steering",
        "over all strengths",
        "1 ahead, 1 behind",
    )


def test_hypervolumes_are_those_of_the_means_and_lie_in_their_intervals():
    entry = pareto({"d": report(0.0)})["directions"]["d"]
    raw = entry["arms"]["raw"]
    first, second = raw["points"]
    assert first["gain"] == pytest.approx(0.5, abs=0.02) and first["fluency"] == pytest.approx(1, abs=0.01)
    assert second["fluency"] == pytest.approx((1 / 3) * 0.5, abs=0.01)
    assert raw["hypervolume"] == pytest.approx(first["gain"] + (second["gain"] - first["gain"]) * second["fluency"], abs=1e-3)
    for arm in entry["arms"].values():
        assert arm["hypervolume_ci"][0] <= arm["hypervolume"] <= arm["hypervolume_ci"][1]
    difference = entry["differences"]["walk-raw"]
    assert difference["hypervolume"] == pytest.approx(entry["arms"]["walk"]["hypervolume"] - raw["hypervolume"], abs=1e-3)
    assert entry["best"]["prompted"]["gain"] == pytest.approx(0.5, abs=0.02)


def test_strong_pushes_are_compared_by_gain_times_fluency_from_strength_one_on():
    found = pareto({"good": report(0.0), "bad": report(-0.8)})
    raw = found["directions"]["good"]["arms"]["raw"]["points"][1]
    walk = found["directions"]["good"]["arms"]["walk"]["points"][1]
    difference = found["directions"]["good"]["strong_differences"]["walk-raw"]
    assert difference["worth"] == pytest.approx(walk["gain"] * walk["fluency"] - raw["gain"] * raw["fluency"], abs=1e-3)
    assert (
        difference["verdict"] == "ahead" and found["directions"]["bad"]["strong_differences"]["walk-raw"]["verdict"] == "behind"
    )
    assert found["summary"]["walk-raw"]["when_strong"] == {"ahead": 1, "level": 0, "behind": 1}
    assert [one["directions"] for one in found["summary"]["verdicts"] if "strengths of 1" in one["where"]] == [
        "1 ahead, 1 behind"
    ] * 2


def test_arms_at_their_own_best_are_compared_there():
    cells = {key: ARMS[key] for key in (("unsteered", 0.0), ("drawn", 0.0))}
    cells |= {("raw", 0.5): (0.2, -2.0, 0.2), ("walk", 0.5): (0.2, -2.0, 0.2)}
    cells |= {("raw_best", 0.3): (0.6, -2.0, 0.2), ("walk_best", 0.7): (1.0, -2.0, 0.2)}
    outcomes = [Outcome(i, a, s, "x", *n, 0.0, 1.0, 1.0, -9.0, "d") for (a, s), n in cells.items() for i in range(5)]
    settings = {"settings": {"best": {"raw": {}, "walk": {"pushes": 8}}}}
    entry = pareto({"d": summarise(outcomes) | settings})["directions"]["d"]
    assert entry["differences"]["walk-raw"]["verdict"] == "level"
    assert entry["best_differences"]["walk-raw"]["verdict"] == "ahead"
    assert entry["best_differences"]["walk-raw"]["worth"] == pytest.approx(0.5)
    assert entry["best"]["walk"]["strength"] == 0.7 and entry["best"]["walk"]["settings"] == {"pushes": 8}
    assert "walk_best" not in entry["arms"]


def test_reports_of_before_are_refused_with_the_way_out():
    with pytest.raises(GlpError, match="glp_core steer`"):
        pareto({"d": {"rows": [], "settings": {}}})
    with pytest.raises(GlpError, match="glp_core steer`"):
        pareto({})


def test_a_report_is_named_after_its_direction():
    assert report_name("positive-sentiment") == "steering_sentiment"
    assert report_name("world-politics") == "steering_world_politics"
    assert report_name("sentiment") != report_name("positive-sentiment")


def test_the_documents_show_a_reports_summary():
    rows = {row.what: row.measured for row in pareto_rows(pareto({"good": report(0.0), "bad": report(-0.35)}))}
    assert len(rows) == 8
    assert rows["... directions on which walk is ahead of, level with, behind raw by it"] == "1 ahead, 0 level, 1 behind"
    assert any("over 2 directions, of raw, walk, GLP" in what for what in rows)
