"""The command that checks the index: it agrees with an index that is right, and names what is wrong with one that is not."""

import random
from types import SimpleNamespace

import numpy as np
import pytest

from glp_core.data.corpus import Document
from glp_core.llm.site import Site
from glp_core.neuron_index.corpus_pass import TextSource, first_of_text, index_part
from glp_core.neuron_index.neuron_data import Reading
from glp_core.neuron_index.reader import NeuronIndex
from glp_core.neuron_index.writer import finish
from tests.bench import check_index

LAYER, READING = 2, Reading(sigma=0.2)
WORDS = "the cat sat on a mat and looked at rain while she said that film was wonderful dull".split()  # noqa: SIM905 - readable


@pytest.fixture(scope="module")
def texts():
    rng = random.Random(1)
    made = [" ".join(rng.choices(WORDS, k=rng.randint(2, 50))) for _ in range(60)]
    made[40] = made[7].upper()
    return [Document(text, "set") for text in made]


@pytest.fixture(scope="module")
def workspace(texts, tiny_llm, tiny_glp, tmp_path_factory):
    folder = tmp_path_factory.mktemp("neurons")
    source = TextSource(Site(tiny_llm, LAYER, 1e9), texts, first_of_text(texts))
    statistics = index_part(tiny_glp, READING, source, range(1), folder / "part.safetensors", identity={})
    finish(statistics, tiny_glp, tiny_llm, READING, texts, folder, facts={})
    models = {"load_llm": lambda: tiny_llm, "load_glp": lambda: tiny_glp}
    return SimpleNamespace(layer=LAYER, median_norm=1e9, neurons=folder, site=lambda llm: Site(llm, LAYER, 1e9), **models)


def test_an_index_that_is_right_passes_both_checks(texts, workspace, tiny_llm, tiny_glp, monkeypatch):
    scanned, wrong = check_index.check_scan(tiny_llm, tiny_glp, workspace, READING, texts, 20)
    assert wrong == [] and scanned["neurons"] == 20
    monkeypatch.setattr(check_index, "documents", lambda _split: texts)
    shipped, wrong = check_index.check_shipped(workspace, 20)
    assert wrong == [] and shipped["texts"] == 20 * 2 * check_index.REREAD and shipped["largest_difference"] < 1e-3
    monkeypatch.setattr(check_index, "documents", lambda _split: texts[::-1])
    _, wrong = check_index.check_shipped(workspace, 20)
    assert "are not the corpus's documents" in wrong[0]


def test_a_text_that_does_not_belong_and_a_lost_token_are_named(texts, workspace, tiny_llm, tiny_glp):
    index = NeuronIndex.open(workspace.neurons)
    highs, lows, _ = check_index.scan(tiny_llm, tiny_glp, workspace, READING, texts, np.array([5]))
    neuron = index.neuron(0, 5)
    assert check_index.differences(index, neuron, highs[:, 0], lows[:, 0]) == []
    highs[neuron.top[3].document] += 1
    found = check_index.differences(index, neuron, highs[:, 0], lows[:, 0])
    assert "top: values" in found[0] and f"[{neuron.top[3].document}] do not belong" in found[1]
    highs[neuron.top[3].document] -= 1
    neuron.counts[0] += 1
    assert ["histogram" in words for words in check_index.differences(index, neuron, highs[:, 0], lows[:, 0])] == [True]
