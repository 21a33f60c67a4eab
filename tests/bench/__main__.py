"""`python -m tests.bench`: time what was promised against plain implementations; writes the workspace's reports/bench.json.

--only projection|compare|training   measure one part and keep the others' numbers
"""

import argparse
import sys

import torch
from torch.nn.functional import normalize

from glp_core.data.corpus import documents
from glp_core.devices import machine, native_dtype
from glp_core.memory import keep_freed_memory
from glp_core.prior.checkpoint import load_glp
from glp_core.prior.projection import make_projector
from glp_core.steering.generation import Arm
from glp_core.workspace import DEMO, Workspace
from tests.bench import projection, whole


def held_out_activations(site, n):
    """Return real activations (n, d) of held-out documents, first and massive tokens left out."""
    rows = [site.llm.encode(document.text, max_tokens=64) for document in documents("validation")[: n // 8]]
    acts = torch.cat([one[1:] for one in site.read(rows)])
    acts = acts[~site.is_massive(acts)]
    return acts[torch.randperm(len(acts), generator=torch.Generator().manual_seed(0))[:n]].float()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workspace", default=DEMO)
    parser.add_argument("--only", choices=MEASURES)
    args = parser.parse_args()
    parts = (args.only,) if args.only else tuple(MEASURES)
    workspace = Workspace.open(args.workspace)
    llm, native = workspace.load_llm(), workspace.load_glp()
    bench = workspace.report("bench") or {}
    bench.pop("made_by", None)
    bench["machine"] = machine()
    for part in parts:
        bench |= MEASURES[part](workspace, llm, native)
        workspace.save_report("bench", bench)
        sys.stdout.write("\n".join(f"{key}: {value}" for key, value in bench.items()) + "\n\n")
        sys.stdout.flush()


def measure_projection(workspace, llm, native):
    exact = load_glp(workspace.folder / "glp")
    acts = held_out_activations(workspace.site(llm), 256)
    few = {PAGE_SOLVER: PAGE_CALLS} | ({"fitted": 2} if native.fitted_steps else {})
    found = projection.errors(exact, native, acts, few)
    fast = projection.quickest(found)
    times = projection.ratios(exact, native, acts, few)
    found["fast_solver"] = {"solver": fast, "calls": few[fast]}
    found["fast_error"], found["fast_error_fp32"] = (found["few_calls"][fast][key] for key in ("error", "error_fp32"))
    found["gemm_gflops"] = projection.gemm_rates(native.dtype)
    return found | {"projection": times | {"fast": times[fast]}}


def measure_compare(workspace, llm, native):
    direction = normalize(torch.randn(native.d_input, generator=torch.Generator().manual_seed(0)), dim=0)
    by_default = make_projector("walk", glp=native)
    arms = {
        "three_columns": Arm(
            "projected", direction, 1.0, make_projector("glp", glp=native, steps=PAGE_CALLS, solver=PAGE_SOLVER)
        ),
        "walk": Arm("projected", direction, 1.0, by_default),
    }
    press = workspace.report("first_press")
    if press:
        ruled = make_projector("walk", glp=native, walk=workspace.walk())
        arms["first_press_walk"] = Arm("projected", workspace.direction(press["direction"]).vector, press["strength"], ruled)
    ratios, seconds = whole.compare_vs_generate(workspace.site(llm), arms)
    return {
        "compare_vs_generate": ratios["three_columns"],
        "walk_vs_generate": ratios["walk"],
        **({"first_press_walk_vs_generate": ratios["first_press_walk"]} if press else {}),
        "walk_calls": by_default.settings.pushes,
        "compare_seconds": seconds,
    }


def measure_training(workspace, llm, native):
    keep_freed_memory()  # as `train` does; last, so that the other parts are timed without it
    found = whole.train_fraction_of_gemm(native, native_dtype())
    return {"train_fraction_of_gemm": found["counted"], "training": found}


PAGE_SOLVER, PAGE_CALLS = "ab2", 4
"""What the Steering page projects with unless told otherwise."""
MEASURES = {"projection": measure_projection, "compare": measure_compare, "training": measure_training}


if __name__ == "__main__":
    main()
