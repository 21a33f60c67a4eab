"""Conversations made of corpus texts: in the model's template, answered by the model itself, and stored with what each token is."""

import pytest
import torch

from glp_core import GlpError
from glp_core.data import collecting, conversations, shards
from glp_core.data.collecting import collect
from glp_core.data.conversations import ANSWER, TEMPLATE, USER, answers, template_lengths
from glp_core.data.readings import PARTS
from glp_core.llm.decoding import Sampling, choose, draw
from glp_core.llm.model import Llm
from tests.data.test_store import TRAIN, VALIDATION, contents
from tests.support.tiny import make_tiny_llm


@pytest.fixture(autouse=True)
def small(monkeypatch):
    monkeypatch.setattr(collecting, "DOCUMENTS_PER_SHARD", 8)
    monkeypatch.setattr(collecting, "CONVERSATIONS_PER_SHARD", 4)
    monkeypatch.setattr(conversations, "ANSWER_TOKENS", 12)


def gather(llm, folder, n=800, chat=0.5, **options):
    return collect(llm, 1, TRAIN, VALIDATION, folder, n_activations=n, chat=chat, **options)


def greedy(llm, ids, n):
    """What the model goes on with, read anew at each token, without a cache."""
    written = []
    for _ in range(n):
        with torch.no_grad():
            written.append(int(llm.model(torch.tensor([[*ids, *written]])).logits[0, -1].argmax()))
        if written[-1] in llm.stop_ids:
            break
    return written


def test_a_conversation_is_the_template_with_the_text_and_an_answer(tiny_llm):
    before, after = template_lengths(tiny_llm)
    for number, row in enumerate(conversations.conversations(tiny_llm, TRAIN[:20], 0)):
        parts = list(row.parts)
        turn = [token for token, part in zip(row.ids, parts, strict=True) if part == USER]
        words = tiny_llm.tokenizer.decode(turn)
        assert words and TRAIN[number].text.startswith(words)
        prompt = tiny_llm.encode_chat([{"role": "user", "content": words}])
        assert list(row.ids[: len(prompt)]) == prompt
        assert parts[:before] == [TEMPLATE if number % conversations.PREAMBLE_EVERY == 0 else -1] * before
        assert parts[len(prompt) - after : len(prompt)] == [TEMPLATE] * after
        answer = parts[len(prompt) :]
        assert 0 < len(answer) <= conversations.ANSWER_TOKENS
        assert set(answer[:-1]) <= {ANSWER} and (answer[-1] == TEMPLATE) == (row.ids[-1] in tiny_llm.stop_ids)


def test_turns_differ_in_length_and_a_conversation_depends_on_its_document_alone(tiny_llm):
    together = conversations.conversations(tiny_llm, TRAIN, 0)
    apart = [row for first in (0, 7, 30) for row in conversations.conversations(tiny_llm, TRAIN[first : first + 5], first)]
    assert len({row.parts.count(USER) for row in together}) > 5
    for row in apart:
        assert row == together[row.document]


def test_a_cold_answer_is_the_greedy_one_cut_at_its_end(tiny_llm):
    prompts = [tiny_llm.encode_chat([{"role": "user", "content": d.text}]) for d in TRAIN[:6]]
    written = answers(tiny_llm, prompts, [1e-6] * 6, list(range(6)), 10)
    assert written == [greedy(tiny_llm, prompt, 10) for prompt in prompts]
    likely = Llm(tiny_llm.model, tiny_llm.tokenizer)
    likely.stop_ids = frozenset({written[0][2]})
    assert answers(likely, prompts[:1], [1e-6], [0], 10) == [written[0][: written[0].index(written[0][2]) + 1]]


def test_a_hot_answer_follows_the_models_probabilities(tiny_llm):
    prompt = tiny_llm.encode_chat([{"role": "user", "content": "The cat"}])
    first = torch.tensor([row[0] for row in answers(tiny_llm, [prompt] * 3000, [1.0] * 3000, list(range(3000)), 1)])
    with torch.no_grad():
        wanted = tiny_llm.model(torch.tensor([prompt])).logits[0, -1].softmax(-1)
    got = torch.bincount(first, minlength=len(wanted)) / 3000
    likely = wanted.topk(5).indices
    torch.testing.assert_close(got[likely], wanted[likely], atol=0.03, rtol=0)


def test_every_token_of_an_answer_is_chosen_from_a_full_forward_by_one_stream_of_the_rows_seed(tiny_llm):
    prompts = [tiny_llm.encode_chat([{"role": "user", "content": words}]) for words in ("The cat", "A film of the rain")]
    temperatures, seeds = [0.7, 1.2], [5, 8]
    written = answers(tiny_llm, prompts, temperatures, seeds, 8)
    assert min(map(len, written)) >= 4
    for prompt, temperature, seed, answer in zip(prompts, temperatures, seeds, written, strict=True):
        generator, seen = torch.Generator().manual_seed(seed), list(prompt)
        for token in answer:
            with torch.no_grad():
                logits = tiny_llm.model(torch.tensor([seen])).logits[0, -1:]
            noise = draw(generator, logits.shape[-1])[None]
            assert int(choose(logits, Sampling(temperature=temperature), noise)) == token
            seen.append(token)


def test_the_asked_share_is_stored_and_each_row_is_the_models_activation(tiny_llm, tmp_path):
    store = gather(tiny_llm, tmp_path, n=901, chat=0.25)
    assert (store.n_activations, store.n_chat) == (901, 225)
    rows = store.rows(len(store.shards) - len(store.manifest["chat"]))
    conversation = {row.document: row for row in conversations.conversations(tiny_llm, TRAIN[:4], 0)}
    for i in range(0, len(rows["acts"]), 9):
        row, position = conversation[int(rows["documents"][i])], int(rows["positions"][i])
        assert position > 0 and row.ids[position] == rows["tokens"][i] and row.parts[position] == rows["parts"][i]
        expected = tiny_llm.activations([row.ids], 1)[0][position]
        torch.testing.assert_close(rows["acts"][i], expected, atol=1e-5, rtol=1e-5)


def test_plain_text_is_the_same_with_and_without_chat(tiny_llm, tmp_path):
    with pytest.raises(GlpError, match="activations of text already, more than the 200 .* Ask for at least"):
        gather(tiny_llm, gather(tiny_llm, tmp_path / "c", n=400, chat=0).folder, n=400, chat=0.5)
    with_chat = contents(gather(tiny_llm, tmp_path / "a", n=800, chat=0.5).folder)
    without = contents(gather(tiny_llm, tmp_path / "b", n=400, chat=0).folder)
    assert {name for name in without if name.startswith(("train", "validation"))} <= set(with_chat)
    assert all(with_chat[name] == without[name] for name in without if name.startswith(("train", "validation")))


def test_held_out_conversations_are_told_apart_by_part(tiny_llm, tmp_path):
    store = gather(tiny_llm, tmp_path)
    held_out = store.chat_validation()
    assert set(held_out) == set(PARTS) - {"text"}
    assert sum(map(len, held_out.values())) == store.manifest["chat_validation"]["activations"]
    assert len(store.chat_validation(5)["user"]) == 5
    assert gather(tiny_llm, tmp_path / "plain", chat=0).chat_validation() == {}


def test_a_kill_in_any_shard_and_a_later_call_give_the_same_bytes(tiny_llm, tmp_path, monkeypatch):
    whole = contents(gather(tiny_llm, tmp_path / "whole").folder)
    write, written = collecting.write_tensors, 0

    def dying(path, tensors, metadata=None):
        nonlocal written
        written += 1
        if written % 3 == 0:
            raise KeyboardInterrupt
        write(path, tensors, metadata)

    for module in (collecting, shards):
        monkeypatch.setattr(module, "write_tensors", dying)
    for _ in range(30):
        try:
            gather(tiny_llm, tmp_path / "part")
            break
        except KeyboardInterrupt:
            continue
    assert written > 9
    assert contents(tmp_path / "part") == whole
    for module in (collecting, shards):
        monkeypatch.setattr(module, "write_tensors", write)
    gather(tiny_llm, tmp_path / "grown", n=300)
    assert contents(gather(tiny_llm, tmp_path / "grown").folder) == whole


def test_groups_that_are_read_together_give_the_same_shards(tiny_llm, tmp_path, monkeypatch):
    """As on an accelerator; equal up to rounding, since rows share batches."""
    one_by_one = gather(tiny_llm, tmp_path / "a", n=1000)
    monkeypatch.setattr(collecting._Collector, "_group", lambda self, shard, kind: 4 * shard)
    monkeypatch.setattr(collecting._Collector, "_ahead", True)
    together = gather(tiny_llm, tmp_path / "b", n=1000)
    assert one_by_one.manifest == together.manifest
    for i in range(len(together.shards)):
        for name, values in one_by_one.rows(i).items():
            torch.testing.assert_close(together.rows(i)[name], values, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(("chat", "message"), [(1.0, "less than 1"), (-0.1, "less than 1"), (float("nan"), "less than 1")])
def test_a_share_that_cannot_be_is_refused(tiny_llm, tmp_path, chat, message):
    with pytest.raises(GlpError, match=message):
        gather(tiny_llm, tmp_path, chat=chat)
    assert not list(tmp_path.iterdir())


def test_a_model_without_a_template_is_refused_before_any_work(tmp_path):
    llm = make_tiny_llm()
    llm.tokenizer.chat_template = None
    with pytest.raises(GlpError, match="no chat template"):
        gather(llm, tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_model_that_can_think_is_told_not_to():
    llm = make_tiny_llm()
    llm.tokenizer.chat_template += "{% if enable_thinking is not defined or enable_thinking %}<think>{% endif %}"
    assert "<think>" not in llm.tokenizer.decode(llm.encode_chat([{"role": "user", "content": "Hi"}]))
