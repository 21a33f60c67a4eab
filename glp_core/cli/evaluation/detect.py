"""Measure which kinds of off activations each measure detects; write reports/detection.json, with ROC curves."""

import argparse
from collections.abc import Sequence

import torch

from glp_core.cli.console import add_workspace_arguments, check_counts, open_workspace, reporter, say
from glp_core.data.corpus import Document
from glp_core.evaluation import detection
from glp_core.evaluation.detection import Off
from glp_core.evaluation.measures import NAMES, QUICK, Measures, open_measures
from glp_core.llm.model import Llm
from glp_core.llm.site import Site
from glp_core.workspace import Workspace


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this command's arguments."""
    add_workspace_arguments(parser)
    parser.add_argument("--activations", type=int, default=500, help="real ones, and of each kind (default: 500)")
    parser.add_argument(
        "--likelihood", type=int, default=64, metavar="N", help="activations for the slow log-likelihood; 0: none (default: 64)"
    )


def run(args: argparse.Namespace) -> None:
    """Run the command."""
    check_counts(args, ("activations",), 50)
    workspace = open_workspace(args)
    measures = open_measures(workspace)
    kinds, real, own = off_manifold(workspace, measures, args.activations)
    names = NAMES if args.likelihood > 0 else QUICK
    report = detection.detection_report(
        measures, kinds, real, own, names, most={"likelihood": args.likelihood}, progress=reporter("detect")
    )
    workspace.save_report("detection", report | {"layer": workspace.layer, "directions": workspace.direction_names()})
    say(f"{workspace.folder / 'reports'} holds detection.json.")


def _texts(llm: Llm, documents: Sequence[Document], n: int) -> list[str]:
    """Return the first held-out texts, as many as have n activations and some more."""
    texts: list[str] = []
    tokens = 0
    for document in documents:
        if len(texts) >= max(40, n // 4) and tokens > 1.2 * n:
            break
        texts.append(document.text)
        tokens += len(llm.encode(document.text, max_tokens=detection.LONGEST)) - 1
    return texts


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
    texts = _texts(llm, workspace.documents("validation"), n)
    for other in (layer - 1, layer + 1):
        if 0 <= other < llm.n_layers:
            kinds[f"layer {other}"] = detection.other_activations(Site(llm, other, median), texts, len(real))
    kinds["shuffled text"] = detection.other_activations(workspace.site(llm), texts, len(real), shuffled=True)
    return kinds, real, own
