"""What does not hold fails: the load tool's exit status, and that of `make nightly`, which runs two things."""

import subprocess
from pathlib import Path

import pytest

from tests.load import __main__ as load
from tests.load.scenes import Row

ROOT = Path(__file__).resolve().parents[2]
TOLD, HELD, FAILED = Row("told", "1"), Row("held", "1", "1", True), Row("failed", "2", "1", False)


@pytest.mark.parametrize(("rows", "status"), [([TOLD, HELD], 0), ([FAILED, HELD], 1), ([HELD, FAILED], 1)])
def test_a_row_that_does_not_hold_is_the_exit_status_after_all_are_shown(monkeypatch, capsys, tmp_path, rows, status):
    monkeypatch.setattr(load.tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(load, "played", lambda folder, args: iter(rows))
    assert load.main([]) == status
    shown = capsys.readouterr().out
    assert all(row.what in shown for row in rows)
    assert ("1 do not hold: failed" in shown) == bool(status)


def test_a_scene_can_be_left_out_of_all():
    assert set(load.USUAL) - set(load.arguments(["--without", "damage"]).scenes) == {"damage"}


@pytest.mark.parametrize("failing", ["", "pytest", "tests.load"])
def test_nightly_runs_both_parts_and_fails_when_one_does(tmp_path, failing):
    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\necho "$2" >> {tmp_path}/ran\n[ "$2" != "{failing}" ]\n')
    python.chmod(0o755)
    there = ["-o", ".venv/.ready", "-o", ".venv/.tests"]
    ended = subprocess.run(["make", "nightly", f"PY={python}", *there], cwd=ROOT, capture_output=True, text=True)
    assert bool(ended.returncode) == bool(failing), ended.stderr
    assert (tmp_path / "ran").read_text().split() == ["dashboard.system_parts", "pytest", "tests.load"]
