"""What `evaluate` says of where a prior comes from: the LLM that it was trained on, and what was measured before it went on."""

import shutil
from dataclasses import replace

import pytest

from glp_core.__main__ import main
from glp_core.files import write_json
from glp_core.llm.sources import LlmSource
from glp_core.prior.checkpoint import save_glp
from glp_core.workspace import Workspace
from tests.support.pages import make_store
from tests.support.reference import write_released_folder
from tests.support.tiny import WIDTH, tiny_glp

BASE = "org/Tiny-Base"
SIZES = ("--activations", 64, "--samples", 32, "--documents", 3, "--tokens", 8, "--conversations", 3)
SHORT = ("--activations", 1024, "--batch", 64, "--sigma-groups", 16, "--validation", 64, "--dtype", "float32", "--install")


def of_our_own(folder):
    save_glp(tiny_glp(), folder, about={"llm": BASE, "layer": 2})


def released_for_several_layers(folder):
    write_released_folder(folder, d_input=WIDTH, multi=4, statistics="layered")
    with (folder / "config.yaml").open("a") as file:
        file.write(f"model_name: {BASE}\n")


@pytest.mark.parametrize("make", [of_our_own, released_for_several_layers], ids=lambda make: make.__name__)
def test_a_transfer_is_said_and_after_training_goes_on_both_delta_lm_losses_stand_there(make, tmp_path, monkeypatch, capsys):
    workspace, llm, store, texts = make_store(tmp_path, train=30, held_out=10, activations=300)
    shutil.rmtree(workspace.folder / "glp")
    make(workspace.folder / "glp")
    monkeypatch.setenv("GLP_EXPLORER_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(Workspace, "load_llm", lambda *_: llm)
    monkeypatch.setattr(Workspace, "documents", lambda _self, _name: texts[30:])
    at = ("--workspace", str(workspace.folder), "--device", "cpu", "--store", str(store.folder))

    def run(name, *words):
        assert main([name, *at, *map(str, words)]) == 0, capsys.readouterr().err
        return capsys.readouterr().err

    said = run("evaluate", *SIZES)
    first = workspace.report("evaluate")
    assert first["transfer_from"] == BASE and "before" not in first
    assert f"was trained on {BASE}: what follows is a transfer to {workspace.llm.label}" in said
    run("train", "--from", workspace.folder / "glp", "--run", "on", *SHORT)
    said = run("evaluate", *SIZES)
    second = workspace.report("evaluate")
    assert second["glp_digest"] == workspace.glp_digest() != first["glp_digest"]
    assert second["before"] == {name: first[name] for name in second["before"]}
    assert {"glp_digest", "delta_lm", "transfer_from"} <= set(second["before"])
    assert f"Before it went on: Delta LM {first['delta_lm']['glp']:.3f}." in said
    told = workspace.report("conversations")
    assert told["conversations"] == 3 and set(told["ratios"]) == {"all", "user", "answer", "template"}
    monkeypatch.setattr(llm.tokenizer, "chat_template", None)
    assert "Conversations are left out" in run("evaluate", *SIZES) and workspace.report("conversations") is None
    assert workspace.report("evaluate")["before"] == second["before"]  # measured again, it stays


def test_texts_that_are_short_are_told_before_anything_is_measured(tmp_path, monkeypatch, capsys):
    workspace, llm, store, texts = make_store(tmp_path, train=30, held_out=10, activations=300)
    workspace.report_path("reference").unlink()
    monkeypatch.setattr(Workspace, "load_llm", lambda *_: llm)
    held_out = texts[30:]
    monkeypatch.setattr(Workspace, "documents", lambda _self, _name: held_out)
    half = sorted(len(llm.encode(document.text)) for document in held_out)[len(held_out) // 2]
    at = ("--workspace", workspace.folder, "--device", "cpu", "--store", store.folder)
    assert main(["evaluate", *map(str, (*at, *SIZES, "--tokens", 4000))]) == 0
    told = f"No held-out text has 4,000 tokens: {half} of each are read"
    said = capsys.readouterr().err
    assert told in said and said.index(told) < said.index("Held-out loss")
    assert workspace.report("evaluate")["delta_lm"]["tokens"] == half
    workspace.report_path("reference").unlink()
    held_out = [replace(document, text="A") for document in held_out]
    assert main(["evaluate", *map(str, (*at, *SIZES))]) == 1
    assert "fewer than 8 tokens: give longer ones" in capsys.readouterr().err and workspace.report("reference") is None


@pytest.mark.parametrize(
    ("source", "named"),
    [
        (LlmSource("folder", "/models/Tiny-Base/", title="Tiny-Base"), True),
        (LlmSource("hub", "Org/tiny-base", revision="0123456"), True),
        (LlmSource("hub", "org/Tiny-Base-Instruct", revision="0123456"), False),
        (LlmSource("folder", "/models/base", title="My base"), False),
    ],
)
def test_a_model_is_known_by_the_last_part_of_its_name_whoever_keeps_it(source, named, tmp_path):
    assert source.is_named(BASE) is source.is_named(f"{BASE}@0123456789") is named
    workspace = Workspace(tmp_path, "my", source, 2, median_norm=1.0)
    assert workspace.transferred_from() == ""  # no prior says anything
    write_json(tmp_path / "glp" / "config.json", {"about": {"llm": BASE}})
    assert workspace.transferred_from() == ("" if named else BASE)
