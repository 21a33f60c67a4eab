"""Fit the two-call solver to the workspace's GLP and measure every solver's error; write glp/config.json and reports/solvers.json."""

import argparse
from dataclasses import replace

import torch

from glp_core.cli.console import add_workspace_arguments, check_counts, open_workspace, reporter, say
from glp_core.evaluation import solver_error
from glp_core.prior.checkpoint import save_fitted_steps
from glp_core.prior.facts import GlpFacts


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this command's arguments."""
    add_workspace_arguments(parser, store=True)
    parser.add_argument("--training", type=int, default=128, help="training activations to fit on (default: 128)")
    parser.add_argument("--held-out", type=int, default=256, help="held-out activations to measure on (default: 256)")


def run(args: argparse.Namespace) -> None:
    """Run the command."""
    check_counts(args, ("training", "held_out"), 2)
    workspace = replace(open_workspace(args), dtype="float32")  # errors are of the solvers, not of rounding
    store = workspace.open_store(args.store)
    glp = workspace.load_glp()
    acts = store.rows(0)["acts"]
    chosen = acts[torch.randperm(len(acts), generator=torch.Generator().manual_seed(0))[: args.training]]
    glp.fitted_steps = solver_error.fit(glp, chosen, progress=reporter("fit"))
    layer = workspace.layer if GlpFacts.read(workspace.folder / "glp").depth else None
    save_fitted_steps(workspace.folder / "glp", glp.fitted_steps, layer=layer)
    report = solver_error.table(glp, store.validation(args.held_out), progress=reporter("measure"))
    workspace.save_report("solvers", report | {"fitted_on": len(chosen)})
    for row in report["rows"]:
        say(f"{row['solver']:>9}, {row['calls']:>2} calls, {row['grid']:<17}  error {row['error']:.4f}")
    say(f"No rule that adds up the start and the fitted solver's two velocities errs less than {report['two_call_bound']:.4f}.")
