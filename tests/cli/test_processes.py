"""One command in several processes, as a scheduler or torchrun starts them: what they make together is what one makes."""

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from safetensors.torch import load_file

from glp_core.__main__ import main
from glp_core.cli.neurons import index as index_command
from glp_core.errors import GlpError
from glp_core.llm.sources import cache_folder
from glp_core.neuron_index import corpus_pass
from glp_core.neuron_index.reader import NeuronIndex
from glp_core.prior.checkpoint import save_glp
from tests.cli.conftest import SMALL_RUN
from tests.data.test_store import WORDS
from tests.support import tiny


@pytest.fixture
def made(tmp_path, llm_folder, monkeypatch):
    """A workspace with a prior, over a few more texts than one block of the index holds."""
    monkeypatch.setenv("GLP_EXPLORER_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setattr("glp_core.data.corpus._test_rows", frozenset)
    rng = np.random.default_rng(0)
    texts = (" ".join(rng.choice(WORDS, rng.integers(4, 12))) for _ in range(1150))
    (tmp_path / "texts.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    workspace = tmp_path / "ws"
    new = ["--llm", str(llm_folder), "--layer", "1", "--dtype", "float32", "--texts", str(tmp_path / "texts.jsonl")]
    assert main(["collect", "--workspace", str(workspace), *new, "--activations", "700"]) == 0
    save_glp(tiny.tiny_glp(n_layers=1), workspace / "glp", about={})
    return workspace


def tables(workspace):
    """The bytes of the index's tables: index.json holds dates."""
    return {path.name: path.read_bytes() for path in (workspace / "neurons").glob("*.safetensors")}


INDEX = ["index", "--sigma", "0.3", "--draws", "1"]


def test_parts_of_the_index_are_one_call_s_bytes_and_a_part_that_is_being_read_is_waited_for(made, monkeypatch, capsys):
    monkeypatch.setattr(corpus_pass, "DOCUMENTS_PER_BLOCK", 16)
    monkeypatch.setattr("glp_core.cli.neurons.index.DOCUMENTS_PER_BLOCK", 16)
    index = [*INDEX, "--workspace", str(made), "--documents", "64"]
    assert main(index) == 0
    whole = tables(made)
    assert len(whole) > 1 and NeuronIndex.open(made / "neurons").facts["documents"] == 64
    shutil.rmtree(made / "neurons")
    read_neurons, read = corpus_pass.read_neurons, 0

    def dying(*args):
        nonlocal read
        read += 1
        if read == 2:
            raise KeyboardInterrupt
        return read_neurons(*args)

    with monkeypatch.context() as patch:
        patch.setattr(corpus_pass, "read_neurons", dying)
        patch.setattr(corpus_pass, "SECONDS_BETWEEN_SAVES", 0.0)
        assert main([*index, "--part", "1/2"]) == 130
    assert main([*index, "--part", "2/2"]) == 0
    assert "Part 2 is done; the index is made with the last of the 2 parts" in capsys.readouterr().err
    assert not tables(made)
    assert main([*index, "--part", "1/2"]) == 0
    assert tables(made) == whole and not parts()


def parts():
    """The parts that indexes left in the cache folder."""
    return list(cache_folder().glob("index/**/*.safetensors"))


def test_an_index_leaves_no_part_behind_so_that_the_next_may_be_of_another_prior(made, monkeypatch, capsys):
    monkeypatch.setattr(corpus_pass, "DOCUMENTS_PER_BLOCK", 16)
    monkeypatch.setattr("glp_core.cli.neurons.index.DOCUMENTS_PER_BLOCK", 16)
    index = ["index", "--draws", "0", "--workspace", str(made)]
    assert main([*index, "--sigma", "0.3", "--documents", "32"]) == 0
    assert not parts()
    save_glp(tiny.tiny_glp(n_layers=1, seed=1), made / "glp", about={})
    assert main([*index, "--sigma", "0.2", "--documents", "16"]) == 0, capsys.readouterr().err
    facts = NeuronIndex.open(made / "neurons").facts
    assert facts["documents"] == 16 and facts["reading"]["sigma"] == 0.2 and not parts()


def test_parts_that_another_process_made_the_index_of_and_removed_meanwhile_are_no_failure(tmp_path, monkeypatch):
    path = tmp_path / "part.safetensors"
    path.touch()

    def removed(_paths, _device):
        path.unlink()
        raise GlpError("part.safetensors cannot be read")

    monkeypatch.setattr(index_command, "finished", Path.is_file)
    monkeypatch.setattr(index_command, "merge_parts", removed)
    assert index_command._merged([path], "cpu") is None


@pytest.mark.nightly
def test_two_processes_side_by_side_make_one_call_s_index(made):
    index = [*INDEX, "--workspace", str(made)]
    # a process of its own too: with other threads than a command's, bfloat16 products are others in their last bit
    assert subprocess.run([sys.executable, "-m", "glp_core", *index], stderr=subprocess.PIPE).returncode == 0
    whole = tables(made)
    assert NeuronIndex.open(made / "neurons").facts["documents"] > corpus_pass.DOCUMENTS_PER_BLOCK
    shutil.rmtree(made / "neurons")
    command = [sys.executable, "-m", "glp_core", *index, "--part"]
    both = [subprocess.Popen([*command, part], stderr=subprocess.PIPE, text=True) for part in ("1/2", "2/2")]
    for process in both:
        said = process.communicate(timeout=200)[1]
        assert process.returncode == 0, said
    assert tables(made) == whole


def torchrun(words):
    """Start a command in two processes, as torchrun does; what they say can be read."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "--", "glp_core"]
    environment = os.environ | {"GLOO_SOCKET_IFNAME": "lo"}
    return subprocess.Popen([*command, *words], env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def process_of(launcher, rank):
    """The number of the process that the launcher started as that rank."""
    for number in Path(f"/proc/{launcher.pid}/task/{launcher.pid}/children").read_text().split():
        if f"\0RANK={rank}\0" in Path(f"/proc/{number}/environ").read_text():
            return int(number)
    raise AssertionError(f"no process of rank {rank}")


def curve(folder):
    """The losses by step of a run's log."""
    with (folder / "train.csv").open() as file:
        return {int(row["step"]): float(row["train_loss"]) for row in csv.DictReader(file)}


def train(workspace, run, n, *more):
    return [
        "train",
        "--workspace",
        str(workspace),
        "--run",
        run,
        *SMALL_RUN,
        "--activations",
        str(n),
        "--validation",
        "64",
        *more,
    ]


@pytest.mark.nightly
def test_two_processes_of_torchrun_train_and_after_the_first_is_killed_go_on_to_the_same_curve(made):
    n, more = 64 * 800, ["--log-every", "5"]
    whole = torchrun(train(made, "whole", n, *more))
    said = whole.communicate(timeout=300)[0]
    assert whole.returncode == 0 and said.count("Run whole is done") == 1, said
    assert main(train(made, "one", n, *more)) == 0
    assert curve(made / "runs/whole") == pytest.approx(curve(made / "runs/one"), abs=1e-4)
    [folder] = (made.parent / "cache").rglob("whole")
    for ending in ("stopped", "killed"):
        log = folder.parent / "parts" / "train.csv"
        before = len(curve(log.parent)) if log.is_file() else 0
        parts = torchrun(train(made, "parts", n, *more))
        deadline = time.monotonic() + 200
        while not log.is_file() or len(curve(log.parent)) < before + 20:
            assert parts.poll() is None and time.monotonic() < deadline
            time.sleep(0.05)
        if ending == "stopped":
            parts.send_signal(signal.SIGTERM)
        else:
            os.kill(process_of(parts, 0), signal.SIGKILL)
        said = parts.communicate(timeout=100)[0]
        assert parts.returncode != 0
    assert "Another process of this run has ended" in said and "Start the same command again" in said, said
    saved = load_file(folder.parent / "parts/state.safetensors")["step"]
    assert 0 < saved < 800
    last = torchrun(train(made, "parts", n, *more))
    said = last.communicate(timeout=300)[0]
    assert last.returncode == 0 and f"step {saved:,} of 800" in said, said
    assert curve(made / "runs/parts") == curve(made / "runs/whole")
