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

PARTS = ("projection", "compare", "training")


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
    fast = ("fitted", 2) if native.fitted_steps else ("radau", 3)
    bench = workspace.report("bench") or {}
    bench.pop("made_by", None)
    bench["machine"] = machine()
    if "projection" in parts:
        bench |= {"fast_solver": {"solver": fast[0], "calls": fast[1]}} | projection.errors(exact, native, acts, *fast)
        bench["projection"] = projection.ratios(exact, native, acts, *fast)
    if "compare" in parts:
        bench["compare_vs_generate"], bench["compare_seconds"] = whole.compare_vs_generate(
            llm, native, workspace.layer, workspace.median_norm, *fast
        )
    if "training" in parts:
        training = whole.train_fraction_of_gemm(exact, native_dtype())
        bench |= {"train_fraction_of_gemm": training["counted"], "training": training}
    workspace.save_report("bench", bench)
    sys.stdout.write("\n".join(f"{key}: {value}" for key, value in bench.items()) + "\n")


if __name__ == "__main__":
    main()
