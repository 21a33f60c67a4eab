"""Manifold distance: how far an activation is from what the language model really produces, in units of a typical real token.

The distance is the GLP's own surprise: its denoising error at one noise level, under one fixed noise, so that the same activation always
has the same distance. Knows activations and a GLP; knows nothing of tokens.
"""

import torch
from torch import Tensor

from glp_core.errors import GlpError
from glp_core.files import Json
from glp_core.prior import flow
from glp_core.prior.glp import GLP
from glp_core.prior.reference import Reference

SHARES = (*(i / 200 for i in range(200)), 0.998, 0.999, 0.9995, 0.9999, 1.0)
"""Of real activations, at which a reference keeps the error: closest at the far end, where pushed activations lie."""
BATCH = 1024


class ManifoldMeter:
    """Measures distances with a GLP against a reference of held-out real activations; 1 is a typical real token."""

    def __init__(self, glp: GLP, reference: Json, *, layer: int | None = None) -> None:
        self.glp, self.layer, self.reference = glp, layer, Reference(reference)
        self.noise = flow.fixed_noise(glp.d_input, self.reference.noise_seed).to(glp.device)

    def distance(self, acts: Tensor) -> Tensor:
        """Return the manifold distance of activations (n, d), float32 on the CPU."""
        errors = fixed_error(self.glp, acts, self.reference.sigma, self.noise, self.layer)
        return (errors / self.reference.median_error).sqrt()

    def percentile(self, distance: Tensor) -> Tensor:
        """Return for each distance the share of held-out real activations that are nearer, 0 to 1."""
        shares = [self.reference.share_nearer(one) for one in distance.double().flatten().tolist()]
        return torch.tensor(shares, dtype=torch.float32).reshape(distance.shape)

    def band(self) -> tuple[float, float]:
        """Return the distances between which 90% of real activations lie."""
        return self.reference.band()


def make_reference(glp: GLP, acts: Tensor, *, sigma: float = 0.5, seed: int = 0, layer: int | None = None) -> Json:
    """Return what a ManifoldMeter needs, from held-out real activations (n, d)."""
    if len(acts) < 2:
        raise GlpError(f"Got {len(acts)} held-out activations, wanted at least 2.")
    errors = fixed_error(glp, acts, sigma, flow.fixed_noise(glp.d_input, seed).to(glp.device), layer).double()
    values = torch.quantile(errors, torch.tensor(SHARES, dtype=torch.float64))
    return {
        "sigma": sigma,
        "noise_seed": seed,
        "quantiles": [[q, error] for q, error in zip(SHARES, values.tolist(), strict=True)],
        "n": len(acts),
    }


def fixed_error(glp: GLP, acts: Tensor, sigma: float, noise: Tensor, layer: int | None = None) -> Tensor:
    """Return denoising errors (n,) of activations (n, d) under the same noise (d,), on the CPU."""
    errors = [glp.denoising_error(part, sigma, noise=noise.expand_as(part), layer=layer).cpu() for part in acts.split(BATCH)]
    return torch.cat(errors) if errors else torch.zeros(0)
