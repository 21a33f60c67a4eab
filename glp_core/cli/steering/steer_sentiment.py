"""Steer neutral prefixes along a direction with every projector; write reports/steering_sentiment.json."""

import argparse
from dataclasses import asdict
from typing import Literal

from glp_core.cli.console import add_workspace_arguments, check_counts, open_workspace, reporter, say
from glp_core.cli.steering.options import add_texts_argument, add_trial_arguments, chosen_prefixes, write_outcomes
from glp_core.files import Json
from glp_core.llm.decoding import Sampling
from glp_core.prior.distance import ManifoldMeter
from glp_core.prior.flow import SOLVERS
from glp_core.prior.glp import GLP
from glp_core.prior.projection import Kind, Projector, make_projector
from glp_core.steering.trials.outcomes import STRENGTHS, conditions, measure, own_texts
from glp_core.steering.trials.report import summarise
from glp_core.workspace import Workspace

ARMS: tuple[Kind | Literal["raw"], ...] = ("raw", "walk", "glp", "norm", "gaussian")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this command's arguments."""
    add_workspace_arguments(parser)
    parser.add_argument("--direction", default="positive-sentiment", help="(default: positive-sentiment)")
    add_trial_arguments(parser, "prefixes")
    parser.add_argument("--strengths", type=float, nargs="+", default=list(STRENGTHS), metavar="X", help="in median norms")
    parser.add_argument("--arms", nargs="+", default=list(ARMS), choices=ARMS, help="(default: all)")
    parser.add_argument("--noise-level", type=float, default=0.5, help="of the projections (default: 0.5)")
    parser.add_argument("--solver", choices=tuple(SOLVERS), default="euler", help="(default: euler)")
    words = "of euler's released schedule, 20 for 10 network calls at noise level 0.5; for others network calls (default: 20)"
    parser.add_argument("--steps", type=int, default=20, metavar="N", help=words)
    parser.add_argument("--checkpoint", default="final", help="of the GLP (default: final)")
    words = "name of the report (default: steering_sentiment, as is steer's along positive-sentiment: the later one stays)"
    parser.add_argument("--report", default="steering_sentiment", metavar="NAME", help=words)
    add_texts_argument(parser)


def run(args: argparse.Namespace) -> None:
    """Run the command."""
    check_counts(args, ("tokens", "limit", "steps"), 1)
    workspace = open_workspace(args)
    workspace.report_path(args.report)  # a name that cannot be written is said now, not after the run
    direction = workspace.direction(args.direction)
    prefixes = chosen_prefixes(workspace, args)
    llm, glp = workspace.load_llm(), workspace.load_glp(args.checkpoint)
    options = {"noise_level": args.noise_level, "steps": args.steps, "solver": args.solver}
    projectors = {arm: _projector(arm, workspace, glp, options) for arm in args.arms}
    reference = workspace.report("reference")
    outcomes = measure(
        llm,
        conditions(direction, projectors, args.strengths),
        prefixes,
        sampling=Sampling(args.tokens),
        meter=ManifoldMeter(glp, reference) if reference else None,
        progress=reporter("steer"),
    )
    settings = options | {
        "direction": args.direction,
        "digest": workspace.direction_digest(args.direction),
        "tokens": args.tokens,
        "decoding": "greedy",
        "prefixes": len(prefixes),
        "median_norm": direction.median_norm,
        "walk": asdict(workspace.walk()),
        "checkpoint": args.checkpoint,
        "dtype": str(glp.dtype).removeprefix("torch."),
        "intervals": "95%, bootstrap over prefixes",
    }
    outcomes += own_texts(llm, [direction], prefixes, tokens=args.tokens)
    report = summarise(outcomes) | {"settings": settings}
    if args.prefixes:
        report["prefixes"] = prefixes
    workspace.save_report(args.report, report, checkpoint=args.checkpoint)
    if args.texts:
        write_outcomes(args.texts, outcomes)
    for row in report["comparisons"]:
        say(
            f"{row['arm']} at {row['strength']:g}: repetition {row['repetition_ratio'] or 0:.2f} of raw's, "
            f"concept {row['concept_difference']:+.3f}, log-probability {row['log_probability_difference']:+.2f}"
        )


def _projector(arm: Kind | Literal["raw"], workspace: Workspace, glp: GLP, options: Json) -> Projector | None:
    if arm == "raw":
        return None
    covariance = workspace.covariance() if arm == "gaussian" else None
    return make_projector(arm, glp=glp, covariance=covariance, walk=workspace.walk(), **options)
