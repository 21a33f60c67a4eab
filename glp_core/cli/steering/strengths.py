"""Find on validation prefixes the strength to recommend along every direction, and its zones; write reports/strengths.json."""

import argparse
import json
from dataclasses import asdict

from glp_core.cli.console import add_workspace_arguments, check_counts, open_workspace, reporter, say
from glp_core.cli.steering.options import MAKE_PROBE, add_trial_arguments, arm_projectors, chosen_prefixes
from glp_core.files import Json
from glp_core.llm.decoding import Sampling
from glp_core.steering.trials import advice
from glp_core.steering.trials.frontier import Curves
from glp_core.steering.trials.outcomes import conditions, measure, own_texts
from glp_core.workspace import Workspace


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this command's arguments."""
    add_workspace_arguments(parser)
    add_trial_arguments(parser, "validation_prefixes", advice.STRENGTHS)


def run(args: argparse.Namespace) -> None:
    """Run the command."""
    check_counts(args, ("tokens", "limit"), 1)
    workspace = open_workspace(args)
    directions, prefixes = workspace.directions(args.directions), chosen_prefixes(workspace, args)
    llm, projectors = workspace.load_llm(), arm_projectors(workspace, workspace.load_glp(), ["raw", "walk"])
    own = own_texts(llm, directions, prefixes, tokens=args.tokens)
    planned = [one for direction in directions for one in conditions(direction, projectors, sorted(set(args.strengths)))]
    outcomes = measure(llm, planned, prefixes, sampling=Sampling(args.tokens), progress=reporter("steered"))
    steered = {d.name: Curves.of(one for one in [*own, *outcomes] if one.direction == d.name) for d in directions}
    entries = advice.advise(steered)
    report: Json = {
        "directions": {name: entry | {"digest": workspace.direction_digest(name)} for name, entry in entries.items()},
        "shares": {"drifting": advice.DRIFTING, "broken": advice.BROKEN},
        "settings": {
            "prefixes": len(prefixes),
            "tokens": args.tokens,
            "walk": json.loads(json.dumps(asdict(workspace.walk()))),
        },
    }
    report["directions"] = _others(workspace, report) | report["directions"]
    workspace.save_report("strengths", report)
    for name, entry in entries.items():
        if not steered[name].concept_known:
            say(f"{name} has no concept probe: no strength is recommended. {MAKE_PROBE}")
        say(f"{name}: recommended {entry['recommended']}, raw drifts from {entry['arms']['raw']['drifting']}")


def _others(workspace: Workspace, report: Json) -> Json:
    """Return what was measured along other directions with the same settings and the same prior; say what goes."""
    stored = workspace.report("strengths") or {}
    others = {name: entry for name, entry in stored.get("directions", {}).items() if name not in report["directions"]}
    alike = stored.get("settings") == report["settings"] and stored.get("glp_digest") == workspace.glp_digest()
    if others and not alike:
        say(f"Measured with other settings or another prior, and left out now: {', '.join(others)}.")
    return others if alike else {}
