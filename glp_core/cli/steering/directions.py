"""Make all shipped directions again: from probing tasks by their recipes, and personas from contrasting system prompts."""

import argparse
from pathlib import Path

from glp_core.cli.console import add_workspace_arguments, open_workspace, reporter, say
from glp_core.errors import GlpError
from glp_core.steering.directions import Direction
from glp_core.steering.origins.personas import make_persona
from glp_core.steering.origins.recipes import PERSONAS, RECIPES, PoolReader, make


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this command's arguments."""
    add_workspace_arguments(parser)
    names = [one.name for one in (*RECIPES, *PERSONAS)]
    parser.add_argument("--only", nargs="+", default=names, metavar="NAME", help=f"some of: {', '.join(names)}")


def run(args: argparse.Namespace) -> None:
    """Run the command."""
    unknown = set(args.only) - {one.name for one in (*RECIPES, *PERSONAS)}
    if unknown:
        raise GlpError(f"There are no recipes for {', '.join(sorted(unknown))}; see --help.")
    workspace = open_workspace(args)
    site = workspace.site(workspace.load_llm())
    reader = PoolReader(site)
    for recipe in RECIPES:
        if recipe.name in args.only:
            _keep(make(recipe, reader), workspace.folder / "directions")
    for persona in PERSONAS:
        if persona.name in args.only:
            progress = reporter(persona.name)
            direction = make_persona(site, persona, progress=progress)
            _keep(direction, workspace.folder / "directions")


def _keep(direction: Direction, folder: Path) -> None:
    direction.save(folder)
    say(
        f"{direction.name}: AUROC {direction.auroc:.3f} on {direction.n_test} held-out texts, from {direction.n_train}; "
        f"concept probe {direction.probe_auroc:.3f}"
    )
