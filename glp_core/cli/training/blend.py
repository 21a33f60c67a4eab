"""Blend a GLP's weights with those that it went on from."""

import argparse
from pathlib import Path

from glp_core.cli.console import say
from glp_core.training.start import blend


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this command's arguments."""
    parser.add_argument("further", type=Path, metavar="FOLDER", help="of `train --from`")
    parser.add_argument("--start", required=True, metavar="WHERE", help="what it went on from: a folder or a hub id")
    parser.add_argument("--share", type=float, default=0.75, metavar="X", help="of the further weights (default: %(default)s)")
    parser.add_argument("--out", type=Path, required=True, metavar="FOLDER", help="where the blend goes")


def run(args: argparse.Namespace) -> None:
    """Run the command."""
    blend(args.further, args.start, args.share, args.out)
    say(f"{args.out} holds {args.share:.0%} of {args.further} and the rest of {args.start}.")
