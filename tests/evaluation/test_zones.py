"""Zones and the scorecard's parts: borders of known curves, limits from own texts, intervals that cover, PCA within a budget."""

import numpy as np
import pytest
import torch
from scipy import stats

from glp_core.errors import GlpError
from glp_core.evaluation import fidelity, scorecard, zones
from glp_core.evaluation.fidelity import Rows, frechet_distance
from glp_core.evaluation.zones import Text, TextLimits
from glp_core.prior.distance import ManifoldMeter, make_reference
from glp_core.prior.gaussian import GaussianPrior, gaussian_prior
from glp_core.steering.strength_sweep import Pushes, lowered, projectors
from tests.support import tiny

LIMITS = TextLimits(-3.0, 0.4)


def texts(n, seed=0, slope=6.0, middle=2.0):
    """Return texts that are broken with a probability that is a logistic function of log distance, half at `middle`."""
    rng = np.random.default_rng(seed)
    distance = np.exp(rng.uniform(np.log(0.8), np.log(5), n))
    broken = rng.random(n) < 1 / (1 + np.exp(-slope * np.log(distance / middle)))
    return [
        Text(i % 20, f"d{i % 5}", "raw", 1.0, -4.0 if b and i % 2 else -2.0, 0.9 if b and not i % 2 else 0.1, d)
        for i, (d, b) in enumerate(zip(distance, broken, strict=True))
    ]


def test_borders_of_a_known_curve_are_found_within_their_intervals():
    report = zones.report(texts(3000), LIMITS, draws=100)
    for name, share in zones.SHARES.items():
        truth = 2.0 * np.exp(np.log(share / (1 - share)) / 6.0)
        found = report["borders"][name]
        assert found["value"] == pytest.approx(truth, rel=0.06)
        assert found["ci"][0] <= truth * 1.02 and found["ci"][1] >= truth * 0.98
    assert report["auroc"]["ci"][0] < report["auroc"]["value"] < report["auroc"]["ci"][1]
    shares = [row["broken"] for row in report["bins"]]
    assert shares[0] < 0.1 and shares[-1] > 0.9 and sum(row["n"] for row in report["bins"]) == 3000


def test_a_distance_that_says_nothing_gives_no_zones():
    report = zones.report(texts(400, slope=0.0), LIMITS, draws=50)
    assert report["borders"]["broken"]["value"] is None
    assert report["auroc"]["value"] == pytest.approx(0.5, abs=0.08)
    falling = [text._replace(distance=1 / text.distance) for text in texts(400)]
    assert zones.report(falling, LIMITS, draws=20)["borders"]["drifting"] == {"value": None, "ci": [None, None]}


def test_limits_are_quantiles_of_the_models_own_texts():
    own = [Text(i, "", "unsteered", 0.0, -i / 10, i / 100, 1.0) for i in range(101)]
    assert zones.limits(own, own) == pytest.approx((-9.5, 0.95))
    assert zones.limits(own, own).broken(own).sum() == 5
    with pytest.raises(GlpError, match="at least 10"):
        zones.limits(own[:3], own)
    with pytest.raises(GlpError, match="broken and whole"):
        zones.report([text._replace(repetition=0.9) for text in texts(50)], LIMITS)


def test_projection_is_counted_prompt_by_prompt(tiny_glp):
    real = tiny_glp.denormalize(torch.randn(200, tiny.WIDTH, generator=torch.Generator().manual_seed(0)))
    meter = ManifoldMeter(tiny_glp, make_reference(tiny_glp, real))
    vector = torch.nn.functional.normalize(torch.ones(tiny.WIDTH), dim=0)
    pushes = Pushes(meter, real[:30], vector, 5.0, projectors(tiny_glp, torch.diag(tiny_glp.normalizer.var[0])))
    (row,) = lowered(pushes, (2.0,))
    before, after = pushes.distances("raw", 2.0), pushes.distances("glp", 2.0)
    assert row["nearer"] == pytest.approx(sum(a < b for a, b in zip(after.tolist(), before.tolist(), strict=True)) / 30)
    assert torch.allclose(before, meter.distance(real[:30] + 10.0 * vector))


def test_the_jackknife_interval_is_as_wide_as_new_samples_spread():
    def drawn(seed):
        generator = torch.Generator().manual_seed(seed)
        one, other = torch.randn(400, 4, generator=generator), torch.randn(400, 4, generator=generator) + 0.5
        return Rows(one, torch.arange(400)), Rows(other, torch.arange(400))

    found = [scorecard.frechet(*drawn(seed)) for seed in range(40)]
    assert found[0]["value"] == pytest.approx(frechet_distance(*(rows.acts for rows in drawn(0))))
    spread = np.std([one["value"] for one in found])
    widths = [(one["ci"][1] - one["ci"][0]) / 2 / stats.t.ppf(0.975, scorecard.GROUPS - 1) for one in found]
    assert np.mean(widths) == pytest.approx(spread, rel=0.35)


def test_halves_share_no_document():
    one, other = fidelity.halves(torch.randn(1000, 3), torch.arange(1000) // 10, 300)
    assert len(one.acts) == len(other.acts) == 300
    assert not set(one.groups.tolist()) & set(other.groups.tolist())


def test_the_fewest_components_within_a_budget_are_found():
    for budget, wanted in ((0.1, 10), (0.05, 20), (2.0, 1), (0.0, 64)):
        assert scorecard.components_for(lambda k: 1 / k, budget, 64) == wanted


def test_pca_of_the_prior_is_scikit_learns():
    from sklearn.decomposition import PCA

    rows = torch.randn(500, 6, generator=torch.Generator().manual_seed(0)) @ torch.randn(6, 6)
    z = (rows - rows.mean(0)) / rows.std(0)
    prior = GaussianPrior(rows.mean(0), rows.T.cov())
    theirs = PCA(2).fit(z.numpy())
    given_back = theirs.inverse_transform(theirs.transform(z.numpy()))
    assert ((prior.reconstruct(rows, 2) - prior.mean) / prior.std).numpy() == pytest.approx(given_back, abs=1e-3)
    assert torch.allclose(prior.reconstruct(rows, 6), rows, atol=1e-4)
    flat = prior.sample(50, torch.Generator().manual_seed(0), components=2)
    assert torch.allclose(prior.reconstruct(flat, 2), flat, atol=1e-4)
    with pytest.raises(GlpError, match="0 to 6"):
        prior.reconstruct(rows, 7)


def test_a_prior_is_made_once_for_the_same_numbers(monkeypatch):
    mean, covariance = torch.zeros(5), torch.eye(5)
    with torch.inference_mode():
        kept = gaussian_prior(mean, covariance)
    assert gaussian_prior(mean.clone(), covariance.clone()) is kept
    assert gaussian_prior(mean, 2 * covariance) is not kept
    assert not kept.vectors.is_inference()
