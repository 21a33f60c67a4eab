"""The Gaussian prior: the best that a mean and a covariance can do, exactly; the baseline that a GLP must beat.

Works in the eigenbasis of the latents' covariance. Knows activations and noise levels; knows nothing of networks.
"""

import hashlib
import math
from collections import OrderedDict
from threading import Lock

import torch
from torch import Tensor

from glp_core.errors import GlpError
from glp_core.prior import flow


def latent_covariance(statistics: dict[str, Tensor]) -> Tensor:
    """Return the covariance of the standardised activations (d, d) from `var` (d) and `covariance` (d, d)."""
    std = statistics["var"].sqrt()
    return statistics["covariance"] / torch.outer(std, std)


def gaussian_loss(covariance: Tensor) -> float:
    """Return the flow-matching loss of the best linear denoiser for latents of this covariance (d, d), noise levels uniform.

    An eigenvalue s contributes the integral of s / ((1 - t)^2 s + t^2) over t in [0, 1], which is pi/2 * sqrt(s).
    """
    eigenvalues = torch.linalg.eigvalsh(covariance.cpu().double()).clamp_min(0)
    return float(math.pi / 2 * eigenvalues.sqrt().mean())


class GaussianPrior:
    """A normal distribution over activations, with the exact posterior of a noised activation (the Wiener filter)."""

    def __init__(self, mean: Tensor, covariance: Tensor) -> None:
        if covariance.shape != (len(mean), len(mean)):
            raise GlpError(f"The covariance has shape {tuple(covariance.shape)}, wanted {(len(mean), len(mean))}.")
        self.mean = mean.float()
        covariance = covariance.cpu()  # not every device has float64
        std = covariance.diagonal().float().sqrt()
        eigenvalues, vectors = torch.linalg.eigh(covariance.double() / torch.outer(std, std).double())
        self.std = std.to(mean.device)
        self.eigenvalues, self.vectors = eigenvalues.clamp_min(0).float().to(mean.device), vectors.float().to(mean.device)

    def sample(self, n: int, generator: torch.Generator | None = None, *, components: int | None = None) -> Tensor:
        """Draw activations (n, d); with `components`, only along so many first principal components."""
        noise = torch.randn(n, len(self.mean), generator=generator).to(self.mean.device)
        return self._leave(noise * self.eigenvalues.sqrt() * self._first(components))

    def reconstruct(self, acts: Tensor, components: int) -> Tensor:
        """Return activations (..., d) with nothing but their first principal components left (PCA of the latents)."""
        return self._leave(self._enter(acts) * self._first(components)).to(acts)

    def posterior_mean(self, acts: Tensor, noise_level: float, noise: Tensor) -> Tensor:
        """Noise activations (..., d) to `noise_level` with `noise` and return the mean of what they may have been."""
        return self._leave(self._posterior(acts, noise_level, noise)[0]).to(acts)

    def posterior_sample(
        self, acts: Tensor, noise_level: float, noise: Tensor, generator: torch.Generator | None = None
    ) -> Tensor:
        """Noise activations (..., d) to `noise_level` with `noise` and draw one of what they may have been."""
        mean, variance = self._posterior(acts, noise_level, noise)
        return self._leave(mean + variance.sqrt() * torch.randn(mean.shape, generator=generator).to(mean.device)).to(acts)

    def velocity(self, z: Tensor, sigma: float) -> Tensor:
        """Return the exact velocity E[eps - z | z_sigma] for latents (n, d): what a perfect network would say."""
        s, t = self.eigenvalues, float(sigma)
        gain = (t - (1 - t) * s) / ((1 - t) ** 2 * s + t**2).clamp_min(1e-12)
        return ((z.float() @ self.vectors) * gain) @ self.vectors.T

    def _posterior(self, acts: Tensor, noise_level: float, noise: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and variance per principal direction."""
        flow.check_noise_level(noise_level)
        noisy = flow.add_noise(self._enter(acts), noise.to(self.mean.device).float() @ self.vectors, noise_level)
        s, t = self.eigenvalues, noise_level
        total = ((1 - t) ** 2 * s + t**2).clamp_min(1e-12)
        return (1 - t) * s / total * noisy, t**2 * s / total

    def _first(self, components: int | None) -> Tensor:
        """Return ones for the first principal components and zeros for the others (d,); eigenvalues rise."""
        d = len(self.mean)
        if components is None:
            return torch.ones_like(self.mean)
        if not 0 <= components <= d:
            raise GlpError(f"Got {components} principal components, wanted 0 to {d}.")
        return (torch.arange(d, device=self.mean.device) >= d - components).float()

    def _enter(self, acts: Tensor) -> Tensor:
        """Return activations (..., d), standardised, in the eigenbasis."""
        return ((acts.to(self.mean.device).float() - self.mean) / self.std) @ self.vectors

    def _leave(self, in_basis: Tensor) -> Tensor:
        return in_basis @ self.vectors.T * self.std + self.mean


MOST_KEPT = 4
_kept: OrderedDict[str, GaussianPrior] = OrderedDict()
_lock = Lock()


def gaussian_prior(mean: Tensor, covariance: Tensor) -> GaussianPrior:
    """Return the prior of this mean (d) and covariance (d, d); the last few are kept, since their eigenvectors are what takes time.

    The same numbers give the same object, so projectors that are made apart compare equal.
    """
    key = _digest(mean, covariance)
    with _lock:
        if key not in _kept:
            with torch.inference_mode(False):  # a prior that is kept must also serve work that differentiates
                _kept[key] = GaussianPrior(mean.detach().clone(), covariance.detach().clone())
        _kept.move_to_end(key)
        while len(_kept) > MOST_KEPT:
            _kept.popitem(last=False)
        return _kept[key]


def _digest(*tensors: Tensor) -> str:
    digest = hashlib.sha256()
    for tensor in tensors:
        digest.update(f"{tuple(tensor.shape)} {tensor.dtype} {tensor.device}".encode())
        digest.update(tensor.detach().cpu().contiguous().double().numpy().tobytes())
    return digest.hexdigest()
