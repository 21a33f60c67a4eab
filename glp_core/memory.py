"""Memory: how much of it is free on a device, keeping that of freed tensors for the next ones, and few kernels of sizes long gone."""

import ctypes
import gc
import os
from pathlib import Path
from typing import TYPE_CHECKING

from glp_core.errors import GlpError

if TYPE_CHECKING:
    import torch

FULL = ("out of memory", "cublas_status_alloc_failed")
"""In what torch says of a full memory without an error of its own: on an Apple GPU, and in CUDA's calls and libraries."""
LESS = "Ask for smaller batches, fewer or shorter texts, or take the CPU: --device cpu, or GLP_EXPLORER_DEVICE=cpu."

CONTAINER = Path("/sys/fs/cgroup")
"""Where Linux says what a container may use."""

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
"""Of glibc's malloc.h."""
LARGEST_OWN_BLOCK = 32 << 20
"""Bytes; glibc takes no larger threshold, and bigger tensors are mapped one by one."""


KERNEL_CACHES = ("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "LRU_CACHE_CAPACITY")
"""oneDNN's, and that of torch's layer above it (https://uxlfoundation.github.io/oneDNN/dev_guide_primitive_cache.html)."""
KERNELS_KEPT = "256"


def keep_few_kernels() -> None:
    """Let 16-bit products on a CPU keep the kernels of the last sizes only; before torch is loaded, what the environment says stays.

    By default 1,024 are kept twice, up to a megabyte each, and every length of text brings some: a server grows for hours. Making one
    again takes less than half a millisecond.
    """
    for name in KERNEL_CACHES:
        os.environ.setdefault(name, KERNELS_KEPT)


def keep_freed_memory() -> bool:
    """Tell the C library to reuse freed memory instead of returning it; say whether it could be told (glibc only).

    By default every large tensor is mapped anew and its pages faulted in one by one, a third of a training step of 1,024
    activations on a CPU with fast matrix products (https://man7.org/linux/man-pages/man3/mallopt.3.html).
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError, TypeError):
        return False
    return bool(mallopt(M_MMAP_THRESHOLD, LARGEST_OWN_BLOCK)) and bool(mallopt(M_TRIM_THRESHOLD, 2**31 - 1))


def free_memory(device: "torch.device | str") -> int | None:
    """Return the bytes that new tensors can take on a device, those of let go ones too; None where that cannot be known.

    Of main memory, what the system could hand out without swapping, and no more than a container's limit leaves.
    """
    import torch

    device = torch.device(device)
    if device.type != "cpu":
        _return_cached()
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    if device.type not in ("cpu", "mps"):
        return None
    import psutil

    left = _left_in_container()
    free = int(psutil.virtual_memory().available)
    return free if left is None else min(free, left)


def hand_back() -> None:
    """Give the memory of what was let go back to the device."""
    set_apart()
    _return_cached()


def _return_cached() -> None:
    """Return what torch keeps of freed tensors to the accelerator, which counts it as taken; not while a CUDA graph is recorded."""
    import torch

    if torch.cuda.is_initialized() and not torch.cuda.is_current_stream_capturing():
        torch.cuda.empty_cache()
    if torch.backends.mps.is_available():
        torch.mps.empty_cache()


def set_apart() -> None:
    """Collect garbage, and leave what is there now, packages and models, out of later collections.

    Streamlit collects after every run of a page; with torch and a language model loaded that takes .1 to .3 s, and no token comes.
    """
    gc.unfreeze()
    gc.collect()
    gc.freeze()


def check_room(title: str, needed: int, device: "torch.device | str") -> str:
    """Return in words what something needs on a device and what is free there.

    Raises:
        GlpError: it needs more than is free; where that cannot be known, nothing is refused.
    """
    free = free_memory(device)
    words = f"{title} takes {gigabytes(needed)} of memory; {_known(free)} free on {device}."
    if free is not None and needed > free:
        raise GlpError(f"{words} Make it smaller, take another device, or end what else uses the memory.")
    return words


def told(error: Exception) -> Exception:
    """Return what a person is told of an error: for a device's full memory, of which it hands back what it can, a GlpError."""
    if not (words := told_full(error)):
        return error
    hand_back()
    return GlpError(words)


def told_full(error: BaseException) -> str:
    """Return what a person can do about a device whose memory is full; empty for any other error."""
    named = type(error).__name__ == "OutOfMemoryError"  # torch's, which is not imported for this
    if not named and not (isinstance(error, RuntimeError) and any(words in str(error).lower() for words in FULL)):
        return ""
    first = str(error).splitlines()[0].rstrip(".") + ". " if str(error) else ""
    return f"The device's memory is full. {first}{LESS}"


def needed_and_free(needed: int, device: "torch.device | str") -> str:
    """Return both in words."""
    return f"{gigabytes(needed)} needed, {_known(free_memory(device))} free"


def _known(free: int | None) -> str:
    return "not known" if free is None else gigabytes(free)


def _left_in_container() -> int | None:
    """Return what the container's limit leaves, by version 2 of Linux's control groups; None without a limit."""
    try:
        limit, used = (int((CONTAINER / name).read_text()) for name in ("memory.max", "memory.current"))
        cached = int(dict(line.split() for line in (CONTAINER / "memory.stat").read_text().splitlines())["inactive_file"])
    except (OSError, ValueError, KeyError):
        return None
    return max(0, limit - used + cached)


def gigabytes(bytes_: int) -> str:
    """Return bytes in words, as 15.3 GB."""
    return f"{bytes_ / 1e9:.1f} GB" if bytes_ >= 1e8 else f"{bytes_ / 1e6:.0f} MB"
