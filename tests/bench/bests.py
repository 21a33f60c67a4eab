"""`python -m tests.bench.bests`: raw, the paper's projection and the walk, each at its own best, on texts that chose nothing.

Strengths and levels are those that `tune-walk` chose for every direction on validation prefixes; the texts begin with the prefixes of
bests.json beside this file. Writes reports/bests.json, with the prefixes, and prints what follows.
"""

import argparse
import json
import sys
from pathlib import Path

from glp_core.cli.console import reporter
from glp_core.llm.decoding import Sampling
from glp_core.prior.projection import make_projector
from glp_core.prior.walk import WalkSettings
from glp_core.steering.trials.outcomes import TOKENS, UNSTEERED, Condition, measure, own_texts
from glp_core.steering.trials.pareto import BEST, pareto
from glp_core.steering.trials.report import summarise
from glp_core.workspace import DEMO, Workspace


def conditions(direction, chosen, glp):
    """Return the unsteered texts and every arm at its best along a direction."""
    projectors = {
        "raw": None,
        "glp": make_projector("glp", glp=glp, noise_level=chosen["glp"]["settings"]["noise_level"]),
        "walk": make_projector("walk", glp=glp, walk=WalkSettings.of(chosen["walk"]["settings"])),
    }
    steered = [Condition(direction, arm + BEST, chosen[arm]["strength"], one) for arm, one in projectors.items()]
    return [Condition(direction, UNSTEERED), *steered]


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--prefixes", type=Path, default=Path(__file__).with_suffix(".json"), help="a JSON list of texts")
    parser.add_argument("--workspace", default=DEMO)
    parser.add_argument("--device", default="cpu")
    args = parser.parse_args(argv)
    workspace = Workspace.open(args.workspace, args.device)
    prefixes = json.loads(args.prefixes.read_text())
    tuned = workspace.report("walk_tuning")["by_direction"]
    directions = workspace.directions(list(tuned))
    llm, glp = workspace.load_llm(), workspace.load_glp()
    outcomes = own_texts(llm, directions, prefixes)
    planned = [one for direction in directions for one in conditions(direction, tuned[direction.name], glp)]
    outcomes += measure(llm, planned, prefixes, sampling=Sampling(TOKENS), progress=reporter("bests"))
    reports = {
        d.name: summarise([one for one in outcomes if one.direction == d.name]) | {"settings": {"title": d.title}}
        for d in directions
    }
    found = pareto(reports)
    report = {"verdicts": found["summary"]["verdicts"], "directions": {}, "prefixes": prefixes}
    for name, entry in found["directions"].items():
        report["directions"][name] = {"best": entry["best"], "differences": entry["best_differences"]}
    workspace.save_report("bests", report)
    for one in report["verdicts"]:
        sys.stdout.write(f"The walk against {one['against']}, {one['where']}: {one['directions']}; {one['mean']}\n")


if __name__ == "__main__":
    main()
