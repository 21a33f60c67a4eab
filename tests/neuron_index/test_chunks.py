"""How a pass over the corpus spends memory and time: how many tokens it reads at once, and how often it saves."""

import itertools
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from glp_core.data.corpus import Document
from glp_core.llm.site import Site
from glp_core.neuron_index import corpus_pass
from glp_core.neuron_index.corpus_pass import TextSource, chunk_bytes, index_part, tokens_at_once
from glp_core.neuron_index.neuron_data import Reading

NEURONS = 128
"""Of the tiny prior."""


@pytest.fixture(scope="module")
def source(tiny_llm):
    texts = [Document(" ".join(["rain", "cat", "mind"][i % 3 :] * (5 + i % 7)), "set") for i in range(48)]
    return TextSource(Site(tiny_llm, 2, 1e9), texts, np.ones(len(texts), bool))


def passed(glp, source, path):
    return index_part(glp, Reading(0.2), source, range(1), path, identity={})


@pytest.mark.parametrize(
    ("chunk", "n", "tokens"), [(16_384, 6912, 16_384), (16_384, 98_304, 2730), (2048, 98_304, 2048), (2048, 2**29, 1)]
)
def test_of_many_neurons_fewer_tokens_are_read_at_once_and_what_they_take_is_counted(chunk, n, tokens):
    source = SimpleNamespace(chunk=chunk)
    assert tokens_at_once(source, n) == tokens and chunk_bytes(source, n) == 12 * n * tokens


def test_smaller_chunks_are_of_the_same_tokens_and_count_the_same(tiny_glp, source, tmp_path, monkeypatch):
    sizes, read_neurons = [], corpus_pass.read_neurons
    monkeypatch.setattr(corpus_pass, "read_neurons", lambda *what: sizes.append(len(what[1])) or read_neurons(*what))
    whole = passed(tiny_glp, source, tmp_path / "whole")
    n_whole, most = len(sizes), max(sizes)
    monkeypatch.setattr(corpus_pass, "CHUNK_BYTES", 4 * NEURONS * 200)
    parts = passed(tiny_glp, source, tmp_path / "parts")
    assert most > 200 >= max(sizes[n_whole:]) and sum(sizes[n_whole:]) == sum(sizes[:n_whole])
    assert (parts.n_tokens, parts.n_documents) == (whole.n_tokens, whole.n_documents)
    torch.testing.assert_close(parts.values, whole.values, rtol=1e-5, atol=1e-5)
    moved = (parts.counts - whole.counts).abs().sum()
    assert moved <= whole.n_tokens * NEURONS // 100, "a value's last digits may take it over an edge"


def test_a_state_that_takes_long_to_save_is_saved_less_often(tiny_glp, source, tmp_path, monkeypatch):
    monkeypatch.setattr(source, "chunk", 1)
    clock, at = itertools.count(), []
    monkeypatch.setattr(corpus_pass, "SECONDS_BETWEEN_SAVES", 3)
    monkeypatch.setattr("glp_core.progress.time", SimpleNamespace(monotonic=lambda: next(clock)))
    monkeypatch.setattr(corpus_pass, "_save", lambda _statistics, _path, state: next(clock) and at.append(state.get("begun")))
    passed(tiny_glp, source, tmp_path / "part")
    assert at == [[3, 1], [44, 1], None], "a save took 2 seconds, so that the next was due 40 later"
