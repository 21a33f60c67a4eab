"""Scores on tasks and descriptions, read back from what `probe` and `describe` write."""

import json

import numpy as np
import pytest
import torch

from glp_core.errors import GlpError
from glp_core.files import write_json, write_tensors
from glp_core.neuron_index import annotations
from glp_core.neuron_index.annotations import Descriptions, NeuronTasks
from glp_core.neuron_index.neuron_data import SideEvidence
from glp_core.neuron_index.reader import NeuronIndex

TEST = np.array([[0.5, 0.9, 0.2], [0.6, 0.55, 0.45]], np.float32)
"""Test AUCs (tasks, neurons)."""


def test_scores_are_those_that_were_written(tmp_path):
    tensors = {
        "test": torch.from_numpy(TEST).half(),
        "best_task": torch.tensor([1, 0, 0], dtype=torch.int16),
        "best_auc": torch.tensor([0.6, 0.9, 0.8]),
    }
    write_tensors(tmp_path / "concepts.safetensors", tensors, {"tasks": json.dumps(["1_a", "2_b"])})
    tasks = NeuronTasks(tmp_path, 3)
    assert tasks.names == ["1_a", "2_b"] and tasks.best(1) == ("1_a", np.float32(0.9))
    assert [tasks.best_sign(i) for i in range(3)] == [1, 1, -1]  # 0.8 is 0.2 turned
    assert [name for name, _ in tasks.most_extreme(2)] == ["1_a", "2_b"]  # 0.2 is farther from chance than 0.45
    assert [name for name, _ in tasks.most_extreme(0)] == ["2_b", "1_a"]
    columns = tasks.columns()
    assert columns["best_task"].tolist() == ["2_b", "1_a", "1_a"]
    np.testing.assert_allclose(columns["best_auc"], [0.6, 0.9, 0.8])
    assert columns["best_sign"].tolist() == [1, 1, -1]
    assert columns["best_tells"].tolist() == [True, True, False]  # neuron 1 tells 1_a apart better than neuron 2
    assert [tasks.telling(i) for i in range(3)] == [True, True, False]


def test_scores_of_another_prior_s_neurons_are_refused(tmp_path):
    tensors = {
        "test": torch.from_numpy(TEST).half(),
        "best_task": torch.tensor([1, 0, 0], dtype=torch.int16),
        "best_auc": torch.tensor([0.6, 0.9, 0.8]),
    }
    write_tensors(tmp_path / "concepts.safetensors", tensors, {"tasks": json.dumps(["1_a", "2_b"]), "glp_digest": "old"})
    assert all(NeuronTasks(tmp_path, 3, digest).names == ["1_a", "2_b"] for digest in ("old", "older", "ol", ""))
    with pytest.raises(GlpError, match="another prior's neurons.*glp_core probe"):
        NeuronTasks(tmp_path, 3, "new")


def test_without_scores_there_is_nothing(tmp_path):
    tasks = NeuronTasks(tmp_path, 3)
    assert tasks.names == [] and tasks.best(0) == (None, None) and tasks.most_extreme(0) == []
    assert tasks.columns()["best_task"] is None


def test_descriptions_come_back_with_their_evidence_and_older_ones_without(tmp_path):
    assert Descriptions(tmp_path, 2).words(1) == ("", "") and Descriptions(tmp_path, 2).sides(1) == (None, None)
    write_json(tmp_path / "descriptions.json", {"units": [["a", "automatic"], ["b", "m"]]})
    assert Descriptions(tmp_path, 2).words(1) == ("b", "m") and Descriptions(tmp_path, 2).columns()["readability"] == [0, 0]
    side = SideEvidence("“x”", ["x"], 0.5, 0.25, 8, 16)
    stored = {"units": [["a", "automatic"], ["b", "m"]], "sides": [[None, side.to_json()], [None, None]]}
    write_json(tmp_path / "descriptions.json", stored)
    descriptions = Descriptions(tmp_path, 2)
    assert descriptions.sides(0) == (None, side)
    assert descriptions.columns()["readability"] == pytest.approx([1 / 3, 0]) and descriptions.columns()["keys"] == [["x"], []]


def test_descriptions_of_many_neurons_may_be_large(tmp_path, monkeypatch):
    write_json(tmp_path / "descriptions.json", {"units": [["a", "automatic"], ["b", "m"]]})
    monkeypatch.setattr(annotations, "LARGEST_JSON", 10)
    assert Descriptions(tmp_path, 2).words(1) == ("b", "m")
    monkeypatch.setattr(annotations, "LONGEST_DESCRIPTION", 5)
    with pytest.raises(GlpError, match="larger than 10 bytes"):
        Descriptions(tmp_path, 2)


def test_a_damaged_head_of_the_index_names_the_command_that_makes_it_again(tmp_path):
    for content in ("{}", "[", '{"facts": 7, "sources": [], "pieces": []}'):
        (tmp_path / "index.json").write_text(content)
        with pytest.raises(GlpError, match=r"index\.json.*python -m glp_core index"):
            NeuronIndex.open(tmp_path)
