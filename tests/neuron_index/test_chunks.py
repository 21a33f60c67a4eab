"""How a pass over the corpus spends memory and time: how many tokens it reads at once, and how often it saves."""

import itertools
from types import SimpleNamespace

import numpy as np
import pytest

from glp_core.data.corpus import Document
from glp_core.llm.site import Site
from glp_core.neuron_index import corpus_pass
from glp_core.neuron_index.corpus_pass import TextSource, index_part
from glp_core.neuron_index.neuron_data import Reading

NEURONS = 128
"""Of the tiny prior."""


@pytest.fixture(scope="module")
def source(tiny_llm):
    texts = [Document(" ".join(["rain", "cat", "mind"][i % 3 :] * (5 + i % 7)), "set") for i in range(48)]
    return TextSource(Site(tiny_llm, 2, 1e9), texts, np.ones(len(texts), bool))


def passed(glp, source, path):
    return index_part(glp, Reading(0.2), source, range(1), path, identity={})


def test_a_state_that_takes_long_to_save_is_saved_less_often(tiny_glp, source, tmp_path, monkeypatch):
    monkeypatch.setattr(source, "chunk", 1)
    clock, at = itertools.count(), []
    monkeypatch.setattr(corpus_pass, "SECONDS_BETWEEN_SAVES", 3)
    monkeypatch.setattr("glp_core.progress.time", SimpleNamespace(monotonic=lambda: next(clock)))
    monkeypatch.setattr(corpus_pass, "_save", lambda _statistics, _path, state: next(clock) and at.append(state.get("begun")))
    passed(tiny_glp, source, tmp_path / "part")
    assert at == [[3, 1], [44, 1], None], "a save took 2 seconds, so that the next was due 40 later"
