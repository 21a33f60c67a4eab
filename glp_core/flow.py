"""Flow matching as pure functions over tensors: noise levels, noising, and solvers of the probability-flow ODE.

One convention: `sigma` in [0, 1], 0 clean and 1 pure noise; z_sigma = (1 - sigma) z + sigma eps; velocity = eps - z = dz/dsigma.
Nothing is stored between calls. Knows nothing of networks: a velocity is any function of (z, sigma).
"""

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

from glp_core.errors import GlpError

Velocity = Callable[[Tensor, float], Tensor]
"""Takes z (n, d) and a noise level, returns dz/dsigma (n, d)."""

Solver = Literal["euler", "midpoint", "ab2"]


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


SOLVERS: dict[str, Callable[[Velocity, Tensor, list[float]], Tensor]] = {
    "euler": euler,
    "midpoint": midpoint,
    "ab2": adams_bashforth2,
}
CALLS_PER_INTERVAL = {"euler": 1, "midpoint": 2, "ab2": 1}


def solver_plan(solver: str, noise_level: float, steps: int) -> list[float]:
    """Return the noise levels that a projection runs through.

    Euler keeps the released schedule of `steps`; the others take `steps` network calls from exactly `noise_level`.
    """
    if solver not in SOLVERS:
        raise GlpError(f"Solver {solver!r} is not known: use {', '.join(SOLVERS)}.")
    if solver == "euler":
        return projection_schedule(noise_level, steps)
    return even_schedule(noise_level, max(1, steps // CALLS_PER_INTERVAL[solver]))


def integrate(solver: str, velocity: Velocity, z: Tensor, sigmas: list[float]) -> Tensor:
    """Run the named solver along `sigmas`."""
    return SOLVERS[solver](velocity, z, sigmas)
