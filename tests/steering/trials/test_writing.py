"""Whole texts are what the loop of single tokens writes, with the means of its numbers."""

import math

import numpy as np
import pytest
import torch

from glp_core.llm.decoding import Sampling
from glp_core.llm.site import Site
from glp_core.prior.distance import ManifoldMeter, make_reference
from glp_core.prior.projection import make_projector
from glp_core.steering.generation import Arm, Row, decode
from glp_core.steering.trials import writing
from tests.support import tiny

LAYER, NORM = 1, 4.0
PROMPTS = ["The cat", "A model of the mind is not the mind, but", "She said"]


@pytest.fixture(scope="module")
def rows(tiny_llm, tiny_glp):
    vector = torch.nn.functional.normalize(torch.randn(tiny.WIDTH, generator=torch.Generator().manual_seed(3)), dim=0)
    arms = [Arm("raw", vector, 1.5), Arm("walk", vector, 1.5, make_projector("walk", glp=tiny_glp)), Arm("unsteered")]
    return [Row(tiny_llm.encode(prompt), arm, seed) for seed, prompt in enumerate(PROMPTS) for arm in arms]


@pytest.mark.parametrize("temperature", [0.0, 1.1])
@pytest.mark.parametrize("at_once", [4, 100])
def test_texts_are_those_of_the_token_loop(tiny_llm, tiny_glp, rows, monkeypatch, temperature, at_once):
    monkeypatch.setitem(writing.ROWS_AT_ONCE, "cpu", at_once)
    site, sampling = Site(tiny_llm, LAYER, NORM), Sampling(10, temperature)
    acts = tiny_glp.denormalize(torch.randn(200, tiny.WIDTH, generator=torch.Generator().manual_seed(0)))
    meter = ManifoldMeter(tiny_glp, make_reference(tiny_glp, acts))
    steps = [[] for _ in rows]
    for row, step in decode(site, rows, sampling, meter=meter):
        steps[row].append(step)
    monkeypatch.setattr(tiny_llm, "stop_ids", frozenset({steps[0][4].token}))
    written = writing.write_texts(site, rows, sampling, meter=meter)
    assert len(written[0].tokens) < 10, "a stop token ends a text"
    steps = [[] for _ in rows]
    for row, step in decode(site, rows, sampling, meter=meter):
        steps[row].append(step)
    for listed, one, row in zip(steps, written, rows, strict=True):
        assert one.tokens == [step.token for step in listed if step.token not in tiny_llm.stop_ids]
        assert one.text == tiny_llm.tokenizer.decode(one.tokens)
        assert one.distance == pytest.approx(np.mean([step.distance_after for step in listed]), rel=1e-3)
        kept = [step.kept_push for step in listed]
        assert math.isnan(one.kept_push) if row.arm.name != "walk" else one.kept_push == pytest.approx(np.mean(kept), rel=1e-2)
