"""Decode steps on buffers that stay: which are kept for later requests, and what they take. What they write: test_shared_batch.py."""

from types import SimpleNamespace

import torch

from glp_core.llm import fixed_step
from glp_core.llm.fixed_step import FixedStep, FixedSteps
from tests.support import tiny


def step_of(size):
    return SimpleNamespace(cache=SimpleNamespace(size=size))


def test_of_steps_that_wait_the_latest_are_kept_as_far_as_there_is_room(monkeypatch):
    monkeypatch.setattr(fixed_step, "BYTES_KEPT", 100)
    kept = FixedSteps()
    small = [step_of(30) for _ in range(6)]
    for one in small:
        kept.give_back(one)
    assert kept._free == small[-4:]
    large = step_of(1000)
    kept.give_back(large)
    assert kept._free == [*small[-3:], large], "the last one is kept whatever it takes"
    kept.give_back(small[0])
    assert kept._free == [small[0]]


def test_a_step_takes_what_its_keys_and_values_take():
    model = tiny.tiny_model()
    cache = model(torch.tensor([[1, 5, 6]]), use_cache=True).past_key_values
    heads, width = cache.layers[0].keys.shape[1::2]
    assert FixedStep(model, cache, 64).cache.size == tiny.LAYERS * 2 * heads * 64 * width * 4
