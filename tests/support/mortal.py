"""Commands in processes that are killed, stopped, or find the disk full at the n-th change that they make to files.

`Ward` keeps one process that has loaded everything and changes nothing; each command runs in a fork of it, so that a command begins
in milliseconds and dies for real. What a change is, Python's own audit events say: whatever is written, renamed or removed counts,
by whichever function.
"""

import errno
import itertools
import json
import os
import shutil
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
CHANGE, FATE = b".", b"!"
"""What stands in a tally for each change, and for the moment at which the fate came."""
APART = ("unshare", "--user", "--map-root-user", "--mount")
"""Runs a command that may mount what nobody else sees."""
DISK = 300_000_000
"""Bytes of a disk of their own, unless it is resized."""


class Ended(NamedTuple):
    """How a command ended."""

    status: int
    """Its exit status; negative: the signal that ended it."""
    changes: int
    """That it made, up to its end."""
    met: bool
    """Whether its fate met it."""
    said: str
    """On stderr."""


class Ward:
    """Runs commands in forks of one process that has loaded what they need."""

    def __init__(self, disk=None):
        """Begin; `disk`: a folder that is a small disk of its own, as only these processes see it."""
        line = [sys.executable, "-m", "tests.support.mortal"]
        if disk:
            line = [*APART, "sh", "-c", f'mount -t tmpfs -o size={DISK} tmpfs "$0" && exec "$@"', str(disk), *line]
        environment = os.environ | {"OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false", "HF_HUB_OFFLINE": "1"}
        self._process = subprocess.Popen(
            line, cwd=ROOT, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def resize(self, disk, size):
        """Let the disk have as many bytes."""
        assert self.run(disk, ["resize", size]).status == 0

    def seen(self, path):
        """Return where a file on that disk is seen from outside."""
        return Path(f"/proc/{self._process.pid}/root{path}")

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
    place = Path(tempfile.mkdtemp(prefix="ward-"))
    told, counted = place / "said", place / "changes"
    for line in sys.stdin:
        home, words, fate, at = json.loads(line)
        if words[0] == "resize":
            status = subprocess.run(["mount", "-o", f"remount,size={words[1]}", home], check=False).returncode
            print(json.dumps([status, 0, False, ""]), flush=True)
            continue
        Path(home, "tmp").mkdir(parents=True, exist_ok=True)
        counted.write_bytes(b"")
        child = os.fork()
        if not child:
            live(home, words, Watch(home, fate, at, counted), told)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        tally = counted.read_bytes()
        print(json.dumps([status, tally.count(CHANGE), FATE in tally, told.read_text(errors="replace")]), flush=True)
    shutil.rmtree(place)


def live(home, words, watch, told):
    """Run a command as this process, and end it; what it says on stderr goes to a file."""
    status = 70
    try:
        os.dup2(os.open(told, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), 2)
        os.environ |= {"GLP_EXPLORER_CACHE": f"{home}/cache", "TMPDIR": f"{home}/tmp"}
        sys.addaudithook(watch)
        import torch

        torch.set_num_threads(1)  # makes the fork's own pool; else threads that come first, two at once, find none
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

    def __init__(self, home, fate, at, counted):
        """Watch `home`; the file `counted` tells every change and the fate, whatever the process's end."""
        self.home, self.fate, self.at = home + os.sep, fate, at
        self._numbers, self._busy = itertools.count(1), False
        self._tally = os.open(counted, os.O_WRONLY | os.O_APPEND)

    def __call__(self, event, args):
        if event not in CHANGES or self._busy or (event == "open" and not args[2] & WRITING) or isinstance(args[0], int):
            return
        path = os.fsdecode(args[0])
        if not path.startswith(self.home):
            return
        os.write(self._tally, CHANGE)
        number = next(self._numbers)
        if number < self.at or not self.fate or (self.fate != "full" and number > self.at):
            return
        if self.fate == "full" and event not in ("open", "os.mkdir", "os.chmod"):  # which need no room
            return
        os.write(self._tally, FATE)
        if self.fate == "stopped":
            os.kill(os.getpid(), signal.SIGTERM)
        elif self.fate == "killed":
            self._cut_off(event, path, args)
            os.kill(os.getpid(), signal.SIGKILL)
        else:  # from now on there is no room
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

    from glp_core import progress
    from glp_core.building import costs
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
    costs.BYTES_SPARE = 0
    engine.TEXTS_AT_ONCE = dict.fromkeys(engine.TEXTS_AT_ONCE, 4)
    Trainer.run.__kwdefaults__["save_every"] = progress.WORK_PER_SAVE = 0.0
    with tempfile.TemporaryDirectory() as folder:
        _warm_up(folder)


def _warm_up(folder):
    """Run two commands: what they import late is there for all forks."""
    import sklearn.decomposition  # noqa: F401
    import torch._dynamo  # noqa: F401 - optimizers load it

    from glp_core.__main__ import main
    from glp_core.prior.checkpoint import save_glp
    from tests.support import tiny

    tiny.keep_llm(f"{folder}/llm")
    os.environ["GLP_EXPLORER_CACHE"] = f"{folder}/cache"
    at = ["--workspace", f"{folder}/ws"]
    assert main(["collect", *at, "--llm", f"{folder}/llm", "--layer", "1", "--activations", "300"]) == 0
    save_glp(tiny.tiny_glp(), Path(folder, "ws/glp"), about={})
    assert main(["index", *at, "--documents", "64"]) == 0


if __name__ == "__main__":
    load()
    serve()
