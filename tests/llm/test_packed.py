"""Weights in a second layout: the same numbers as torch's own layers, the same rows whatever runs beside them, for every family."""

import pytest
import torch
from torch import nn

from glp_core.speed.packed import MOST_ROWS, FewRowsLinear, laid_out_bytes, lay_out, layout_bytes
from tests.support.tiny import OTHERS, SIZES, make_tiny_llm, tiny_model


@pytest.fixture
def linear():
    torch.manual_seed(0)
    return nn.Linear(48, 80).requires_grad_(False)


@pytest.mark.parametrize("rows", [0, 1, 3, 4, 17, MOST_ROWS, MOST_ROWS + 1])
def test_it_computes_what_torch_does(linear, rows):
    x = torch.randn(rows, 48, generator=torch.Generator().manual_seed(rows))
    ours = FewRowsLinear(linear)
    assert ours.packed is not None and ours.weight is linear.weight
    torch.testing.assert_close(ours(x), linear(x), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(ours(x[:, None]), linear(x)[:, None], atol=1e-5, rtol=1e-5)


def test_a_rows_numbers_do_not_depend_on_the_rows_beside_it(linear):
    x, ours = torch.randn(36, 48), FewRowsLinear(linear)
    for rows in (4, 8, 12, 36):
        assert torch.equal(ours(x[:rows])[:4], ours(x[:4]))


def test_gradients_flow_as_before(linear):
    x = torch.randn(2, 48, requires_grad=True)
    FewRowsLinear(linear)(x).sum().backward()
    torch.testing.assert_close(x.grad, linear.weight.sum(0).expand(2, -1))


@pytest.mark.parametrize("family", sorted((SIZES | OTHERS).keys() - {"xlstm"}))
def test_a_model_that_is_laid_out_gives_its_logits_and_keeps_its_parameters(family):
    model = tiny_model(family).eval()
    ids, names = torch.randint(0, 100, (4, 7)), list(model.state_dict())
    with torch.inference_mode():
        before, wanted = model(input_ids=ids).logits, layout_bytes(model)
        lay_out(model)
        torch.testing.assert_close(model(input_ids=ids).logits, before, atol=1e-4, rtol=1e-4)
    assert list(model.state_dict()) == names
    assert laid_out_bytes(model) == wanted > 0
    assert layout_bytes(model) == 0, "once is enough"


def test_other_number_types_are_left_as_they_are():
    model = tiny_model("llama").to(torch.bfloat16)
    lay_out(model)
    assert layout_bytes(model) == laid_out_bytes(model) == 0


def test_a_models_bytes_are_told_with_its_layouts():
    llm = make_tiny_llm()
    before = llm.n_bytes
    lay_out(llm.model)
    assert llm.n_bytes == before + laid_out_bytes(llm.model)
