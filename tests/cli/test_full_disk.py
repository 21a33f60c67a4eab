"""A full disk, and TERM, in the middle of a command: a sentence, and what is half done is cleared away."""

import errno
import os
import signal
import time
from importlib import import_module

from glp_core.__main__ import main
from glp_core.cli.commands import MODULES


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
