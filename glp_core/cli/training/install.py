"""Make a GLP from elsewhere the workspace's prior: one of ours, or a released one for one layer or several."""

import argparse

from glp_core.building.prior import install_from
from glp_core.cli.console import add_workspace_arguments, open_workspace, say


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this command's arguments."""
    parser.add_argument("glp", metavar="WHERE", help="a GLP folder, ours or released, or a hub id, with @commit to pin it")
    add_workspace_arguments(parser, device=False, store="for the covariance")


def run(args: argparse.Namespace) -> None:
    """Run the command."""
    workspace = open_workspace(args)
    store = workspace.open_store(args.store)
    target = workspace.folder / "glp"
    facts = install_from(args.glp, target, store.folder, int(store.manifest["d_input"]), workspace.layer)
    said = f", trained on {facts.llm}" if facts.llm else ""
    say(f"{target} now holds {args.glp}: {facts.shape}{said}. What was made with the prior before is stale: make it anew.")
