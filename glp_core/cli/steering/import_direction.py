"""Take a direction from another tool's file: a control vector (GGUF), a persona vector (.pt), a latent of an SAE (safetensors)."""

import argparse
from pathlib import Path

from glp_core.cli.console import add_workspace_arguments, open_workspace
from glp_core.cli.steering.direction import add_name_arguments, add_table_arguments, check_name, classes_of, store
from glp_core.steering.origins.evidence import measured_on
from glp_core.steering.origins.foreign import as_direction, read_foreign


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this command's arguments."""
    add_workspace_arguments(parser)
    parser.add_argument("file", type=Path, help="control vector (.gguf), persona vectors (.pt) or SAE weights (.safetensors)")
    add_name_arguments(parser)
    words = "a table of labelled texts to measure it on: it gets an AUROC and a concept probe"
    parser.add_argument("--measure", type=Path, metavar="TABLE", help=words)
    add_table_arguments(parser)
    parser.add_argument("--latent", type=int, metavar="N", help="row of the SAE's decoder, counted from 0")


def run(args: argparse.Namespace) -> None:
    """Run the command."""
    check_name(args)
    workspace = open_workspace(args)
    llm = workspace.load_llm()
    foreign = read_foreign(args.file, layer=workspace.layer, n_layers=llm.n_layers, latent=args.latent)
    direction = as_direction(
        foreign,
        name=args.name,
        title=args.title or args.name.replace("-", " "),
        layer=workspace.layer,
        median_norm=workspace.median_norm,
        width=llm.d_model,
    )
    if args.measure is None:
        store(workspace, direction)
    else:
        store(workspace, measured_on(direction, classes_of(workspace.site(llm), args.measure, args)))
