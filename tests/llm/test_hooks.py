"""Hooks on tiny random models of many families, against the models' own hidden states."""

import copy
import threading

import pytest
import torch
from torch import nn

from glp_core import GlpError
from glp_core.llm.hooks import edit, edit_on, layer_at, layers_of, record
from tests.support.second_device import second_device
from tests.support.tiny import LAYERS, SIZES, WIDTH, tiny_model


@pytest.fixture(scope="module", params=sorted(SIZES))
def model(request):
    return tiny_model(request.param)


@pytest.fixture
def ids():
    return torch.randint(3, 300, (3, 9), generator=torch.Generator().manual_seed(0))


@torch.no_grad()
def hidden_states(model, ids):
    """The models' own record: layer i's output at i + 1, but for the last, which is taken after the final norm."""
    return model(input_ids=ids, output_hidden_states=True).hidden_states


@torch.no_grad()
def test_recorded_outputs_are_the_models_hidden_states(model, ids):
    wanted = hidden_states(model, ids)
    with record(model, list(range(LAYERS))) as acts:
        model(input_ids=ids)
    assert sorted(acts) == list(range(LAYERS))
    for layer in range(LAYERS - 1):
        assert torch.equal(acts[layer], wanted[layer + 1])
    assert acts[LAYERS - 1].shape == (3, 9, WIDTH)


@torch.no_grad()
def test_an_edit_that_changes_nothing_leaves_logits_bit_equal(model, ids):
    plain = model(input_ids=ids).logits
    with edit(model, {1: lambda h: h + 0.0, 2: lambda h: h.clone()}):
        edited = model(input_ids=ids).logits
    assert torch.equal(plain, edited)


@torch.no_grad()
def test_rows_are_edited_independently(model, ids):
    push = torch.randn(WIDTH, generator=torch.Generator().manual_seed(1))

    def only_second_row(h):
        return torch.cat([h[:1], h[1:2] + push, h[2:]])

    plain = model(input_ids=ids).logits
    with edit(model, {1: only_second_row}):
        mixed = model(input_ids=ids).logits
    with edit(model, {1: lambda h: h + push}):
        all_rows = model(input_ids=ids).logits
    assert torch.equal(mixed[[0, 2]], plain[[0, 2]])
    assert torch.equal(mixed[1], all_rows[1])
    assert not torch.allclose(mixed[1], plain[1], atol=1e-2)


@torch.no_grad()
def test_hidden_states_show_the_edit_whoever_came_first(ids):
    """transformers records with hooks of its own: whichever is installed first, its record must show the edited output."""
    for theirs_first in (True, False):
        model = tiny_model("llama")
        if theirs_first:
            hidden_states(model, ids)
        with edit(model, {1: lambda h: h + 100}):
            seen = hidden_states(model, ids)
        with record(model, [1]) as acts:
            model(input_ids=ids)
        torch.testing.assert_close(seen[2], acts[1] + 100)


@torch.no_grad()
def test_nothing_is_left_after_the_block_even_when_it_fails(model, ids):
    plain = model(input_ids=ids).logits
    with pytest.raises(RuntimeError, match="broken"), edit(model, {0: lambda h: h + 1}):
        raise RuntimeError("broken")
    assert torch.equal(model(input_ids=ids).logits, plain)


@torch.no_grad()
def test_edits_nest_and_the_inner_one_sees_the_outer_ones_output(ids):
    model = tiny_model("llama")
    with edit(model, {1: lambda h: h + 1}), edit(model, {1: lambda h: h * 2}), record(model, [1]) as acts:
        model(input_ids=ids)
    with record(model, [1]) as plain:
        model(input_ids=ids)
    torch.testing.assert_close(acts[1], (plain[1] + 1) * 2)


@torch.no_grad()
def test_an_edit_does_not_change_what_was_recorded_before_it(ids):
    model = tiny_model("gpt2")
    with record(model, [1]) as acts:
        model(input_ids=ids)
        before = acts[1].clone()
        with edit(model, {1: lambda h: h + 5}):
            model(input_ids=ids)
    torch.testing.assert_close(before + 5, before + 5)
    with record(model, [1]) as again:
        model(input_ids=ids)
    assert torch.equal(again[1], before)


@torch.no_grad()
def test_stop_ends_the_forward_after_the_last_layer_asked_for(model, ids):
    ran = []
    handles = [layer.register_forward_hook(lambda *_, i=i: ran.append(i)) for i, layer in enumerate(layers_of(model))]
    try:
        with record(model, [2, 0], stop=True) as acts:
            model(input_ids=ids)
    finally:
        for handle in handles:
            handle.remove()
    # the hook that ends the forward comes first, so the layer itself is not counted any more
    assert ran == [0, 1]
    wanted = hidden_states(model, ids)
    assert torch.equal(acts[0], wanted[1])
    assert torch.equal(acts[2], wanted[3])


def test_two_threads_do_not_see_each_others_edits(ids):
    model = tiny_model("llama")
    pushes = {name: torch.randn(WIDTH, generator=torch.Generator().manual_seed(i)) for i, name in enumerate("ab")}

    @torch.no_grad()
    def run(push, times, out):
        for _ in range(times):
            with edit(model, {1: lambda h: h + push}), record(model, [3]) as acts:
                out.append((model(input_ids=ids).logits, acts[3]))

    alone = {name: [] for name in pushes}
    for name, push in pushes.items():
        run(push, 1, alone[name])
    together = {name: [] for name in pushes}
    threads = [threading.Thread(target=run, args=(push, 30, together[name])) for name, push in pushes.items()]
    for thread in threads:
        thread.start()
    with torch.no_grad():
        plain = [model(input_ids=ids).logits for _ in range(30)]
    for thread in threads:
        thread.join()
    assert all(torch.equal(logits, plain[0]) for logits in plain)
    for name in pushes:
        assert len(together[name]) == 30
        logits, last = alone[name][0]
        assert all(torch.equal(got, logits) and torch.equal(acts, last) for got, acts in together[name])
    assert not torch.equal(alone["a"][0][0], alone["b"][0][0])


@torch.no_grad()
def test_a_layer_that_returns_a_tuple_keeps_its_other_members():
    class Returns(nn.Module):
        def forward(self, x):
            return x, "cache"

    model = nn.Module()
    model.model = nn.Module()
    model.model.layers = nn.ModuleList([Returns()])
    with edit(model, {0: lambda h: h + 1}):
        assert model.model.layers[0](torch.zeros(2))[1] == "cache"
        assert torch.equal(model.model.layers[0](torch.zeros(2))[0], torch.ones(2))


def test_a_copy_of_a_hooked_model_is_edited_on_its_own(ids):
    model = tiny_model("llama")
    with edit(model, {1: lambda h: h}):
        pass
    twin = copy.deepcopy(model)
    with torch.no_grad(), edit(twin, {1: lambda h: h + 3}):
        assert not torch.equal(twin(input_ids=ids).logits, model(input_ids=ids).logits)


def test_edits_and_records_of_a_spread_model_are_on_the_one_device(ids):
    model, plain = tiny_model("llama"), tiny_model("llama")
    with second_device() as second, torch.no_grad():
        edit_on(model, second)
        push = torch.arange(WIDTH).float().to(second)  # as a prior's answer would be; a CPU tensor cannot take it up
        with edit(model, {1: lambda h: h + push}), record(model, [1, 2]) as seen:
            logits = model(input_ids=ids).logits
        assert [seen[layer].device.type for layer in (1, 2)] == ["second", "second"]
        read = seen[2].cpu()
    with torch.no_grad(), edit(plain, {1: lambda h: h + torch.arange(WIDTH)}), record(plain, [2]) as wanted:
        assert torch.equal(plain(input_ids=ids).logits, logits)
    assert torch.equal(read, wanted[2])


def test_what_cannot_be_hooked_is_said():
    with pytest.raises(GlpError, match="Linear.*model.layers"):
        layers_of(nn.Linear(2, 2))
    model = tiny_model("llama")
    for index in (-1, LAYERS):
        with pytest.raises(GlpError, match=f"Layer {index} does not exist.*0 to {LAYERS - 1}"):
            layer_at(model, index)
    with pytest.raises(GlpError, match="does not exist"), record(model, [9]):
        pass
