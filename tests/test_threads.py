"""Threads that give way: settled before torch is loaded, by the commands and by the server, unless a person settled it; and how a program
ends while threads are at work.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from dashboard.service import machine
from glp_core import threads

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def before_torch(monkeypatch):
    monkeypatch.delitem(sys.modules, "torch")
    for name in threads.OWN_SETTINGS:
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    yield
    os.environ.pop("GOMP_SPINCOUNT", None)


def test_it_is_settled_once_and_before_torch_only(before_torch, monkeypatch):
    assert threads.give_way()
    assert os.environ["GOMP_SPINCOUNT"] == threads.SPINS
    assert not threads.give_way()
    monkeypatch.delenv("GOMP_SPINCOUNT")
    monkeypatch.setitem(sys.modules, "torch", object())
    assert not threads.give_way()


def test_what_a_person_set_stays(before_torch, monkeypatch):
    monkeypatch.setenv("OMP_WAIT_POLICY", "ACTIVE")
    assert not threads.give_way()
    assert "GOMP_SPINCOUNT" not in os.environ


@pytest.mark.parametrize(
    "code",
    [
        "import dashboard.server",
        "import runpy; sys.argv = ['glp_core', 'x']; runpy.run_module('glp_core', run_name='__main__')",
    ],
)
def test_the_server_and_the_commands_settle_it(code):
    line = f"import os, sys\ntry:\n    {code}\nfinally:\n    print(os.environ['GOMP_SPINCOUNT'], 'torch' in sys.modules)"
    free = {name: value for name, value in os.environ.items() if name not in threads.OWN_SETTINGS}
    shown = subprocess.run([sys.executable, "-c", line], cwd=ROOT, env=free, capture_output=True, text=True)
    assert shown.stdout == f"{threads.SPINS} False\n", shown.stderr


AT_WORK = """
import atexit, threading
from concurrent.futures import ThreadPoolExecutor
import torch
from glp_core.threads import end_with

def multiply():
    factor = torch.eye(300)
    with torch.inference_mode():
        while True:
            factor = torch.tanh(factor @ factor)

def main():
    threading.Thread(target=multiply, daemon=True).start()
    atexit.register(print, "cleared away")
    ThreadPoolExecutor(1).submit(print, "written")
    return 3

end_with(main)
"""


def test_a_program_ends_with_its_status_while_a_thread_is_inside_torch():
    ended = subprocess.run([sys.executable, "-c", AT_WORK], cwd=ROOT, capture_output=True, text=True)
    assert (ended.returncode, ended.stdout, ended.stderr) == (3, "written\ncleared away\n", "")


@pytest.mark.parametrize(
    ("main", "status", "said"), [("lambda: 0", 0, ""), ("lambda: exit(2)", 2, ""), ("lambda: 1 / 0", 1, "ZeroDivisionError")]
)
def test_a_program_ends_with_what_it_says(main, status, said):
    line = f"from glp_core.threads import end_with; end_with({main})"
    ended = subprocess.run([sys.executable, "-c", line], cwd=ROOT, capture_output=True, text=True)
    assert ended.returncode == status and said in ended.stderr and bool(said) == bool(ended.stderr)


def test_what_others_take_of_the_cores_is_told_and_what_we_take_is_not(monkeypatch):
    looks = [machine._Look(0.0, 100.0, 10.0), machine._Look(10.0, 118.0, 20.0), machine._Look(20.0, 128.0, 30.0)]
    monkeypatch.setattr(machine, "_look", lambda: looks.pop(0))
    monkeypatch.setattr(machine.psutil, "cpu_count", lambda: 2)
    watch = machine.Watch()
    monkeypatch.setattr(machine, "watch", lambda: watch)
    assert machine.words() == "shared: other programs take 40% of its 2 cores"
    assert machine.words() == ""
