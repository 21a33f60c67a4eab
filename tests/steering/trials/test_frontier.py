"""Concept against fluency by hand: rectangles counted one by one, and what a resample must not change."""

import numpy as np
import pytest

from glp_core.errors import GlpError
from glp_core.steering.trials.frontier import Curves, fluency, gain, gain_at, hypervolume, on_frontier, strict_fluency
from glp_core.steering.trials.outcomes import Outcome


def one(prefix, arm, strength, concept, likely, repetition, asked=-9.0):
    return Outcome(prefix, arm, strength, "text", concept, likely, repetition, 0.0, 1.0, 1.0, asked, "d")


def test_fluency_and_gain_by_hand():
    plain = (np.array(-2.0), np.array(0.2))
    assert fluency(-2.0, 0.2, plain, broken=-4.0) == 1
    assert fluency(-1.0, 0.0, plain, broken=-4.0) == 1, "likelier and newer than unsteered text is no better than it"
    assert fluency(-3.0, 0.2, plain, broken=-4.0) == pytest.approx(0.5)
    assert fluency(-4.5, 0.2, plain, broken=-4.0) == 0
    assert fluency(-0.1, 0.6, plain, broken=-4.0) == pytest.approx(0.5), "loops are likely, and pay for repeating themselves"
    assert strict_fluency(-2.0 - np.log(2), 0.2, plain) == pytest.approx(0.5)
    assert gain(0.6, 0.2) == pytest.approx(0.5)
    assert gain(0.1, 0.2) == 0


def test_the_hypervolume_is_the_area_of_the_union_of_rectangles():
    """Counted on a fine grid."""
    points = np.random.default_rng(0).random((5, 2, 7))
    x, y = np.meshgrid((np.arange(500) + 0.5) / 500, (np.arange(500) + 0.5) / 500)
    for gains, fluencies in points:
        below = (x[..., None] <= gains) & (y[..., None] <= fluencies)
        assert hypervolume(gains, fluencies) == pytest.approx(below.any(-1).mean(), abs=0.01)
    assert hypervolume(points[:, 0], points[:, 1]) == pytest.approx([hypervolume(*pair) for pair in points])


def test_a_point_that_is_beaten_in_both_adds_nothing():
    gains, fluencies = np.array([0.2, 0.8, 0.5]), np.array([0.9, 0.6, 0.4])
    assert hypervolume(gains, fluencies) == pytest.approx(hypervolume(gains[:2], fluencies[:2]))
    assert on_frontier(gains, fluencies) == [0, 1]
    assert gain_at(gains, fluencies, 0.7) == 0.2
    assert gain_at(gains, fluencies, 0.5) == 0.8
    assert gain_at(gains, fluencies, 0.95) == 0


def drawn(n, likely=-4.0):
    """Texts of the model's own of which 95% are likelier than `likely`."""
    return [one(i, "drawn", 0.0, 0.2, likely, 0.1) for i in range(n)]


@pytest.fixture()
def curves():
    rng = np.random.default_rng(1)
    listed = [*drawn(40), *(one(i, "unsteered", 0.0, 0.2, -2.0, 0.25) for i in range(40))]
    listed += [one(i, "raw", s, 0.2 + 0.8 * rng.random(), -2.5, 0.25) for s in (0.5, 1.0) for i in range(40)]
    return Curves.of(listed)


def test_points_of_a_resample_are_the_points_of_the_drawn_prefixes(curves):
    weights = curves.draws()[:3]
    gains, fluencies = curves.points("raw", weights)
    for row, drawn in zip(weights, gains, strict=True):
        chosen = np.repeat(np.arange(40), row.astype(int))
        means = [curves.cells["raw", s].concept[chosen].mean() for s in (0.5, 1.0)]
        assert drawn == pytest.approx([gain(mean, 0.2) for mean in means])
    assert fluencies == pytest.approx(np.full((3, 2), 0.75))
    assert (weights.sum(1) == 40).all()


def test_a_text_is_as_likely_as_the_better_of_its_two_contexts_says():
    listed = [*drawn(2), *(one(i, "unsteered", 0.0, 0.2, -2.0, 0.2) for i in range(2))]
    listed += [one(0, "raw", 1.0, 1.0, -6.0, 0.2, asked=-2.0), one(1, "raw", 1.0, 1.0, -2.0, 0.2, asked=-6.0)]
    gains, fluencies = Curves.of(listed).points("raw")
    assert (gains[0], fluencies[0]) == (pytest.approx(1), pytest.approx(1))


def test_texts_without_tokens_are_left_out_and_a_cell_of_them_is_worth_nothing():
    nothing = Outcome(0, "raw", 1.0, "", np.nan, np.nan, 0.0, 0.0, np.nan, np.nan, np.nan, "d")
    listed = [*drawn(2), *(one(i, "unsteered", 0.0, 0.2, -2.0, 0.2) for i in range(2))]
    listed += [nothing, one(1, "raw", 1.0, 0.6, -2.0, 0.2), nothing._replace(strength=2.0)]
    listed += [nothing._replace(strength=2.0, prefix=1)]
    gains, fluencies = Curves.of(listed).points("raw")
    assert gains == pytest.approx([0.5, 0]) and fluencies == pytest.approx([1, 0])


def test_a_broken_text_is_less_likely_than_the_models_own_draws():
    rng = np.random.default_rng(0)
    listed = [one(i, "unsteered", 0.0, 0.2, -1.0, 0.2) for i in range(2)]
    listed += [one(i % 2, "drawn", 0.0, 0.2, likely, 0.1) for i, likely in enumerate(rng.normal(-3, 0.5, 4000))]
    listed += [one(i, "raw", 1.0, 0.6, -2.0, 0.2) for i in range(2)]
    curves = Curves.of(listed)
    assert curves.broken == pytest.approx(-3 - 1.645 * 0.5, abs=0.05) and "drawn" not in curves.strengths
    assert curves.points("raw")[1] == pytest.approx([1 - 1 / (-1 - curves.broken)])
    assert curves.points("raw", strict=True)[1] == pytest.approx([np.exp(-1)])
    again = Curves.from_json(curves.to_json())
    assert again.points("raw")[1] == pytest.approx(curves.points("raw")[1], abs=1e-3)
    with pytest.raises(GlpError, match="drew itself"):
        Curves.of([row for row in listed if row.arm != "drawn"])
