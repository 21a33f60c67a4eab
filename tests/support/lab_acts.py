"""What a person does on the Lab page, as a command whose end is the same however often it is begun again: for processes that die."""

import sys
from pathlib import Path

from glp_core.errors import GlpError
from glp_core.steering.direction_facts import stored_directions
from glp_core.steering.directions import Direction
from glp_core.steering.origins.shelf import Shelf
from glp_core.steering.sweeps.config import Along, SweepConfig
from glp_core.steering.sweeps.runs import Runs

SWEEP = SweepConfig(prompts=("The cat",), directions=(Along("up", "upwards", (0.5,)),), arms=("raw",), tokens=3)


def main(words):
    """Act on the workspace that the last word names; say what the page would show in a box."""
    try:
        folder = Path(words[-1])
        _directions(folder / "directions")
        _sweep(Runs(folder / "sweeps"))
    except GlpError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


def _directions(folder):
    shelf, there = Shelf(folder), {one.title for one in stored_directions(folder)}
    if "upwards" in there:
        shelf.rename("up", "higher")
    if "new" not in there:
        shelf.add(Direction.load(folder / "up.safetensors"), "new")
    if "positive sentiment" in there:
        shelf.remove("positive")
    else:
        shelf.restore("positive")
        shelf.remove("positive")


def _sweep(runs):
    run = runs.begin(SWEEP, 2)
    runs.tell(runs.facts(run)._replace(state="running", done=1))
    runs.save(run, [{"text": "a"}, {"text": "b"}], {"up": {"title": "upwards"}})
    runs.tell(runs.facts(run)._replace(state="done", done=2))
