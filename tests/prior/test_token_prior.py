"""The trial of a prior that is told the token: told nothing, its walk and its projection are those of the GLP that it began as."""

import pytest
import torch

from glp_core.prior.distance import make_reference
from glp_core.prior.projection import make_projector
from glp_core.prior.reference import Reference
from glp_core.prior.walk import Bound, WalkRule, WalkSettings
from tests.bench.token_prior import TokenNetwork, TokenPrior, TokenProjection, TokenWalk, losses
from tests.support.tiny import tiny_glp

N, D = 12, 8


@pytest.fixture
def glp():
    return tiny_glp(D)


@pytest.fixture
def acts(glp):
    return glp.denormalize(torch.randn(N, D, generator=torch.Generator().manual_seed(0)))


def untold(glp):
    return TokenPrior(glp, TokenNetwork(glp.network).eval().requires_grad_(False), None, told=False)


def test_a_network_that_is_told_nothing_is_the_one_that_it_began_as(glp, acts):
    z = glp.normalize(acts)
    found = TokenNetwork(glp.network).velocity(torch.cat([z, torch.zeros_like(z)], -1), 0.3)
    torch.testing.assert_close(found, glp.velocity(z, 0.3), atol=1e-5, rtol=1e-5)
    nothing = torch.zeros_like(z)
    network = TokenNetwork(glp.network)
    assert losses(network, z, nothing) == losses(network, z, nothing) != losses(tiny_network(glp), z, nothing)


def tiny_network(glp):
    """Return another network of that shape."""
    return TokenNetwork(tiny_glp(D, seed=1).network)


def test_its_walk_and_its_projection_are_those_of_the_glp(glp, acts):
    push = (
        torch.randn(N, D, generator=torch.Generator().manual_seed(1)) * glp.normalizer.std * torch.linspace(0.2, 4, N)[:, None]
    )
    reference = Reference(make_reference(glp, acts))
    rule = WalkRule(WalkSettings(0.1, 2), WalkSettings(0.1, 4, 0.5, bound=Bound.at(reference, 0.9)), border=1.5)
    noise = torch.randn(4, N, D, generator=torch.Generator().manual_seed(2))
    wanted = make_projector("walk", glp=glp, walk=rule)(acts + push, acts, noise=noise)
    found = TokenWalk(untold(glp), rule)(acts + push, acts, noise=noise)
    torch.testing.assert_close(found, wanted, atol=1e-4, rtol=1e-4)
    assert len({len(rows) for rows, _ in rule.parts(push / glp.normalizer.std) if rows is not None}) and not torch.equal(
        wanted, acts
    )
    wanted = make_projector("glp", glp=glp, noise_level=0.5)(acts + push, acts, noise=noise[0])
    torch.testing.assert_close(
        TokenProjection(untold(glp), 0.5)(acts + push, acts, noise=noise[0]), wanted, atol=1e-4, rtol=1e-4
    )


def test_its_own_reference_is_what_the_library_makes_of_the_glp(glp, acts):
    measured = make_reference(glp, acts)
    found = untold(glp).reference(acts, torch.zeros_like(acts), measured)
    assert found.error_at(0.5) == pytest.approx(Reference(measured).error_at(0.5), rel=1e-4)
