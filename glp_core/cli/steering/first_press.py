"""Choose the example that the Steering page opens with, and a second one, by their measured effect; write reports/first_press.json.

Both are typical: they are taken from the direction and strength of reports/strengths.json at which most raw texts break, hardly a
walked one does, and the walk is worth most more. There every prefix is written at full length, and the texts of greatest effect are
chosen whose unsteered ones do not show the concept by themselves; where there are too few, at that direction's next strengths too.
"""

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from itertools import islice

from glp_core.cli.console import add_workspace_arguments, check_counts, open_workspace, reporter, say
from glp_core.cli.steering.options import add_trial_arguments, arm_projectors, chosen_prefixes
from glp_core.errors import GlpError
from glp_core.files import Json
from glp_core.llm.decoding import Sampling
from glp_core.llm.model import Llm
from glp_core.progress import Progress, quiet
from glp_core.steering.trials import advice
from glp_core.steering.trials.frontier import Curves
from glp_core.steering.trials.outcomes import Condition, Outcome, conditions, measure, own_texts
from glp_core.workspace import Workspace

TOKENS = 64
"""As many as the page writes."""
PREFIXES = 60
PLACES = 4
"""Strengths that are tried for two examples."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this command's arguments."""
    add_workspace_arguments(parser)
    add_trial_arguments(parser, "validation_prefixes", limit=PREFIXES, tokens=TOKENS)


def run(args: argparse.Namespace) -> None:
    """Run the command."""
    check_counts(args, ("tokens", "limit"), 1)
    workspace = open_workspace(args)
    prefixes = chosen_prefixes(workspace, args)
    places = advice.telling((workspace.report("strengths") or {}).get("directions", {}))
    if not places:
        read = "reports/strengths.json has no direction whose concept was read in raw and walked texts"
        raise GlpError(f"{read}. Make it with `python -m glp_core strengths`.")
    shown = _found(workspace, places, prefixes, args.tokens)
    report = shown[0] | {"second": shown[1] if len(shown) > 1 else None}
    settings = {"tokens": args.tokens, "temperature": 0.0, "walk": asdict(workspace.walk()), "prefixes": len(prefixes)}
    workspace.save_report("first_press", report | {"settings": settings})
    say(f"{report['direction']} at {report['strength']:g} after {report['prompt']!r}: effect {report['effect']:.2f}")


def _found(workspace: Workspace, places: Sequence[advice.Telling], prefixes: Sequence[str], tokens: int) -> list[Json]:
    """Return two examples from the most telling places, fewer where these have none; then the best text of the most telling one."""
    llm, glp = workspace.load_llm(), workspace.load_glp()
    projectors, trials = arm_projectors(workspace, glp, ["raw", "walk"]), []
    shown: list[Json] = []
    of_best = [one for one in places if one.shows and one.direction == places[0].direction]
    for place in of_best[:PLACES] or places[:1]:
        direction = workspace.direction(place.direction)
        planned = conditions(direction, projectors, [place.strength])
        trials.append(_Trial(llm, planned, prefixes, own_texts(llm, [direction], prefixes, tokens=tokens), tokens))
        shown += islice(trials[-1].examples(), 2 - len(shown))
        if len(shown) == 2:
            break
    return shown or [trials[0].best()]


class _Trial:
    """Unsteered, raw and walked texts after every prefix, at one strength along one direction.

    Raises:
        GlpError: no text has tokens.
    """

    def __init__(
        self, llm: Llm, planned: Sequence[Condition], prefixes: Sequence[str], own: Sequence[Outcome], tokens: int
    ) -> None:
        self.llm, self.planned, self.prefixes, self.sampling = llm, planned, prefixes, Sampling(tokens)
        name, strength = planned[-1].direction.name, planned[-1].strength
        self.outcomes = self._write(prefixes, progress=reporter(f"{name} at {strength:g}"))
        curves = Curves.of([*own, *self.outcomes])
        limits = advice.CurveLimits.of(curves)
        self.broken = {arm: round(float(limits.broken(curves.cells[arm, strength]).mean()), 4) for arm in ("raw", "walk")}
        self.effects = advice.effects(curves, strength)
        self.plain = [prefix for prefix in self.effects if curves.plain.concept[prefix] < advice.PLAIN_CONCEPT]
        if not self.effects:
            raise GlpError(f"No text has tokens at strength {strength:g} along {name}; give more prefixes or --tokens.")

    def examples(self) -> Iterator[Json]:
        """Yield the texts of greatest effect of those whose raw one alone breaks.

        What was found among many is written again alone, as a page writes it: in another batch a text can turn out otherwise.
        """
        for prefix in self.plain:
            if advice.breaks_alone(self._of(prefix)):
                alone = self._write([self.prefixes[prefix]], seeds=[prefix])
                if advice.breaks_alone(alone):
                    yield self._shown(prefix, alone)

    def best(self) -> Json:
        """Return the text of greatest effect."""
        prefix = next(iter(self.effects))
        return self._shown(prefix, self._of(prefix))

    def _shown(self, prefix: int, outcomes: Sequence[Outcome]) -> Json:
        measured = {"effect": round(self.effects[prefix], 4), "broken": self.broken}
        return advice.example(outcomes, self.prefixes[prefix], prefix) | measured

    def _of(self, prefix: int) -> list[Outcome]:
        return [one for one in self.outcomes if one.prefix == prefix]

    def _write(
        self, prefixes: Sequence[str], *, seeds: Sequence[int] | None = None, progress: Progress = quiet
    ) -> list[Outcome]:
        return measure(self.llm, self.planned, prefixes, sampling=self.sampling, seeds=seeds, progress=progress)
