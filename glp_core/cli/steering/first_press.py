"""Choose the example that the Steering page opens with, and a harder push, by their measured effect; write reports/first_press.json.

The example is typical: it is taken from the direction and strength at which most raw texts of reports/strengths.json break, hardly a
walked one does, and the walk is worth most more. There every prefix is written at full length, and the text of greatest effect chosen.
"""

import argparse
from collections.abc import Iterable, Sequence
from dataclasses import asdict

from glp_core.cli.console import add_workspace_arguments, check_counts, open_workspace, reporter, say
from glp_core.cli.steering.options import add_trial_arguments, arm_projectors, chosen_prefixes
from glp_core.errors import GlpError
from glp_core.files import Json
from glp_core.llm.decoding import Sampling
from glp_core.llm.model import Llm
from glp_core.prior.projection import Projector
from glp_core.progress import Progress, quiet
from glp_core.steering.directions import Direction
from glp_core.steering.trials import advice
from glp_core.steering.trials.frontier import Curves
from glp_core.steering.trials.outcomes import Outcome, conditions, measure, own_texts

TOKENS = 64
"""As many as the page writes."""
PREFIXES = 24


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this command's arguments."""
    add_workspace_arguments(parser)
    add_trial_arguments(parser, "validation_prefixes", limit=PREFIXES, tokens=TOKENS)


def run(args: argparse.Namespace) -> None:
    """Run the command."""
    check_counts(args, ("tokens", "limit"), 1)
    workspace = open_workspace(args)
    prefixes = chosen_prefixes(workspace, args)
    cells = advice.telling((workspace.report("strengths") or {}).get("directions", {}))
    if not cells:
        raise GlpError("reports/strengths.json compares no raw and walked texts. Make it with `python -m glp_core strengths`.")
    llm, projectors = workspace.load_llm(), arm_projectors(workspace, workspace.load_glp(), ["raw", "walk"])
    best = cells[0]
    writer = _Writer(llm, workspace.direction(best.direction), projectors, prefixes, args.tokens)
    own = own_texts(llm, [writer.direction], prefixes, tokens=args.tokens)
    curves = Curves.of([*own, *writer.all([best.strength], reporter("first press"))])
    effects, limits = advice.effects(curves, best.strength), advice.CurveLimits.of(curves)
    if not effects:
        raise GlpError(
            f"No text has tokens at strength {best.strength:g} along {best.direction}; give more prefixes or --tokens."
        )
    report = writer.example((prefix, best.strength) for prefix in effects)
    if report is None:
        first = next(iter(effects))
        report = advice.example(writer.alone(first, best.strength), prefixes[first], first)
    report["effect"] = round(effects[report["seed"]], 4)
    report["broken"] = {arm: round(float(limits.broken(curves.cells[arm, best.strength]).mean()), 4) for arm in projectors}
    report["harder"] = _harder(writer, [strength for strength in advice.HARDER if strength > best.strength], report["seed"])
    settings = {"tokens": args.tokens, "temperature": 0.0, "walk": asdict(workspace.walk()), "prefixes": len(prefixes)}
    workspace.save_report("first_press", report | {"settings": settings})
    say(f"{report['direction']} at {report['strength']:g} after {report['prompt']!r}: effect {report['effect']:.2f}")


class _Writer:
    """Writes unsteered, raw and walked texts along one direction."""

    def __init__(
        self, llm: Llm, direction: Direction, projectors: dict[str, Projector | None], prefixes: Sequence[str], tokens: int
    ) -> None:
        self.llm, self.direction, self.projectors = llm, direction, projectors
        self.prefixes, self.sampling = prefixes, Sampling(tokens)

    def all(self, strengths: Sequence[float], progress: Progress = quiet) -> list[Outcome]:
        """Write every prefix at every strength."""
        planned = conditions(self.direction, self.projectors, strengths)
        return measure(self.llm, planned, self.prefixes, sampling=self.sampling, progress=progress)

    def alone(self, prefix: int, strength: float) -> list[Outcome]:
        """Write one prefix as a page does: in a batch with others a text can turn out otherwise."""
        planned = conditions(self.direction, self.projectors, [strength])
        return measure(self.llm, planned, [self.prefixes[prefix]], sampling=self.sampling, seeds=[prefix])

    def example(self, pushes: Iterable[tuple[int, float]]) -> Json | None:
        """Return the first of these prefixes and strengths whose raw text breaks while the walked one holds, or None."""
        for prefix, strength in pushes:
            outcomes = self.alone(prefix, strength)
            if advice.breaking(outcomes):
                return advice.example(outcomes, self.prefixes[prefix], prefix)
        return None


def _harder(writer: _Writer, strengths: Sequence[float], first: int) -> Json | None:
    """Return a push at one of these strengths that breaks the raw text while the walked one holds, or None.

    It is of the prefix that does so at the most strengths, the first example's if that is one, and in their middle, so that other
    rounding does not turn it.
    """
    if not strengths:
        return None
    outcomes = writer.all(strengths, reporter("harder"))
    found = {
        prefix: advice.steadiest(advice.breaking([one for one in outcomes if one.prefix == prefix]))
        for prefix in range(len(writer.prefixes))
    }
    order = sorted(found, key=lambda prefix: (len(found[prefix]), prefix == first), reverse=True)
    return writer.example((prefix, strength) for prefix in order for strength in found[prefix])
