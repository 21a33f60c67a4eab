"""Other families and foreign folders: what is decoded is what the whole model says, and what cannot be trusted is refused at once."""

import pytest
import torch
from torch.nn import functional as F

from glp_core import GlpError
from glp_core.llm.decoding import Context, Sampling, check_decoding
from glp_core.llm.hooks import layers_of
from glp_core.llm.site import Site
from glp_core.steering.edit import Arm
from glp_core.steering.generation import Row, SharedBatch, clean_reading, decode, read_texts
from tests.support.tiny import WIDTH, make_tiny_llm

RECURRENT = ["mamba", "mamba2", "falcon_mamba", "falcon_h1", "qwen3_next", "granitemoehybrid", "lfm2"]
FAMILIES = ["opt", "opt_350m", "mpt", "gemma3_text", "gemma3", "mixtral", "gpt_oss", *RECURRENT]


@pytest.mark.parametrize("kind", FAMILIES)
def test_rows_of_unlike_length_decode_as_each_row_read_whole(kind):
    llm = make_tiny_llm(kind)
    rows = [llm.encode("The cat sat on"), llm.encode("He"), llm.encode("The cat sat on")]
    assert [acts.shape for acts in llm.activations(rows, 2)] == [(len(row), WIDTH) for row in rows]
    check_decoding(llm, 2)
    with torch.inference_mode():
        context = Context(llm, rows)
        last = torch.tensor([row[-1:] for row in rows])
        for _ in range(3):
            logits = context.feed(last, keep=1)[:, -1]
            for i, row in enumerate(rows):
                whole = llm.model(input_ids=torch.tensor([row]), use_cache=False).logits[0, -1]
                torch.testing.assert_close(logits[i], whole, rtol=1e-3, atol=1e-3)
            last = logits.argmax(-1, keepdim=True)
            rows = [[*row, int(token)] for row, token in zip(rows, last[:, 0], strict=True)]


@pytest.mark.parametrize("kind", FAMILIES)
def test_a_steered_row_of_a_batch_is_the_row_alone_and_reads_as_its_text_whole(kind):
    llm = make_tiny_llm(kind)
    site = Site(llm, 2, median_norm=5.0)
    arms = [Arm("unsteered"), Arm("pushed", F.normalize(torch.arange(WIDTH) % 5 - 2.0, dim=0), 2.0)]
    rows = [Row(llm.encode(text), arm) for text in ("The cat sat on", "He") for arm in arms]
    together, alone = written(site, rows), [written(site, [row])[0] for row in rows]
    assert together == alone and together[0] != together[1]
    prompts, answers = [row.prompt for row in rows], together
    chances, means = read_texts(site, prompts, answers)
    for prompt, answer, chance, mean in zip(prompts, answers, chances, means, strict=True):
        seen = []
        handle = layers_of(llm.model)[2].register_forward_hook(lambda *args, seen=seen: seen.append(args[-1]))
        whole = llm.model(input_ids=torch.tensor([[*prompt, *answer]]), use_cache=False)
        handle.remove()
        hidden = seen[0][0] if isinstance(seen[0], tuple) else seen[0]
        of_answer = whole.logits[0, len(prompt) - 1 : -1].log_softmax(-1)[range(len(answer)), answer]
        torch.testing.assert_close(torch.tensor(chance), of_answer, rtol=1e-3, atol=1e-3)
        torch.testing.assert_close(mean, hidden[0, len(prompt) :].mean(0), rtol=1e-3, atol=1e-3)
    with SharedBatch().writing(site, rows[:2], Sampling(5), None) as writer:
        kept = writer.read  # the prompt as it was read, where rows can be handed out
    assert (kept is None) == (kind in RECURRENT)
    one, other = clean_reading(site, prompts[0], answers[:2], kept), clean_reading(site, prompts[0], answers[:2])
    assert one[0] == other[0] and torch.equal(one[1], other[1])


def written(site, rows):
    """Return the tokens that steered rows write, a list for each."""
    tokens = [[] for _ in rows]
    for row, step in decode(site, rows, Sampling(max_tokens=5)):
        tokens[row].append(step.token)
    return tokens


def test_a_model_that_cannot_be_generated_from_is_refused_in_one_line(monkeypatch):
    with pytest.raises(GlpError, match="tiny xlstm.*cannot be generated from here.*Take another model") as refused:
        check_decoding(make_tiny_llm("xlstm"), 2)  # its rows of unlike length cannot share a batch
    assert "\n" not in str(refused.value)
    llm = make_tiny_llm()
    monkeypatch.setattr(Context, "feed", lambda *_args, **_options: (_ for _ in ()).throw(TypeError("no cache")))
    with pytest.raises(GlpError, match="cannot be generated from here.*"):
        check_decoding(llm)


def test_a_model_whose_decoding_drifts_is_refused_where_rounding_cannot_explain_it(monkeypatch):
    llm = make_tiny_llm()
    check_decoding(llm, 2)
    feed = Context.feed
    monkeypatch.setattr(Context, "feed", lambda *args, **options: 1.04 * feed(*args, **options))
    with pytest.raises(GlpError, match="something else than when it reads the text whole"):
        check_decoding(llm, 2)
    llm.model.to(torch.bfloat16)
    check_decoding(llm, 2)
