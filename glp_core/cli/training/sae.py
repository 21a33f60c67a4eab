"""Train the TopK sparse autoencoder that meta-neurons are compared with, on stored activations."""

import argparse
from pathlib import Path

from glp_core.cli.console import add_numbers, add_workspace_arguments, open_workspace, reporter, say, stopping
from glp_core.training.sae import SaeConfig, save_sae
from glp_core.training.sae_training import train_sae


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this command's arguments."""
    add_workspace_arguments(parser, store=True)
    parser.add_argument("--out", type=Path, metavar="FILE", help="where it goes (default: the cache folder)")
    explained = {"expansion": "latents a dimension", "k": "active latents", "activations": "to see", "seed": "of the weights"}
    add_numbers(parser, SaeConfig(), **explained)


def run(args: argparse.Namespace) -> int:
    """Run the command."""
    workspace = open_workspace(args)
    config = SaeConfig(expansion=args.expansion, k=args.k, activations=args.activations, seed=args.seed)
    path = args.out or workspace.sae_path
    state = path.with_suffix(".state")
    store = workspace.open_store(args.store)
    with stopping(at_once=False) as stop:
        made = train_sae(store, config, device=workspace.device, state=state, progress=reporter("sae"), cancelled=stop)
    if made is None:
        say("Stopped. Start the same command again: it goes on from there.")
        return 130
    sae, facts = made
    save_sae(sae, path, facts)
    workspace.save_report("sae", facts, checkpoint=None)
    state.unlink(missing_ok=True)
    words = f"unexplained variance {facts['unexplained_variance']:.3f}, {facts['dead_latents']:,} dead"
    say(f"{facts['n_latents']:,} latents, {config.k} active, {words}: {path}.")
    return 0
