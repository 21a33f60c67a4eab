"""Freed memory is kept for the next tensors."""

import subprocess
import sys
from pathlib import Path

import pytest

MEGABYTES_KEPT = """
import sys
from pathlib import Path
import torch
from glp_core.memory import keep_freed_memory
def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096 / 2**20
if sys.argv[1] == "told" and not keep_freed_memory():
    sys.exit(3)
before = resident()
tensors = [torch.ones(2_000_000) for _ in range(40)]
del tensors
print(resident() - before)
"""


def megabytes_kept(way):
    done = subprocess.run([sys.executable, "-c", MEGABYTES_KEPT, way], capture_output=True, text=True, check=False)
    if done.returncode == 3:
        pytest.skip("this C library is not glibc: it cannot be told")
    assert done.returncode == 0, done.stderr
    return float(done.stdout)


@pytest.mark.skipif(not Path("/proc/self/statm").is_file(), reason="needs Linux's count of resident pages")
def test_once_told_the_library_keeps_what_tensors_free():
    assert megabytes_kept("untold") < 60
    assert megabytes_kept("told") > 250
