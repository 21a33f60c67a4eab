"""Whole texts are what the loop of single tokens writes, with the means of its numbers."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from transformers import AutoConfig

from glp_core.llm.decoding import Sampling
from glp_core.llm.needs import cache_bytes
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


GB = 1_000_000_000
LLAMA_8B = {"hidden_size": 4096, "num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": 8}


def model_of(kind="llama", device="cuda", **sizes):
    config = AutoConfig.for_model(kind, **sizes)
    width = config.get_text_config().hidden_size
    return SimpleNamespace(
        device=torch.device(device), d_model=width, dtype=torch.bfloat16, model=SimpleNamespace(config=config)
    )


def test_the_bytes_of_keys_and_values_are_those_of_a_cache(tiny_llm):
    for kind in ("llama", "gemma", "gpt2", "opt", "mpt", "gemma2"):
        model = tiny.tiny_model(kind)
        with torch.inference_mode():
            cache = model(torch.ones(2, 5, dtype=torch.long), use_cache=True).past_key_values
        kept = sum(tensor.nbytes for layer in cache.layers for tensor in (layer.keys, layer.values))
        assert cache_bytes(model.config, torch.float32) == kept // (2 * 5), kind
    assert cache_bytes(tiny.tiny_model("mamba").config, torch.float32) == 0
    assert cache_bytes(AutoConfig.for_model("gemma4_text"), torch.float32) == 0, "whose layers differ"


def test_a_wide_model_writes_fewer_texts_side_by_side_and_no_more_than_there_is_room_for(monkeypatch):
    def rows(llm, free, tokens=158):
        monkeypatch.setattr(writing, "free_memory", lambda _device: free)
        return writing.rows_at_once(llm, tokens, writing.ROWS_AT_ONCE)

    small = model_of(hidden_size=576, num_hidden_layers=30, num_attention_heads=9, num_key_value_heads=3)
    assert rows(small, 60 * GB) == 3072
    assert rows(model_of(**LLAMA_8B), 60 * GB) == rows(model_of(**LLAMA_8B), None) == 432
    assert rows(model_of(**LLAMA_8B), 4 * GB) == 96 and 2 * GB >= 96 * 158 * 131_072
    assert rows(model_of(**LLAMA_8B), 0) == 4
    assert rows(model_of("mamba", hidden_size=1152), GB) == 1536
    assert rows(model_of(device="cpu", **LLAMA_8B), 60 * GB) == 128


def test_texts_are_written_as_many_at_once_as_there_is_room_for(tiny_llm, rows, monkeypatch):
    sizes, batch = [], writing._write_batch
    site, sampling = Site(tiny_llm, LAYER, NORM), Sampling(4)
    together = writing.write_texts(site, rows, sampling)
    monkeypatch.setattr(writing, "_write_batch", lambda site, part, *more: sizes.append(len(part)) or batch(site, part, *more))
    each = (max(len(row.prompt) for row in rows) + 4) * cache_bytes(tiny_llm.model.config, tiny_llm.dtype)
    monkeypatch.setattr(writing, "free_memory", lambda _device: int(5 * each / writing.SHARE_FOR_KEYS))
    assert [one.tokens for one in writing.write_texts(site, rows, sampling)] == [one.tokens for one in together]
    assert sizes == [4, 4, 1]
