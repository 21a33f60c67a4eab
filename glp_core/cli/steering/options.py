"""What the steering commands share: which prefixes, and the projectors of arms."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from glp_core.cli.console import say
from glp_core.errors import GlpError
from glp_core.files import write_json
from glp_core.prior.glp import GLP
from glp_core.prior.projection import KINDS, Kind, Projector, make_projector
from glp_core.steering.directions import Direction
from glp_core.steering.trials.outcomes import TOKENS, Outcome
from glp_core.workspace import Workspace

MAKE_PROBE = "`python -m glp_core import-direction FILE --name NAME --measure TABLE` makes one from labelled texts."


def add_trial_arguments(
    parser: argparse.ArgumentParser, name: str, strengths: Sequence[float] = (), *, limit: int = 100, tokens: int = TOKENS
) -> None:
    """Add --prefixes, by default the workspace's list of that name, --limit and --tokens; with strengths, them and --directions."""
    parser.set_defaults(prefixes_name=name)
    parser.add_argument("--prefixes", type=Path, metavar="FILE", help=f"a JSON list of texts (default: {name}.json)")
    parser.add_argument("--limit", type=int, default=limit, metavar="N", help=f"use the first N prefixes (default: {limit})")
    parser.add_argument("--tokens", type=int, default=tokens, help=f"of each text (default: {tokens})")
    if strengths:
        parser.add_argument("--directions", nargs="+", metavar="NAME", help="(default: all of the workspace)")
        parser.add_argument("--strengths", type=float, nargs="+", default=list(strengths), metavar="X", help="in median norms")


def add_texts_argument(parser: argparse.ArgumentParser) -> None:
    """Add --texts."""
    parser.add_argument("--texts", type=Path, metavar="FILE", help="also write every text there, as JSON")


def write_outcomes(path: Path, outcomes: Sequence[Outcome]) -> None:
    """Write every text with what it was written by, as JSON."""
    keep = ("direction", "arm", "strength", "prefix", "text")
    write_json(path, [{name: getattr(one, name) for name in keep} for one in outcomes])


def probed(directions: Sequence[Direction]) -> list[Direction]:
    """Return the directions that have a concept probe, and say which have none; GlpError when no one has."""
    known = [one for one in directions if one.has_probe]
    without = ", ".join(one.name for one in directions if not one.has_probe)
    if not known:
        raise GlpError(f"No concept can be read along {without}: no concept probe. {MAKE_PROBE}")
    if without:
        say(f"Left out, without a concept probe: {without}. {MAKE_PROBE}")
    return known


def chosen_prefixes(workspace: Workspace, args: argparse.Namespace) -> list[str]:
    """Return the prefixes that the arguments name."""
    return workspace.prefixes(args.prefixes_name, args.prefixes)[: args.limit]


def arm_projectors(workspace: Workspace, glp: GLP, arms: Sequence[str]) -> dict[str, Projector | None]:
    """Return the projectors of arms: the workspace's walk, and the paper's noise level and schedule for the others."""
    kinds: dict[str, Kind] = {kind: kind for kind in KINDS}
    covariance = workspace.covariance() if "gaussian" in arms else None
    return {
        arm: None if arm == "raw" else make_projector(kinds[arm], glp=glp, covariance=covariance, walk=workspace.walk())
        for arm in arms
    }
