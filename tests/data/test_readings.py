"""Reading rows of ids and adding up their activations: what is held in memory together."""

import weakref

import torch

from glp_core.data import moments, readings
from glp_core.data.moments import Moments
from glp_core.data.readings import read, text_rows
from tests.data.test_store import TRAIN


def test_a_read_holds_none_of_the_batches_before_the_last_one(tiny_llm, monkeypatch):
    forwards, seen = readings._forwards, []

    def watched(*arguments):
        for places, acts in forwards(*arguments):
            assert all(earlier() is None for earlier in seen[:-1])
            seen.append(weakref.ref(acts))
            yield places, acts

    rows = text_rows(tiny_llm, TRAIN[:9], 0, 128)
    whole = read(tiny_llm, 1, rows)
    monkeypatch.setattr(readings, "_forwards", watched)
    monkeypatch.setattr(readings, "tokens_per_forward", lambda _device, _width: 1)
    found = read(tiny_llm, 1, rows)
    assert len(seen) == 9
    torch.testing.assert_close(found.acts, whole.acts)


def test_moments_of_many_rows_are_added_a_part_at_a_time(monkeypatch):
    acts, taken = 50 + torch.randn(1000, 6), []
    whole = Moments(acts.mean(0))
    whole.add(acts)
    monkeypatch.setattr(moments, "ROWS_AT_ONCE", 64)
    monkeypatch.setattr(moments, "doubled", lambda values: taken.append(len(values)) or values.double())
    parts = Moments(acts.mean(0))
    parts.add(acts)
    assert max(taken) == 64
    for one, other in zip(parts.statistics().values(), whole.statistics().values(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-6, atol=1e-6)
