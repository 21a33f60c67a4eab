"""Flow matching as pure functions over tensors: noise levels, noising, and solvers of the probability-flow ODE.

One convention: `sigma` in [0, 1], 0 clean and 1 pure noise; z_sigma = (1 - sigma) z + sigma eps; velocity = eps - z = dz/dsigma.
Nothing is stored between calls. Knows nothing of networks: a velocity is any function of (z, sigma).
"""

from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from math import sqrt
from typing import Literal

import torch
from torch import Tensor

from glp_core.errors import GlpError

Velocity = Callable[[Tensor, float], Tensor]
"""Takes z (n, d) and a noise level, returns dz/dsigma (n, d)."""
Velocities = Callable[[Sequence[tuple[Tensor, float]]], list[Tensor]]
"""Takes several z (n, d), each with its noise level, and returns their dz/dsigma: at once where that costs less than one by one."""

Solver = Literal["euler", "midpoint", "ab2", "radau", "fitted"]


def schedule(steps: int) -> list[float]:
    """Return the released code's noise levels: `steps` from 1 to 0.001, evenly spaced, then 0.

    Raises:
        GlpError: steps is below 1.
    """
    if steps < 1:
        raise GlpError(f"Got {steps} steps, wanted at least 1.")
    return [*torch.linspace(1.0, 0.001, steps, dtype=torch.float64).tolist(), 0.0]


def projection_schedule(noise_level: float, steps: int) -> list[float]:
    """Return the part of `schedule(steps)` that a projection from `noise_level` runs through.

    It starts at index int((1 - noise_level) * steps), computed in float32 as the released code does; 0.5 and 20 steps start at
    sigma 0.474 and make 10 network calls. The list ends with 0; noise level 0 gives [0]: nothing to do.
    """
    check_noise_level(noise_level)
    start = int(torch.tensor(1 - noise_level, dtype=torch.float32) * steps)
    return schedule(steps)[start:]


def even_schedule(noise_level: float, intervals: int) -> list[float]:
    """Return `intervals` even steps from exactly `noise_level` to 0."""
    check_noise_level(noise_level)
    return torch.linspace(noise_level, 0.0, intervals + 1, dtype=torch.float64).tolist()


def check_noise_level(noise_level: float) -> None:
    """Raise GlpError unless 0 <= noise_level <= 1."""
    if not 0 <= noise_level <= 1:
        raise GlpError(f"Noise level {noise_level} is out of range: it goes from 0 (clean) to 1 (pure noise).")


def fixed_noise(width: int, seed: int) -> Tensor:
    """Return the one noise vector (d,) that all activations are measured with."""
    return torch.randn(width, generator=torch.Generator().manual_seed(seed))


def add_noise(z: Tensor, eps: Tensor, sigma: Tensor | float) -> Tensor:
    """Return z_sigma = (1 - sigma) z + sigma eps; sigma a number or one per row."""
    sigma = sigma.unsqueeze(-1) if isinstance(sigma, Tensor) and sigma.ndim else sigma
    return (1 - sigma) * z + sigma * eps


def euler(velocity: Velocity, z: Tensor, sigmas: list[float]) -> Tensor:
    """Integrate along `sigmas` with one call an interval."""
    for now, after in zip(sigmas, sigmas[1:], strict=False):
        z = z + (after - now) * velocity(z, now)
    return z


def midpoint(velocity: Velocity, z: Tensor, sigmas: list[float]) -> Tensor:
    """Integrate along `sigmas` with two calls an interval, second order."""
    for now, after in zip(sigmas, sigmas[1:], strict=False):
        half = z + (after - now) / 2 * velocity(z, now)
        z = z + (after - now) * velocity(half, (now + after) / 2)
    return z


def adams_bashforth2(velocity: Velocity, z: Tensor, sigmas: list[float]) -> Tensor:
    """Integrate along `sigmas` with one call an interval, second order from the second interval on."""
    before, width_before = None, 0.0
    for now, after in zip(sigmas, sigmas[1:], strict=False):
        v, width = velocity(z, now), after - now
        slope = v if before is None else v + width / (2 * width_before) * (v - before)
        z, before, width_before = z + width * slope, v, width
    return z


C2, C3 = (6 - sqrt(6)) / 10, (6 + sqrt(6)) / 10
"""Nodes of the three-point Radau quadrature that has the start of the interval among them; exact for polynomials up to degree 4."""
RADAU_WEIGHTS = (1 / 9, (16 + sqrt(6)) / 36, (16 - sqrt(6)) / 36)
A32 = 1 / (6 * RADAU_WEIGHTS[2] * C2)
"""The one free coefficient of an explicit method on these nodes; this value makes it third order."""


def radau(velocity: Velocity, z: Tensor, sigmas: list[float]) -> Tensor:
    """Integrate along `sigmas` with three calls an interval, third order: an explicit Runge-Kutta method on Radau's nodes.

    Its last call is at 15% of the way from the end, so that it never asks the network about noise-free latents, where the velocity
    bends most.
    """
    for now, after in zip(sigmas, sigmas[1:], strict=False):
        width = after - now
        v1 = velocity(z, now)
        v2 = velocity(z + width * C2 * v1, now + C2 * width)
        v3 = velocity(z + width * ((C3 - A32) * v1 + A32 * v2), now + C3 * width)
        z = z + width * (RADAU_WEIGHTS[0] * v1 + RADAU_WEIGHTS[1] * v2 + RADAU_WEIGHTS[2] * v3)
    return z


@dataclass(frozen=True)
class TwoCalls:
    """One step from `noise_level` to 0 with two calls; its numbers are fitted to a GLP (see `evaluation.solver_error`), all without unit.

    With h = -noise_level: z1 = (1 + grow) z + reach share h v, v1 at noise level (1 - share) noise_level, and the result is
    (1 + scale) z + h (weights[0] v + weights[1] v1). Share 2/3, weights (1/4, 3/4) and the rest neutral make Ralston's method.
    """

    noise_level: float
    share: float = 2 / 3
    grow: float = 0.0
    reach: float = 1.0
    scale: float = 0.0
    weights: tuple[float, float] = (0.25, 0.75)

    def __post_init__(self) -> None:
        object.__setattr__(self, "weights", tuple(self.weights))

    def __call__(self, velocity: Velocity, z: Tensor) -> Tensor:
        v, v1 = self.velocities(velocity, z)
        return (1 + self.scale) * z - self.noise_level * (self.weights[0] * v + self.weights[1] * v1)

    def velocities(self, velocity: Velocity, z: Tensor) -> tuple[Tensor, Tensor]:
        """Make the two calls; return what they gave."""
        v = velocity(z, self.noise_level)
        inner = (1 + self.grow) * z - self.reach * self.share * self.noise_level * v
        return v, velocity(inner, (1 - self.share) * self.noise_level)


def two_calls_at(noise_level: float, fitted: Sequence[TwoCalls]) -> TwoCalls:
    """Return the fitted step for a noise level: between those that were fitted, on the line; beyond them, the nearest."""
    check_noise_level(noise_level)
    if not fitted:
        raise GlpError("No fitted solver is stored with this GLP. Use radau, or make it with `python -m glp_core solvers`.")
    fitted = sorted(fitted, key=lambda step: step.noise_level)
    i = bisect_left([step.noise_level for step in fitted], noise_level)
    low, high = fitted[max(i - 1, 0)], fitted[min(i, len(fitted) - 1)]
    width = high.noise_level - low.noise_level
    part = (noise_level - low.noise_level) / width if width else 0.0
    one, other = asdict(low), asdict(high)
    mixed = {key: one[key] + part * (other[key] - one[key]) for key in ("share", "grow", "reach", "scale")}
    first, second = (a + part * (b - a) for a, b in zip(low.weights, high.weights, strict=True))
    return TwoCalls(noise_level, weights=(first, second), **mixed)


SOLVERS: dict[str, Callable[[Velocity, Tensor, list[float]], Tensor]] = {
    "euler": euler,
    "midpoint": midpoint,
    "ab2": adams_bashforth2,
    "radau": radau,
}
"""Those that work for any velocity; `fitted` needs numbers that are stored with a GLP."""
MOST_STEPS = 1000
"""Of Euler that a person is advised to take."""
CALLS_PER_INTERVAL = {"euler": 1, "midpoint": 2, "ab2": 1, "radau": 3, "fitted": 2}


def solver_plan(solver: str, noise_level: float, steps: int) -> list[float]:
    """Return the noise levels that a projection runs through.

    Euler keeps the released schedule of `steps`; the others take `steps` network calls (at least one interval's) from exactly
    `noise_level`; fitted always takes two.
    """
    if solver not in CALLS_PER_INTERVAL:
        raise GlpError(f"Solver {solver!r} is not known: use {', '.join(CALLS_PER_INTERVAL)}.")
    if steps < 1:
        raise GlpError(f"Got {steps} steps, wanted at least 1.")
    if solver == "euler":
        return projection_schedule(noise_level, steps)
    if solver == "fitted":
        return even_schedule(noise_level, 1)
    return even_schedule(noise_level, max(1, steps // CALLS_PER_INTERVAL[solver]))


def check_start(solver: str, noise_level: float, steps: int) -> None:
    """Raise GlpError where so few steps of Euler's released schedule have no level near the one that is asked for.

    They begin far below, where nothing is projected, or at pure noise, where the activation is lost.
    """

    def near(n: int) -> bool:
        start = solver_plan(solver, noise_level, n)[0]
        return noise_level in (0, 1) or (noise_level / 2 <= start <= 2 * noise_level and start < 1)

    if not near(steps):
        enough = next((n for n in range(steps, MOST_STEPS) if near(n)), None)
        raise GlpError(
            f"{steps} steps of Euler begin at noise level {solver_plan(solver, noise_level, steps)[0]:.3g}, wanted {noise_level:g}: "
            f"take {f'{enough} steps, or ' if enough else ''}another solver."
        )


def integrate(solver: str, velocity: Velocity, z: Tensor, sigmas: list[float], *, fitted: Sequence[TwoCalls] = ()) -> Tensor:
    """Run the named solver along `sigmas`.

    Args:
        fitted: the steps of the solver `fitted`.
    """
    if solver == "fitted":
        return two_calls_at(sigmas[0], fitted)(velocity, z)
    return SOLVERS[solver](velocity, z, sigmas)
