"""Write the workspace's GLP as a released folder, which the paper's code reads; push it to the hub with the user's token if asked."""

import argparse
from pathlib import Path

from glp_core.cli.console import add_workspace_arguments, open_workspace, say
from glp_core.training.publishing import export, push


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this command's arguments."""
    add_workspace_arguments(parser, device=False)
    parser.add_argument("--to", type=Path, required=True, metavar="FOLDER", help="a new folder")
    parser.add_argument(
        "--push", metavar="ORG/NAME", help="upload the folder to this hub id, with the token of `hf auth login`"
    )
    parser.add_argument("--private", action="store_true", help="where --push makes the hub id: for yourself only")


def run(args: argparse.Namespace) -> None:
    """Run the command."""
    workspace = open_workspace(args)
    known = workspace.llm.kind == "hub" and not workspace.transferred_from()
    export(workspace.folder / "glp", args.to, llm=workspace.llm.name if known else "")
    say(f"{args.to} holds the GLP of {workspace.name} in the released layout.")
    if args.push:
        say(f"Pushed: {push(args.to, args.push, private=args.private)}.")
