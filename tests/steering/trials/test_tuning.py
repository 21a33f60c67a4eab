"""Choosing the walk: the command on a tiny workspace, and the choice on outcomes that are known."""

import json

import numpy as np
import pytest

from glp_core import GlpError
from glp_core.prior.walk import WalkSettings
from glp_core.steering.trials import tuning
from glp_core.steering.trials.outcomes import Outcome
from tests.support import tiny

PLAIN, DRAWN = (0.2, -2.0, 0.2), (0.2, -4.0, 0.1)


def outcomes(direction, points):
    """Ten texts for each (arm, strength): (concept, log-probability, repetition)."""
    return [
        Outcome(i, arm, strength, "text", *numbers, 0.0, 1.0, 1.0, -9.0, direction)
        for (arm, strength), numbers in ({("unsteered", 0.0): PLAIN, ("drawn", 0.0): DRAWN} | points).items()
        for i in range(10)
    ]


def form(name, **settings):
    return tuning.Form(name, "walk" if settings else name, None, settings)


def test_the_walk_with_the_largest_mean_hypervolume_is_chosen():
    half = -3.0  # half way to broken
    tried = [form("raw"), form("a", noise_level=0.1, pushes=8), form("b", noise_level=0.3, pushes=8)]
    report = tuning.compare(
        tried,
        {
            "x": outcomes("x", {("raw", 1.0): (1.0, -2.0, 0.2), ("a", 1.0): (1.0, half, 0.2), ("b", 1.0): (0.6, -2.0, 0.2)}),
            "y": outcomes("y", {("raw", 1.0): (0.2, -2.0, 0.2), ("a", 1.0): (0.2, half, 0.2), ("b", 1.0): (1.0, -2.0, 0.2)}),
        },
    )
    json.dumps(report, allow_nan=False)
    assert [(row["name"], row["hypervolume"]) for row in report["forms"]] == [("b", 0.75), ("raw", 0.5), ("a", 0.25)]
    assert report["chosen"] == {"noise_level": 0.3, "pushes": 8}
    best = report["by_direction"]["x"]
    assert best["raw"]["worth"] == 1.0 and best["walk"]["form"] in ("a", "b") and best["walk"]["worth"] == 0.5


def test_of_walks_that_are_level_the_plainest_with_the_fewest_pushes_is_chosen():
    rng = np.random.default_rng(0)
    tried = [
        form("best", noise_level=0.2, pushes=16),
        form("level", noise_level=0.3, pushes=8),
        form("odd", noise_level=0.3, pushes=4, tilt=0.5),
        form("behind", noise_level=0.3, pushes=2),
    ]
    listed = outcomes("x", {})
    for one, concept in zip(tried, (0.8, 0.795, 0.8, 0.6), strict=True):
        listed += [
            Outcome(i, one.name, 1.0, "text", concept + 0.1 * rng.standard_normal(), -2.0, 0.2, 0.0, 1.0, 1.0, -9.0, "x")
            for i in range(10)
        ]
    report = tuning.compare(tried, {"x": listed})
    assert report["chosen"] == {"noise_level": 0.3, "pushes": 8}
    assert {row["name"] for row in report["forms"] if row["level_with_best"]} >= {"best", "level"}
    assert not next(row for row in report["forms"] if row["name"] == "behind")["level_with_best"]


def test_every_form_has_a_name_of_its_own_and_the_default_walk_is_among_them(tiny_glp):
    names = [one.name for one in tuning.forms(tiny_glp)]
    assert len(set(names)) == len(names)
    assert tuning.walk_name(WalkSettings()) in names


def test_tuning_measures_every_form_along_every_direction(tiny_llm, tiny_glp):
    import torch

    from glp_core.steering.directions import Direction

    facts = {"layer": 1, "median_norm": 4.0, "auroc": 1.0, "how": "", "n_train": 1, "n_test": 1, "probe_bias": 0.0}
    vectors = torch.nn.functional.normalize(torch.randn(2, tiny.WIDTH, generator=torch.Generator().manual_seed(0)))
    directions = [Direction(name=n, title=n, vector=v, probe_weight=v / 9, **facts) for n, v in zip("xy", vectors, strict=True)]
    tried = [one for one in tuning.forms(tiny_glp) if one.name in ("raw", "glp 0.5", "walk 0.25 x 16")]
    report = tuning.tune(tiny_llm, directions, tried, ["The cat", "She said that"], strengths=(0.5, 1.5), tokens=4)
    assert {row["name"] for row in report["forms"]} == {one.name for one in tried}
    for row in report["forms"]:
        assert set(row["directions"]) == {"x", "y"}
        assert [point["strength"] for point in row["directions"]["x"]["points"]] == [0.5, 1.5]
        assert row["hypervolume"] == pytest.approx(np.mean([d["hypervolume"] for d in row["directions"].values()]), abs=1e-3)
    with pytest.raises(GlpError, match="needs directions"):
        tuning.tune(tiny_llm, [], tried, ["The"])
