"""The commands, on a tiny LLM in a folder: what they make, what they say, how they stop and go on."""

import csv
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from importlib import import_module
from types import SimpleNamespace

import pytest
import torch

from glp_core.__main__ import main
from glp_core.cli import console
from glp_core.cli.commands import COMMANDS, MODULES, OF_NO_WORKSPACE
from glp_core.cli.data.collect import llm_source
from glp_core.data import collecting
from glp_core.data.store import ActivationStore
from glp_core.errors import GlpError
from glp_core.files import read_json
from glp_core.llm.sources import SMOLLM2
from glp_core.workspace import Workspace
from tests.cli.conftest import SMALL_RUN
from tests.data.test_store import TRAIN, VALIDATION
from tests.support.tiny import LAYERS, WIDTH, tiny_model, tiny_tokenizer


@pytest.fixture
def here(tmp_path, llm_folder, monkeypatch):
    """A place for a workspace, a cache of its own, and a small corpus."""
    monkeypatch.setenv("GLP_EXPLORER_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(Workspace, "documents", lambda _self, split: TRAIN if split == "train" else VALIDATION)
    monkeypatch.setattr(collecting, "DOCUMENTS_PER_SHARD", 8)
    new = ["--llm", str(llm_folder), "--layer", "1", "--dtype", "float32"]
    return SimpleNamespace(ws=tmp_path / "ws", new=new, at=["--workspace", str(tmp_path / "ws")])


def collect(here, *more):
    return main(["collect", *here.at, "--activations", "700", *more])


@pytest.fixture
def collected(here):
    assert collect(here, *here.new) == 0
    return here


# the registry


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_explains_itself(name, capsys):
    with pytest.raises(SystemExit) as stopped:
        main([name, "--help"])
    assert stopped.value.code == 0
    shown = capsys.readouterr().out
    assert COMMANDS[name].split()[0] in shown
    assert ("--workspace" in shown) == (name not in OF_NO_WORKSPACE)
    module = import_module(MODULES[name])
    assert module.__doc__ and module.run.__doc__


def test_help_lists_all_commands_without_loading_torch():
    code = "import sys\nfrom glp_core.__main__ import main\ntry: main(['--help'])\nfinally: print('torch' in sys.modules)"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert all(re.search(rf"^ +{name}\b", shown, re.MULTILINE) for name in COMMANDS)
    assert shown.endswith("False\n")


@pytest.mark.parametrize("argv", [[], ["no-such-command"], ["collect", "--no-such-option"]])
def test_wrong_usage_exits_with_2(argv, capsys):
    with pytest.raises(SystemExit) as stopped:
        main(argv)
    assert stopped.value.code == 2
    assert "usage:" in capsys.readouterr().err


def test_bad_input_is_one_message_and_exit_status_1(tmp_path, capsys):
    assert main(["train", "--workspace", str(tmp_path)]) == 1
    got = capsys.readouterr()
    assert got.out == ""
    assert "No workspace.json" in got.err and "Traceback" not in got.err


def test_setup_checks_and_says_what_is_ready(capsys):
    assert main(["setup"]) == 0
    assert "Ready: SmolLM2-135M-Instruct" in capsys.readouterr().err


# collect


def test_collect_makes_a_workspace_that_opens(collected, capsys):
    workspace = Workspace.open(collected.ws)
    store = ActivationStore(workspace.store_folder)
    assert workspace.name == "tiny-llama, layer 1"
    assert workspace.median_norm == store.median_norm > 0
    assert store.n_activations == 700
    assert workspace.load_llm().d_model == WIDTH


def test_collect_tells_the_memory_before_it_loads_and_keeps_where_the_layers_are(here, capsys, monkeypatch):
    assert collect(here, *here.new, "--layers-at", "model.layers") == 0
    said = capsys.readouterr().err
    assert re.search(r"^tiny-llama needs \d+ MB \(weights .*free\.$", said, re.MULTILINE) and "Note:" not in said
    workspace = Workspace.open(here.ws)
    assert workspace.llm.layers_at == "model.layers"
    monkeypatch.setattr("glp_core.llm.hooks.LAYER_PATHS", ("nowhere",))
    assert workspace.load_llm().n_layers == LAYERS


def test_what_cannot_be_explored_is_refused_before_any_work(here, tmp_path, capsys):
    folder = tmp_path / "tiny-xlstm"
    tiny_model("xlstm").save_pretrained(folder)
    tokenizer = tiny_tokenizer()
    tokenizer.chat_template = None
    tokenizer.save_pretrained(folder)
    assert collect(here, "--llm", str(folder), "--layer", "1") == 1
    said = capsys.readouterr().err.splitlines()
    assert re.match("tiny-xlstm .*cannot be generated from here", said[-1])
    assert not here.ws.exists() and not (tmp_path / "cache").exists()


def test_collect_again_goes_on_without_asking_for_the_model(collected):
    before = ActivationStore(Workspace.open(collected.ws).store_folder).n_activations
    assert main(["collect", *collected.at, "--activations", str(before + 50)]) == 0
    assert ActivationStore(Workspace.open(collected.ws).store_folder).n_activations == before + 50


def test_models_of_one_title_have_stores_of_their_own(collected, here, tmp_path, capsys):
    other = tmp_path / "elsewhere" / "tiny-llama"
    shutil.copytree(here.new[1], other)
    new = ["--llm", str(other), "--layer", "1", "--dtype", "float32", "--activations", "300"]
    assert main(["collect", "--workspace", str(tmp_path / "other"), *new]) == 0
    first, second = Workspace.open(here.ws), Workspace.open(tmp_path / "other")
    assert (first.name, second.name) == ("tiny-llama, layer 1", "tiny-llama, layer 1 2")
    assert (first.open_store().n_activations, second.open_store().n_activations) == (700, 300)
    assert main(["collect", "--workspace", str(tmp_path / "third"), *new, "--name", first.name]) == 1
    said = capsys.readouterr().err
    assert "holds activations of" in said and str(other) in said and not (tmp_path / "third").exists()
    with pytest.raises(GlpError, match=rf"holds activations of folder .*, the workspace is about folder {other}"):
        replace(second, name=first.name).open_store()


def test_a_model_trained_on_in_its_folder_is_another_one(here, tmp_path, capsys):
    folder = tmp_path / "own"
    shutil.copytree(here.new[1], folder)
    new = ["--llm", str(folder), *here.new[2:]]
    assert collect(here, *new) == 0
    first = Workspace.open(here.ws)
    tiny_model(seed=1).save_pretrained(folder)
    assert collect(here, "--activations", "800") == 1
    assert f"{folder} holds other weights than those that the workspace was made with" in capsys.readouterr().err
    assert main(["collect", "--workspace", str(tmp_path / "again"), "--activations", "300", *new]) == 0
    second = Workspace.open(tmp_path / "again")
    assert (second.name, second.store_folder) != (first.name, first.store_folder)
    assert first.open_store().n_activations == 700 and second.median_norm != first.median_norm
    shutil.copytree(here.new[1], folder, dirs_exist_ok=True)
    assert collect(here, "--activations", "800") == 0, "the weights are those of before again"


def test_a_new_workspace_made_again_goes_on_with_its_own_activations(collected, here):
    (here.ws / "workspace.json").unlink()  # as after a kill before it was written
    assert collect(here, *here.new) == 0
    assert Workspace.open(here.ws).name == "tiny-llama, layer 1"


def test_a_folder_that_a_kill_left_empty_takes_no_name(here, monkeypatch):
    def killed(*_args, **_options):
        raise MemoryError

    with monkeypatch.context() as patch, pytest.raises(MemoryError):
        patch.setattr("glp_core.files.os.replace", killed)
        collect(here, *here.new)
    assert [path.name for path in (here.ws.parent / "cache/activations").iterdir()] == ["tiny-llama-layer-1"]
    assert collect(here, *here.new) == 0
    assert Workspace.open(here.ws).name == "tiny-llama, layer 1"


def test_collect_refuses_what_it_cannot_do(collected, here, tmp_path, capsys):
    assert collect(here, *here.new) == 1
    assert "is a workspace already" in capsys.readouterr().err
    elsewhere = ["--workspace", str(tmp_path / "other")]
    assert main(["collect", *elsewhere, "--llm", here.new[1]]) == 1
    assert "needs --layer" in capsys.readouterr().err
    assert main(["collect", *elsewhere, "--llm", "no/such/folder", "--layer", "1"]) == 1
    assert "hub id with its commit" in capsys.readouterr().err
    assert main(["collect", *elsewhere, *here.new[:2], "--layer", "99"]) == 1
    assert "Layer 99 does not exist" in capsys.readouterr().err
    assert main(["collect", *collected.at, "--activations", "0"]) == 1
    assert "wanted at least 1" in capsys.readouterr().err
    assert main(["collect", *collected.at, "--tokens-per-document", "32767"]) == 1
    assert "reads at most" in capsys.readouterr().err
    assert main(["collect", *collected.at, "--tokens-per-document", "32768"]) == 1
    assert "is 32,768, wanted at most 32,767" in capsys.readouterr().err
    assert not (tmp_path / "other").exists()


@pytest.mark.parametrize(
    ("option", "other", "own"),
    [("--layer", "0", "1"), ("--dtype", "auto", "float32"), ("--name", "else", "tiny-llama, layer 1")],
)
def test_collect_refuses_for_a_workspace_that_is_there_what_it_was_not_made_with(collected, capsys, option, other, own):
    capsys.readouterr()
    assert collect(collected, option, other) == 1
    said = capsys.readouterr().err
    assert f"leave {option} out" in said and own in said and " needs " not in said, "before the LLM is loaded"
    assert collect(collected, option, own) == 0


def test_a_report_name_that_cannot_be_written_is_said_before_the_run(collected, capsys):
    assert main(["steer-sentiment", *collected.at, "--report", "../else"]) == 1
    assert "Report name '../else'" in capsys.readouterr().err  # not that the direction is missing: nothing was read yet


def test_collect_stopped_says_how_to_go_on(here, monkeypatch, capsys):
    progress = console.reporter("collect")

    def stopping_reporter(_label):
        def report(done, total, words):
            progress(done, total, words)
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(5)

        return report

    monkeypatch.setattr("glp_core.cli.data.collect.reporter", stopping_reporter)
    assert collect(here, *here.new) == 130
    assert "Start the same command again" in capsys.readouterr().err
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    monkeypatch.setattr("glp_core.cli.data.collect.reporter", console.reporter)
    assert collect(here, *here.new) == 0


def test_llm_sources_from_words(llm_folder):
    assert llm_source("demo") == SMOLLM2
    assert llm_source(str(llm_folder)).kind == "folder"
    hub = llm_source("org/model@0123456789abcdef")
    assert (hub.kind, hub.name, hub.revision, hub.title) == ("hub", "org/model", "0123456789abcdef", "model")


# train


def train(here, n, *more):
    return main(["train", *here.at, *SMALL_RUN, "--activations", str(n), *more])


def rows(path):
    with path.open() as file:
        return [{key: value for key, value in row.items() if key != "seconds"} for row in csv.DictReader(file)]


def test_train_logs_into_the_workspace_and_installs_a_glp_that_projects(collected, capsys):
    assert train(collected, 6400, "--install") == 0
    workspace = Workspace.open(collected.ws)
    assert [run.name for run in workspace.runs()] == ["main"]
    assert {path.name for path in (workspace.folder / "runs/main").iterdir()} == {"config.json", "train.csv", "checks.csv"}
    log = rows(workspace.folder / "runs/main/train.csv")
    assert int(log[-1]["step"]) == 100 and float(log[-1]["validation_loss"]) > 0
    glp = workspace.load_glp()
    assert (glp.d_input, glp.n_layers, glp.d_mlp) == (WIDTH, 2, 64)
    acts = torch.randn(3, WIDTH)
    assert glp.project(acts, noise=torch.randn(3, WIDTH)).isfinite().all()
    assert workspace.covariance().shape == (WIDTH, WIDTH)
    assert train(collected, 6400) == 0  # a finished run is left as it is
    assert rows(workspace.folder / "runs/main/train.csv") == log


def test_train_stopped_and_started_again_gives_the_same_log(collected, monkeypatch, capsys):
    assert train(collected, 9600, "--run", "whole", "--log-every", "10") == 0

    def stop_soon(_label):
        return lambda done, total, words: os.kill(os.getpid(), signal.SIGINT) if done in (40, 90) else None

    monkeypatch.setattr("glp_core.cli.training.train.reporter", stop_soon)
    assert train(collected, 9600, "--run", "parts", "--log-every", "10") == 130
    assert "it goes on from there" in capsys.readouterr().err
    assert train(collected, 9600, "--run", "parts", "--log-every", "10") == 130
    assert train(collected, 9600, "--run", "parts", "--log-every", "10") == 0
    runs = Workspace.open(collected.ws).folder / "runs"
    assert rows(runs / "parts/train.csv") == rows(runs / "whole/train.csv")


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["--run", "../x"], "--run is"),
        (["--batch", "60"], "no multiple"),
        (["--store", "/no/such"], "No activations in /no/such"),
        (["--activations", "5"], "less than one batch"),
        (["--stream", "--store", "/no/such"], "--stream reads none of them"),
        (["--d-model", "400000", "--d-mlp", "800000", "--dtype", "float32"], "takes 57604.0 GB of memory"),
    ],
)
def test_train_refuses_what_it_cannot_do(collected, capsys, more, words):
    assert train(collected, 6400, *more) == 1
    assert words in capsys.readouterr().err


def test_train_without_a_store_and_from_given_weights(collected, monkeypatch, capsys):
    common = ["train", *collected.at, *SMALL_RUN, "--activations", "640", "--validation", "64"]
    assert main([*common, "--run", "streamed", "--stream", "--buffer", "640", "--install"]) == 0
    workspace = Workspace.open(collected.ws)
    log = rows(workspace.folder / "runs/streamed/train.csv")
    assert log[-1]["activations"] == "640"
    go_on = [*common, "--run", "on", "--from", str(workspace.folder / "glp")]
    assert main([*go_on, "--d-model", "99"]) == 1
    assert "--d-model is 99, and the GLP of --from has 48" in capsys.readouterr().err
    assert main(go_on) == 0
    about = read_json(workspace.folder / "runs/on/config.json")["about"]
    assert about["activations_seen"] == 1280 and about["went_on_from"]["about"]["activations_seen"] == 640
    capsys.readouterr()
    assert main([*common, "--run", "small", "--stream", "--buffer", "100"]) == 1
    assert "at least 10 batches of 64" in capsys.readouterr().err
    assert main([*common, "--run", "large", "--stream", "--buffer", str(10**12)]) == 1
    assert "with a buffer of 1,000,000,000,000 activations, takes 128000.0 GB" in capsys.readouterr().err
    assert main([*common, "--run", "mixed", "--chat", "0.5"]) == 1
    assert "are of --stream" in capsys.readouterr().err


def test_collect_in_parts_and_join(collected, tmp_path, capsys):
    common = ["collect", *collected.at, "--activations", "500"]
    assert main([*common, "--out", str(tmp_path / "whole")]) == 0
    parts = [*common, "--out", str(tmp_path / "parts")]
    assert main([*parts, "--part", "2/2"]) == 0
    assert main([*parts, "--join", "2"]) == 1
    assert "Part 1 of 2 is not in" in capsys.readouterr().err
    assert main([*parts, "--part", "1/2"]) == 0 and main([*parts, "--join", "2"]) == 0
    assert contents_of(tmp_path / "parts") == contents_of(tmp_path / "whole")
    capsys.readouterr()
    assert main([*parts, "--join", "2"]) == 0 and " needs " not in capsys.readouterr().err, "files are joined without the LLM"
    for words, wanted in (
        (["--part", "3/2"], "wanted for example 2/4"),
        (["--part", "1/2", "--chat", "0.5"], "not collected in parts"),
        (["--join", "2", "--chat", "0.5"], "not collected in parts"),
        (["--chat", "1"], "less than 1"),
        (["--join", "-1"], "--join is -1, wanted at least 1"),
        (["--join", "0"], "--join is 0, wanted at least 1"),
        (["--part", "1/2", "--join", "2"], "leave one of the two out"),
    ):
        assert main([*parts, *words]) == 1
        said = capsys.readouterr().err
        assert wanted in said and " needs " not in said, "before the LLM is loaded"


def contents_of(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def test_collect_with_chat_says_how_much_of_it_there_is(here, monkeypatch, capsys):
    monkeypatch.setattr("glp_core.data.conversations.ANSWER_TOKENS", 4)
    assert collect(here, *here.new, "--chat", "0.25", "--tokens-per-document", "20") == 0
    assert "700 activations of layer 1 (175 of conversations)" in capsys.readouterr().err
    store = ActivationStore(Workspace.open(here.ws).store_folder)
    assert max(int(store.rows(i)["positions"].max()) for i in store.shards_of(range(60))) == 19
    assert main(["collect", *here.at, "--activations", "10", "--tokens-per-document", "1"]) == 1
    assert "wanted at least 2" in capsys.readouterr().err
    for length, words in (("1", "wanted at least 2"), ("30000", "reads at most")):
        assert main(["train", *here.at, "--stream", "--activations", "2048", "--tokens-per-document", length]) == 1
        assert words in capsys.readouterr().err


# the terminal


def test_progress_shows_rate_and_time_to_go(capsys):
    now = iter([0.0, 20.0, 21.0, 40.0])
    report = console.reporter("count", clock=lambda: next(now))
    report(1000, 5000, "")
    report(3000, 5000, "many words")
    report(3100, 5000, "too soon after the last line")
    report(5000, 5000, "done")
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "count  1,000 of 5,000  20%"
    assert lines[1] == "count  3,000 of 5,000  60%  100/s  0:00:20 to go  many words"
    assert lines[2] == "count  5,000 of 5,000  100%  100/s  done"
    assert len(lines) == 3


def test_durations():
    assert [console.duration(s) for s in (0, 59.6, 3599, 3600, 360_000, -3)] == [
        "0:00:00",
        "0:01:00",
        "0:59:59",
        "1:00:00",
        "100:00:00",
        "0:00:00",
    ]


def test_a_second_signal_stops_at_once(capsys):
    with pytest.raises(KeyboardInterrupt), console.stopping(at_once=False) as stop:
        signal.raise_signal(signal.SIGINT)
        assert stop()
        signal.raise_signal(signal.SIGINT)
    assert "being saved" in capsys.readouterr().err
