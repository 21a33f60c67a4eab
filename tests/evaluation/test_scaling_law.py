"""The scaling law: recovered from synthetic curves, refused when the points carry none, read both ways."""

import math
import warnings

import numpy as np
import pytest

from glp_core.cli.evaluation import scaling
from glp_core.errors import GlpError
from glp_core.evaluation.scaling_law import fit_law, frontier

E, ALPHA = 0.52, 0.169
A = 1.48 * 1e12**ALPHA
COMPUTE = np.geomspace(1e12, 1e16, 14)
LAW = E + A * COMPUTE**-ALPHA


def noisy(seed, noise=0.005, law=LAW):
    return law * np.exp(noise * np.random.default_rng(seed).standard_normal(len(law)))


@pytest.mark.parametrize(("e", "alpha", "noise"), [(0.52, 0.169, 0.005), (0.9, 0.3, 0.01), (0.0, 0.1, 0.01)])
def test_intervals_hold_the_truth_in_at_least_90_of_100_draws(e, alpha, noise):
    a = (2 - e) * 1e12**alpha
    hits = np.zeros(3)
    for seed in range(100):
        fit = fit_law(COMPUTE, noisy(seed, noise, e + a * COMPUTE**-alpha), draws=400, seed=seed)
        hits += [i.low <= truth <= i.high for i, truth in zip((fit.e, fit.a, fit.alpha), (e, a, alpha), strict=True)]
    assert (hits >= 90).all(), hits


def test_exact_points_give_the_law_back():
    fit = fit_law(COMPUTE, LAW)
    assert fit.e.value == pytest.approx(E, rel=1e-3)
    assert fit.alpha.value == pytest.approx(ALPHA, rel=1e-3)
    assert fit.a.value == pytest.approx(A, rel=1e-2)
    assert np.abs(fit.residuals).max() < 1e-5


def test_one_wild_point_hardly_moves_the_law():
    loss = noisy(3, 0.002)
    loss[6] *= 1.2
    assert fit_law(COMPUTE, loss).alpha.value == pytest.approx(ALPHA, abs=0.04)


def test_the_order_of_points_does_not_matter():
    order = np.random.default_rng(0).permutation(len(COMPUTE))
    one, other = fit_law(COMPUTE, noisy(1)), fit_law(COMPUTE[order], noisy(1)[order])
    assert one.alpha == other.alpha


@pytest.mark.parametrize(
    ("compute", "loss", "words"),
    [
        ([1e12, 1e13, 1e14], [2, 1.5, 1.2], "at least 4 points"),
        ([1e12, 1.1e12, 1.2e12, 1.3e12], [2, 1.9, 1.8, 1.7], "factor of 1.3"),
        (COMPUTE, np.full(14, 1.3) + np.linspace(0.001, 0, 14), "flat"),
        (COMPUTE, LAW[::-1], "does not fall"),
        (COMPUTE, [np.nan] * 11 + [2, 1.5, 1.2], "at least 4 points"),
        (COMPUTE, LAW[:5], "one of each"),
        (
            [4.1e9, 4.9e9, 1.2e10, 3.4e10, 7.2e10, 8.9e10, 1.7e11],
            [2.155, 2.140, 2.079, 2.043, 4.05, 2.026, 2.015],
            "Leave out runs that diverged",
        ),
    ],
)
def test_degenerate_points_are_refused_in_words(compute, loss, words):
    with pytest.raises(GlpError, match=words):
        fit_law(compute, loss)


def test_noise_that_hides_the_trend_is_refused():
    loss = 1.3 * np.exp(0.1 * np.random.default_rng(5).standard_normal(14)) * np.linspace(1.12, 1, 14)
    with pytest.raises(GlpError, match="No law|hides the trend"):
        fit_law(COMPUTE, loss)


def test_prediction_inverts_and_its_interval_grows_with_distance():
    fit = fit_law(COMPUTE, noisy(0))
    near, far = fit.loss_at(1e15), fit.loss_at(1e19)
    assert near.low < near.value < near.high
    assert far.high - far.low > near.high - near.low
    back = fit.compute_for(near.value)
    assert back.value == pytest.approx(1e15, rel=1e-6)
    assert back.low < 1e15 < back.high
    assert not fit.far(9e16)
    assert fit.far(1.1e17) and fit.far(0.9e11)


def test_a_loss_below_the_floor_needs_infinite_compute():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert fit_law(COMPUTE, noisy(0)).compute_for(0.3).value == math.inf


@pytest.mark.parametrize("bad", [0.0, -1.0, math.nan, math.inf])
def test_senseless_questions_are_refused(bad):
    fit = fit_law(COMPUTE, LAW, draws=20)
    with pytest.raises(GlpError, match="makes no sense"):
        fit.loss_at(bad)
    with pytest.raises(GlpError, match="makes no sense"):
        fit.compute_for(bad)


def test_frontier_keeps_what_nothing_beats():
    compute = [1, 2, 3, 3, 4, 5]
    loss = [5, 4, 4.5, 3, 3, 2]
    assert frontier(compute, loss).tolist() == [True, True, False, True, False, True]


def test_a_run_that_diverged_leaves_the_law_of_all_checkpoints_out(monkeypatch, capsys):
    flops = [4.1e9, 4.9e9, 1.2e10, 3.4e10, 7.2e10, 8.9e10, 1.7e11]
    losses = [2.155, 2.140, 2.079, 2.043, 4.05, 2.026, 2.015]
    monkeypatch.setattr(scaling, "fit_points", lambda _runs, _which: {"flops": flops, "validation_loss": losses})
    assert scaling.law_of_all([]) is None and "All checkpoints together carry no law" in capsys.readouterr().err
