"""Choosing the walk: the command on a tiny workspace, and the choice on outcomes that are known."""

import json

import numpy as np
import pytest
import torch

from glp_core import GlpError
from glp_core.prior.distance import make_reference
from glp_core.prior.reference import Reference
from glp_core.prior.walk import WalkRule, WalkSettings
from glp_core.steering.directions import Direction
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


def test_forms_are_ranked_by_their_mean_hypervolume():
    half = -3.0  # half way to broken
    tried = [form("raw"), form("a", noise_level=0.1, pushes=8), form("b", noise_level=0.3, pushes=8)]
    report = tuning.compare(
        tried,
        {
            "x": outcomes("x", {("raw", 1.0): (1.0, -2.0, 0.2), ("a", 1.0): (1.0, half, 0.2), ("b", 1.0): (0.6, -2.0, 0.2)}),
            "y": outcomes("y", {("raw", 1.0): (0.2, -2.0, 0.2), ("a", 1.0): (0.2, half, 0.2), ("b", 1.0): (1.0, -2.0, 0.2)}),
        },
        {"x": 1.0, "y": 2.0},
    )
    json.dumps(report, allow_nan=False)
    assert [(row["name"], row["hypervolume"]) for row in report["forms"]] == [("b", 0.75), ("raw", 0.5), ("a", 0.25)]
    assert report["lengths"] == {"x": 1.0, "y": 2.0}
    best = report["by_direction"]["x"]
    assert best["raw"]["worth"] == 1.0 and best["walk"]["form"] in ("a", "b") and best["walk"]["worth"] == 0.5


def test_short_pushes_go_as_the_best_frontier_does_and_long_ones_as_what_holds_where_raw_breaks():
    tried = [form("gentle", noise_level=0.1, pushes=8), form("firm", noise_level=0.3, pushes=16)]
    good, fair, broken = (1.0, -2.0, 0.2), (0.6, -2.0, 0.2), (1.0, -4.0, 0.2)
    points = {("gentle", 0.4): good, ("gentle", 0.8): fair, ("gentle", 1.2): broken}
    points |= {("firm", 0.4): (0.4, -2.0, 0.2), ("firm", 0.8): (0.8, -2.0, 0.2), ("firm", 1.2): (0.9, -2.0, 0.2)}
    chosen = tuning.compare(tried, {"x": outcomes("x", points)}, {"x": 1.5})["chosen"]
    assert chosen["short"] == {"noise_level": 0.1, "pushes": 8} and chosen["long"] == {"noise_level": 0.3, "pushes": 16}
    assert chosen["border"] == pytest.approx(1.5 * 0.6), "between strengths .4 and .8, in latent lengths"
    assert WalkRule.of(chosen).draws == 16


def test_without_walks_nothing_is_chosen_and_one_walk_serves_all_lengths():
    listed = outcomes("x", {("raw", 1.0): PLAIN, ("a", 1.0): PLAIN})
    assert tuning.compare([form("raw")], {"x": listed}, {"x": 1.0})["chosen"] is None
    only = tuning.compare([form("a", noise_level=0.2, pushes=4)], {"x": listed}, {"x": 1.0})["chosen"]
    assert only["short"] == only["long"] == {"noise_level": 0.2, "pushes": 4}


def test_a_pushs_length_is_that_of_its_latent(tiny_glp):
    vector = torch.randn(tiny.WIDTH, generator=torch.Generator().manual_seed(0))
    facts = {"layer": 1, "median_norm": 5.0, "auroc": 1.0, "how": "", "n_train": 1, "n_test": 1, "probe_bias": 0.0}
    one = Direction(name="d", title="D", vector=vector / vector.norm(), probe_weight=vector, **facts)
    acts = torch.randn(3, tiny.WIDTH)
    moved = tiny_glp.normalize(acts + 5.0 * one.vector) - tiny_glp.normalize(acts)
    assert tuning.latent_length(tiny_glp, one) == pytest.approx(float(moved[0].norm()) / tiny.WIDTH**0.5, rel=1e-4)


def test_every_form_has_a_name_of_its_own_and_the_default_walk_is_among_them(tiny_glp):
    reference = Reference(make_reference(tiny_glp, torch.randn(64, tiny.WIDTH)))
    names = [one.name for one in tuning.forms(tiny_glp, torch.eye(tiny.WIDTH), reference)]
    assert len(set(names)) == len(names) and set(names) == set(tuning.names())
    assert tuning.walk_name(WalkSettings()) in names


def test_tuning_measures_every_form_along_every_direction(tiny_llm, tiny_glp):
    facts = {"layer": 1, "median_norm": 4.0, "auroc": 1.0, "how": "", "n_train": 1, "n_test": 1, "probe_bias": 0.0}
    vectors = torch.nn.functional.normalize(torch.randn(2, tiny.WIDTH, generator=torch.Generator().manual_seed(0)))
    directions = [Direction(name=n, title=n, vector=v, probe_weight=v / 9, **facts) for n, v in zip("xy", vectors, strict=True)]
    tried = [one for one in tuning.forms(tiny_glp) if one.name in ("raw", "glp 0.5", "walk 0.25 x 16")]
    report = tuning.tune(tiny_llm, tiny_glp, directions, tried, ["The cat", "She said that"], strengths=(0.5, 1.5), tokens=4)
    assert {row["name"] for row in report["forms"]} == {one.name for one in tried}
    for row in report["forms"]:
        assert set(row["directions"]) == {"x", "y"}
        assert [point["strength"] for point in row["directions"]["x"]["points"]] == [0.5, 1.5]
        assert row["hypervolume"] == pytest.approx(np.mean([d["hypervolume"] for d in row["directions"].values()]), abs=1e-3)
    with pytest.raises(GlpError, match="needs directions"):
        tuning.tune(tiny_llm, tiny_glp, [], tried, ["The"])
