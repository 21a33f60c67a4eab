"""Find the manifold distances at which steered text drifts and breaks, and what projection does to them; write reports/zones.json."""

import argparse
from pathlib import Path

from glp_core.cli.console import add_workspace_arguments, check_counts, open_workspace, reporter, say
from glp_core.errors import GlpError
from glp_core.evaluation import zones
from glp_core.files import Json
from glp_core.llm.decoding import Sampling
from glp_core.llm.model import Llm
from glp_core.prior.distance import ManifoldMeter
from glp_core.steering import strength_sweep
from glp_core.steering.directions import Direction
from glp_core.steering.strength_grid import STRENGTHS
from glp_core.steering.strength_sweep import Pushes
from glp_core.workspace import Workspace


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this command's arguments."""
    add_workspace_arguments(parser)
    parser.add_argument("--prefixes", type=Path, metavar="FILE", help="a JSON list of texts (default: prefixes.json)")
    words = "prefixes that are steered (default: 16); the unsteered texts of all prefixes set the limits"
    parser.add_argument("--steered", type=int, default=16, metavar="N", help=words)
    parser.add_argument("--directions", nargs="+", metavar="NAME", help="(default: at most six, evenly from all)")
    parser.add_argument("--tokens", type=int, default=zones.TOKENS, help=f"of each text (default: {zones.TOKENS})")


def run(args: argparse.Namespace) -> None:
    """Run the command."""
    check_counts(args, ("steered", "tokens"), 2)
    workspace = open_workspace(args)
    prefixes = workspace.prefixes("prefixes", args.prefixes)
    reference = workspace.report("reference")
    if reference is None:
        raise GlpError("reports/reference.json is missing. Make it with `python -m glp_core evaluate`.")
    names = workspace.direction_names()
    directions = workspace.directions(args.directions or names[:: max(1, -(-len(names) // 6))])
    llm, meter = workspace.load_llm(), ManifoldMeter(workspace.load_glp(), reference)
    report: Json = {"projection": projection(workspace, llm, meter, directions, prefixes)}
    report |= calibrated(workspace, llm, meter, directions, prefixes, args)
    workspace.save_report("zones", report)
    for name in zones.SHARES:
        say(f"{name} {_from(report['borders'][name])}")


def _from(border: Json) -> str:
    """Return where a zone begins, in words."""
    if border["value"] is None:
        return "from no distance that was seen"
    low, high = ("no bound" if end is None else f"{end:.2f}" for end in border["ci"])
    return f"from a distance of {border['value']:.2f}, 95% interval {low} to {high}"


def calibrated(
    workspace: Workspace,
    llm: Llm,
    meter: ManifoldMeter,
    directions: list[Direction],
    prefixes: list[str],
    args: argparse.Namespace,
) -> Json:
    """Return the zones from texts that are written now: the model's own ones for the limits, steered ones for the borders."""
    site = workspace.site(llm)
    prompts = [llm.encode(text) for text in prefixes]
    drawn, likeliest = Sampling(args.tokens, 1.0), Sampling(args.tokens)
    sampled = zones.write(site, zones.plan(prompts), drawn, meter=meter, progress=reporter("own, temperature 1"))
    greedy = zones.write(site, zones.plan(prompts), likeliest, meter=meter, progress=reporter("own, greedy"))
    ways = {"raw": None, "glp": strength_sweep.projectors(meter.glp, workspace.covariance())["glp"]}
    jobs = zones.plan(prompts[: args.steered], directions, zones.STRENGTHS, ways)
    steered = zones.write(site, jobs, likeliest, meter=meter, progress=reporter("steered"))
    limits = zones.limits(sampled, greedy)
    unsteered = [text for text in greedy if text.prefix < args.steered]
    report = zones.report(unsteered + steered, limits)
    own = {"temperature 1": float(limits.broken(sampled).mean()), "greedy": float(limits.broken(greedy).mean())}
    settings = {"tokens": args.tokens, "prefixes": min(args.steered, len(prompts)), "directions": [d.name for d in directions]}
    return report | {"own_texts_broken": own, "n_own": len(sampled), "settings": settings | {"strengths": zones.STRENGTHS}}


def projection(
    workspace: Workspace, llm: Llm, meter: ManifoldMeter, directions: list[Direction], prefixes: list[str]
) -> list[Json]:
    """Return, for each direction and strength, on how many prompts projection brings the last token's activation nearer."""
    clean = strength_sweep.last_activations(workspace.site(llm), prefixes)
    ways = strength_sweep.projectors(meter.glp, workspace.covariance(), workspace.walk())
    rows = []
    for direction in directions:
        pushes = Pushes(meter, clean, direction.vector, workspace.median_norm, ways)
        shares = strength_sweep.lowered(pushes, [x for x in STRENGTHS if x > 0])
        rows += [{"direction": direction.name, "title": direction.title} | row for row in shares]
    return rows
