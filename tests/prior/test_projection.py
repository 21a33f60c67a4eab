"""Projectors against closed forms, and their one interface."""

import pytest
import torch

from glp_core import load_glp
from glp_core.errors import GlpError
from glp_core.prior.gaussian import GaussianPrior
from glp_core.prior.projection import make_projector
from glp_core.prior.walk import WalkSettings
from tests.support import tiny
from tests.support.reference import write_released_folder

N = 6


def seeded(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module")
def pair():
    clean = seeded(N, tiny.WIDTH)
    return clean + 2 * seeded(N, tiny.WIDTH, seed=1), clean


@pytest.fixture(scope="module")
def covariance(tiny_glp):
    """A full covariance whose variances are those that the GLP standardises with."""
    factor = seeded(tiny.WIDTH, tiny.WIDTH, seed=2)
    raw = factor @ factor.T
    scale = (tiny_glp.normalizer.var[0] / raw.diagonal()).sqrt()
    return raw * torch.outer(scale, scale)


def test_none_leaves_the_edit(pair):
    edited, clean = pair
    assert torch.equal(make_projector("none")(edited, clean), edited)


def test_norm_keeps_the_edits_way_and_the_clean_length(pair):
    edited, clean = pair
    final = make_projector("norm")(edited, clean)
    torch.testing.assert_close(final.norm(dim=-1), clean.norm(dim=-1))
    torch.testing.assert_close(torch.cosine_similarity(final, edited), torch.ones(N))
    assert torch.isfinite(make_projector("norm")(torch.zeros(1, 4), torch.ones(1, 4))).all()


def test_glp_is_the_glps_projection_of_the_edit(pair, tiny_glp):
    edited, clean = pair
    noise = seeded(N, tiny.WIDTH, seed=3)
    projector = make_projector("glp", glp=tiny_glp, noise_level=0.4, steps=8, solver="midpoint")
    expected = tiny_glp.project(edited, 0.4, 8, noise=noise, solver="midpoint")
    assert torch.equal(projector(edited, clean, noise=noise), expected)
    drawn = projector(edited, clean, torch.Generator().manual_seed(3))
    assert torch.equal(drawn, expected)


@pytest.mark.parametrize(("solver", "steps", "sigma"), [("midpoint", 4, 0.5), ("euler", 20, 0.4742)])
def test_gaussian_is_the_mean_of_a_joint_normal_given_the_noised_activation(pair, tiny_glp, covariance, solver, steps, sigma):
    """Conditions the joint normal of (x, y) with y = (1 - sigma) (x - mean) / std + sigma eps by its textbook formula."""
    edited, clean = pair
    noise = seeded(N, tiny.WIDTH, seed=4)
    projector = make_projector("gaussian", glp=tiny_glp, covariance=covariance, noise_level=0.5, steps=steps, solver=solver)
    mean, std = tiny_glp.normalizer.mean[0].double(), tiny_glp.normalizer.var[0].double().sqrt()
    a = (1 - sigma) * torch.diag(1 / std)
    x_cov = covariance.double()
    y_cov = a @ x_cov @ a.T + sigma**2 * torch.eye(tiny.WIDTH, dtype=torch.float64)
    y = (edited.double() - mean) @ a.T + sigma * noise.double()
    expected = mean + y @ torch.linalg.solve(y_cov, a @ x_cov)
    torch.testing.assert_close(projector(edited, clean, noise=noise).double(), expected, atol=1e-3, rtol=1e-3)


def test_gaussian_in_one_dimension_is_bayes_rule_on_a_grid():
    prior = GaussianPrior(torch.tensor([1.0]), torch.tensor([[4.0]]))
    sigma, noise, act = 0.3, torch.tensor([[0.7]]), torch.tensor([[2.5]])
    y = (1 - sigma) * (2.5 - 1) / 2 + sigma * 0.7
    x = torch.linspace(-30, 30, 200_001, dtype=torch.float64)
    weight = torch.exp(-((x - 1) ** 2) / 8 - (y - (1 - sigma) * (x - 1) / 2) ** 2 / (2 * sigma**2))
    assert float(prior.posterior_mean(act, sigma, noise)) == pytest.approx(float((x * weight).sum() / weight.sum()), abs=1e-4)


def test_walk_is_the_glps_walk_of_the_whole_push(pair, tiny_glp):
    edited, clean = pair
    projector = make_projector("walk", glp=tiny_glp, walk=WalkSettings(0.3, 4))
    noise = seeded(projector.draws, N, tiny.WIDTH, seed=3)
    expected = tiny_glp.walk(clean, edited - clean, 0.3, 4, noise)
    torch.testing.assert_close(projector(edited, clean, noise=noise), expected)
    assert torch.equal(projector(edited, clean, torch.Generator().manual_seed(3)), projector(edited, clean, noise=noise))


@pytest.mark.parametrize("kind", ["glp", "walk", "gaussian"])
def test_a_projector_of_a_multi_layer_prior_is_that_of_the_prior_of_its_layer(tmp_path, kind):
    glp = load_glp(write_released_folder(tmp_path, multi=6, statistics="layered"))
    clean, covariance = seeded(N, 24), torch.diag(glp.normalizer.var[4])
    edited = clean + seeded(N, 24, seed=1)
    noise = seeded(16, N, 24, seed=2) if kind == "walk" else seeded(N, 24, seed=2)
    here, there = (make_projector(kind, glp=glp, layer=layer, covariance=covariance) for layer in (4, 2))
    expected = make_projector(kind, glp=glp.at(4), covariance=covariance)(edited, clean, noise=noise)
    torch.testing.assert_close(here(edited, clean, noise=noise), expected, atol=1e-4, rtol=1e-4)
    assert (there(edited, clean, noise=noise) - expected).abs().max() > 0.1


def test_equal_projectors_are_equal_and_others_are_not(tiny_glp):
    one, same = (make_projector("glp", glp=tiny_glp, steps=10) for _ in range(2))
    assert one == same
    assert one != make_projector("glp", glp=tiny_glp, steps=12)
    assert one != make_projector("norm")
    assert make_projector("walk", glp=tiny_glp) == make_projector("walk", glp=tiny_glp)
    assert make_projector("walk", glp=tiny_glp) != make_projector("walk", glp=tiny_glp, walk=WalkSettings(0.2))


def test_noise_level_zero_returns_the_edit(pair, tiny_glp):
    edited, clean = pair
    projector = make_projector("glp", glp=tiny_glp, noise_level=0.0)
    torch.testing.assert_close(projector(edited, clean), edited)


@pytest.mark.parametrize(
    ("kind", "options", "words"),
    [
        ("wavelet", {}, "use none, walk, glp, norm or gaussian"),
        ("glp", {}, "needs a GLP"),
        ("walk", {}, "needs a GLP"),
        ("gaussian", {"glp": True}, "covariance"),
        ("glp", {"glp": True, "noise_level": 1.5}, "out of range"),
        ("glp", {"glp": True, "noise_level": float("nan")}, "out of range"),
        ("glp", {"glp": True, "solver": "rk9"}, "not known"),
    ],
)
def test_what_a_user_can_get_wrong_is_said(tiny_glp, kind, options, words):
    options = options | ({"glp": tiny_glp} if options.get("glp") else {})
    with pytest.raises(GlpError, match=words):
        make_projector(kind, **options)
