"""Measure which kinds of off activations each measure detects, and whether samples can be told from real activations.

Writes reports/detection.json and reports/scorecard.json.
"""

import argparse

import torch

from glp_core import detection
from glp_core.activations import is_massive
from glp_core.cli.bank import measures_of
from glp_core.cli.console import add_workspace_argument, open_workspace, reporter, say
from glp_core.corpus import documents
from glp_core.detection import Off
from glp_core.errors import GlpError
from glp_core.gaussian import GaussianPrior
from glp_core.measures import NAMES, QUICK, Measures
from glp_core.workspace import Workspace


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this command's arguments."""
    add_workspace_argument(parser)
    parser.add_argument("--activations", type=int, default=500, help="real ones, and of each kind (default: 500)")
    parser.add_argument("--samples", type=int, default=2000, help="of each two-sample test (default: 2,000)")
    parser.add_argument("--likelihood", action="store_true", help="also the log-likelihood, the slowest measure")


def run(args: argparse.Namespace) -> int:
    """Run the command."""
    for name in ("activations", "samples"):
        if getattr(args, name) < 50:
            raise GlpError(f"--{name} is {getattr(args, name)}, wanted at least 50.")
    workspace = open_workspace(args)
    measures = measures_of(workspace)
    samples(workspace, measures, args.samples)
    kinds, real, own = off_manifold(workspace, measures, args.activations)
    names = NAMES if args.likelihood else QUICK
    report = detection.detection_report(measures, kinds, real, own, names, progress=reporter("detect"))
    workspace.save_report("detection", report | {"layer": workspace.layer, "directions": workspace.direction_names()})
    say(f"{workspace.folder / 'reports'} holds detection.json and scorecard.json.")
    return 0


def samples(workspace: Workspace, measures: Measures, n: int) -> None:
    """Test generated activations against real ones of other documents; write scorecard.json."""
    bank, glp = measures.bank, measures.meter.glp
    first = bank.documents <= bank.documents.median()
    n = min(n, int(first.sum()), int((~first).sum()))
    noise = torch.randn(n, glp.d_input, generator=torch.Generator().manual_seed(0))
    drawn = {f"GLP, {steps} step{'s' * (steps > 1)}": glp.sample(noise, steps).cpu() for steps in (1, 4, 20)}
    prior = GaussianPrior(glp.normalizer.mean[0], workspace.covariance())
    drawn["Gaussian prior"] = prior.sample(n, torch.Generator().manual_seed(0))
    drawn = {name: acts[~is_massive(acts, workspace.median_norm)] for name, acts in drawn.items()}
    rows = detection.two_sample_report(glp, bank.acts[first][:n], bank.acts[~first][:n], drawn, progress=reporter("samples"))
    workspace.save_report("scorecard", {"two_sample": rows, "n": n})


def off_manifold(workspace: Workspace, measures: Measures, n: int) -> tuple[dict[str, Off], torch.Tensor, torch.Tensor]:
    """Return the kinds of off activations by name, the real ones, and these ones' documents."""
    bank, layer, median = measures.bank, workspace.layer, workspace.median_norm
    chosen = torch.linspace(0, len(bank) - 1, min(n, len(bank))).long()
    real, own = bank.acts[chosen], bank.documents[chosen]
    random = detection.random_directions(len(real), real.shape[1])
    directions = [workspace.direction(name).vector for name in workspace.direction_names()]
    kinds = {}
    for strength in detection.STRENGTHS:
        if directions:
            kinds[f"steered, strength {strength:g}"] = Off(detection.shifted(real, directions, strength, median), own)
        kinds[f"random shift, strength {strength:g}"] = Off(detection.shifted(real, random, strength, median), own)
    llm = workspace.load_llm()
    texts = [document.text for document in documents("validation")[: max(40, n // 4)]]
    for other in (layer - 1, layer + 1):
        if 0 <= other < llm.n_layers:
            kinds[f"layer {other}"] = detection.other_activations(llm, other, texts, len(real), median)
    kinds["shuffled text"] = detection.other_activations(llm, layer, texts, len(real), median, shuffled=True)
    return kinds, real, own
