"""`python -m tests.support.tiny_build ARGUMENTS`: `build` with tiny sizes, a small corpus and few probing tasks, in a process to kill."""

import sys
from dataclasses import replace
from functools import partial

import numpy as np
import torch

from glp_core.building import sizes
from glp_core.data import corpus, store
from glp_core.data.corpus import Document
from glp_core.llm import fixed_step  # noqa: F401 - as the command does

TINY = replace(
    sizes.QUICK,
    activations=6_000,
    trained=12_000,
    batch=128,
    held_out=512,
    samples=200,
    tested=100,
    score_samples=200,
    documents=4,
    tokens=32,
    directions=("positive-sentiment", "click-bait"),
    bank=200,
    reference=100,
    solver_rows=8,
    advice=2,
    strengths=(0.5, 2.0),
    written=6,
    sae_activations=8_192,
    rows=(16, 12, 16),
    detected=50,
    zones=2,
    steered=3,
    steering_strengths=(0.5, 2.0),
    elsewhere=2,
)
TASKS = ("92_glue_sst2", "105_click_bait", "5_hist_fig_ismale")


def texts():
    """Return 400 made-up documents, each different."""
    things = ("the cat", "a film", "the rain", "one number", "her answer", "the old house")
    doings = ("was seen again", "is not what it was", "stood on the mat", "came late that night")
    return tuple(
        Document(
            f"{i}: {things[i % 6]} {doings[i % 4]}, and {things[(i * 7) % 6]} {doings[(i // 3) % 4]} after {i * i}.", "made up"
        )
        for i in range(400)
    )


def scattered(rows, *_, **__):
    """Return places anywhere on the plane: the process that runs UMAP takes ten seconds to start."""
    from glp_core.neurons.umap import Layout

    return Layout(np.random.default_rng(0).normal(size=(len(rows), 2)).astype(np.float32), np.zeros((0, 2), np.float32))


def shrink(put=setattr):
    """Make the corpus, the tasks and the sizes small; `put` changes a module's name, for the rest of the process."""
    every = corpus.tasks()
    few = tuple(task for task in every if task.name in TASKS)
    made = texts()
    put(corpus, "tasks", lambda: few)
    put(corpus, "_corpus_texts", lambda: made)
    put(corpus, "HELD_OUT", 60)
    put(store, "DOCUMENTS_PER_BLOCK", 64)
    from glp_core.data import collecting
    from glp_core.evaluation import zones
    from glp_core.neurons import maps, planes, umap
    from glp_core.steering.origins import recipes

    put(collecting, "DOCUMENTS_PER_SHARD", 32)
    put(recipes, "RECIPES", tuple(replace(one, n_train=24, n_test=16) for one in recipes.RECIPES))
    for module in (umap, planes, maps):
        put(module, "run_umap", scattered)
    put(zones, "report", partial(zones.report, draws=20))
    put(sizes, "EFFORTS", sizes.EFFORTS | {"quick": TINY})


if __name__ == "__main__":
    torch.set_num_threads(1)
    shrink()
    from glp_core.__main__ import main

    sys.exit(main(["build", *sys.argv[1:]]))
