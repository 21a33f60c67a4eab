"""Take a direction from another tool's file: a control vector (GGUF), a persona vector (.pt), a latent of an SAE (safetensors)."""

import argparse
from pathlib import Path

from glp_core.cli.console import add_workspace_arguments, open_workspace
from glp_core.cli.steering.direction import add_name_arguments, add_table_arguments, check_name, classes_of, store
from glp_core.llm.model import Llm
from glp_core.steering.directions import Direction
from glp_core.steering.origins.evidence import measured_on
from glp_core.steering.origins.foreign import as_direction, check_file, own_direction, read_foreign
from glp_core.workspace import Workspace


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this command's arguments."""
    add_workspace_arguments(parser)
    parser.add_argument(
        "file",
        type=Path,
        help="control vector (.gguf), persona vectors (.pt), SAE weights or an exported direction (.safetensors)",
    )
    add_name_arguments(parser)
    words = "a table of labelled texts to measure it on: it gets an AUROC and a concept probe"
    parser.add_argument("--measure", type=Path, metavar="TABLE", help=words)
    add_table_arguments(parser)
    parser.add_argument("--latent", type=int, metavar="N", help="row of the SAE's decoder, counted from 0")


def run(args: argparse.Namespace) -> None:
    """Run the command."""
    check_name(args)
    check_file(args.file)
    workspace = open_workspace(args)
    llm = workspace.load_llm()
    direction = _read(args, workspace, llm)
    if args.measure is None:
        store(workspace, direction)
    else:
        store(workspace, measured_on(direction, classes_of(workspace.site(llm), args.measure, args)))


def _read(args: argparse.Namespace, workspace: Workspace, llm: Llm) -> Direction:
    title = args.title or args.name.replace("-", " ")
    own = own_direction(args.file, name=args.name, title=title, layer=workspace.layer, width=llm.d_model)
    if own is not None:
        return own
    return as_direction(
        read_foreign(args.file, layer=workspace.layer, n_layers=llm.n_layers, latent=args.latent),
        name=args.name,
        title=title,
        layer=workspace.layer,
        median_norm=workspace.median_norm,
        width=llm.d_model,
    )
