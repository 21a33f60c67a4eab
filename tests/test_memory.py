"""Freed memory is kept for the next tensors."""

import subprocess
import sys

import pytest

PAGE_FAULTS = """
import resource, sys
import torch
from glp_core.memory import keep_freed_memory
if sys.argv[1] == "told" and not keep_freed_memory():
    sys.exit(3)
def rounds(n):
    for _ in range(n):
        tensors = [torch.ones(4_000_000) for _ in range(6)]
        del tensors
rounds(2)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
rounds(5)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def page_faults(way):
    done = subprocess.run([sys.executable, "-c", PAGE_FAULTS, way], capture_output=True, text=True, check=False)
    if done.returncode == 3:
        pytest.skip("this C library is not glibc: it cannot be told")
    assert done.returncode == 0, done.stderr
    return int(done.stdout)


def test_once_told_the_pages_of_freed_tensors_are_not_faulted_in_again():
    assert page_faults("told") < page_faults("untold") / 4
