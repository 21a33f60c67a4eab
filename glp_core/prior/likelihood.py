"""Log-likelihood of latents under a flow: the probability-flow ODE from data to noise, with the divergence along the way.

log p(z) = log N(z_1; 0, I) + integral over sigma from 0 to 1 of div v(z_sigma, sigma), where dz/dsigma = v and z_0 = z. The divergence is
exact (d backward passes) or Hutchinson's estimate, mean of e' J e over random signs e, with its standard error. Knows velocities
and latents; a GLP enters only through `velocity_of`.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from glp_core.errors import GlpError
from glp_core.jobs.pause import pause
from glp_core.prior.glp import GLP
from glp_core.prior.network import checked_layer

Velocity = Callable[[Tensor, float], Tensor]
"""Takes z (n, d) and a noise level, returns dz/dsigma (n, d); torch must be able to differentiate it by z."""
EXACT_UP_TO = 64
"""Dimensions up to which `probes=None` takes the exact divergence."""


class LogLikelihood(NamedTuple):
    """Log-likelihood per activation, in nats per dimension."""

    value: Tensor
    """(n,)."""
    error: Tensor
    """(n,), standard error of Hutchinson's estimate over its probes; 0 for the exact divergence."""


def log_likelihood(
    velocity: Velocity,
    z: Tensor,  # (n, d)
    *,
    intervals: int = 32,
    probes: int | None = None,
    generator: torch.Generator | None = None,
    cancelled: Callable[[], bool] = lambda: False,
) -> LogLikelihood:
    """Return log p(z) / d for latents.

    Args:
        intervals: midpoint steps from sigma 0 to 1, denser near 0, where the field changes fastest.
        probes: random sign vectors of Hutchinson's estimate, at least 2, the same along a whole path; None: exact up to 64
            dimensions, 4 above.
        cancelled: asked at every step; when true, GlpError ends the work.
    Raises:
        GlpError: fewer than 2 probes, or stopped.
    """
    n, d = z.shape
    if probes is None and d > EXACT_UP_TO:
        probes = 4
    if probes is not None and probes < 2:
        raise GlpError(f"Got {probes} probes; a standard error needs at least 2.")
    with torch.inference_mode(False), torch.enable_grad():
        z = z.detach().clone().float()
        signs = _signs(z, probes, generator)  # (k, n, d)
        total = torch.zeros(len(signs) if probes else 1, n)
        levels = torch.linspace(0, 1, intervals + 1, dtype=torch.float64).square().tolist()
        for now, after in zip(levels, levels[1:], strict=False):
            if cancelled():
                raise GlpError("Stopped.")
            width = after - now
            with torch.no_grad():
                half = z + width / 2 * velocity(z, now)
            slope, divergence = _with_divergence(velocity, half, (now + after) / 2, signs, exact=probes is None)
            z, total = z + width * slope, total + width * divergence.cpu()
    base = -0.5 * z.square().sum(1) - 0.5 * d * math.log(2 * math.pi)
    error = total.std(0) / math.sqrt(probes) if probes else torch.zeros(n)
    return LogLikelihood((base.cpu() + total.mean(0)) / d, error / d)


def velocity_of(glp: GLP, layer: int | None = None) -> Velocity:
    """Return the GLP's velocity as a function that torch can differentiate (the fast path of `glp.velocity` cannot).

    Raises:
        GlpError: a multi-layer GLP, and no layer or one that is not served.
    """
    if glp.config.multi_layer_n_layers is not None:
        checked_layer(layer, glp.layers)
    layers = None if layer is None else torch.tensor([layer], device=glp.device)

    def velocity(z: Tensor, sigma: float) -> Tensor:
        emb = glp.network.embed(torch.tensor([sigma], device=glp.device, dtype=torch.float32), layers)
        return glp.network(z.to(glp.device, glp.dtype), emb).float()

    return velocity


def _signs(z: Tensor, probes: int | None, generator: torch.Generator | None) -> Tensor:
    """Return sign vectors (k, n, d); for the exact divergence the unit vectors (d, 1, d)."""
    d = z.shape[1]
    if probes is None:
        return torch.eye(d, device=z.device)[:, None]
    return (torch.randint(0, 2, (probes, *z.shape), generator=generator) * 2 - 1).to(z)


def _with_divergence(velocity: Velocity, z: Tensor, sigma: float, signs: Tensor, *, exact: bool) -> tuple[Tensor, Tensor]:
    """Return the velocity (n, d) and e' J e for each sign vector (k, n); with `exact` their sum, the divergence (1, n)."""
    pause()
    z = z.detach().requires_grad_()
    v = velocity(z, sigma)
    parts = []
    for i, e in enumerate(signs):
        pause()
        (back,) = torch.autograd.grad((v * e).sum(), z, retain_graph=i + 1 < len(signs))
        parts.append((back * e).sum(1))
    products = torch.stack(parts).detach()
    return v.detach(), products.sum(0, keepdim=True) if exact else products
