"""Keep the memory of freed tensors for the next ones, for commands that compute for minutes."""

import ctypes

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
"""Of glibc's malloc.h."""
LARGEST_OWN_BLOCK = 32 << 20
"""Bytes; glibc takes no larger threshold, and bigger tensors are mapped one by one."""


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
