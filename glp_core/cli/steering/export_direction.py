"""Write a direction of the workspace as a control vector that llama.cpp and repeng read (GGUF)."""

import argparse
from pathlib import Path

from glp_core.cli.console import add_workspace_arguments, open_workspace, say
from glp_core.steering.origins.foreign import write_control_vector


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this command's arguments."""
    add_workspace_arguments(parser, device=False)
    parser.add_argument("name", help="the direction's name")
    parser.add_argument("--to", type=Path, required=True, metavar="FILE", help="the file to write, such as joy.gguf")


def run(args: argparse.Namespace) -> None:
    """Run the command."""
    workspace = open_workspace(args)
    direction = workspace.direction(args.name)
    write_control_vector(direction, args.to, model_type=workspace.load_llm().model.config.model_type)
    say(f"{args.to}: scale 1 there is strength 1 here, at the output of block {direction.layer}, counted from 0.")
