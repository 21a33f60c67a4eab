"""Freed memory is kept for the next tensors; free memory is what the system and the container leave."""

import os
import re
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
import torch

from glp_core import GlpError
from glp_core.memory import KERNEL_CACHES, check_room, free_memory, hand_back, told, told_full
from tests.support import full_card

MEGABYTES_KEPT = """
from pathlib import Path
import torch
from glp_core.memory import keep_freed_memory
def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096 / 2**20
def kept():
    before = resident()
    tensors = [torch.ones(2_000_000) for _ in range(40)]
    del tensors
    return resident() - before
untold = kept()
print(untold, kept() if keep_freed_memory() else "cannot be told")
"""
KERNELS_OF_MANY_SIZES = """
import psutil
from glp_core.memory import keep_few_kernels
keep_few_kernels()
import torch
weight = torch.ones(64, 64, dtype=torch.bfloat16)
def read(lengths):
    for n in lengths:
        torch.nn.functional.linear(torch.ones(n, 64, dtype=torch.bfloat16), weight)
    return psutil.Process().memory_info().rss / 2**20
print(-read(range(1, 600)) + read(range(600, 1000)))
"""


def test_a_server_keeps_the_kernels_of_the_last_sizes_only():
    free = {name: value for name, value in os.environ.items() if name not in KERNEL_CACHES}
    done = subprocess.run([sys.executable, "-c", KERNELS_OF_MANY_SIZES], capture_output=True, text=True, check=False, env=free)
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) < 60


@pytest.mark.skipif(not Path("/proc/self/statm").is_file(), reason="needs Linux's count of resident pages")
def test_once_told_the_library_keeps_what_tensors_free():
    done = subprocess.run([sys.executable, "-c", MEGABYTES_KEPT], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    if "cannot" in done.stdout:
        pytest.skip("this C library is not glibc: it cannot be told")
    untold, told = map(float, done.stdout.split())
    assert untold < 60 and told > 250


def test_free_memory_is_no_more_than_the_machine_and_the_container_have(tmp_path, monkeypatch):
    monkeypatch.setattr("glp_core.memory.CONTAINER", tmp_path)
    free = free_memory("cpu")
    assert 0 < free <= psutil.virtual_memory().total
    for name, words in {"memory.max": "5000", "memory.current": "3000", "memory.stat": "anon 9\ninactive_file 700\n"}.items():
        (tmp_path / name).write_text(words)
    assert free_memory("cpu") == 2700
    (tmp_path / "memory.max").write_text("max")  # no limit
    assert free_memory("cpu") > 2700
    assert free_memory("meta") is None


def test_what_does_not_fit_is_refused_with_both_numbers():
    assert re.fullmatch(r"It takes 1 MB of memory; [\d.]+ GB free on cpu\.", check_room("It", 1_000_000, "cpu"))
    with pytest.raises(GlpError, match=r"It takes 1000000\.0 GB of memory; .* free on cpu\. Make it smaller"):
        check_room("It", 10**15, "cpu")
    assert "not known free on meta" in check_room("It", 10**15, "meta")


def test_what_torch_keeps_of_freed_tensors_is_free(monkeypatch):
    card = full_card.insert(monkeypatch, free=5_000, cached=60_000)
    assert free_memory("cpu") > 65_000 and card.cached == 60_000
    assert free_memory("cuda") == 65_000
    check_room("It", 64_000, "cuda:0")


def test_nothing_is_given_back_while_a_graph_is_recorded(monkeypatch):
    card = full_card.insert(monkeypatch, free=5_000, cached=60_000)
    card.capturing = True
    hand_back()
    assert free_memory("cuda") == 5_000 and card.cached == 60_000


def test_what_an_apple_gpu_keeps_of_freed_tensors_is_given_back(monkeypatch):
    emptied = []
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    monkeypatch.setattr(torch.mps, "empty_cache", lambda: emptied.append("mps"))
    hand_back()
    assert emptied == ["mps"] and free_memory("mps") > 0
    assert emptied == ["mps"] * 2


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB."),
        torch.AcceleratorError("CUDA error: out of memory"),
        RuntimeError("MPS backend out of memory (MPS allocated: 18.00 GB). Tried to allocate 256 bytes on shared pool."),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
    ],
    ids=["CUDA", "CUDA's calls", "Apple", "cuBLAS"],
)
def test_a_full_memory_is_told_with_a_way_out(error):
    said = str(told(error))
    assert isinstance(told(error), GlpError) and said == told_full(error)
    assert re.fullmatch(
        rf"The device's memory is full\. {re.escape(str(error).rstrip('.'))}\. Ask for smaller .*--device cpu.*", said
    )


def test_any_other_error_stays_what_it_is():
    for error in (RuntimeError("shapes differ"), KeyError("out of memory"), GlpError("the disk")):
        assert told(error) is error and not told_full(error)
