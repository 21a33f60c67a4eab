"""Commands in processes that are killed, stopped, or find the disk full at the n-th change that they make to files.

`Ward` keeps one process that has loaded everything and changes nothing; each command runs in a fork of it, so that a command begins
in milliseconds and dies for real. What a change is, Python's own audit events say: whatever is written, renamed or removed counts,
by whichever function.
"""

import errno
import itertools
import json
import os
import signal
import subprocess
import sys
import tempfile
import traceback
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]
CHANGES = ("open", "os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.chmod")
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT
FATES = ("killed", "stopped", "full")


class Ended(NamedTuple):
    """How a command ended."""

    status: int
    """Its exit status; negative: the signal that ended it."""
    changes: int
    """That it made, up to its end."""
    said: str
    """On stderr."""


class Ward:
    """Runs commands in forks of one process that has loaded what they need."""

    def __init__(self):
        line = [sys.executable, "-m", "tests.support.mortal"]
        environment = os.environ | {"OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false", "HF_HUB_OFFLINE": "1"}
        self._process = subprocess.Popen(
            line, cwd=ROOT, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def run(self, home, words, fate="", at=0):
        """Run a command whose workspace, cache and scratch files are in `home`; `fate` meets it at its change number `at`."""
        self._process.stdin.write(json.dumps([str(home), [str(word) for word in words], fate, at]) + "\n")
        self._process.stdin.flush()
        return Ended(*json.loads(self._process.stdout.readline()))

    def close(self):
        """End the process that waits."""
        self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()


def serve():
    """Fork for every line of stdin, and answer with how the fork ended."""
    sys.stdout.flush()
    for line in sys.stdin:
        home, words, fate, at = json.loads(line)
        Path(home, "tmp").mkdir(parents=True, exist_ok=True)
        told, counted = Path(home, "said"), Path(home, "changes")
        counted.write_bytes(b"")
        child = os.fork()
        if not child:
            live(home, words, fate, at)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        ended = [status, counted.stat().st_size, told.read_text(errors="replace")]
        told.unlink(), counted.unlink()
        print(json.dumps(ended), flush=True)


def live(home, words, fate, at):
    """Run a command as this process, and end it."""
    status = 70
    try:
        os.dup2(os.open(f"{home}/said", os.O_WRONLY | os.O_CREAT | os.O_TRUNC), 2)
        os.environ |= {"GLP_EXPLORER_CACHE": f"{home}/cache", "TMPDIR": f"{home}/tmp"}
        sys.addaudithook(Watch(home, fate, at))
        from glp_core.__main__ import main
        from tests.support import lab_acts

        work = lab_acts.main if words[0] == "lab" else main
        status = work([*words, "--workspace", f"{home}/ws"])
    except SystemExit as ended:
        status = ended.code
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(status)


class Watch:
    """Counts changes to files in a folder, and lets a fate meet the process at one of them."""

    def __init__(self, home, fate, at):
        self.home, self.fate, self.at = home + os.sep, fate, at
        self._apart = (f"{home}/said", f"{home}/changes")
        self._numbers, self._busy = itertools.count(1), False
        self._tally = os.open(f"{home}/changes", os.O_WRONLY | os.O_APPEND)

    def __call__(self, event, args):
        if event not in CHANGES or self._busy or (event == "open" and not args[2] & WRITING) or isinstance(args[0], int):
            return
        path = os.fsdecode(args[0])
        if not path.startswith(self.home) or path in self._apart:
            return
        os.write(self._tally, b".")
        number = next(self._numbers)
        if number < self.at or not self.fate or (self.fate != "full" and number > self.at):
            return
        if self.fate == "stopped":
            os.kill(os.getpid(), signal.SIGTERM)
        elif self.fate == "killed":
            self._cut_off(event, path, args)
            os.kill(os.getpid(), signal.SIGKILL)
        elif event in ("open", "os.mkdir", "os.chmod"):  # what needs room; from now on there is none
            self._cut_off(event, path, args)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), path)

    def _cut_off(self, event, path, args):
        """Leave half of what was being written: of a scratch file that is whole but for its mode, or of the next line of a log."""
        self._busy = True
        if event == "os.chmod":
            os.truncate(path, os.path.getsize(path) // 2)
        elif event == "open" and args[1] and "a" in str(args[1]) and os.path.exists(path):
            with open(path, "a") as file:
                file.write("12")
        self._busy = False


def load():
    """Import what commands need, and make their work small."""
    import torch

    from tests.support import tiny_build

    torch.set_num_threads(1)
    tiny_build.shrink()
    import importlib

    from glp_core.cli.commands import MODULES
    from glp_core.data import conversations, probe_activations
    from glp_core.llm import loading  # noqa: F401 - commands load it late
    from glp_core.neuron_index import corpus_pass
    from glp_core.steering.sweeps import engine
    from glp_core.training.trainer import Trainer
    from tests.support import lab_acts  # noqa: F401

    for name in MODULES.values():
        importlib.import_module(name)
    conversations.ANSWER_TOKENS, corpus_pass.SECONDS_BETWEEN_SAVES, probe_activations.TEXTS_PER_PART = 4, 0.0, {"cpu": 16}
    engine.TEXTS_AT_ONCE = dict.fromkeys(engine.TEXTS_AT_ONCE, 4)
    Trainer.run.__kwdefaults__["save_every"] = 0.0
    with tempfile.TemporaryDirectory() as folder:
        _warm_up(folder)


def _warm_up(folder):
    """Run two commands: what they import late is there for all forks."""
    import sklearn.decomposition  # noqa: F401
    import torch._dynamo  # noqa: F401 - optimizers load it

    from glp_core.__main__ import main
    from glp_core.prior.checkpoint import save_glp
    from tests.support import tiny

    tiny.tiny_model().save_pretrained(f"{folder}/llm")
    tiny.tiny_tokenizer().save_pretrained(f"{folder}/llm")
    os.environ["GLP_EXPLORER_CACHE"] = f"{folder}/cache"
    at = ["--workspace", f"{folder}/ws"]
    assert main(["collect", *at, "--llm", f"{folder}/llm", "--layer", "1", "--activations", "300"]) == 0
    save_glp(tiny.tiny_glp(), Path(folder, "ws/glp"), about={})
    assert main(["index", *at, "--documents", "64"]) == 0


if __name__ == "__main__":
    load()
    serve()
