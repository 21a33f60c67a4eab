"""Intervals against what they promise, coverage above all; areas and curves against scikit-learn."""

import math

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import roc_auc_score, roc_curve

from glp_core.errors import GlpError
from glp_core.stats import (
    Interval,
    auc,
    auc_interval,
    auc_of_ranks,
    bootstrap_mean,
    drawn_counts,
    grouped_spearman,
    jackknife,
    percentiles,
    repeated_share,
    resampled_means,
    roc,
    spearman,
    wilson,
)


def test_an_interval_goes_into_json_with_null_for_no_bound():
    assert Interval(1.5, 1.0, 2.0).to_json() == {"value": 1.5, "ci": [1.0, 2.0]}
    assert Interval(math.inf, 1.0, math.nan).to_json() == {"value": None, "ci": [1.0, None]}


def test_the_bootstrap_covers_the_mean_as_often_as_it_says():
    rng = np.random.default_rng(0)
    intervals = [bootstrap_mean(rng.standard_normal(60), draws=200, seed=i) for i in range(200)]
    assert 178 <= sum(one.low <= 0 <= one.high for one in intervals) <= 199
    assert all(one.low < one.value < one.high for one in intervals)
    wide = bootstrap_mean(rng.normal(3, 1, 400))
    assert wide.high - wide.low == pytest.approx(2 * 1.96 / 20, rel=0.15)


def test_a_bootstrap_is_the_same_in_parts_and_leaves_nan_out(monkeypatch):
    values = np.array([1.0, 2.0, math.nan, 5.0])
    whole = resampled_means(values, draws=50, seed=3)
    monkeypatch.setattr("glp_core.stats.CELLS_AT_ONCE", 8)
    assert np.array_equal(resampled_means(values, draws=50, seed=3), whole)
    assert np.nanmin(whole) >= 1 and np.nanmax(whole) <= 5
    assert bootstrap_mean(values).value == pytest.approx(8 / 3)
    assert all(math.isnan(number) for number in bootstrap_mean([math.nan]))


def test_the_same_seed_draws_the_same_rows_so_that_pairs_stay_pairs():
    values = np.random.default_rng(1).standard_normal(30)
    np.testing.assert_allclose(resampled_means(values + 2, seed=5) - resampled_means(values, seed=5), 2.0)


def test_percentiles_leave_nan_out_and_count_infinite_draws_as_extremes():
    draws = [*range(41), math.nan]
    assert percentiles(draws) == (1.0, 39.0)
    assert percentiles([1.0, 2.0, math.inf]) == (1.0, math.inf)
    assert all(math.isnan(end) for end in percentiles([math.nan]))


def test_counts_are_of_draws_with_replacement():
    drawn = list(drawn_counts([3, 0], draws=4000, rng=np.random.default_rng(0)))
    assert all(of_first.sum() == 3 and not len(of_second) for of_first, of_second in drawn)
    assert np.mean([of_first[0] == 0 for of_first, _ in drawn]) == pytest.approx((2 / 3) ** 3, abs=0.03)


def test_wilson_is_statistics_own_and_never_a_point():
    for share, n in ((0.3, 40), (1.0, 12), (0.0, 500)):
        expected = stats.binomtest(round(share * n), n).proportion_ci(method="wilson")
        assert wilson(share, n)[1:] == pytest.approx([expected.low, expected.high], abs=1e-4)


def test_the_jackknife_of_a_mean_is_students_interval():
    values = np.random.default_rng(2).normal(5, 2, 12)
    left_out = [np.delete(values, i).mean() for i in range(12)]
    expected = stats.ttest_1samp(values, 0).confidence_interval()
    assert jackknife(values.mean(), left_out)[1:] == pytest.approx([expected.low, expected.high])
    assert jackknife(0.1, [0.0, 1.0], least=0.0).low == 0.0


def test_areas_and_curves_are_those_of_scikit_learn_with_ties():
    rng = np.random.default_rng(1)
    x, labels = rng.integers(0, 6, (200, 5)).astype(float), rng.integers(0, 2, 200)
    expected = [roc_auc_score(labels, column) for column in x.T]
    np.testing.assert_allclose(auc(x, labels), expected)
    curve = roc(x[:, 0], labels)
    reference = roc_curve(labels, x[:, 0], drop_intermediate=False)
    np.testing.assert_allclose(curve.false_alarms, reference[0])
    np.testing.assert_allclose(curve.hits, reference[1])
    assert curve.area == pytest.approx(expected[0])
    several = np.stack([labels, 1 - labels])
    np.testing.assert_allclose(auc_of_ranks(stats.rankdata(x, axis=0), several), [expected, 1 - np.array(expected)])


def test_hits_at_rates_follow_the_curve():
    rng = np.random.default_rng(2)
    values = np.concatenate([rng.integers(0, 30, 300) + 6, rng.integers(0, 30, 400)]).astype(float)
    labels, rates = np.repeat([1, 0], [300, 400]), np.linspace(0, 1, 41)
    curve = roc(values, labels)
    hits = curve.hits_at(rates)
    assert hits[-1] == 1 and (np.diff(hits) >= 0).all()
    assert np.trapezoid(hits, rates) == pytest.approx(curve.area, abs=0.01)
    assert roc(values + 100 * labels, labels).hits_at(rates).tolist() == [1.0] * 41
    assert roc(np.concatenate([values[300:]] * 2), np.repeat([1, 0], 400)).hits_at(rates) == pytest.approx(rates, abs=1e-3)


def test_a_roc_curve_takes_no_value_that_cannot_be_ordered():
    with pytest.raises(GlpError, match="1 of 3 values are no numbers"):
        roc(np.array([0.1, math.nan, 0.3]), np.array([1, 0, 1]))
    assert roc(np.array([math.inf, 0.1, -math.inf]), np.array([1, 0, 0])).area == 1


@pytest.mark.parametrize(("area", "n"), [(0.5, 30), (0.8, 40), (0.95, 20)])
def test_the_interval_of_an_area_covers_that_of_two_normals(area, n):
    rng, shift = np.random.default_rng(0), stats.norm.ppf(area) * math.sqrt(2)
    labels = np.repeat([1, 0], n)
    x = rng.standard_normal((2 * n, 1500)) + shift * labels[:, None]
    intervals = [auc_interval(float(one), n, n) for one in auc(x, labels)]
    covered = np.mean([one.low <= area <= one.high for one in intervals])
    assert 0.925 <= covered <= 0.985
    # Hanley and McNeil (1982), table: an area of 0.8 with 50 and 50 has a standard error of 0.0447
    low, high = auc_interval(0.8, 50, 50)[1:]
    assert (high - low) / 2 / 1.96 == pytest.approx(0.0447, abs=0.002)


def test_a_perfect_area_is_not_certain():
    for n in (5, 50, 500):
        assert 1 - 8 / n < auc_interval(1.0, n, n).low < 1 - 1 / n and auc_interval(1.0, n, n).high == 1
        worst = auc_interval(0.0, n, n)
        assert worst.low == 0 and worst.high == pytest.approx(1 - auc_interval(1.0, n, n).low)
    with pytest.raises(GlpError, match="some of each"):
        auc_interval(0.9, 0, 5)


def test_repetition_is_the_share_of_what_came_before():
    assert repeated_share([1, 2, 3, 4], 2) == 0
    assert repeated_share([1, 2, 1, 2, 1], 2) == pytest.approx(0.5)
    assert repeated_share([7, 7, 7, 8], 1) == pytest.approx(0.5)
    assert repeated_share([5], 2) == repeated_share([], 1) == 0


def test_spearman_agrees_with_scipy_and_its_interval_covers():
    rng = np.random.default_rng(0)
    x = rng.standard_normal(30)
    y = x + rng.standard_normal(30)
    assert spearman(x, y).value == pytest.approx(stats.spearmanr(x, y).statistic)
    truth = 6 / math.pi * math.asin(0.6 / 2)  # of a bivariate normal with correlation 0.6
    covered = 0
    for _ in range(200):
        a = rng.standard_normal(25)
        low, high = spearman(a, 0.6 * a + 0.8 * rng.standard_normal(25))[1:]
        covered += low <= truth <= high
    assert covered >= 180


def test_a_perfect_rank_correlation_is_not_certain():
    found = spearman(range(8), range(8))
    assert found.value == pytest.approx(1)
    assert 0.8 < found.low < 1
    with pytest.raises(GlpError, match="five pairs"):
        spearman(range(4), range(4))
    with pytest.raises(GlpError, match="constant"):
        spearman(range(6), [1] * 6)


def test_a_rank_correlation_of_groups_is_no_surer_than_its_groups_are_many():
    rng, covered = np.random.default_rng(0), 0
    for _ in range(60):  # x and y share nothing, but a group's pairs hang together
        groups = np.repeat(np.arange(8), 12)
        x, y = (rng.standard_normal(8)[groups] + 0.1 * rng.standard_normal(96) for _ in range(2))
        low, high = grouped_spearman(x, y, groups, draws=200)[1:]
        covered += low <= 0 <= high
        assert high - low >= spearman(x, y).high - spearman(x, y).low
    assert (
        covered
        >= 48
        > sum(
            one.low <= 0 <= one.high
            for one in (
                spearman(rng.standard_normal(8)[groups] + 0.1 * rng.standard_normal(96), rng.standard_normal(8)[groups])
                for _ in range(60)
            )
        )
    )
    with pytest.raises(GlpError, match="at least three of them, got 2"):
        grouped_spearman(range(8), [0, 2, 1, 3, 4, 6, 5, 7], [0, 0, 0, 0, 1, 1, 1, 1])
