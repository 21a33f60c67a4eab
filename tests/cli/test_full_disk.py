"""A full disk, and TERM, in the middle of a command: a sentence, nothing half-written, and the same command goes on to the same end."""

import errno
import os
import random
import shutil
import signal
import time
from importlib import import_module
from types import SimpleNamespace

import pytest

from glp_core import files
from glp_core.__main__ import main
from glp_core.cli.commands import MODULES
from glp_core.data import collecting
from glp_core.data.corpus import Document
from glp_core.files import tensor_header
from glp_core.workspace import Workspace
from tests.cli.conftest import SMALL_RUN

TEXTS = tuple(
    Document(f"{i}: the cat sat on the mat and looked at the rain for {i * i} minutes.", "made up") for i in range(80)
)
COMMANDS = {
    "train": ["train", *SMALL_RUN, "--activations", "6400", "--validation", "64", "--log-every", "20"],
    "index": ["index", "--sigma", "0.3", "--draws", "0"],
}


@pytest.fixture
def home(tmp_path, llm_folder, monkeypatch):
    """A workspace with collected activations and a prior, and a way to run commands on a copy of it."""
    monkeypatch.setattr(Workspace, "documents", lambda _self, split: TEXTS[20:] if split == "train" else TEXTS[:20])
    monkeypatch.setattr(collecting, "DOCUMENTS_PER_SHARD", 8)

    def run(place, command):
        monkeypatch.setenv("GLP_EXPLORER_CACHE", str(tmp_path / place / "cache"))
        return main([*command, "--workspace", str(tmp_path / place / "ws")])

    new = ["collect", "--llm", str(llm_folder), "--layer", "1", "--dtype", "float32", "--activations", "700"]
    assert run("first", new) == 0 and run("first", [*COMMANDS["train"], "--install"]) == 0
    return SimpleNamespace(run=run, at=lambda place: tmp_path / place)


def made(folder):
    """Return the tensors' bytes of all files, by path; what else is written has dates and seconds in it."""
    paths = sorted(folder.rglob("*.safetensors"))
    return {str(path.relative_to(folder)): path.read_bytes()[8 + _header(path) :] for path in paths if "state" not in path.name}


def _header(path):
    assert tensor_header(path).tensors
    return int.from_bytes(path.read_bytes()[:8], "little")


@pytest.mark.nightly
@pytest.mark.parametrize("name", COMMANDS)
def test_a_full_disk_is_one_sentence_and_the_same_command_goes_on_to_the_same_files(home, monkeypatch, capsys, name):
    replace, seen = os.replace, []
    fails = SimpleNamespace(at=0)

    def full(scratch, path):
        seen.append(path)
        if len(seen) == fails.at:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        replace(scratch, path)

    def fresh(place):
        shutil.copytree(home.at("first"), home.at(place))
        shutil.rmtree(home.at(place) / "cache" / "training", ignore_errors=True)
        seen.clear()
        return place

    monkeypatch.setattr(files.os, "replace", full)
    assert home.run(fresh("whole"), COMMANDS[name]) == 0
    for fails.at in random.Random(0).sample(range(1, len(seen) + 1), min(2, len(seen))):
        place = fresh(f"broken {fails.at}")
        capsys.readouterr()
        assert home.run(place, COMMANDS[name]) == 1
        said = capsys.readouterr().err
        assert "No space left on device" in said and "free some space" in said and "Traceback" not in said
        assert not [path for path in home.at(place).rglob(".*") if path.name != ".build.lock"]
        fails.at = 0
        assert home.run(place, COMMANDS[name]) == 0
        assert made(home.at(place)) == made(home.at("whole"))


def test_term_stops_a_command_as_ctrl_c_does(monkeypatch, capsys, tmp_path):
    cleared = []

    def work(_args):
        try:
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(5)
        finally:
            cleared.append("away")

    monkeypatch.setattr(import_module(MODULES["detect"]), "run", work)
    assert main(["detect", "--workspace", str(tmp_path)]) == 130
    assert cleared == ["away"] and capsys.readouterr().err == "\nStopped.\n"
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


def test_a_disk_that_is_full_elsewhere_than_in_a_replaced_file_is_told_too(monkeypatch, capsys, tmp_path):
    def work(_args):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "train.csv")

    monkeypatch.setattr(import_module(MODULES["detect"]), "run", work)
    assert main(["detect", "--workspace", str(tmp_path)]) == 1
    assert capsys.readouterr().err.startswith("No space left on device (train.csv). Free some space")
