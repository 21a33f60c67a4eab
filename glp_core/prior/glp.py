"""The GLP: the network with its normaliser, and what can be asked of it: velocities, samples, projections, meta-neurons, errors.

Reads and writes no files.
"""

from collections.abc import Callable, Hashable, Sequence
from functools import partial

import torch
from torch import Tensor, nn

from glp_core.errors import GlpError
from glp_core.prior import flow
from glp_core.prior.fast import FastDenoiser
from glp_core.prior.network import DenoiserConfig, Network, Normalizer, checked_layer
from glp_core.prior.walk import WalkRule, WalkSettings, walk
from glp_core.speed.replay import Compute, Replays

ROUGH_CALLS = 10
"""Network calls up to which a solver's own error, 4 to 7% of the correction that it makes, hides that of rounded weights."""


class GLP(nn.Module):
    """A generative latent prior over the activations of an LLM layer (or of all layers, chosen by `layer`)."""

    def __init__(self, config: DenoiserConfig, mean: Tensor, var: Tensor) -> None:
        super().__init__()
        self.config = config
        self.normalizer = Normalizer(mean, var)
        self.network = Network(config)
        rows, width = self.normalizer.mean.shape
        if width != config.d_input:
            raise GlpError(f"Statistics have {width} dimensions, the network {config.d_input}.")
        if rows not in (1, config.multi_layer_n_layers):
            raise GlpError(f"Statistics are of {rows} layers, the network serves {config.multi_layer_n_layers or 1}.")
        self.fitted_steps: tuple[flow.TwoCalls, ...] = ()
        """Numbers of the solver `fitted`, stored with the GLP that they were fitted to."""
        self.fitted_at: dict[int, tuple[flow.TwoCalls, ...]] = {}
        """The same of a multi-layer GLP, by the LLM layer that they were fitted at."""
        self._fast: FastDenoiser | None = None
        self._replays: Replays | None = None

    @property
    def d_input(self) -> int:
        return self.config.d_input

    @property
    def n_layers(self) -> int:
        return self.config.n_layers

    @property
    def d_mlp(self) -> int:
        return self.config.d_mlp

    @property
    def layers(self) -> tuple[int, ...]:
        """LLM layers that a multi-layer GLP serves; none for a GLP of one layer, which does not know which it is."""
        depth = self.config.multi_layer_n_layers or 0
        return self.normalizer.layers if depth and len(self.normalizer.mean) > 1 else tuple(range(depth))

    @property
    def device(self) -> torch.device:
        return self.network.in_proj.weight.device

    @property
    def dtype(self) -> torch.dtype:
        return self.network.in_proj.weight.dtype

    def prepare(self, *, halves: bool = False) -> "GLP":
        """Freeze the weights and lay them out for fast inference, with `halves` as `load_glp` says; training must not follow."""
        self.eval().requires_grad_(False)
        self._fast = FastDenoiser(self.network, halves=halves)
        self._replays = Replays()
        return self

    def at(self, layer: int) -> "GLP":
        """Return a multi-layer GLP's prior of one LLM layer, as a GLP of one layer; a GLP of one layer returns itself.

        Weights are shared, so neither of the two may be moved or trained while the other is used.

        Raises:
            GlpError: a layer that is not served.
        """
        if self._check_layer(layer) is None:
            return self
        row, network = self.normalizer.row(layer), self.network.at(layer)
        with torch.inference_mode(False), torch.device("meta"):  # a network that takes no memory, until the next line
            one = GLP(network.config, self.normalizer.mean[row].clone(), self.normalizer.var[row].clone())
        one.network = network
        one.fitted_steps = self.fitted_at.get(layer, ())
        if self._fast is not None:
            one.eval()
            one._fast, one._replays = self._fast.at(one.network), Replays()
        return one

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "GLP":
        """Lay the weights out anew after they moved to another device or dtype."""
        super()._apply(fn, recurse)
        return self if self._fast is None else self.prepare(halves=self._fast.halves)

    def velocity(self, z: Tensor, sigma: Tensor | float, layer: Tensor | int | None = None) -> Tensor:
        """Predict eps - z for noisy latents.

        Args:
            z: (n, d_input), normalised space.
            sigma: noise level, one number or (n,).
            layer: LLM layer, one number or (n,); only for multi-layer models.
        Returns:
            (n, d_input), float32.
        Raises:
            GlpError: wrong width, a noise level outside [0, 1], a missing or unknown layer.
        """
        self._check(z)
        layer = self._check_layer(layer)
        if not isinstance(sigma, Tensor) or sigma.ndim == 0:
            flow.check_noise_level(float(sigma))
            if self._fast is not None and not isinstance(layer, Tensor):
                return self._fast.velocity(z, float(sigma), layer)
        elif not ((sigma >= 0) & (sigma <= 1)).all():
            raise GlpError(
                f"Noise levels {sigma.min():g} to {sigma.max():g} are out of range: they go from 0 (clean) to 1 (pure noise)."
            )
        return self.network(z.to(self.device, self.dtype), self._embed(len(z), sigma, layer)).float()

    def normalize(self, acts: Tensor, layer: Tensor | int | None = None) -> Tensor:
        """Standardise activations (..., d_input) to latents, float32."""
        row = self.normalizer.row(layer)
        return (acts.to(self.device).float() - self.normalizer.mean[row]) / self.normalizer.std[row]

    def denormalize(self, z: Tensor, layer: Tensor | int | None = None) -> Tensor:
        """Turn latents (..., d_input) back into activations, float32."""
        row = self.normalizer.row(layer)
        return z.to(self.device).float() * self.normalizer.std[row] + self.normalizer.mean[row]

    @torch.no_grad()
    def sample(self, noise: Tensor, steps: int = 20, layer: int | None = None, *, solver: flow.Solver = "euler") -> Tensor:
        """Turn standard normal noise (n, d_input) into activations (n, d_input); euler goes along the released schedule."""
        self._check(noise)
        sigmas = flow.schedule(steps) if solver == "euler" else flow.solver_plan(solver, 1.0, steps)
        return self.denormalize(self._integrate(solver, noise.to(self.device).float(), sigmas, layer), layer)

    @torch.no_grad()
    def project(
        self,
        acts: Tensor,
        noise_level: float = 0.5,
        steps: int = 20,
        noise: Tensor | None = None,
        generator: torch.Generator | None = None,
        layer: int | None = None,
        *,
        solver: flow.Solver = "euler",
    ) -> Tensor:
        """Noise activations to `noise_level` and denoise them back (SDEdit; paper, on-manifold steering).

        Args:
            acts: (..., d_input).
            steps: of the released schedule for Euler (0.5 and 20 make 10 network calls); network calls for other solvers
                (ab2 with 4 is more exact than those 10; fitted takes 2 and needs numbers stored with the GLP).
            noise: standard normal, of the shape of acts; drawn with `generator` when None.
        Returns:
            (..., d_input), in the dtype and on the device of acts.
        Raises:
            GlpError: wrong width, values that are not finite, a noise level outside [0, 1].
        """
        sigmas = flow.solver_plan(solver, noise_level, steps)
        z = self._latents(acts, layer)
        if len(sigmas) < 2:
            return acts.clone()
        eps = self._noise(acts, noise, generator)

        def denoised(z: Tensor, eps: Tensor) -> Tensor:
            return self._integrate(solver, flow.add_noise(z, eps, sigmas[0]), sigmas, layer)

        z = self._replayed(("project", solver, tuple(sigmas), layer, self._fitted(layer)), denoised, z, eps)
        return self.denormalize(z, layer).reshape(acts.shape).to(acts)

    def walk(
        self,
        acts: Tensor,
        push: Tensor,
        noise_level: float = 0.25,
        pushes: int = 16,
        noise: Tensor | None = None,
        generator: torch.Generator | None = None,
        layer: int | None = None,
        *,
        hold: float = 0.0,
    ) -> Tensor:
        """Push activations in `pushes` equal parts, each followed by noise to `noise_level` and one denoising call: see prior/walk.py.

        This manifold walk is ours, not the paper's, whose way is `project`: small parts never leave all that the prior has seen. By
        default it takes 16 parts at 0.25 and has no bound; `walk_by` with a workspace's `walk()` goes as the pages do.

        Args:
            acts: clean, (..., d_input).
            push: the whole push, (..., d_input), in units of the activations.
            noise: standard normal, (pushes, ..., d_input); drawn with `generator` when None.
            hold: share of what each denoising loses along the push that is put back: 1 holds the push, the prior fills in the rest.
        Returns:
            (..., d_input), in the dtype and on the device of acts.
        Raises:
            GlpError: wrong width, values that are not finite, a noise level outside [0, 1], no push.
        """
        return self.walk_by(WalkSettings(noise_level, pushes, hold), acts, push, noise, generator, layer)

    @torch.no_grad()
    def walk_by(
        self,
        settings: WalkSettings | WalkRule,
        acts: Tensor,
        push: Tensor,
        noise: Tensor | None = None,
        generator: torch.Generator | None = None,
        layer: int | None = None,
    ) -> Tensor:
        """Do what `walk` does by any settings, or by a rule for each row's length; noise (settings.draws, ..., d_input)."""
        z = self._latents(acts, layer)
        if push.shape != acts.shape:
            raise GlpError(f"The push has shape {tuple(push.shape)}, wanted that of the activations, {tuple(acts.shape)}.")
        delta = self._latents_of_push(push, layer)
        drawn = self._noise(acts, noise, generator, draws=settings.draws)
        parts = [(None, settings)] if isinstance(settings, WalkSettings) else settings.parts(delta)
        after = torch.empty_like(z)
        for rows, one in parts:
            if rows is None:
                after = self._walked(one, z, delta, drawn[: one.draws], layer)
            else:
                after[rows] = self._walked(one, z[rows], delta[rows], drawn[: one.draws, rows], layer)
        return self.denormalize(after, layer).reshape(acts.shape).to(acts)

    def _walked(self, settings: WalkSettings, z: Tensor, delta: Tensor, drawn: Tensor, layer: int | None) -> Tensor:
        """Walk latents (n, d) by one way for all rows, replayed where the device records."""

        def walked(z: Tensor, delta: Tensor, drawn: Tensor, *fixed: Tensor) -> Tensor:
            return walk(partial(self._velocities, layer=layer), z, delta, drawn, settings, *fixed)

        fixed = [] if settings.bound is None else [flow.fixed_noise(self.d_input, settings.bound.noise_seed).to(self.device)]
        return self._replayed(("walk", settings, layer), walked, z, delta, drawn, *fixed)

    @torch.no_grad()
    def neurons(
        self,
        acts: Tensor,
        sigma: float = 0.1,
        noise: Tensor | float | None = None,
        generator: torch.Generator | None = None,
        layer: int | None = None,
    ) -> Tensor:
        """Read the meta-neurons: every block's post-SwiGLU values in one forward at `sigma` (paper, meta-neurons).

        Args:
            acts: (..., d_input).
            noise: of the shape of acts; drawn when None; 0 for the noise-free reading z_sigma = (1 - sigma) z.
        Returns:
            (..., n_layers, d_mlp), float32, signed.
        """
        z = self._latents(acts, layer)
        flow.check_noise_level(sigma)
        if noise is None or isinstance(noise, Tensor):
            eps = self._noise(acts, noise, generator)
        elif noise == 0:
            eps = torch.zeros_like(z)
        else:
            raise GlpError(f"noise is {noise!r}, wanted a tensor of the activations' shape, or 0 for none.")
        z = flow.add_noise(z, eps, sigma)
        served = self._check_layer(layer)
        if self._fast is not None and not isinstance(served, Tensor):
            hidden = self._fast.neurons(z, float(sigma), served)
        else:
            hidden = self.network.neurons(z, self._embed(len(z), sigma, served))
        return hidden.reshape(*acts.shape[:-1], self.n_layers, self.d_mlp)

    @torch.no_grad()
    def denoising_error(
        self,
        acts: Tensor,
        sigma: Tensor | float,
        noise: Tensor | None = None,
        generator: torch.Generator | None = None,
        layer: int | None = None,
    ) -> Tensor:
        """Return mean over dimensions of (velocity - (eps - z))^2 for activations (..., d_input): the GLP's own surprise, (...)."""
        z = self._latents(acts, layer)
        eps = self._noise(acts, noise, generator)
        sigma = sigma.to(self.device).flatten() if isinstance(sigma, Tensor) and sigma.ndim else sigma
        error = self.velocity(flow.add_noise(z, eps, sigma), sigma, layer) - (eps - z)
        return error.square().mean(-1).reshape(acts.shape[:-1])

    def _integrate(self, solver: str, z: Tensor, sigmas: list[float], layer: int | None) -> Tensor:
        rough = flow.CALLS_PER_INTERVAL[solver] * (len(sigmas) - 1) <= ROUGH_CALLS
        velocity = partial(self._velocities, layer=layer, rough=rough)
        return flow.integrate(solver, lambda z, sigma: velocity([(z, sigma)])[0], z, sigmas, fitted=self._fitted(layer))

    def _fitted(self, layer: int | None) -> tuple[flow.TwoCalls, ...]:
        return self.fitted_steps if layer is None else self.fitted_at.get(layer, self.fitted_steps)

    def _velocities(self, asked: Sequence[tuple[Tensor, float]], layer: int | None, *, rough: bool = True) -> list[Tensor]:
        """Return `velocity` of each; if `rough`, for a few rows on a CPU within 1%, which is less than what few steps leave."""
        served = self._check_layer(layer)
        if self._fast is None or isinstance(served, Tensor):
            return [self.velocity(z, sigma, layer) for z, sigma in asked]
        return self._fast.velocities(asked, served, rough=rough)

    def _replayed(self, key: Hashable, compute: Compute, *z: Tensor) -> Tensor:
        return compute(*z) if self._replays is None else self._replays.run(key, compute, *z)

    def _embed(self, n: int, sigma: Tensor | float, layer: Tensor | int | None) -> Tensor:
        sigmas = torch.as_tensor(sigma, dtype=torch.float32, device=self.device).reshape(-1)
        layers = None if layer is None else torch.as_tensor(layer, device=self.device).reshape(-1)
        if len(sigmas) not in (1, n):
            raise GlpError(f"Got {len(sigmas)} noise levels for {n} activations: give one, or one each.")
        groups = max(len(sigmas), 1 if layers is None else len(layers))
        return self.network.embed(sigmas.expand(groups), None if layers is None else layers.expand(groups)).to(self.dtype)

    def _latents(self, acts: Tensor, layer: Tensor | int | None) -> Tensor:
        self._check(acts)
        self._check_layer(layer)
        if not torch.isfinite(acts).all():
            raise GlpError("The activations hold NaN or infinite values. Reduce the strength, or check the LLM's dtype.")
        return self.normalize(acts, layer).reshape(-1, self.d_input)

    def _latents_of_push(self, push: Tensor, layer: int | None) -> Tensor:
        """Return how far pushes (..., d_input) move latents, (n, d_input)."""
        if not torch.isfinite(push).all():
            raise GlpError("The push holds NaN or infinite values. Reduce the steering strength.")
        std = self.normalizer.std[self.normalizer.row(layer)]
        return (push.to(self.device).float() / std).reshape(-1, self.d_input)

    def _noise(
        self, acts: Tensor, noise: Tensor | None, generator: torch.Generator | None, *, draws: int | None = None
    ) -> Tensor:
        """Return noise for activations of n rows, (n, d_input); with `draws`, (draws, n, d_input)."""
        shape = acts.shape if draws is None else (draws, *acts.shape)
        if noise is None:
            device = generator.device if generator is not None else self.device
            noise = torch.randn(shape, generator=generator, device=device)
        elif noise.shape != shape:
            raise GlpError(f"noise has shape {tuple(noise.shape)}, wanted {tuple(shape)}.")
        flat = (-1, self.d_input) if draws is None else (draws, -1, self.d_input)
        return noise.to(self.device).float().reshape(flat)

    def _check(self, acts: Tensor) -> None:
        if acts.ndim == 0 or acts.shape[-1] != self.d_input:
            raise GlpError(
                f"Got activations of shape {tuple(acts.shape)}, wanted (..., {self.d_input}): is it the GLP of this LLM?"
            )

    def _check_layer(self, layer: Tensor | int | None) -> Tensor | int | None:
        return None if self.config.multi_layer_n_layers is None else checked_layer(layer, self.layers)
