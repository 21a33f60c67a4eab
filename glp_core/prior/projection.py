"""Ways to bring a steered activation back: none, the GLP (the manifold walk, or the paper's SDEdit), its norm restored, or a Gaussian
prior (Wiener filter).

One interface; equal projectors compare equal, so that rows which share one can be projected in one call. Knows activations only.
"""

from dataclasses import dataclass
from typing import Literal, Protocol, get_args

import torch
from torch import Tensor

from glp_core.errors import GlpError
from glp_core.prior import flow
from glp_core.prior.gaussian import GaussianPrior, gaussian_prior
from glp_core.prior.glp import GLP
from glp_core.prior.walk import WalkRule, WalkSettings

Kind = Literal["none", "walk", "glp", "norm", "gaussian"]
KINDS: tuple[Kind, ...] = get_args(Kind)


class Projector(Protocol):
    """Brings edited activations back towards what the model really produces."""

    @property
    def name(self) -> str:
        """Its kind."""

    @property
    def draws(self) -> int:
        """Noise vectors that one activation takes."""

    def __call__(
        self,
        edited: Tensor,  # (n, d)
        clean: Tensor,  # (n, d), before the edit
        generator: torch.Generator | None = None,
        *,
        noise: Tensor | None = None,  # (n, d) or (draws, n, d), standard normal; drawn with the generator when None
    ) -> Tensor:  # (n, d)
        """Return the activations to go on with."""


@dataclass(frozen=True)
class NoProjection:
    """Leave the edit as it is."""

    name: str = "none"
    draws: int = 0

    def __call__(
        self, edited: Tensor, clean: Tensor, generator: torch.Generator | None = None, *, noise: Tensor | None = None
    ) -> Tensor:
        return edited


@dataclass(frozen=True)
class NormProjection:
    """Rescale the edited activation to the norm that it had before the edit."""

    name: str = "norm"
    draws: int = 0

    def __call__(
        self, edited: Tensor, clean: Tensor, generator: torch.Generator | None = None, *, noise: Tensor | None = None
    ) -> Tensor:
        scale = clean.float().norm(dim=-1, keepdim=True) / edited.float().norm(dim=-1, keepdim=True).clamp_min(1e-12)
        return (edited.float() * scale).to(edited)


@dataclass(frozen=True)
class GlpProjection:
    """Noise the edited activation to `noise_level` and denoise it back with the GLP (paper, on-manifold steering)."""

    glp: GLP
    noise_level: float = 0.5
    steps: int = 20
    solver: flow.Solver = "euler"
    layer: int | None = None
    name: str = "glp"
    draws: int = 1

    def __call__(
        self, edited: Tensor, clean: Tensor, generator: torch.Generator | None = None, *, noise: Tensor | None = None
    ) -> Tensor:
        return self.glp.project(
            edited, self.noise_level, self.steps, noise=noise, generator=generator, layer=self.layer, solver=self.solver
        )


@dataclass(frozen=True)
class WalkProjection:
    """Take the whole push, edited - clean, in small parts along the manifold: see `GLP.walk`."""

    glp: GLP
    settings: WalkSettings | WalkRule = WalkSettings()
    layer: int | None = None
    name: str = "walk"

    @property
    def draws(self) -> int:
        return self.settings.draws

    def __call__(
        self, edited: Tensor, clean: Tensor, generator: torch.Generator | None = None, *, noise: Tensor | None = None
    ) -> Tensor:
        if noise is not None:
            noise = noise.reshape(self.draws, *clean.shape)
        return self.glp.walk_by(self.settings, clean, edited - clean, noise, generator, self.layer)


@dataclass(frozen=True)
class GaussianProjection:
    """Noise the edited activation to `noise_level` and return the mean of what it may have been under a Gaussian prior."""

    prior: GaussianPrior
    noise_level: float = 0.5
    name: str = "gaussian"
    draws: int = 1

    def __call__(
        self, edited: Tensor, clean: Tensor, generator: torch.Generator | None = None, *, noise: Tensor | None = None
    ) -> Tensor:
        if noise is None:
            noise = torch.randn(edited.shape, generator=generator, device=generator.device if generator else "cpu")
        return self.prior.posterior_mean(edited, self.noise_level, noise.to(edited.device))


def make_projector(
    kind: Kind,
    *,
    glp: GLP | None = None,
    covariance: Tensor | None = None,
    noise_level: float = 0.5,
    steps: int = 20,
    solver: flow.Solver = "euler",
    layer: int | None = None,
    walk: WalkSettings | WalkRule | None = None,
) -> Projector:
    """Make a projector.

    Args:
        glp: for glp and walk; for gaussian it gives the mean.
        covariance: (d, d) of the activations, for gaussian.
        noise_level: the same meaning for glp and gaussian. Euler starts at the released schedule's nearest level below it (0.474
            for 0.5 and 20 steps), so gaussian does as well when `solver` is euler.
        layer: LLM layer, for multi-layer GLPs.
        walk: how the walk goes, a workspace's `walk()` to go as the pages do; None: 16 parts at noise level 0.25, without a bound.
            `noise_level`, `steps` and `solver` are not its own.
    Raises:
        GlpError: an unknown kind or solver, a noise level outside [0, 1], or something missing.
    """
    if kind not in KINDS:
        raise GlpError(f"Projection {kind!r} is not known: use {', '.join(KINDS[:-1])} or {KINDS[-1]}.")
    if kind == "none":
        return NoProjection()
    if kind == "norm":
        return NormProjection()
    if glp is None:
        raise GlpError(f"Projection {kind!r} needs a GLP: load one with load_glp.")
    if kind == "walk":
        return WalkProjection(glp, walk or WalkSettings(), layer)
    start = flow.solver_plan(solver, noise_level, steps)[0]
    if kind == "glp":
        return GlpProjection(glp, noise_level, steps, solver, layer)
    if covariance is None:
        raise GlpError("Projection 'gaussian' needs the activations' covariance; this GLP's statistics hold none.")
    mean = glp.normalizer.mean[glp.normalizer.row(layer)]
    return GaussianProjection(gaussian_prior(mean, covariance.to(mean)), start)
