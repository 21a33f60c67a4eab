"""Log-likelihood by the probability-flow ODE against closed forms."""

import math

import pytest
import torch

from glp_core.errors import GlpError
from glp_core.prior.gaussian import GaussianPrior
from glp_core.prior.glp import GLP
from glp_core.prior.likelihood import log_likelihood, velocity_of
from glp_core.prior.network import DenoiserConfig
from tests.support import tiny


def known_gaussian(d, seed=0):
    """Return the exact velocity field of a correlated normal distribution of unit variances, its covariance, and samples."""
    generator = torch.Generator().manual_seed(seed)
    mix = torch.randn(d, d, generator=generator, dtype=torch.float64)
    covariance = mix @ mix.T / d + 0.1 * torch.eye(d, dtype=torch.float64)
    scale = covariance.diagonal().sqrt()
    covariance = covariance / torch.outer(scale, scale)
    prior = GaussianPrior(torch.zeros(d), covariance)
    return prior.velocity, covariance, prior.sample(24, generator)


def closed_form(z, covariance):
    """The log-likelihood under a centred normal distribution, in nats per dimension (n,)."""
    normal = torch.distributions.MultivariateNormal(torch.zeros(len(covariance)).double(), covariance.double())
    return (normal.log_prob(z.double()) / len(covariance)).float()


def test_exact_divergence_matches_the_closed_form_to_one_percent():
    velocity, covariance, z = known_gaussian(12)
    found = log_likelihood(velocity, z)
    truth = closed_form(z, covariance)
    assert torch.equal(found.error, torch.zeros(24))
    assert ((found.value - truth).abs() / truth.abs()).max() < 0.01


def test_hutchinsons_estimate_lies_within_its_standard_errors():
    velocity, covariance, z = known_gaussian(96)
    truth = closed_form(z, covariance)
    found = log_likelihood(velocity, z, probes=16, generator=torch.Generator().manual_seed(1))
    assert (found.error > 0).all()
    assert ((found.value - truth).abs() <= 4 * found.error + 0.01 * truth.abs()).all()
    assert abs(float((found.value - truth).mean() / truth.mean())) < 0.01


def test_the_standard_error_is_how_much_the_estimate_varies():
    velocity, _, z = known_gaussian(96)
    generators = [torch.Generator().manual_seed(seed) for seed in range(30)]
    runs = [log_likelihood(velocity, z, probes=4, intervals=8, generator=generator) for generator in generators]
    spread = torch.stack([run.value for run in runs]).var(0).mean().sqrt()
    said = torch.stack([run.error for run in runs]).square().mean().sqrt()
    assert float(said) == pytest.approx(float(spread), rel=0.3)


def test_far_activations_are_less_likely():
    velocity, _, z = known_gaussian(12)
    assert (log_likelihood(velocity, 3 * z).value < log_likelihood(velocity, z).value).all()


def test_noise_itself_has_the_likelihood_of_noise():
    velocity = GaussianPrior(torch.zeros(8), torch.eye(8)).velocity
    z = torch.randn(10, 8, generator=torch.Generator().manual_seed(2))
    truth = -0.5 * (z.square() + math.log(2 * math.pi)).mean(1)
    assert torch.allclose(log_likelihood(velocity, z, intervals=64).value, truth, atol=2e-3)


def test_it_works_in_inference_mode_as_jobs_run_and_more_steps_change_little():
    glp = tiny.tiny_glp()
    with torch.inference_mode():
        z = torch.randn(5, glp.d_input, generator=torch.Generator().manual_seed(3))
        few, many = (log_likelihood(velocity_of(glp), z, intervals=n).value for n in (32, 128))
    assert torch.allclose(few, many, rtol=0.01)


def test_the_differentiable_velocity_is_the_glps_own():
    glp = tiny.tiny_glp()
    z = torch.randn(4, glp.d_input)
    assert torch.allclose(velocity_of(glp)(z, 0.3), glp.velocity(z, 0.3), atol=1e-5)


def test_one_probe_and_a_stop_are_refused():
    velocity, _, z = known_gaussian(8)
    with pytest.raises(GlpError, match="at least 2"):
        log_likelihood(velocity, z, probes=1)
    with pytest.raises(GlpError, match="Stopped"):
        log_likelihood(velocity, z, cancelled=lambda: True)


def test_the_velocity_of_a_glp_of_many_layers_is_of_one_that_it_serves():
    config = DenoiserConfig(6, 8, 12, 1, multi_layer_n_layers=4)
    glp = GLP(config, torch.zeros(6), torch.ones(6))
    z = torch.randn(3, 6)
    torch.testing.assert_close(velocity_of(glp, 2)(z, 0.3), glp.velocity(z, 0.3, 2))
    for layer in (None, 99):
        with pytest.raises(GlpError, match="layer"):
            velocity_of(glp, layer)
