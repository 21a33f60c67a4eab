"""Choose the example that the Steering page opens with, and a harder push, by their measured effect; write reports/first_press.json."""

import argparse
from collections.abc import Callable, Sequence
from dataclasses import asdict

from glp_core.cli.console import add_workspace_arguments, check_counts, open_workspace, reporter, say
from glp_core.cli.steering.options import add_trial_arguments, arm_projectors, chosen_prefixes
from glp_core.errors import GlpError
from glp_core.files import Json
from glp_core.llm.decoding import Sampling
from glp_core.steering.trials import advice
from glp_core.steering.trials.outcomes import Outcome, conditions, measure

TOKENS = 64
"""As many as the page writes."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this command's arguments."""
    add_workspace_arguments(parser)
    add_trial_arguments(parser, "validation_prefixes", tokens=TOKENS)


def run(args: argparse.Namespace) -> None:
    """Run the command."""
    check_counts(args, ("tokens", "limit"), 1)
    workspace = open_workspace(args)
    prefixes = chosen_prefixes(workspace, args)
    listed: list[Json] = (workspace.report("strengths") or {}).get("candidates", [])
    listed = [one for one in listed if one["prefix"] < len(prefixes)]
    if not listed:
        raise GlpError("There are no candidates in reports/strengths.json. Make it with `python -m glp_core strengths`.")
    llm, projectors = workspace.load_llm(), arm_projectors(workspace, workspace.load_glp(), ["raw", "walk"])
    progress = reporter("first press")

    def write(candidate: Json, strengths: Sequence[float]) -> list[Outcome]:
        """Write a candidate's unsteered text, and its raw and walked ones at some strengths."""
        planned, seed = conditions(workspace.direction(candidate["direction"]), projectors, strengths), candidate["prefix"]
        return measure(llm, planned, [prefixes[seed]], sampling=Sampling(args.tokens), seeds=[seed])

    again: list[tuple[Json, list[Outcome]]] = []
    for number, one in enumerate(listed):
        again.append((one, write(one, [one["strength"]])))
        progress(number + 1, len(listed), one["direction"])
    report = advice.first_press(again, prefixes)
    first = [one for one in listed if (one["direction"], one["prefix"]) == (report["direction"], report["seed"])]
    others = [one for one in listed if one not in first]
    report["harder"] = _harder([*first, *others], float(report["strength"]), write, prefixes)
    settings = {"tokens": args.tokens, "temperature": 0.0, "walk": asdict(workspace.walk()), "candidates": len(listed)}
    workspace.save_report("first_press", report | {"settings": settings})
    say(f"{report['direction']} at {report['strength']:g} after {report['prompt']!r}: effect {report['effect']:.2f}")


def _harder(
    listed: Sequence[Json], above: float, write: Callable[[Json, Sequence[float]], list[Outcome]], prefixes: Sequence[str]
) -> Json | None:
    """Return a push above a strength that breaks the raw text while the walked one holds, or None.

    It is of the candidate that does so at the most strengths, and in their middle, so that other rounding does not turn it. What was
    found among many is written again alone, as a page writes it: in another batch a text can turn out otherwise.
    """
    strengths = [strength for strength in advice.HARDER if strength > above]
    found = [(one, advice.steadiest(advice.breaking(write(one, strengths)))) for one in listed]
    for one, breaking in sorted(found, key=lambda pair: len(pair[1]), reverse=True):
        for strength in breaking:
            alone = write(one, [strength])
            if advice.breaking(alone):
                return advice.example(one | {"strength": strength}, alone, prefixes)
    return None
