"""One number for what a GLP's neurons detect: the mean 1-D probing AUC over a fixed fifth of the tasks, by the benchmark's protocol.

The same rows for every GLP, so that differences are the GLPs'. Texts are run once and kept where `probe` keeps them.
"""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from glp_core.data.corpus import Task, tasks
from glp_core.data.probe_activations import Caps, ProbeActivations, collect_probe_activations, sampled_rows
from glp_core.llm.site import Site
from glp_core.neuron_index.neuron_data import NOISE_FREE, Reading
from glp_core.neuron_index.reading import read_many
from glp_core.neurons.probing import TaskRows, probe_task
from glp_core.prior.glp import GLP
from glp_core.progress import Progress, quiet

EVERY = 5
"""Every fifth task, in the wheel's order: 23 of 113."""
CAPS = Caps(train=256, validation=128, test=256)
"""Half of the benchmark's rows, and a part of them."""


def subset() -> tuple[Task, ...]:
    """Return the tasks that the score is over."""
    return tasks()[::EVERY]


class ProbingSet(NamedTuple):
    """Activations with the tasks over them."""

    acts: Tensor
    """Last-token activations (n, d)."""
    rows: list[TaskRows]
    """Of each task, places in `acts`."""


def probing_set(folder: Path, site: Callable[[], Site], *, caps: Caps = CAPS, progress: Progress = quiet) -> ProbingSet:
    """Return the subset's activations from a folder of `probe`; the site is asked for, and the LLM run, only for texts that it lacks."""
    frames = [sampled_rows(task, caps) for task in subset()]
    every = pd.concat(frames)
    have = ProbeActivations(folder)
    if not set(every["key"]) <= have.row.keys():
        have = collect_probe_activations(site(), every, folder, max_tokens=caps.max_tokens, progress=progress)
    used = np.unique(have.rows(every["key"].tolist()))
    place = np.full(len(have.layer), -1)
    place[used] = np.arange(len(used))
    rows = [TaskRows.of(frame, place[have.rows(frame["key"].tolist())]) for frame in frames]
    return ProbingSet(have.layer[torch.from_numpy(used)], rows)


def mean_auc(glp: GLP, probing: ProbingSet, reading: Reading = NOISE_FREE) -> float:
    """Return the mean over tasks of the test AUC of the neuron that validation rows choose."""
    neurons = read_many(glp, probing.acts, reading)

    def features(rows: np.ndarray) -> np.ndarray:
        return neurons[torch.from_numpy(rows)].float().numpy()

    return float(np.mean([probe_task(features, rows).test_auc for rows in probing.rows]))
