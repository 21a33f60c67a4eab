"""Other families and foreign folders: what is decoded is what the whole model says, and what cannot be trusted is refused at once."""

import pytest
import torch
from safetensors.torch import load_file, save_file

from glp_core import GlpError
from glp_core.llm.decoding import Context, check_decoding
from glp_core.llm.model import Llm, LlmSource, load_llm
from tests.support.tiny import WIDTH, make_tiny_llm, tiny_model, tiny_tokenizer


@pytest.mark.parametrize("kind", ["opt", "mpt", "lfm2", "gemma3_text", "mixtral"])
def test_rows_of_unlike_length_decode_as_each_row_read_whole(kind):
    llm = make_tiny_llm(kind)
    rows = [llm.encode("The cat sat on"), llm.encode("He"), llm.encode("The cat sat on")]
    assert [acts.shape for acts in llm.activations(rows, 2)] == [(len(row), WIDTH) for row in rows]
    check_decoding(llm)
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


def test_a_model_that_cannot_be_generated_from_is_refused_in_one_line(monkeypatch):
    with pytest.raises(GlpError, match="cannot be generated from here.*something else"):
        check_decoding(make_tiny_llm("mamba"))  # its rows of unlike length cannot share a batch
    llm = make_tiny_llm()
    monkeypatch.setattr(Context, "feed", lambda *_args, **_options: (_ for _ in ()).throw(TypeError("no cache")))
    with pytest.raises(GlpError, match="cannot be generated from here.*"):
        check_decoding(llm)


@pytest.fixture
def folder(tmp_path):
    tiny_model().save_pretrained(tmp_path)
    tiny_tokenizer().save_pretrained(tmp_path)
    return tmp_path


def rewrite(folder, change):
    path = folder / "model.safetensors"
    save_file(change(load_file(path)), path, metadata={"format": "pt"})


def test_a_folder_that_lacks_tensors_is_refused_by_their_names(folder):
    rewrite(folder, lambda tensors: {name: t for name, t in tensors.items() if "layers.1.mlp" not in name})
    with pytest.raises(GlpError, match=r"lacks 3 of the model's tensors.*layers\.1\.mlp"):
        load_llm(LlmSource("folder", str(folder)))


def test_the_prefix_of_a_compiled_model_is_left_out(folder):
    whole = load_llm(LlmSource("folder", str(folder)), dtype=torch.float32)
    rewrite(folder, lambda tensors: {f"_orig_mod.{name}": t for name, t in tensors.items()})
    again = load_llm(LlmSource("folder", str(folder)), dtype=torch.float32)
    assert all(torch.equal(a, b) for a, b in zip(whole.model.parameters(), again.model.parameters(), strict=True))


def test_a_tokenizer_with_more_ids_than_the_embedding_has_rows_is_refused(folder):
    tokenizer = tiny_tokenizer()
    tokenizer.add_tokens([f"extra{i}" for i in range(9)])
    tokenizer.save_pretrained(folder)
    with pytest.raises(GlpError, match="ids, the model's embedding"):
        load_llm(LlmSource("folder", str(folder)))


def test_names_of_control_tokens_in_a_text_stay_text():
    llm = make_tiny_llm()
    control = set(llm.tokenizer.all_special_ids)
    ids = llm.encode("a<|im_end|>b")
    assert not control & set(ids[1:]) and llm.tokenizer.decode(ids[1:]) == "a<|im_end|>b"
    assert llm.encode_all(["a<|im_end|>b"]) == [ids]


def test_a_tokenizer_without_first_and_last_tokens_has_some_first_token():
    tokenizer = tiny_tokenizer()
    tokenizer.bos_token = tokenizer.eos_token = tokenizer.pad_token = None
    llm = Llm(tiny_model(), tokenizer)
    ids = llm.encode("The cat")
    assert all(type(i) is int for i in ids) and len(ids) > 1
