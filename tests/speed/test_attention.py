"""Attention of a decode step: torch's own numbers, and the same to the bit wherever a row's padding lies."""

import pytest
import torch
from torch.nn import functional as F

from glp_core.devices import native_dtype
from glp_core.llm.decoding import Context
from glp_core.speed.attention import NAME, attend_row_by_row, step_attention
from glp_core.steering.generation import Arm, Sampling
from glp_core.steering.loop import Loop, Row
from tests.support.tiny import OTHERS, SIZES, make_tiny_llm, stepwise_logits, tiny_model


def drawn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("added", [True, False], ids=["added mask", "true or false"])
def test_it_is_torchs_attention(added):
    query, key, value = drawn(3, 6, 1, 8), drawn(3, 2, 11, 8, seed=1), drawn(3, 2, 11, 5, seed=2)
    mask = torch.arange(11) >= torch.tensor([0, 3, 7])[:, None, None, None]
    mask = torch.zeros(mask.shape).masked_fill(~mask, -torch.inf) if added else mask
    for given in (None, mask):
        expected = F.scaled_dot_product_attention(query, key, value, given, scale=0.3, enable_gqa=True)
        torch.testing.assert_close(step_attention(query, key, value, given, 0.3), expected)


@pytest.mark.parametrize("padding", [1, 2, 7, 40])
def test_padding_changes_no_bit(padding):
    query, key, value = (
        one.bfloat16() for one in (drawn(4, 6, 1, 64), drawn(4, 2, 90, 64, seed=1), drawn(4, 2, 90, 64, seed=2))
    )
    alone = step_attention(query, key, value, None, 0.125)
    padded = [F.pad(one, (0, 0, padding, 0), value=3.0) for one in (key, value)]
    mask = (torch.arange(90 + padding) >= padding).expand(4, 1, 1, -1)
    assert torch.equal(step_attention(query, *padded, mask, 0.125), alone)


@pytest.mark.parametrize("family", sorted((SIZES | OTHERS).keys() - {"xlstm"}))
def test_a_model_of_every_family_writes_what_it_wrote(family):
    model, ids = (
        tiny_model(family).to(torch.bfloat16),
        torch.randint(3, 100, (4, 7), generator=torch.Generator().manual_seed(0)),
    )
    was = model.config._attn_implementation
    with torch.inference_mode():
        before = stepwise_logits(model, ids).float()
        attend_row_by_row(model)
        after = stepwise_logits(model, ids).float()
    assert model.config._attn_implementation == (NAME if was == "sdpa" else was)
    assert (after - before).norm() < 3e-2 * before.norm()


def test_other_number_types_keep_torchs_own():
    model = tiny_model("llama")
    attend_row_by_row(model)
    assert model.config._attn_implementation == "sdpa"


@pytest.mark.skipif(native_dtype() != torch.bfloat16, reason="this processor multiplies no bfloat16")
def test_a_row_of_the_demo_keeps_its_numbers_when_one_of_another_length_joins(demo, demo_llm):
    site, sampling = demo.site(demo_llm), Sampling(20, temperature=1.0)
    prompts = ["The weather was 39", "My neighbour says that the council of our town has"]

    def loop(prompt):
        return Loop(site, [Row(demo_llm.encode(prompt), Arm("unsteered"), 7)], sampling)

    def logits(loop):
        return torch.stack([loop.advance()[0][: len(loop.lines)] for _ in range(16)])

    alone = [logits(loop(prompt))[:, 0] for prompt in prompts]
    both = loop(prompts[0])
    both.join(loop(prompts[1]))
    together = logits(both)
    assert torch.equal(together[:, 0], alone[0]) and torch.equal(together[:, 1], alone[1])


def test_a_row_that_may_look_at_nothing_stays_finite_and_the_others_as_they_are():
    generator = torch.Generator().manual_seed(0)
    query, key, value = (torch.randn(2, 4, n, 8, generator=generator) for n in (1, 5, 5))
    seen = torch.tensor([[False] * 5, [False, True, True, True, True]])[:, None, None]
    for mask in (seen, torch.zeros(2, 1, 1, 5).masked_fill(~seen, -torch.inf)):
        found = step_attention(query, key, value, mask, 0.3)
        assert found.isfinite().all()
        assert torch.equal(found[1:], step_attention(query[1:], key[1:, :, 1:], value[1:, :, 1:], None, 0.3))


def test_a_prompt_of_the_first_token_alone_shares_a_batch_with_one_of_two():
    llm = make_tiny_llm()
    llm.model.to(torch.bfloat16)
    attend_row_by_row(llm.model)
    with torch.inference_mode():
        logits = Context(llm, [[1, 40], [1], [1], [1]]).feed(torch.tensor([[40], [1], [1], [1]]))
        alone = Context(llm, [[1]] * 4).feed(torch.tensor([[1]] * 4))
    assert logits.isfinite().all()
    torch.testing.assert_close(logits[1:], alone[1:], atol=2e-2, rtol=2e-2)
