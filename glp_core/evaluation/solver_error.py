"""How exact the solvers are on real activations, and the fit of the two-call solver to one GLP.

The error of a projection is |x - exact| / |exact - start| in latent space, mean over activations: the distance from the exact
solution of the ODE, as a share of the correction that the exact solution makes. Knows latents; reads and writes no files.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from glp_core.devices import doubled
from glp_core.files import Json
from glp_core.prior import flow
from glp_core.prior.flow import TwoCalls
from glp_core.prior.glp import GLP
from glp_core.progress import Progress, quiet

EXACT_CALLS = 300
START = 20
"""Steps of the released schedule, whose first level below 0.5 (0.474) is where the solvers are compared."""
LEVELS = (0.1, 0.25, 0.375, flow.projection_schedule(0.5, START)[0], 0.5, 0.625, 0.75)
"""Noise levels that the two-call solver is fitted at."""


@dataclass(frozen=True)
class Trial:
    """Real latents noised to one level, with the exact solution of their ODE."""

    glp: GLP
    noise_level: float
    start: Tensor
    exact: Tensor

    @classmethod
    def make(cls, glp: GLP, acts: Tensor, noise_level: float, *, seed: int = 0, calls: int = EXACT_CALLS) -> "Trial":
        """Noise activations (n, d) and solve their ODE with the midpoint rule in `calls` network calls."""
        noise = torch.randn(acts.shape, generator=torch.Generator().manual_seed(seed)).to(glp.device)
        start = flow.add_noise(glp.normalize(acts), noise, noise_level)
        return cls(glp, noise_level, start, flow.midpoint(glp.velocity, start, flow.even_schedule(noise_level, calls // 2)))

    def error(self, got: Tensor) -> float:
        """Return the mean error of solutions (n, d), as a share of the exact correction."""
        return float(((got - self.exact).norm(dim=-1) / (self.exact - self.start).norm(dim=-1)).mean())

    def error_of(self, solver: str, sigmas: list[float], glp: GLP | None = None) -> float:
        """Return the error of a solver along `sigmas`, run by another copy of the GLP (of another dtype, say) when given."""
        glp = glp or self.glp
        return self.error(flow.integrate(solver, glp.velocity, self.start, sigmas, fitted=glp.fitted_steps))


def fit_two_calls(trial: Trial, *, evaluations: int = 45) -> TwoCalls:
    """Return the two-call step with the smallest squared error on training activations.

    The result is linear in scale and weights, so that least squares gives them; a simplex search finds the other three numbers.
    """
    from scipy.optimize import minimize

    velocity, sigma, h = trial.glp.velocity, trial.noise_level, -trial.noise_level
    first = velocity(trial.start, sigma)

    def solve(share: float, grow: float, reach: float) -> tuple[float, TwoCalls]:
        second = velocity((1 + grow) * trial.start + reach * share * h * first, (1 - share) * sigma)
        columns = doubled(torch.stack([c.flatten() for c in (trial.start, h * first, h * second)], dim=1))
        target = doubled((trial.exact - trial.start).flatten())
        scale, *weights = torch.linalg.solve(columns.T @ columns, columns.T @ target).tolist()
        step = TwoCalls(sigma, share, grow, reach, scale, tuple(weights))
        return float((columns @ columns.new_tensor([scale, *weights]) - target).square().mean()), step

    def loss(numbers: np.ndarray) -> float:
        share, grow, reach = (float(x) for x in numbers)
        return solve(share, grow, reach)[0] if 0.05 < share < 0.95 else float("inf")

    simplex = [[0.6, 0.0, 1.0], [0.65, 0.0, 1.0], [0.6, 0.05, 1.0], [0.6, 0.0, 0.85]]
    best = minimize(loss, simplex[0], method="Nelder-Mead", options={"maxfev": evaluations, "initial_simplex": simplex})
    return solve(*(float(x) for x in best.x))[1]


def fit(glp: GLP, acts: Tensor, *, progress: Progress = quiet) -> tuple[TwoCalls, ...]:
    """Return the two-call steps at LEVELS, fitted on training activations (n, d)."""
    steps = []
    for i, level in enumerate(LEVELS):
        progress(i, len(LEVELS), f"fitting at noise level {level:.3f}")
        steps.append(fit_two_calls(Trial.make(glp, acts, level, seed=1, calls=60)))
    return tuple(steps)


def two_call_bound(trial: Trial, step: TwoCalls) -> float:
    """Return the error that a step's two calls would leave if scale and weights were the best for each activation by itself.

    Those can only be known with the exact solution: no rule that adds up start and velocities errs less.
    """
    columns = torch.stack([trial.start, *step.velocities(trial.glp.velocity, trial.start)], dim=-1)
    rest = (trial.exact - trial.start)[..., None]
    best = torch.linalg.lstsq(columns.cpu(), rest.cpu()).solution.to(columns)  # an Apple GPU has no lstsq
    return trial.error(trial.start + (columns @ best)[..., 0])


def table(glp: GLP, acts: Tensor, *, most: int = 10, progress: Progress = quiet) -> Json:
    """Return every solver's error by network calls on held-out activations (n, d), all from the same noise level."""
    sigma = flow.projection_schedule(0.5, START)[0]
    progress(0, 1, f"{EXACT_CALLS}-call solution of {len(acts)} activations")
    trial = Trial.make(glp, acts, sigma, calls=EXACT_CALLS)
    rows = []
    for solver, each in flow.CALLS_PER_INTERVAL.items():
        if solver == "fitted" and not glp.fitted_steps:
            continue
        for calls in [2] if solver == "fitted" else range(each, most + 1, each):
            error = trial.error_of(solver, flow.even_schedule(sigma, calls // each))
            rows.append({"solver": solver, "grid": "even", "calls": calls, "error": round(error, 5)})
    released = flow.projection_schedule(0.5, START)
    error = trial.error_of("euler", released)
    rows.append({"solver": "euler", "grid": "released schedule", "calls": len(released) - 1, "error": round(error, 5)})
    bound = two_call_bound(trial, flow.two_calls_at(sigma, glp.fitted_steps)) if glp.fitted_steps else None
    return {
        "rows": rows,
        "two_call_bound": bound and round(bound, 5),
        "noise_level": sigma,
        "n": len(acts),
        "exact_calls": EXACT_CALLS,
        "error_is": "mean over activations of |x - exact| / |exact - start|, latent space",
        "dtype": str(glp.dtype).removeprefix("torch."),
    }
