"""Commands over one's own texts: collected with --texts once, read by all later commands without being told again."""

import json
import re
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from glp_core.__main__ import main
from glp_core.data import collecting, shards
from glp_core.data.bank import Bank
from glp_core.data.store import ActivationStore
from glp_core.data.texts.documents import held_out
from glp_core.data.texts.source import OwnTexts
from glp_core.files import read_json
from glp_core.neuron_index.reader import NeuronIndex
from glp_core.neurons.planes import pca_plane
from glp_core.prior.checkpoint import save_glp
from glp_core.workspace import Workspace
from tests.cli.conftest import SMALL_RUN
from tests.data.test_store import WORDS, contents
from tests.support import tiny


@pytest.fixture
def here(tmp_path, llm_folder, monkeypatch):
    """A place for a workspace, a cache of its own, and a folder of three files with 120 texts."""
    monkeypatch.setenv("GLP_EXPLORER_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("glp_core.data.corpus._test_rows", frozenset)
    monkeypatch.setattr(collecting, "DOCUMENTS_PER_SHARD", 8)
    (tmp_path / "texts").mkdir()
    rng = np.random.default_rng(0)
    for number in range(3):
        texts = [" ".join(rng.choice(WORDS, rng.integers(6, 30))) for _ in range(40)]
        (tmp_path / "texts" / f"{number}.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    monkeypatch.chdir(tmp_path)
    new = ["--llm", llm_folder, "--layer", 1, "--dtype", "float32", "--texts", "texts"]

    def run(command, *words, at="ws"):
        return main([command, "--workspace", at, *map(str, words)])

    return SimpleNamespace(run=run, new=new, texts=tmp_path / "texts")


def store_of(folder="ws"):
    return ActivationStore(Workspace.open(folder).store_folder)


def test_a_workspace_remembers_its_texts_and_collects_only_them(here, capsys):
    assert here.run("collect", *here.new, "--activations", 700) == 0
    workspace = Workspace.open("ws")
    assert workspace.texts == OwnTexts(str(here.texts), "text")
    assert read_json(workspace.folder / "workspace.json")["texts"] == {"source": str(here.texts), "field": "text"}
    documents, llm = workspace.documents("train")[0:200], workspace.load_llm()
    rows = store_of().rows(0)
    for place in range(0, len(rows["tokens"]), 29):
        ids = llm.encode(documents[int(rows["documents"][place])].text)
        assert ids[int(rows["positions"][place])] == rows["tokens"][place]
    assert {document.source for document in documents} == {"0.jsonl", "1.jsonl", "2.jsonl"}
    assert here.run("collect", "--activations", 800, "--texts", "texts") == 0  # the same texts may be named again
    assert store_of().n_activations == 800
    assert f"over {here.texts} [text]" in capsys.readouterr().err


def test_texts_that_are_others_now_are_not_taken_for_those_that_were_collected(here, capsys):
    assert here.run("collect", *here.new, "--activations", 700) == 0
    assert here.run("collect", "--activations", 800, "--part", "1/2", "--out", "shared") == 0
    save_glp(tiny.tiny_glp(), Path("ws/glp"), about={"layer": 1})
    before = (here.texts / "0.jsonl").read_bytes()
    changes = (
        lambda: (here.texts / "another.jsonl").write_text('{"text": "More of the same."}\n'),
        lambda: (
            (here.texts / "another.jsonl").unlink()
            or (here.texts / "0.jsonl").write_bytes(before[: before[:-1].rindex(b"\n") + 1])
        ),
    )
    for change in changes:
        change()
        for command in (
            ("collect", "--activations", 900),
            ("collect", "--activations", 800, "--part", "1/2", "--out", "shared"),
            ("bank", "--activations", 60),
            ("index", "--store", store_of().folder),
        ):
            assert here.run(*command) == 1
            assert "files were added, removed or changed. Put them back" in capsys.readouterr().err, command
    assert here.run("collect", "--activations", 800, "--part", "2/2", "--out", "shared") == 0
    assert here.run("collect", "--activations", 800, "--join", 2, "--out", "shared") == 1
    assert "Collect all parts alike" in capsys.readouterr().err
    (here.texts / "0.jsonl").write_bytes(before)
    assert here.run("collect", "--activations", 900) == 0
    assert store_of().n_activations == 900


@pytest.mark.parametrize("chat", [0, 0.2])
def test_collecting_killed_again_and_again_gives_the_same_bytes(here, monkeypatch, chat):
    monkeypatch.setattr("glp_core.data.conversations.ANSWER_TOKENS", 4)
    words = [*here.new, "--activations", 900, "--chat", chat]
    assert here.run("collect", *words, "--out", "whole", at="one") == 0
    write, left = shards.write_tensors, 4

    def dying(path, tensors, metadata=None):
        nonlocal left
        if left and left % 2:
            left -= 1
            raise KeyboardInterrupt
        left -= 1 if left else 0
        write(path, tensors, metadata)

    monkeypatch.setattr(shards, "write_tensors", dying)
    statuses = [130]
    while statuses[-1] == 130:
        statuses.append(here.run("collect", *words, "--out", "parts", at="two"))
    assert statuses == [130, 130, 130, 0]
    assert contents(here.texts.parent / "parts") == contents(here.texts.parent / "whole")


def test_texts_that_end_early_are_kept_with_a_word_and_the_workspace_is_finished(here, capsys):
    assert here.run("collect", *here.new, "--activations", 10**6) == 0
    assert "The texts end before the 1,000,000 activations" in capsys.readouterr().err
    store, workspace = store_of(), Workspace.open("ws")
    assert store.n_documents == len(workspace.documents("train")[0:1000]) == 120 - len(held_out(workspace.texts))
    assert here.run("train", "--activations", 640, *SMALL_RUN) == 0
    assert here.run("collect", "--activations", 10**6) == 0  # nothing is left to do
    assert store_of().manifest == store.manifest


def test_what_they_take_on_the_disk_is_told_before_the_work(here, monkeypatch, capsys):
    monkeypatch.setattr("shutil.disk_usage", lambda path: SimpleNamespace(free=50_000))
    monkeypatch.setattr("glp_core.cli.data.collect.gigabytes", lambda n: f"{n} bytes")
    assert here.run("collect", *here.new, "--activations", 700) == 0
    shown = capsys.readouterr().err
    told = int(re.search(r"700 activations take at most (\d+) bytes; 50000 bytes are free", shown)[1])
    assert "When the disk is full" in shown and shown.index("take at most") < shown.index("Made the workspace")
    stored = sum(path.stat().st_size for path in store_of().shards)
    assert stored - 500 * len(store_of().shards) < told <= stored  # a file's header is less than 500 bytes
    assert here.run("collect", "--activations", 700) == 0
    assert "All 700 of them are there." in capsys.readouterr().err


def interrupted(*_, **__):
    raise KeyboardInterrupt


def test_later_commands_read_the_same_texts(here, monkeypatch, capsys):
    monkeypatch.setattr("glp_core.cli.data.bank.umap_plane", lambda rows, others, progress: pca_plane(rows, others))
    assert here.run("collect", *here.new, "--activations", 700) == 0
    assert here.run("train", "--stream", "--activations", 3200, "--buffer", 640, *SMALL_RUN, "--install") == 0
    assert "The texts ended and were read again: they hold" in capsys.readouterr().err
    with monkeypatch.context() as patch:
        patch.setattr("glp_core.cli.neurons.index.table_bytes", lambda n_neurons: 10**15)
        assert here.run("index", "--sigma", 0.3, "--draws", 0) == 1
    assert re.search(r"The index of [\d,]+ neurons takes 1000000.\d GB of memory; .* Make it smaller", capsys.readouterr().err)
    assert here.run("index", "--sigma", 0.3, "--draws", 0) == 0
    index = NeuronIndex.open(Workspace.open("ws").neurons)
    assert index.facts["corpus"] == f"{here.texts} [text]"
    assert index.facts["documents"] == 120 - len(held_out(Workspace.open("ws").texts))
    described = Workspace.open("ws").neurons / "descriptions.json"
    with monkeypatch.context() as patch:
        patch.setattr("glp_core.cli.neurons.describe.describe_automatically", interrupted)
        assert described.is_file() and here.run("index", "--sigma", 0.3, "--draws", 0) == 130
    assert not described.exists(), "no descriptions of another index stay beside a new one"
    assert here.run("evaluate", "--activations", 50, "--samples", 20, "--documents", 2, "--tokens", 6) == 0
    store = store_of()
    assert here.run("index", "--sigma", 0.3, "--draws", 0, "--store", store.folder, "--documents", 100, "--fresh") == 1
    assert "wanted at least a block of 1,024" in capsys.readouterr().err  # its last block is not whole
    assert here.run("bank", "--activations", 60, "--reference", 50) == 0
    kept = " ".join(document.text for document in held_out(Workspace.open("ws").texts))
    contexts = Bank.load(Workspace.open("ws").folder / "bank").contexts
    assert all("".join(context).strip() in kept for context in contexts)


def test_a_folder_that_moved_is_named_and_the_rest_of_the_workspace_opens(here, capsys):
    assert here.run("collect", *here.new, "--activations", 300) == 0
    here.texts.rename(here.texts.parent / "elsewhere")
    for words in (["collect", "--activations", 400], ["train", "--stream", "--buffer", 640, *SMALL_RUN]):
        assert here.run(*words) == 1
        assert f"No texts at {here.texts} [text]: wanted" in capsys.readouterr().err
    assert Workspace.open("ws").documents  # facts are read without the texts
    assert here.run("train", "--activations", 640, *SMALL_RUN) == 0  # what is stored is enough


def test_other_texts_for_a_workspace_are_refused(here, tmp_path, capsys):
    assert here.run("collect", *here.new, "--activations", 300) == 0
    (tmp_path / "other.txt").write_text("one\ntwo\n")
    assert here.run("collect", "--texts", "other.txt") == 1
    assert "A workspace keeps its texts" in capsys.readouterr().err
    assert main(["collect", "--texts", "other.txt"]) == 1
    assert "reads the demo's corpus, wanted" in capsys.readouterr().err
    assert here.run("collect", "--text-field", "body") == 1
    assert "give both" in capsys.readouterr().err
    same_name = [*here.new[:-1], "other.txt"]
    (tmp_path / "other.txt").write_text("\n".join(f"Line {i} of the file." for i in range(90)))
    assert (
        here.run("collect", *same_name, "--activations", 300, at="second") == 0
    )  # the default store has the name of the workspace
    assert Workspace.open(tmp_path / "second").name == "tiny-llama, layer 1 2"
    named = [*same_name, "--name", "tiny-llama, layer 1"]
    assert here.run("collect", *named, "--activations", 300, at="third") == 1
    assert "holds activations of" in capsys.readouterr().err
