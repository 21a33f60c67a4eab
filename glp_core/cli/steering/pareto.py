"""Compare what steering arms trade of concept against fluency, from the reports of `steer`; write reports/pareto.json."""

import argparse

from glp_core.cli.console import add_workspace_arguments, open_workspace, say
from glp_core.cli.steering.options import MAKE_PROBE
from glp_core.steering.direction_facts import is_of, report_name
from glp_core.steering.trials.pareto import pareto


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this command's arguments."""
    add_workspace_arguments(parser, device=False)
    parser.add_argument("--directions", nargs="+", metavar="NAME", help="(default: all that have a report)")


def run(args: argparse.Namespace) -> None:
    """Run the command."""
    workspace = open_workspace(args)
    names = args.directions or workspace.direction_names()
    stored = {name: report for name in names if (report := workspace.report(report_name(name))) is not None}
    there = {name: workspace.direction_digest(name) for name in workspace.direction_names()}
    reports = {
        name: report for name, report in stored.items() if name not in there or is_of(report.get("settings", {}), there[name])
    }
    if earlier := ", ".join(name for name in stored if name not in reports):
        say(f"Left out, measured along an earlier direction of the name: {earlier}. Run `python -m glp_core steer` again.")
    report = pareto(reports)
    workspace.save_report("pareto", report)
    if left_out := ", ".join(name for name in reports if name not in report["directions"]):
        say(f"Left out, without a concept probe: {left_out}. {MAKE_PROBE}")
    for found in report["summary"]["verdicts"]:
        say(f"The walk against {found['against']}, {found['where']}: {found['directions']}; {found['mean']}")
