"""Steer test prefixes along every direction with every arm; write reports/steering_<direction>.json."""

import argparse
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from glp_core.cli.console import add_workspace_arguments, check_counts, open_workspace, reporter, say
from glp_core.cli.steering.options import (
    add_texts_argument,
    add_trial_arguments,
    arm_projectors,
    chosen_prefixes,
    write_outcomes,
)
from glp_core.errors import GlpError
from glp_core.files import Json
from glp_core.llm.decoding import Sampling
from glp_core.prior.distance import ManifoldMeter
from glp_core.prior.glp import GLP
from glp_core.prior.projection import Projector, make_projector
from glp_core.prior.walk import WalkSettings
from glp_core.steering.direction_facts import is_of, report_name
from glp_core.steering.directions import Direction
from glp_core.steering.trials import elsewhere
from glp_core.steering.trials.outcomes import STRENGTHS, Condition, Outcome, conditions, measure, own_texts
from glp_core.steering.trials.pareto import BEST
from glp_core.steering.trials.report import renewed, summarise
from glp_core.workspace import Workspace

ARMS = ("raw", "walk", "glp", "norm", "gaussian")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this command's arguments."""
    add_workspace_arguments(parser)
    parser.epilog = (
        "Of positive-sentiment it is reports/steering_sentiment.json, as is steer-sentiment's by default: the later one stays."
    )
    add_trial_arguments(parser, "prefixes", STRENGTHS)
    parser.add_argument("--arms", nargs="+", default=list(ARMS), choices=ARMS, help="(default: all)")
    about = f"neutral texts that the loss is measured on, 0 for none (default: {elsewhere.DOCUMENTS})"
    parser.add_argument("--documents", type=int, default=elsewhere.DOCUMENTS, metavar="N", help=about)
    about = "measure only --arms anew and keep the other arms of the stored reports"
    parser.add_argument("--keep-others", action="store_true", help=about)
    about = "keep the stored reports but for the loss elsewhere of --arms, or the arms at the best that tune-walk chose"
    parser.add_argument("--only", choices=("elsewhere", "best"), help=about)
    about = "report of `tune-walk` that chose each arm's best (default: walk_tuning)"
    parser.add_argument("--tuning", default="walk_tuning", metavar="NAME", help=about)
    add_texts_argument(parser)


def run(args: argparse.Namespace) -> None:
    """Run the command."""
    check_counts(args, ("tokens", "limit"), 1)
    if args.only == "elsewhere":
        check_counts(args, ("documents",), 1)
    workspace = open_workspace(args)
    directions, prefixes = workspace.directions(args.directions), chosen_prefixes(workspace, args)
    stored = (
        _stored(workspace, directions, None if args.only == "elsewhere" else len(prefixes))
        if args.keep_others or args.only
        else {}
    )
    llm, glp, reference = workspace.load_llm(), workspace.load_glp(), workspace.report("reference")
    projectors, prompted = arm_projectors(workspace, glp, args.arms), bool(llm.tokenizer.chat_template)
    grid = [one for d in directions for one in conditions(d, projectors, args.strengths, prompted=prompted)]
    if stored:
        grid = [one for one in grid if one.arm in args.arms]
    best = {d.name: [] if args.keep_others or args.only == "elsewhere" else _best(workspace, d, glp, args) for d in directions}
    if args.only == "best" and not any(best.values()):
        raise GlpError(
            f"reports/{args.tuning}.json chooses nothing for these arms. Make it with `python -m glp_core tune-walk`."
        )
    steered = [one for one in grid if one.strength] if args.only != "best" else []
    costs: list[Json] = []
    if args.documents and steered:
        texts = [document.text for document in workspace.documents("validation")]
        progress = reporter("elsewhere")
        costs = elsewhere.loss_rises(workspace.site(llm), steered, texts, documents=args.documents, progress=progress)
    meter = ManifoldMeter(glp, reference) if reference else None
    planned = [*([] if args.only else grid), *(one.condition for listed in best.values() for one in listed)]
    outcomes: list[Outcome] = []
    if planned:
        outcomes = measure(llm, planned, prefixes, sampling=Sampling(args.tokens), meter=meter, progress=reporter("steer"))
    if not stored:
        outcomes += own_texts(llm, directions, prefixes, tokens=args.tokens)
    for d in directions:
        own = [one for one in outcomes if one.direction == d.name]
        cost = [cost for cost, one in zip(costs, steered, strict=False) if one.direction is d]
        settings = _settings(workspace, d, args, best[d.name]) | {"prefixes": len(prefixes)}
        if stored:
            report = _renewed(workspace, stored[d.name], own, cost, settings, args)
        else:
            report = summarise(own) | {"elsewhere": cost, "settings": settings}
        workspace.save_report(report_name(d.name), report)
    if args.texts:
        write_outcomes(args.texts, outcomes)
    say(f"{len(outcomes):,} texts along {len(directions)} directions; reports are in {workspace.folder / 'reports'}")


def _stored(workspace: Workspace, directions: Sequence[Direction], prefixes: int | None) -> dict[str, Json]:
    """Return the reports whose parts are to be kept, by direction's name; of as many prefixes, where texts are to join theirs."""
    stored: dict[str, Json] = {}
    for d in directions:
        report = workspace.report(report_name(d.name))
        if report is None:
            raise GlpError(
                f"There is nothing to keep: there is no report on {d.name}. Leave out --keep-others and --only to measure every arm."
            )
        if "elsewhere" not in report or "best" not in report["settings"]:
            path = workspace.report_path(report_name(d.name)).name
            raise GlpError(
                f"reports/{path} was not made by `steer`, got one without all of its parts. "
                "Leave out --keep-others and --only to measure every arm."
            )
        if not is_of(report["settings"], workspace.direction_digest(d.name)):
            raise GlpError(
                f"The stored report on {d.name} is of another direction that had this name. "
                "Leave out --keep-others and --only to measure every arm."
            )
        before = report["settings"].get("prefixes")
        if prefixes is not None and before != prefixes:
            raise GlpError(
                f"The stored report on {d.name} is of {before} prefixes, got {prefixes}: give the same, or measure every arm."
            )
        stored[d.name] = report
    return stored


def _renewed(
    workspace: Workspace, before: Json, own: Sequence[Outcome], costs: list[Json], settings: Json, args: argparse.Namespace
) -> Json:
    """Return a stored report with what was measured now in the place of its own, and who made which part."""
    report = renewed(before, own)
    if args.only != "best":
        report["elsewhere"] = [cost for cost in before["elsewhere"] if cost["arm"] not in args.arms] + costs
    if args.only == "best":
        report["settings"] = before["settings"] | {"best": settings["best"]}
    elif not args.only:
        report["settings"] = settings | {"best": before["settings"]["best"]}
    parts = {"best": ["best"], "elsewhere": [f"{arm}, elsewhere" for arm in args.arms]}.get(args.only, args.arms)
    report["renewed"] = before.get("renewed", {}) | dict.fromkeys(parts, workspace.stamp())
    return report


@dataclass(frozen=True, eq=False)
class _Best:
    """An arm at the strength and settings that validation prefixes chose for a direction."""

    arm: str
    condition: Condition
    settings: Json


def _best(workspace: Workspace, direction: Direction, glp: GLP, args: argparse.Namespace) -> list[_Best]:
    """Return raw, glp and walk as `tune-walk` chose them for a direction; none where it has not been run."""
    tuned = (workspace.report(args.tuning) or {}).get("by_direction", {}).get(direction.name, {})
    if tuned and not is_of(tuned, workspace.direction_digest(direction.name)):
        say(f"{direction.name} was tuned when it was another direction: run `python -m glp_core tune-walk` for its arms' best.")
        return []
    made = []
    for arm in ("raw", "glp", "walk"):
        if arm in tuned and arm in args.arms:
            condition = Condition(direction, arm + BEST, tuned[arm]["strength"], _tuned(arm, tuned[arm]["settings"], glp))
            made.append(_Best(arm, condition, tuned[arm]["settings"]))
    return made


def _tuned(arm: str, settings: Json, glp: GLP) -> Projector | None:
    if arm == "glp":
        return make_projector("glp", glp=glp, noise_level=settings["noise_level"])
    return make_projector("walk", glp=glp, walk=WalkSettings.of(settings)) if arm == "walk" else None


def _settings(workspace: Workspace, direction: Direction, args: argparse.Namespace, best: list[_Best]) -> Json:
    return {
        "direction": direction.name,
        "digest": workspace.direction_digest(direction.name),
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
