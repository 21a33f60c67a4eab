"""Foreign folders: what is read is what was saved, and what cannot be trusted, or does not fit, is refused in one line before work."""

import json
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoConfig

from glp_core import GlpError
from glp_core.llm import loading, needs
from glp_core.llm.decoding import check_decoding
from glp_core.llm.hooks import edit
from glp_core.llm.loading import load_llm
from glp_core.llm.needs import MemoryNeeded, Placement, memory_needed, placement, room_by_device
from glp_core.llm.sources import LlmSource
from glp_core.memory import gigabytes
from glp_core.speed.packed import laid_out_bytes
from glp_core.workspace import Workspace
from tests.support.tiny import keep_llm, make_tiny_llm, tiny_model, tiny_tokenizer


@pytest.fixture
def folder(tmp_path):
    keep_llm(tmp_path)
    return tmp_path


def load(folder, **options):
    return load_llm(LlmSource("folder", str(folder), **options), dtype=torch.float32)


def rewrite(folder, change):
    path = folder / "model.safetensors"
    save_file(change(load_file(path)), path, metadata={"format": "pt"})


def configure(folder, **facts):
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | facts))


# tensors and tokens


def test_a_folder_that_lacks_tensors_is_refused_by_their_names(folder):
    rewrite(folder, lambda tensors: {name: t for name, t in tensors.items() if "layers.1.mlp" not in name})
    with pytest.raises(GlpError, match=r"lacks 3 of the model's tensors.*layers\.1\.mlp"):
        load(folder)


def test_a_folder_of_the_bare_model_is_refused(tmp_path):
    tiny_model().model.save_pretrained(tmp_path)
    tiny_tokenizer().save_pretrained(tmp_path)
    with pytest.raises(GlpError, match=r"lacks 1 of the model's tensors \(lm_head\.weight\).*head included"):
        load(tmp_path)


@pytest.mark.parametrize("prefix", ["_orig_mod.", "module.", "module._orig_mod."])
def test_the_prefix_of_a_wrapped_model_is_left_out(folder, prefix):
    rewrite(folder, lambda tensors: {f"{prefix}{name}": t for name, t in tensors.items()})
    again, whole = load(folder), tiny_model()
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), again.model.parameters(), strict=True))


def test_a_tokenizer_with_more_ids_than_the_embedding_has_rows_is_refused(folder):
    tokenizer = tiny_tokenizer()
    tokenizer.add_tokens([f"extra{i}" for i in range(9)])
    tokenizer.save_pretrained(folder)
    with pytest.raises(GlpError, match="ids, the model's embedding"):
        load(folder)


# formats and shapes


@pytest.mark.parametrize(
    "facts",
    [
        {"quant_method": "bitsandbytes", "load_in_4bit": True},
        {"quant_method": "gptq", "bits": 4},
        {"quant_method": "awq", "bits": 4},
        {"quant_method": "hqq", "quant_config": {}},
        {"quant_method": "compressed-tensors", "config_groups": {}},
        {"quant_method": "torchao", "quant_type": "int4_weight_only"},
        {"quant_method": "aqlm"},
    ],
)
def test_a_quantised_folder_whose_package_is_missing_is_one_line_with_the_format_and_the_way_out(folder, facts):
    configure(folder, quantization_config=facts)
    with pytest.raises(GlpError, match=f"is quantised .{facts['quant_method']}.*Install.*unquantised weights") as refused:
        load(folder)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    "facts",
    [{"hidden_size": "wide"}, {"hidden_size": 48}, {"hidden_size": None}, {"rope_parameters": 3}],
)
def test_a_configuration_that_does_not_fit_its_weights_is_refused(folder, facts):
    configure(folder, **facts)
    with pytest.raises(GlpError, match=r"Could not load|lacks \d+ of") as refused:
        load(folder)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(("status", "hinted"), [(401, True), (403, True), (404, False), (500, False)])
def test_a_model_that_the_hub_refuses_says_how_to_get_access(monkeypatch, status, hinted):
    def refuse(*_args, **_options):
        refused = RuntimeError(f"{status} Client Error")
        refused.response = SimpleNamespace(status_code=status)
        raise OSError("You are trying to access a gated repo.\nMake sure to have access to it.") from refused

    monkeypatch.setattr(AutoConfig, "from_pretrained", refuse)
    with pytest.raises(GlpError, match=r"Could not load the LLM from 'org/model': .* Make sure to have access to it\.") as said:
        load_llm(LlmSource("hub", "org/model", revision="0123abc"))
    assert str(said.value).endswith("`.venv/bin/hf auth login` or set HF_TOKEN.") == hinted


def test_layers_of_an_unknown_family_are_where_a_person_says(folder, monkeypatch):
    wanted = make_tiny_llm().activations([[1, 2]], 2)[0]
    monkeypatch.setattr("glp_core.llm.hooks.LAYER_PATHS", ("nowhere", "model.nothing"))
    with pytest.raises(GlpError, match=r"none of the known places.*--layers-at.*model\.layers \(4 of LlamaDecoderLayer\)"):
        load(folder).activations([[1, 2]], 2)
    with pytest.raises(GlpError, match=r"no list of layers at 'model\.norm'.*It has lists of modules at model\.layers"):
        load(folder, layers_at="model.norm")
    llm = load(folder, layers_at="model.layers")
    assert torch.equal(llm.activations([[1, 2]], 2)[0], wanted)
    check_decoding(llm, 2)


# memory


def test_memory_needed_is_that_of_the_loaded_model(folder):
    model = tiny_model("gpt2")
    needed = memory_needed(model.config, torch.float32, torch.device("cpu"), prior=7)
    assert needed.weights == sum(t.numel() * t.element_size() for t in (*model.parameters(), *model.buffers()))
    assert needed.prior == 7 and needed.total == needed.weights + needed.working + 7
    assert memory_needed(model.config, torch.bfloat16, torch.device("cpu")).weights == pytest.approx(
        needed.weights / 2, rel=0.01
    )


FP8 = {"quant_method": "fp8", "activation_scheme": "dynamic", "weight_block_size": [128, 128]}


def test_weights_in_eight_bits_are_made_plain_and_counted_so_and_scales_of_an_unknown_format_are_not_left_out(folder):
    def quantised(tensors):
        scaled = {name: t for name, t in tensors.items() if "_proj" in name}
        scales = {f"{name}_scale_inv": torch.full((1, 1), 2.0) for name in scaled}
        return tensors | {name: (t / 2).to(torch.float8_e4m3fn) for name, t in scaled.items()} | scales

    plain = load(folder).model.state_dict()
    rewrite(folder, quantised)
    with pytest.raises(GlpError, match=r"quantised in a format that is not known here: .*weight_scale_inv says how"):
        load(folder)
    configure(folder, quantization_config=FP8)
    told = []
    made = load_llm(LlmSource("folder", str(folder)), dtype=torch.float32, tell=told.append).model.state_dict()
    for name, tensor in plain.items():
        torch.testing.assert_close(made[name], tensor, rtol=0.07, atol=5e-3)
    weights = sum(t.numel() * t.element_size() for t in plain.values())
    counted = memory_needed(AutoConfig.from_pretrained(folder), torch.float32, torch.device("cpu"), folder=str(folder)).weights
    assert len(told) == 1 and weights <= counted < 1.1 * weights


def free(monkeypatch, **bytes_):
    monkeypatch.setattr(needs, "free_memory", lambda device: bytes_.get(torch.device(device).type))
    monkeypatch.setattr(needs, "device_title", str)


def test_a_model_that_does_not_fit_is_refused_with_numbers_before_anything_is_loaded(folder, monkeypatch):
    free(monkeypatch, cpu=200_000)
    monkeypatch.setattr(loading, "_load_model", None)
    told = []
    with pytest.raises(
        GlpError, match=r"needs 3\.0 GB \(weights .*, a forward .*, the prior 3\.0 GB.*\); cpu has 0 MB free\. Take a smaller"
    ):
        load_llm(LlmSource("folder", str(folder)), beside=3_000_000_000, tell=told.append)
    monkeypatch.undo()
    load_llm(LlmSource("folder", str(folder)), tell=told.append)
    assert len(told) == 1 and "needs" in told[0] and "free" in told[0]


def test_a_second_layout_of_the_weights_is_made_where_there_is_room_and_told(folder, monkeypatch):
    source, cpu = LlmSource("folder", str(folder)), torch.device("cpu")
    needed = memory_needed(tiny_model().config, torch.float32, cpu)
    assert 0 < needed.layout <= needed.weights
    assert "; 5 MB more make it faster)" in MemoryNeeded(1, 1, layout=5_000_000).words
    assert memory_needed(tiny_model().config, torch.half, cpu).layout == 0
    for spare, made in ((0, needed.layout), (-1, 0)):
        free(monkeypatch, cpu=needed.total + needed.layout + spare)
        assert laid_out_bytes(load_llm(source, dtype=torch.float32).model) == made


def test_what_a_workspaces_model_will_take_is_known_before_it_is_loaded(folder):
    workspace = Workspace(folder, "tiny", LlmSource("folder", str(folder)), 1, "float32", median_norm=1.0)
    weights = sum(t.numel() * t.element_size() for t in (*tiny_model().parameters(), *tiny_model().buffers()))
    assert weights < workspace.llm_bytes < weights + 10_000_000
    assert not workspace.prior_bytes
    (folder / "config.json").unlink()
    assert workspace.llm_bytes  # counted once


def test_a_model_larger_than_a_card_goes_to_all_cards_and_main_memory(monkeypatch):
    needed = MemoryNeeded(weights=16_000, working=1_000, prior=2_000)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    free(monkeypatch, cuda=10_000, cpu=30_000)
    spread = placement("Big", needed, torch.device("cuda", 0))
    assert spread.options == {"device_map": "auto", "max_memory": {0: 6_200, 1: 9_200, "cpu": 27_600}}
    assert "cuda:0, cuda:1, main memory, which is slower" in spread.notes[0]
    free(monkeypatch, cuda=20_000, cpu=30_000)
    assert placement("Big", needed, torch.device("cuda", 0)).options == {}
    free(monkeypatch, cuda=1_000, cpu=25_000)
    with pytest.raises(GlpError, match=r"Big needs .*cuda:1 has .*take --device cpu .*or take --device cuda, which spreads"):
        placement("Big", needed, torch.device("cuda", 1))
    free(monkeypatch, cuda=1_000, cpu=1_000)
    with pytest.raises(GlpError, match=r"Take a smaller model, or end what else uses the memory\.$"):
        placement("Big", needed, torch.device("cuda", 0))
    free(monkeypatch, cuda=None)
    assert "cannot be known" in placement("Big", needed, torch.device("cuda", 0)).words


def test_the_first_card_keeps_room_for_what_is_computed_beside_the_weights():
    assert room_by_device({0: 1_000, 1: 1_000}, beside=100) == {0: 820, 1: 920}
    assert room_by_device({0: 1_000, "cpu": 500}, beside=5_000) == {0: 0, "cpu": 460}


def test_a_spread_model_reads_decodes_and_is_edited_as_one_on_one_device(folder, tmp_path, monkeypatch):
    parts = {"model.embed_tokens": "cpu", "model.norm": "cpu", "model.rotary_emb": "cpu", "lm_head": "cpu"}
    layers = {f"model.layers.{i}": "disk" if i % 2 else "cpu" for i in range(4)}  # weights of every other layer are elsewhere
    options = {"device_map": parts | layers, "offload_folder": str(tmp_path / "offload")}
    monkeypatch.setattr(loading, "placement", lambda *_: Placement("spread", options, ("It is spread.",)))
    spread, whole = load(folder), make_tiny_llm()
    assert {p.device.type for p in spread.model.parameters()} == {"cpu", "meta"}
    assert spread.notes == ["It is spread."] and str(spread.device) == "cpu"
    rows = [whole.encode("The cat sat"), whole.encode("He")]
    for layer in (1, 2):
        assert all(map(torch.equal, spread.activations(rows, layer), whole.activations(rows, layer)))
    check_decoding(spread, 1)
    ids = torch.tensor(rows[:1])
    with torch.no_grad(), edit(spread.model, {1: lambda h: h + 1}), edit(whole.model, {1: lambda h: h + 1}):
        assert torch.equal(spread.model(input_ids=ids).logits, whole.model(input_ids=ids).logits)


def test_bytes_in_words():
    assert [gigabytes(n) for n in (15_300_000_000, 250_000_000, 2_000_000)] == ["15.3 GB", "0.2 GB", "2 MB"]


@pytest.mark.parametrize(
    ("claim", "words"),
    [
        ({"num_hidden_layers": 2**31}, "has 39 tensors, too few for the 2,147,483,648 layers"),
        ({"intermediate_size": 2**20}, r"makes a model of (0\.8|1\.6) GB, and its weight files have"),
    ],
)
def test_a_configuration_that_claims_more_than_the_weights_have_is_refused_before_anything_is_made(tmp_path, claim, words):
    keep_llm(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | claim))
    with pytest.raises(GlpError, match=words):
        load_llm(LlmSource("folder", str(tmp_path)))
