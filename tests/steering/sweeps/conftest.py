"""A tiny workspace to sweep in, its models, and a small sweep."""

import pytest
import torch

from glp_core.prior.distance import ManifoldMeter
from glp_core.steering.sweeps.config import Along, SweepConfig
from glp_core.steering.sweeps.engine import Bench
from tests.support import pages, tiny

PROMPTS = ("The cat sat", "She said that the film was", "A model of")


@pytest.fixture(scope="session")
def sweep_workspace(tmp_path_factory):
    """A workspace whose tiny language model is in its folder, so that processes can load it too."""
    return pages.make_whole_workspace(tmp_path_factory.mktemp("sweeps") / "workspace")


@pytest.fixture(scope="session")
def bench(sweep_workspace):
    glp = sweep_workspace.load_glp()
    directions = {name: sweep_workspace.direction(name) for name in sweep_workspace.direction_names()}
    meter = ManifoldMeter(glp, sweep_workspace.report("reference"))
    return Bench(tiny.make_tiny_llm(), glp, directions, lambda: torch.eye(tiny.WIDTH), sweep_workspace.walk(), meter)


@pytest.fixture
def small():
    """A function that makes a small sweep, with some things otherwise."""

    def make(**changes):
        along = (Along("up", "upwards", (0.5, 1.0)),)
        return SweepConfig(**{"prompts": PROMPTS, "directions": along, "tokens": 5} | changes)

    return make
