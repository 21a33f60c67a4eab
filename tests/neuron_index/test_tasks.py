"""Every neuron's scores on every task, read back from what `probe` writes."""

import json

import numpy as np
import torch

from glp_core.files import write_tensors
from glp_core.neuron_index.tasks import NeuronTasks

TEST = np.array([[0.5, 0.9, 0.2], [0.6, 0.55, 0.45]], np.float32)
"""Test AUCs (tasks, neurons)."""


def test_scores_are_those_that_were_written(tmp_path):
    tensors = {
        "test": torch.from_numpy(TEST).half(),
        "best_task": torch.tensor([1, 0, 0], dtype=torch.int16),
        "best_auc": torch.tensor([0.6, 0.9, 0.8]),
    }
    write_tensors(tmp_path / "concepts.safetensors", tensors, {"tasks": json.dumps(["1_a", "2_b"])})
    tasks = NeuronTasks(tmp_path)
    assert tasks.names == ["1_a", "2_b"] and tasks.best(1) == ("1_a", np.float32(0.9))
    np.testing.assert_allclose(tasks.aucs("2_b"), TEST[1], atol=1e-3)
    assert tasks.aucs("3_c") is None
    assert [name for name, _ in tasks.most_extreme(2)] == ["1_a", "2_b"]  # 0.2 is farther from chance than 0.45
    assert [name for name, _ in tasks.most_extreme(0)] == ["2_b", "1_a"]
    columns = tasks.columns()
    assert columns["best_task"].tolist() == ["2_b", "1_a", "1_a"]
    np.testing.assert_allclose(columns["best_auc"], [0.6, 0.9, 0.8])


def test_without_scores_there_is_nothing(tmp_path):
    tasks = NeuronTasks(tmp_path)
    assert tasks.names == [] and tasks.best(0) == (None, None) and tasks.most_extreme(0) == [] and tasks.aucs("1_a") is None
    assert tasks.columns()["best_task"] is None
