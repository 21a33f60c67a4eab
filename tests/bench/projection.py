"""Projection: how much faster than a plain reference, at the same number of network calls and with a few-call solver, and how exact."""

import torch

from glp_core.evaluation import solver_error
from glp_core.prior import flow
from glp_core.prior.fast import EIGHT_BITS_BELOW
from glp_core.prior.glp import GLP
from tests.bench.timing import interleaved, times_faster
from tests.support.reference import ReferenceGlp

BATCHES = (1, 3, 16, 128, 1024)
REPEATS = {1: 31, 3: 31, 16: 21, 128: 9, 1024: 5}
NOISE_LEVEL, STEPS = 0.5, 20


def reference_of(glp: GLP) -> ReferenceGlp:
    """Return the plain implementation with the same weights, float32."""
    config = glp.config
    shape = {name: getattr(config, name) for name in ("d_input", "d_model", "d_mlp", "n_layers", "multi_layer_n_layers")}
    return ReferenceGlp(shape, glp.network.state_dict(), glp.normalizer.mean, glp.normalizer.var)


def ratios(exact: GLP, native: GLP, acts, few: dict[str, int]) -> dict:
    """Return times faster than the reference's 10 calls by kind and batch size, and the medians in milliseconds.

    Args:
        exact: the GLP in float32; native: in the machine's own dtype, with eight-bit weights for few rows where they are.
        acts: real activations (n, d) to take the batches from.
        few: few-call solvers with their network calls; each is a kind beside fp32 and bf16.
    """
    reference = reference_of(exact)
    noise = torch.randn(acts.shape, generator=torch.Generator().manual_seed(0))
    plain = without_eight_bits(native)
    found = {"bf16": {}, "int8": {}, "fp32": {}, "milliseconds": {}} | {solver: {} for solver in few}
    for batch in BATCHES:
        x = acts.repeat(-(-batch // len(acts)), 1)[:batch]
        eps = noise.repeat(-(-batch // len(acts)), 1)[:batch]
        wanted, got = reference.project(x, NOISE_LEVEL, STEPS, eps), exact.project(x, NOISE_LEVEL, STEPS, eps)
        difference = float((got - wanted).norm() / wanted.norm())
        assert difference < 1e-5, f"float32 differs from the reference by {difference:.1e} at batch {batch}"
        runs = {
            "reference": lambda x=x, eps=eps: reference.project(x, NOISE_LEVEL, STEPS, eps),
            "fp32": lambda x=x, eps=eps: exact.project(x, NOISE_LEVEL, STEPS, eps),
            "bf16": lambda x=x, eps=eps: plain.project(x, NOISE_LEVEL, STEPS, eps),
        }
        if batch < EIGHT_BITS_BELOW and native._fast.enter.eight_bits is not None:
            runs["int8"] = lambda x=x, eps=eps: native.project(x, NOISE_LEVEL, STEPS, eps)
        for solver, calls in few.items():
            runs[solver] = lambda x=x, eps=eps, solver=solver, calls=calls: native.project(
                x, NOISE_LEVEL, calls, eps, solver=solver
            )
        seconds = interleaved(runs, REPEATS[batch])
        for kind in runs.keys() - {"reference"}:
            found[kind][str(batch)] = times_faster(seconds["reference"], seconds[kind])
        found["milliseconds"][str(batch)] = {name: round(1000 * value, 2) for name, value in seconds.items()}
    return found


def without_eight_bits(native: GLP) -> GLP:
    """Return a GLP with the same weights that never takes their eight-bit copies."""
    made = GLP(native.config, native.normalizer.mean.squeeze(0), native.normalizer.var.squeeze(0))
    made.network.to(native.dtype).load_state_dict(native.network.state_dict())
    made.prepare()
    for linear in made._fast.linears:
        linear.eight_bits = None
    return made


def gemm_rates(native: torch.dtype, size: int = 1024, repeats: int = 9) -> dict[str, int]:
    """Return this machine's GFLOP/s in float32 and in its own dtype: no network that is bound by products gains more than their ratio."""
    pairs = {}
    for name, dtype in (("fp32", torch.float32), ("native", native)):
        a, b = torch.randn(size, size).to(dtype), torch.randn(size, size).to(dtype)
        pairs[name] = lambda a=a, b=b: a @ b
    return {name: round(2 * size**3 / seconds / 1e9) for name, seconds in interleaved(pairs, repeats).items()}


def errors(exact: GLP, native: GLP, acts, few: dict[str, int]) -> dict:
    """Return the errors of the reference's 10 Euler calls and of few-call solvers to the ODE's solution from 300 calls in float32."""
    released = flow.projection_schedule(NOISE_LEVEL, STEPS)
    trial = solver_error.Trial.make(exact, acts, released[0])
    found = {
        "euler10_error": round(trial.error_of("euler", released), 4),
        "error_activations": len(acts),
        "error_exact_calls": solver_error.EXACT_CALLS,
    }
    few_rows = torch.cat([native._integrate("euler", part, released, None) for part in trial.start.split(EIGHT_BITS_BELOW - 1)])
    found["int8_error"], found["bf16_error"] = (
        round(error, 4) for error in (trial.error(few_rows), trial.error_of("euler", released, native))
    )
    found["few_calls"] = {
        solver: {
            "calls": calls,
            "error": round(trial.error_of(solver, flow.solver_plan(solver, released[0], calls), native), 4),
            "error_fp32": round(trial.error_of(solver, flow.solver_plan(solver, released[0], calls)), 4),
        }
        for solver, calls in few.items()
    }
    return found


def quickest(found: dict) -> str:
    """Return the few-call solver with the fewest calls that is at least as exact as the reference's 10; the most exact if none is."""
    few, most = found["few_calls"], found["euler10_error"]
    exact_enough = [solver for solver, row in few.items() if row["error"] <= most]
    if not exact_enough:
        return min(few, key=lambda solver: few[solver]["error"])
    return min(exact_enough, key=lambda solver: few[solver]["calls"])
