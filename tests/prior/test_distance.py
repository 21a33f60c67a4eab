"""The distance meter: its unit, its percentiles, and that the same activation always has the same distance."""

import json

import pytest
import torch

from glp_core import load_glp
from glp_core.errors import GlpError
from glp_core.prior.distance import ManifoldMeter, make_reference
from glp_core.prior.flow import fixed_noise
from tests.support import tiny
from tests.support.reference import write_released_folder


@pytest.fixture(scope="module")
def real(tiny_glp):
    return tiny_glp.denormalize(torch.randn(500, tiny.WIDTH, generator=torch.Generator().manual_seed(0)))


@pytest.fixture(scope="module")
def reference(tiny_glp, real):
    return json.loads(json.dumps(make_reference(tiny_glp, real, sigma=0.4, seed=5)))


@pytest.fixture(scope="module")
def meter(tiny_glp, reference):
    return ManifoldMeter(tiny_glp, reference)


def test_a_distance_is_the_root_of_the_denoising_error_over_its_median(tiny_glp, meter, real):
    noise = fixed_noise(tiny.WIDTH, 5).expand_as(real)
    errors = tiny_glp.denoising_error(real, 0.4, noise=noise)
    torch.testing.assert_close(meter.distance(real), (errors / errors.median()).sqrt(), rtol=1e-2, atol=1e-3)
    assert float(meter.distance(real).median()) == pytest.approx(1, abs=0.01)


def test_the_same_activation_always_has_the_same_distance(meter, real):
    whole = meter.distance(real)
    assert torch.equal(meter.distance(real), whole)
    torch.testing.assert_close(torch.cat([meter.distance(real[i : i + 1]) for i in range(5)]), whole[:5])


def test_percentiles_are_shares_of_the_reference(meter, real):
    shares = meter.percentile(meter.distance(real))
    ranks = meter.distance(real).argsort().argsort().float() / (len(real) - 1)
    torch.testing.assert_close(shares, ranks, atol=0.01, rtol=0)
    assert meter.percentile(torch.tensor([0.0, 1e6])).tolist() == [0.0, 1.0]
    assert meter.percentile(torch.tensor([float("nan")])).isnan().all()


def test_the_band_holds_the_share_of_real_activations_that_it_says(meter, real):
    low, high = meter.band()
    distances = meter.distance(real)
    assert float(((distances >= low) & (distances <= high)).float().mean()) == pytest.approx(0.9, abs=0.02)
    assert float((distances < meter.reference.distance_at(0.3)).float().mean()) == pytest.approx(0.3, abs=0.02)


def test_a_distance_at_a_layer_is_that_by_the_prior_of_the_layer(tmp_path):
    glp = load_glp(write_released_folder(tmp_path, multi=6, statistics="layered"))
    acts = torch.randn(40, 24, generator=torch.Generator().manual_seed(0))
    found, other = (make_reference(glp, acts, layer=layer) for layer in (4, 2))
    alone = make_reference(glp.at(4), acts)
    assert [error for _, error in found["quantiles"]] == pytest.approx([error for _, error in alone["quantiles"]], rel=1e-3)
    assert [error for _, error in other["quantiles"]] != pytest.approx([error for _, error in alone["quantiles"]], rel=0.1)
    expected = ManifoldMeter(glp.at(4), alone).distance(acts)
    torch.testing.assert_close(ManifoldMeter(glp, alone, layer=4).distance(acts), expected, atol=1e-4, rtol=1e-3)
    assert not torch.allclose(ManifoldMeter(glp, alone, layer=2).distance(acts), expected, rtol=0.1)


def test_far_activations_are_far(meter, real):
    assert (meter.distance(real * 20) > 2 * meter.distance(real)).float().mean() > 0.95
    assert meter.distance(torch.zeros(0, tiny.WIDTH)).shape == (0,)


@pytest.mark.parametrize(
    "broken",
    [{}, {"quantiles": []}, {"quantiles": [[0, 2.0], [1, 1.0]]}, {"quantiles": [[0, 0.0], [1, 1.0]]}, {"quantiles": 3}],
)
def test_a_broken_reference_says_how_to_make_it(tiny_glp, reference, broken):
    with pytest.raises(GlpError, match="glp_core evaluate"):
        ManifoldMeter(tiny_glp, reference | broken if broken else {})


def test_a_reference_needs_activations(tiny_glp):
    with pytest.raises(GlpError, match="at least 2"):
        make_reference(tiny_glp, torch.zeros(1, tiny.WIDTH))
