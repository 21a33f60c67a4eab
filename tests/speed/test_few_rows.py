"""Kernels for few rows, in Triton's interpreter: the numbers of torch's own layers, whatever the widths, and rows that do not meet.

The interpreter must be chosen before Triton is imported, so the cases run in a process of their own, `few_rows_interpreted.py`.
"""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from glp_core.speed import few_rows
from tests.support import tiny

CASES = Path(__file__).with_name("few_rows_interpreted.py")
needs_triton = pytest.mark.skipif(
    importlib.util.find_spec("triton") is None, reason="Triton is not installed; torch's builds for CUDA bring it along"
)


@needs_triton
@pytest.mark.parametrize("case", ["products", "rows", "velocity"])
def test_kernels_in_the_interpreter(case):
    path = os.pathsep.join(filter(None, [os.getcwd(), os.environ.get("PYTHONPATH")]))
    env = os.environ | {"TRITON_INTERPRET": "1", "PYTHONPATH": path}
    done = subprocess.run([sys.executable, str(CASES), case], env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]


def test_without_an_accelerator_nothing_is_served():
    assert not few_rows.serves(torch.zeros(4, 4, dtype=torch.bfloat16))


def test_a_device_whose_kernels_cannot_be_made_answers_in_the_ordinary_way_and_is_not_asked_again(monkeypatch):
    tried = []

    def broken(*_args, **_how):
        tried.append(1)
        raise RuntimeError("Failed to find C compiler.\nPlease specify one.")

    glp, z = tiny.tiny_glp(), torch.randn(3, tiny.WIDTH)
    expected = glp.velocity(z, 0.3)
    monkeypatch.setattr(few_rows, "failures", {})
    monkeypatch.setattr(few_rows, "serves", lambda _weight: True)
    monkeypatch.setattr(few_rows, "linear", broken)
    glp.prepare()
    assert torch.equal(glp.velocity(z, 0.3), expected) and torch.equal(glp.velocity(z, 0.3), expected)
    assert len(tried) == 1
    assert glp._replays.failures == ["RuntimeError: Failed to find C compiler."]
