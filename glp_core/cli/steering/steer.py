"""Steer test prefixes along every direction with every arm; write reports/steering_<direction>.json."""

import argparse
from dataclasses import asdict, dataclass
from pathlib import Path

from glp_core.cli.console import add_workspace_arguments, check_counts, open_workspace, reporter, say
from glp_core.cli.steering.options import add_trial_arguments, arm_projectors, chosen_directions, chosen_prefixes
from glp_core.data.corpus import documents
from glp_core.errors import GlpError
from glp_core.files import Json, write_json
from glp_core.llm.decoding import Sampling
from glp_core.prior.distance import ManifoldMeter
from glp_core.prior.glp import GLP
from glp_core.prior.projection import Projector, make_projector
from glp_core.prior.walk import WalkSettings
from glp_core.steering.directions import Direction
from glp_core.steering.trials import elsewhere
from glp_core.steering.trials.outcomes import STRENGTHS, Condition, Outcome, conditions, measure, own_texts
from glp_core.steering.trials.pareto import BEST
from glp_core.steering.trials.report import renewed, report_name, summarise
from glp_core.workspace import Workspace

ARMS = ("raw", "walk", "glp", "norm", "gaussian")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this command's arguments."""
    add_workspace_arguments(parser)
    add_trial_arguments(parser, "prefixes", STRENGTHS)
    parser.add_argument("--arms", nargs="+", default=list(ARMS), choices=ARMS, help="(default: all)")
    about = f"neutral texts that the loss is measured on, 0 for none (default: {elsewhere.DOCUMENTS})"
    parser.add_argument("--documents", type=int, default=elsewhere.DOCUMENTS, metavar="N", help=about)
    about = "measure only --arms anew and keep the other arms of the stored reports"
    parser.add_argument("--keep-others", action="store_true", help=about)
    parser.add_argument("--texts", type=Path, metavar="FILE", help="also write every text there, as JSON")


def run(args: argparse.Namespace) -> None:
    """Run the command."""
    check_counts(args, ("tokens", "limit"), 1)
    workspace = open_workspace(args)
    directions, prefixes = chosen_directions(workspace, args), chosen_prefixes(workspace, args)
    llm, glp, reference = workspace.load_llm(), workspace.load_glp(), workspace.report("reference")
    projectors, prompted = arm_projectors(workspace, glp, args.arms), bool(llm.tokenizer.chat_template)
    stored = {d.name: workspace.report(report_name(d.name)) if args.keep_others else None for d in directions}
    if args.keep_others and None in stored.values():
        missing = next(name for name, report in stored.items() if report is None)
        raise GlpError(
            f"--keep-others has nothing to keep: there is no report on {missing}. Leave it out to measure every arm."
        )
    grid = {d.name: conditions(d, projectors, args.strengths, prompted=prompted) for d in directions}
    if args.keep_others:
        grid = {name: [one for one in listed if one.arm in args.arms] for name, listed in grid.items()}
    best = {d.name: [] if args.keep_others else _best(workspace, d, glp, args.arms) for d in directions}
    planned = [*(one for d in directions for one in grid[d.name]), *(one.condition for d in directions for one in best[d.name])]
    steered = [one for d in directions for one in grid[d.name] if one.strength]
    costs: list[Json] = []
    if args.documents:
        texts = [document.text for document in documents("validation")]
        progress = reporter("elsewhere")
        costs = elsewhere.loss_rises(workspace.site(llm), steered, texts, documents=args.documents, progress=progress)
    meter = ManifoldMeter(glp, reference) if reference else None
    outcomes = measure(llm, planned, prefixes, sampling=Sampling(args.tokens), meter=meter, progress=reporter("steer"))
    if not args.keep_others:
        outcomes += own_texts(llm, directions, prefixes, tokens=args.tokens)
    for d in directions:
        own = [one for one in outcomes if one.direction == d.name]
        before = stored[d.name]
        report = renewed(before, own) if before else summarise(own)
        kept = [cost for cost in before["elsewhere"] if cost["arm"] not in args.arms] if before else []
        report["elsewhere"] = kept + [cost for cost, one in zip(costs, steered, strict=False) if one.direction is d]
        report["settings"] = _settings(workspace, d, args, best[d.name]) | {"prefixes": len(prefixes)}
        if before:
            report["settings"]["best"] = before["settings"]["best"]
            report["kept"] = {"arms_other_than": args.arms, "made_by": before.get("made_by")}
        workspace.save_report(report_name(d.name), report)
    if args.texts:
        _write_texts(args.texts, outcomes)
    say(f"{len(outcomes):,} texts along {len(directions)} directions; reports are in {workspace.folder / 'reports'}")


@dataclass(frozen=True, eq=False)
class _Best:
    """An arm at the strength and settings that validation prefixes chose for a direction."""

    arm: str
    condition: Condition
    settings: Json


def _best(workspace: Workspace, direction: Direction, glp: GLP, arms: list[str]) -> list[_Best]:
    """Return raw, glp and walk as `tune-walk` chose them for a direction; none where it has not been run."""
    tuned = (workspace.report("walk_tuning") or {}).get("by_direction", {}).get(direction.name, {})
    made = []
    for arm in ("raw", "glp", "walk"):
        if arm in tuned and arm in arms:
            condition = Condition(direction, arm + BEST, tuned[arm]["strength"], _tuned(arm, tuned[arm]["settings"], glp))
            made.append(_Best(arm, condition, tuned[arm]["settings"]))
    return made


def _tuned(arm: str, settings: Json, glp: GLP) -> Projector | None:
    if arm == "glp":
        return make_projector("glp", glp=glp, noise_level=settings["noise_level"])
    return make_projector("walk", glp=glp, walk=WalkSettings(**settings)) if arm == "walk" else None


def _settings(workspace: Workspace, direction: Direction, args: argparse.Namespace, best: list[_Best]) -> Json:
    return {
        "direction": direction.name,
        "title": direction.title,
        "tokens": args.tokens,
        "decoding": "greedy",
        "median_norm": direction.median_norm,
        "noise_level": 0.5,
        "solver": "euler",
        "steps": 20,
        "walk": asdict(workspace.walk()),
        "best": {one.arm: one.settings for one in best},
        "dtype": str(workspace.torch_dtype).removeprefix("torch."),
        "intervals": "95%, bootstrap over prefixes",
    }


def _write_texts(path: Path, outcomes: list[Outcome]) -> None:
    keep = ("direction", "arm", "strength", "prefix", "text")
    write_json(path, [{name: getattr(one, name) for name in keep} for one in outcomes])
