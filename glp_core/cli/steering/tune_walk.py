"""Try forms of the walk on validation prefixes along every direction; write reports/walk_tuning.json."""

import argparse
from fnmatch import fnmatch

from glp_core.cli.console import add_workspace_arguments, check_counts, open_workspace, reporter, say
from glp_core.cli.steering.options import add_trial_arguments, chosen_prefixes, probed
from glp_core.errors import GlpError
from glp_core.prior.reference import Reference
from glp_core.steering.trials import tuning


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this command's arguments."""
    add_workspace_arguments(parser)
    add_trial_arguments(parser, "validation_prefixes", tuning.STRENGTHS, limit=24)
    parser.add_argument("--forms", nargs="+", metavar="PATTERN", help="names of forms, * for anything (default: all)")
    parser.add_argument("--report", default="walk_tuning", metavar="NAME", help="(default: walk_tuning)")


def run(args: argparse.Namespace) -> None:
    """Run the command."""
    check_counts(args, ("tokens", "limit"), 1)
    workspace = open_workspace(args)
    workspace.report_path(args.report)  # a name that cannot be written is said now, not after the run
    directions, prefixes = probed(workspace.directions(args.directions)), chosen_prefixes(workspace, args)
    wanted = {name for name in tuning.names() if not args.forms or any(fnmatch(name, pattern) for pattern in args.forms)}
    if not wanted:
        raise GlpError(f"--forms {' '.join(args.forms)} names no form that is tried: there are {'; '.join(tuning.names())}.")
    measured = workspace.report("reference")
    reference = Reference(measured) if measured else None
    llm, glp = workspace.load_llm(), workspace.load_glp()
    forms = [form for form in tuning.forms(glp, workspace.covariance(), reference) if form.name in wanted]
    report = tuning.tune(
        llm,
        glp,
        directions,
        forms,
        prefixes,
        strengths=args.strengths,
        tokens=args.tokens,
        progress=reporter("tune"),
    )
    settings = {
        "directions": [direction.name for direction in directions],
        "prefixes": len(prefixes),
        "strengths": args.strengths,
        "tokens": args.tokens,
        "decoding": "greedy",
        "criterion": "hypervolume of concept gain against fluency, mean over directions",
        "intervals": "95%, bootstrap over prefixes",
    }
    for name, chosen in report["by_direction"].items():
        chosen["digest"] = workspace.direction_digest(name)
    workspace.save_report(args.report, report | {"settings": settings})
    for row in report["forms"]:
        say(f"{row['hypervolume']:.3f}  {row['gain_at_equal_fluency']:.3f}  {row['strict_hypervolume']:.3f}  {row['name']}")
