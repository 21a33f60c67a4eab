"""Lay out all neurons on maps, by concept profile and by write direction (UMAP)."""

import argparse

from glp_core.cli.console import add_workspace_arguments, open_workspace, reporter, say, stopping
from glp_core.neurons.maps import KINDS, compute_map, save_maps
from glp_core.neurons.umap import UmapConfig


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this command's arguments."""
    add_workspace_arguments(parser, device=False)
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS), help="which maps (default: all)")
    parser.add_argument("--neighbours", type=int, default=15, metavar="N", help="UMAP's n_neighbors (default: 15)")
    parser.add_argument("--min-dist", type=float, default=0.1, metavar="X", help="UMAP's min_dist (default: 0.1)")
    parser.add_argument("--seed", type=int, default=0, help="UMAP's random_state (default: 0)")


def run(args: argparse.Namespace) -> None:
    """Run the command."""
    workspace = open_workspace(args)
    config = UmapConfig(args.neighbours, args.min_dist, seed=args.seed)
    with stopping(at_once=True):
        glp, folder, digest = workspace.load_glp(), workspace.neurons, workspace.glp_digest()
        maps = {
            kind: compute_map(glp, kind, folder, config, glp_digest=digest, progress=reporter(f"map of {kind}"))
            for kind in args.kinds
        }
    save_maps(folder, maps, config, glp_digest=digest)
    say(f"Maps of {', '.join(maps)} are in {folder}.")
