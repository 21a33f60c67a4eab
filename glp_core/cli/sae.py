"""Train the TopK sparse autoencoder that meta-neurons are compared with, on stored activations."""

import argparse
from pathlib import Path

from glp_core.activations import ActivationStore
from glp_core.cli.console import add_workspace_argument, open_workspace, reporter, say, stopping
from glp_core.llm import cache_folder
from glp_core.sae import SaeConfig, save_sae, train_sae
from glp_core.workspace import Workspace


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this command's arguments."""
    default = SaeConfig()
    add_workspace_argument(parser)
    parser.add_argument(
        "--store", type=Path, metavar="FOLDER", help="stored activations (default: the workspace's cache folder)"
    )
    parser.add_argument("--out", type=Path, metavar="FILE", help="where it goes (default: the cache folder)")
    parser.add_argument("--expansion", type=int, default=default.expansion, help="latents a dimension (default: %(default)s)")
    parser.add_argument("--k", type=int, default=default.k, help="active latents (default: %(default)s)")
    parser.add_argument(
        "--activations", type=int, default=default.activations, metavar="N", help="to see (default: %(default)s)"
    )
    parser.add_argument("--seed", type=int, default=default.seed, help="of the weights (default: %(default)s)")


def sae_path(workspace: Workspace) -> Path:
    """Return the default place of the workspace's autoencoder: large, and so outside the workspace."""
    return cache_folder() / "sae" / f"{workspace.store_folder.name}.safetensors"


def run(args: argparse.Namespace) -> int:
    """Run the command."""
    workspace = open_workspace(args)
    config = SaeConfig(expansion=args.expansion, k=args.k, activations=args.activations, seed=args.seed)
    with stopping(at_once=False) as stop:
        made = train_sae(
            ActivationStore(args.store or workspace.store_folder), config, progress=reporter("sae"), cancelled=stop
        )
    if made is None:
        say("Stopped; nothing was stored.")
        return 130
    sae, facts = made
    path = args.out or sae_path(workspace)
    save_sae(sae, path, facts)
    workspace.save_report("sae", facts)
    words = f"unexplained variance {facts['unexplained_variance']:.3f}, {facts['dead_latents']:,} dead"
    say(f"{facts['n_latents']:,} latents, {config.k} active, {words}: {path}.")
    return 0
