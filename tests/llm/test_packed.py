"""Weights in a second layout: the same numbers as torch's own layers, the same rows whatever runs beside them, for every family."""

import copy
import itertools
import weakref

import pytest
import torch
from torch import nn

from glp_core.devices import native_dtype
from glp_core.speed import packed as module
from glp_core.speed.packed import MOST_ROWS, MOST_TOKENS, StepLinear, laid_out_bytes, lay_out, layout_bytes
from tests.support.tiny import OTHERS, SIZES, make_tiny_llm, stepwise_logits, tiny_model


@pytest.fixture
def linear():
    torch.manual_seed(0)
    return nn.Linear(48, 80).requires_grad_(False)


@pytest.mark.parametrize("kernel", ["halves", "packed"])
@pytest.mark.parametrize("rows", [0, 1, 3, 4, 17, MOST_ROWS, MOST_ROWS + 1])
def test_it_computes_what_torch_does(linear, rows, kernel, monkeypatch):
    if kernel == "packed":
        monkeypatch.setattr(module, "halved", lambda *_weight: None)
    x = torch.randn(rows, 48, generator=torch.Generator().manual_seed(rows))
    ours = StepLinear(linear)
    assert getattr(ours.step, kernel) is not None and ours.weight is linear.weight
    for one_token in (x[:, None], x.T.contiguous().T[:, None]):
        torch.testing.assert_close(ours(one_token), linear(one_token), atol=1e-3, rtol=1e-3)
    for text in (x, x[:, None].expand(-1, 2, -1)):
        assert torch.equal(ours(text), linear(text)), "what is read is torch's own"


def test_weights_that_were_stored_in_16_bits_lose_nothing(linear):
    x = torch.randn(5, 1, 48)
    for dtype in (torch.bfloat16, torch.half):
        linear.weight.copy_(linear.weight.to(dtype))
        torch.testing.assert_close(StepLinear(linear)(x), linear(x), atol=2e-6, rtol=1e-5)


def test_numbers_that_16_bits_do_not_hold_stay_in_32(linear):
    linear.weight[3, 5] = 1e5
    ours = StepLinear(linear)
    assert ours.step.halves is None
    torch.testing.assert_close(ours(torch.ones(1, 1, 48)), linear(torch.ones(1, 1, 48)))


def test_a_rows_numbers_do_not_depend_on_the_rows_beside_it(linear):
    x, ours = torch.randn(MOST_ROWS, 1, 48), StepLinear(linear)
    each = torch.cat([ours(row[None]) for row in x])
    for rows in range(1, MOST_ROWS + 1):
        assert torch.equal(ours(x[:rows]), each[:rows]), rows


def test_gradients_flow_as_before(linear):
    x = torch.randn(2, 1, 48, requires_grad=True)
    StepLinear(linear)(x).sum().backward()
    torch.testing.assert_close(x.grad, linear.weight.sum(0).expand(2, 1, -1))


@pytest.mark.parametrize("family", sorted((SIZES | OTHERS).keys() - {"xlstm"}))
def test_a_model_that_is_laid_out_writes_what_it_wrote_and_keeps_its_parameters(family):
    model = tiny_model(family)
    ids, names, wanted = torch.randint(3, 100, (4, 7)), list(model.state_dict()), layout_bytes(model)
    with torch.inference_mode():
        before = stepwise_logits(model, ids)
        lay_out(model)
        after = stepwise_logits(model, ids)
    assert (after - before).norm() < 1e-2 * before.norm()
    assert list(model.state_dict()) == names
    assert laid_out_bytes(model) == wanted > 0
    assert layout_bytes(model) == 0, "once is enough"


@pytest.mark.skipif(native_dtype() != torch.bfloat16, reason="this processor multiplies no bfloat16")
def test_in_bfloat16_short_texts_are_read_by_the_layout_too(monkeypatch):
    linear = nn.Linear(64, 96).to(torch.bfloat16).requires_grad_(False)
    ours, asked = StepLinear(linear), []
    monkeypatch.setattr(type(ours.step), "__call__", lambda _step, x: asked.append(x.shape))
    for shape in ((2, 65, 64), (1, MOST_TOKENS, 64), (1, MOST_TOKENS + 1, 64), (130, 64)):
        ours(torch.zeros(shape, dtype=torch.bfloat16))
    assert [tuple(shape) for shape in asked] == [(2, 65, 64), (1, MOST_TOKENS, 64)]
    monkeypatch.undo()
    x = torch.randn(2, 65, 64).to(torch.bfloat16)
    torch.testing.assert_close(ours(x), linear(x), atol=2e-2, rtol=2e-2)


@pytest.mark.skipif(native_dtype() != torch.bfloat16, reason="this processor multiplies no bfloat16")
def test_in_bfloat16_a_model_writes_what_it_wrote_in_as_many_bytes_again():
    model = tiny_model("llama").to(torch.bfloat16)
    ids, wanted = torch.randint(3, 100, (4, 7)), layout_bytes(model)
    with torch.inference_mode():
        before = stepwise_logits(model, ids).float()
        lay_out(model)
        after = stepwise_logits(model, ids).float()
    assert (after - before).norm() < 1e-2 * before.norm()
    linears = [one for one in model.modules() if isinstance(one, nn.Linear)]
    assert laid_out_bytes(model) == wanted == sum(2 * one.weight.numel() for one in linears)


def test_other_number_types_are_left_as_they_are():
    model = tiny_model("llama").to(torch.half)
    lay_out(model)
    assert layout_bytes(model) == laid_out_bytes(model) == 0


class TestLayersThatReadTheSame:
    @pytest.fixture(params=[True, False], ids=["bias", "no bias"])
    def block(self, request):
        torch.manual_seed(0)
        sizes = {"q_proj": 48, "k_proj": 16, "v_proj": 16, "gate_proj": 80, "up_proj": 80, "o_proj": 48}
        return nn.ModuleDict({name: nn.Linear(48, n, bias=request.param) for name, n in sizes.items()}).requires_grad_(False)

    def test_have_one_product_and_each_its_own_answer_in_any_order(self, block):
        wanted = copy.deepcopy(block)
        lay_out(block)
        assert block["q_proj"].step is block["k_proj"].step is block["v_proj"].step is not block["gate_proj"].step
        assert block["gate_proj"].step is block["up_proj"].step is not block["o_proj"].step
        texts = [torch.randn(3, 1, 48) for _ in range(2)]
        for name, text in itertools.product(["k_proj", "q_proj", "v_proj", "v_proj", "up_proj", "gate_proj", "o_proj"], (0, 1)):
            torch.testing.assert_close(block[name](texts[text]), wanted[name](texts[text]), atol=1e-3, rtol=1e-3)

    def test_compute_anew_what_was_changed_in_its_place(self, block):
        lay_out(block)
        x = torch.randn(3, 1, 48)
        first = block["q_proj"](x).clone()
        x.neg_()
        if block["q_proj"].bias is None:
            torch.testing.assert_close(block["q_proj"](x), -first)
        else:
            assert not torch.equal(block["q_proj"](x), first)

    def test_keep_nothing_that_was_read_once_all_have_answered(self, block):
        lay_out(block)
        x = torch.randn(3, 1, 48)
        kept = weakref.ref(x)
        for name in block:
            block[name](x)
        del x
        assert kept() is None


def test_a_models_bytes_are_told_with_its_layouts():
    llm = make_tiny_llm()
    before = llm.n_bytes
    lay_out(llm.model)
    assert llm.n_bytes == before + laid_out_bytes(llm.model)
