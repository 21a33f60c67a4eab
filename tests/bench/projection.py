"""Projection: how much faster than a plain reference, at the same number of network calls and with a few-call solver, and how exact."""

import torch

from glp_core import flow
from glp_core.model import GLP
from tests.bench.timing import interleaved, times_faster
from tests.reference import ReferenceGlp

BATCHES = (1, 3, 16, 128, 1024)
REPEATS = {1: 31, 3: 31, 16: 21, 128: 9, 1024: 5}
NOISE_LEVEL, STEPS = 0.5, 20
EXACT_CALLS = 300


def reference_of(glp: GLP) -> ReferenceGlp:
    """Return the plain implementation with the same weights, float32."""
    config = glp.config
    shape = {name: getattr(config, name) for name in ("d_input", "d_model", "d_mlp", "n_layers", "multi_layer_n_layers")}
    return ReferenceGlp(shape, glp.network.state_dict(), glp.normalizer.mean, glp.normalizer.var)


def ratios(exact: GLP, native: GLP, acts, solver: str, calls: int) -> dict:
    """Return times faster than the reference's 10 calls by kind and batch size, and the medians in milliseconds.

    Args:
        exact: the GLP in float32; native: in the machine's own dtype.
        acts: real activations (n, d) to take the batches from.
    """
    reference = reference_of(exact)
    noise = torch.randn(acts.shape, generator=torch.Generator().manual_seed(0))
    found = {"bf16": {}, "fp32": {}, "fast": {}, "milliseconds": {}}
    for batch in BATCHES:
        x = acts.repeat(-(-batch // len(acts)), 1)[:batch]
        eps = noise.repeat(-(-batch // len(acts)), 1)[:batch]
        wanted, got = reference.project(x, NOISE_LEVEL, STEPS, eps), exact.project(x, NOISE_LEVEL, STEPS, eps)
        difference = float((got - wanted).norm() / wanted.norm())
        assert difference < 1e-5, f"float32 differs from the reference by {difference:.1e} at batch {batch}"
        seconds = interleaved(
            {
                "reference": lambda x=x, eps=eps: reference.project(x, NOISE_LEVEL, STEPS, eps),
                "fp32": lambda x=x, eps=eps: exact.project(x, NOISE_LEVEL, STEPS, eps),
                "bf16": lambda x=x, eps=eps: native.project(x, NOISE_LEVEL, STEPS, eps),
                "fast": lambda x=x, eps=eps: native.project(x, NOISE_LEVEL, calls, eps, solver=solver),
            },
            REPEATS[batch],
        )
        for kind in ("bf16", "fp32", "fast"):
            found[kind][str(batch)] = times_faster(seconds["reference"], seconds[kind])
        found["milliseconds"][str(batch)] = {name: round(1000 * value, 2) for name, value in seconds.items()}
    return found


def error(got, exact, start) -> float:
    """Return the mean over rows of |got - exact| / |exact - start|: the error as a share of the correction the ODE makes."""
    return float(((got - exact).norm(dim=-1) / (exact - start).norm(dim=-1)).mean())


class Exactness:
    """Real held-out latents (n, d), noised to the schedule's start, with the ODE's solution from 300 network calls in float32."""

    def __init__(self, glp: GLP, acts) -> None:
        self.acts, self.sigma = acts, flow.projection_schedule(NOISE_LEVEL, STEPS)[0]
        self.noise = torch.randn(acts.shape, generator=torch.Generator().manual_seed(1))
        self.start = flow.add_noise(glp.normalize(acts), self.noise, self.sigma)
        self.solution = flow.midpoint(glp.velocity, self.start, flow.even_schedule(self.sigma, EXACT_CALLS // 2))

    def of(self, glp: GLP, solver: str, calls: int) -> float:
        """Return the error of a solver that starts at the same noise level; Euler along the released schedule for 10 calls."""
        if solver == "euler":
            sigmas = flow.projection_schedule(NOISE_LEVEL, STEPS) if calls == 10 else flow.even_schedule(self.sigma, calls)
        else:
            sigmas = flow.solver_plan(solver, self.sigma, calls)
        return error(flow.integrate(solver, glp.velocity, self.start, sigmas), self.solution, self.start)


def solver_table(glp: GLP, acts) -> list[dict]:
    """Return the error of every solver at 2 to 10 network calls."""
    exactness, rows = Exactness(glp, acts), []
    for solver in flow.SOLVERS:
        per_interval = flow.CALLS_PER_INTERVAL[solver]
        for calls in range(per_interval, 11, per_interval):
            rows.append({"solver": solver, "calls": calls, "error": round(exactness.of(glp, solver, calls), 5)})
    return rows
