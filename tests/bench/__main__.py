"""`python -m tests.bench`: time what was promised against plain implementations; writes reports/bench.json and solvers.json.

--only projection|compare|training|solvers   measure one part and keep the others' numbers
"""

import argparse
import sys

import torch

from glp_core.activations import is_massive
from glp_core.checkpoint import load_glp
from glp_core.corpus import documents
from glp_core.llm import native_dtype
from glp_core.workspace import DEMO, Workspace, machine
from tests.bench import projection, whole

FAST = ("ab2", 3)
"""The few-call solver and its network calls."""
PARTS = ("projection", "compare", "training", "solvers")


def held_out_activations(llm, layer, median_norm, n):
    """Return real activations (n, d) of held-out documents, first and massive tokens left out."""
    rows = [llm.encode(document.text, max_tokens=64) for document in documents("validation")[: n // 8]]
    acts = torch.cat([one[1:] for first in range(0, len(rows), 8) for one in llm.activations(rows[first : first + 8], layer)])
    acts = acts[~is_massive(acts, median_norm)]
    return acts[torch.randperm(len(acts), generator=torch.Generator().manual_seed(0))[:n]].float()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workspace", default=DEMO)
    parser.add_argument("--only", choices=PARTS)
    args = parser.parse_args()
    parts = (args.only,) if args.only else PARTS
    workspace = Workspace.open(args.workspace)
    llm, native = workspace.load_llm(), workspace.load_glp()
    exact = load_glp(workspace.folder / "glp")
    acts = held_out_activations(llm, workspace.layer, workspace.median_norm, 256)
    bench = workspace.report("bench") or {}
    bench.pop("made_by", None)
    bench["machine"] = machine()
    if "solvers" in parts:
        rows = projection.solver_table(exact, acts)
        workspace.save_report("solvers", {"rows": rows, "n": len(acts), "exact_calls": projection.EXACT_CALLS, "sigma": 0.474})
        for row in rows:
            sys.stdout.write(f"{row['solver']:>10} {row['calls']:>3} calls  error {row['error']:.4f}\n")
    if "projection" in parts:
        bench |= projection_report(exact, native, acts)
    if "compare" in parts:
        direction = workspace.direction(workspace.direction_names()[0]).vector
        bench["compare_vs_generate"], bench["compare_seconds"] = whole.compare_vs_generate(
            llm, native, workspace.layer, workspace.median_norm, direction, *FAST
        )
    if "training" in parts:
        training = whole.train_fraction_of_gemm(exact, native_dtype())
        bench |= {"train_fraction_of_gemm": training["counted"], "training": training}
    workspace.save_report("bench", bench)
    sys.stdout.write("\n".join(f"{key}: {value}" for key, value in bench.items()) + "\n")


def projection_report(exact, native, acts):
    """Return the projection's keys of reports/bench.json."""
    exactness = projection.Exactness(exact, acts)
    return {
        "fast_solver": {"solver": FAST[0], "calls": FAST[1]},
        "fast_error": round(exactness.of(native, *FAST), 4),
        "fast_error_fp32": round(exactness.of(exact, *FAST), 4),
        "euler10_error": round(exactness.of(exact, "euler", 10), 4),
        "error_activations": len(acts),
        "projection": projection.ratios(exact, native, acts, *FAST),
    }


if __name__ == "__main__":
    main()
