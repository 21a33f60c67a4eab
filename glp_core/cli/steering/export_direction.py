"""Write a direction of the workspace for others: a control vector that llama.cpp and repeng read (GGUF), or safetensors with JSON."""

import argparse
from pathlib import Path

from torch import Tensor

from glp_core.cli.console import add_workspace_arguments, open_workspace, say
from glp_core.errors import GlpError
from glp_core.files import copy_file, write_json
from glp_core.steering.origins.foreign import write_control_vector

NUMBERING = "blocks are counted from 0; the vector belongs to the block's output"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this command's arguments."""
    add_workspace_arguments(parser, device=False)
    parser.add_argument("name", help="the direction's name")
    parser.add_argument(
        "--to",
        type=Path,
        required=True,
        metavar="FILE",
        help="joy.gguf, or joy.safetensors, beside which joy.json says what is in it",
    )


def run(args: argparse.Namespace) -> None:
    """Run the command."""
    workspace = open_workspace(args)
    direction = workspace.direction(args.name)
    if args.to.suffix == ".safetensors":
        copy_file(workspace.folder / "directions" / f"{args.name}.safetensors", args.to)
        facts = {key: value for key, value in vars(direction).items() if not isinstance(value, Tensor) and value == value}
        write_json(args.to.with_suffix(".json"), {**facts, "layer_numbering": NUMBERING, "llm": workspace.llm.to_json()})
        say(f"{args.to}: a unit vector, its concept probe and its evidence, told in {args.to.with_suffix('.json').name}.")
        return
    if args.to.suffix != ".gguf":
        raise GlpError(f"--to is {args.to.name!r}, wanted a name that ends in .gguf or .safetensors.")
    write_control_vector(direction, args.to, model_type=workspace.load_llm().model.config.model_type)
    say(f"{args.to}: scale 1 there is strength 1 here, at the output of block {direction.layer}, counted from 0.")
