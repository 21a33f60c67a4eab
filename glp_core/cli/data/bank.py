"""Put a bank of real held-out activations into the workspace, with its map, and each measure's quantiles on it."""

import argparse
from dataclasses import replace

import torch

from glp_core.cli.console import add_workspace_arguments, check_counts, open_workspace, reporter, say
from glp_core.data.bank import make_bank
from glp_core.evaluation.measures import open_measures, reference
from glp_core.neurons.planes import umap_plane
from glp_core.prior.facts import GlpFacts


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this command's arguments."""
    add_workspace_arguments(parser, store=True)
    parser.add_argument("--activations", type=int, default=3800, help="in the bank (default: 3,800)")
    parser.add_argument("--reference", type=int, default=2000, help="activations of each measure's quantiles (default: 2,000)")
    parser.add_argument("--keep", action="store_true", help="keep the bank that is there, measure it again (after a new GLP)")


def run(args: argparse.Namespace) -> None:
    """Run the command."""
    check_counts(args, ("activations", "reference"), 50)
    workspace = open_workspace(args)
    if not args.keep:
        store = workspace.open_store(args.store)
        store.check_texts(workspace.texts)
        texts = workspace.documents("validation")
        make_bank(store, workspace.load_llm(), texts, args.activations).save(workspace.folder / "bank")
    measures = open_measures(workspace)
    latents = measures.meter.glp.normalize(measures.bank.acts).cpu().numpy()
    laid = umap_plane(latents, {}, progress=reporter("the map's plane"))
    facts = measures.bank.facts | {"glp_digest": workspace.glp_digest()}  # the plane is one of the GLP's latents
    replace(measures.bank, plane=torch.from_numpy(laid.real), facts=facts).save(workspace.folder / "bank")
    say(f"{len(measures.bank):,} real activations in {workspace.folder / 'bank'}.")
    about = GlpFacts.read(workspace.folder / "glp").about
    rows = reference(measures, n=args.reference, progress=reporter("measures"))
    report = {"measures": rows, "glp": about, "bank": measures.bank.facts}
    workspace.save_report("measures", report)
