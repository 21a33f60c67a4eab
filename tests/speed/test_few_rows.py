"""Kernels for few rows, in Triton's interpreter: the numbers of torch's own layers, whatever the widths, and rows that do not meet.

The interpreter must be chosen before Triton is imported, so the cases run in a process of their own, `few_rows_interpreted.py`.
"""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from unittest import mock

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


def test_the_demo_s_products_are_served_on_cuda_and_those_that_wait_for_memory_are_not(monkeypatch):
    def weight(d_out, d_in, dtype=torch.bfloat16):
        return mock.Mock(is_cuda=True, dtype=dtype, device=torch.device("cuda", 0), numel=lambda: d_out * d_in)

    monkeypatch.setattr(few_rows, "_kernels", lambda: object())
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _device: (7, 5))
    assert not few_rows.serves(weight(1152, 576)), "a T4 has no bfloat16"
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _device: (8, 0))
    assert all(few_rows.serves(weight(*shape)) for shape in ((1152, 576), (4608, 1152), (1152, 2304), (576, 1152)))
    assert not few_rows.serves(weight(32768, 8192)) and not few_rows.serves(weight(1152, 576, torch.float32))
    monkeypatch.setattr(few_rows, "failures", {torch.device("cuda", 0): "no compiler"})
    assert not few_rows.serves(weight(1152, 576))
    monkeypatch.setattr(few_rows, "failures", {})
    monkeypatch.setattr(few_rows, "_kernels", lambda: None)
    assert not few_rows.serves(weight(1152, 576))


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
