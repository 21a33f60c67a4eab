"""Compare the GLP with PCA, a Gaussian and a sparse autoencoder on real held-out activations; write reports/scorecard.json."""

import argparse
from pathlib import Path

from glp_core.cli.console import add_workspace_arguments, check_counts, open_workspace, reporter, say
from glp_core.cli.evaluation.evaluate import held_out_rows
from glp_core.evaluation.fidelity import halves
from glp_core.evaluation.scorecard import Contest, scorecard
from glp_core.prior.facts import GlpFacts
from glp_core.prior.gaussian import gaussian_prior
from glp_core.training.sae import Sae, load_sae
from glp_core.workspace import Workspace


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this command's arguments."""
    add_workspace_arguments(parser, store=True)
    parser.add_argument(
        "--sae", type=Path, metavar="FILE", help="sparse autoencoder (default: the workspace's, if there is one)"
    )
    parser.add_argument("--samples", type=int, default=10_000, help="activations of the Frechet distance (default: 10,000)")
    parser.add_argument("--tested", type=int, default=4_000, help="of them for the two-sample tests (default: 4,000)")
    parser.add_argument("--documents", type=int, default=64, help="held-out documents of the Delta LM loss (default: 64)")
    parser.add_argument("--tokens", type=int, default=128, help="tokens of each document (default: 128)")


def run(args: argparse.Namespace) -> None:
    """Run the command."""
    check_counts(args, ("samples", "tested"), 50)
    check_counts(args, ("documents", "tokens"), 2)
    workspace = open_workspace(args)
    store = workspace.open_store(args.store)
    sae = _sae(workspace, args.sae)
    llm, glp = workspace.load_llm(), workspace.load_glp()
    rows = store.validation_rows()
    contest = Contest(
        workspace.site(llm),
        glp,
        gaussian_prior(glp.normalizer.mean[0], workspace.covariance()),
        held_out_rows(workspace, llm, args),
        halves(rows["acts"], rows["documents"], args.samples),
        args.tested,
    )
    report = scorecard(contest, sae, progress=reporter("scorecard"))
    workspace.save_report("scorecard", report)
    for row in report["rows"]:
        rise = f", Delta LM {row['delta_lm']['value']:+.3f}" if row["delta_lm"] else ""
        say(f"{row['method']}, {row['way']}: Frechet {row['frechet']['value']:.1f}{rise}")


def _sae(workspace: Workspace, asked: Path | None) -> Sae | None:
    """Return the sparse autoencoder that was asked for, or the workspace's where there is one."""
    path = asked or workspace.sae_path
    if asked is None and not path.is_file():
        say(f"No sparse autoencoder at {path}: its rows are left out. `python -m glp_core sae` trains one.")
        return None
    return load_sae(path, layer=workspace.layer, width=GlpFacts.read(workspace.folder / "glp").d_input)[0].to(workspace.device)
