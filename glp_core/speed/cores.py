"""How many threads compute on a CPU that other programs use as well.

Threads of one product wait for the last of them. Beside another program's threads each waits for its turn on a core, so that two on two
cores take half as long again as one alone. Knows the machine's cores and torch's threads.
"""

import os
import time
from typing import NamedTuple

import psutil

LOOK_EVERY, STALE = 1.0, 5.0
"""Seconds between two looks; a time as long as the second says nothing of now."""
SHARED, FREE = 0.35, 0.2
"""Share of the cores that others take, from which on fewer threads compute, and below which all do again."""


class _Look(NamedTuple):
    at: float
    busy: float
    """Seconds of all cores so far."""
    own: float
    """Seconds of them that this process took."""


class Cores:
    """Computes with half of the threads while other programs take a good part of the cores.

    In bfloat16 the numbers stay the same; in float32 sums of other threads may differ in their last digits.
    """

    def __init__(self) -> None:
        self._last = _look()
        self._all = 0
        self._shared = False

    def settle(self) -> None:
        """Look at the machine, once a second, and set the threads of the calling thread's computations."""
        import torch

        self._all = self._all or torch.get_num_threads()
        passed = time.monotonic() - self._last.at
        if passed < LOOK_EVERY or self._all == 1:
            return
        last, self._last = self._last, _look()
        if passed > STALE:
            return
        others = (self._last.busy - last.busy - (self._last.own - last.own)) / (self._last.at - last.at) / len(_cores())
        shared = others > (FREE if self._shared else SHARED)
        if shared != self._shared:
            self._shared = shared
            torch.set_num_threads(self._all // 2 if shared else self._all)


def _look() -> _Look:
    cores = _cores()
    times = [one for core, one in enumerate(psutil.cpu_times(percpu=True)) if core in cores]
    busy = sum(one.user + one.system + getattr(one, "nice", 0.0) for one in times)
    return _Look(time.monotonic(), busy, sum(psutil.Process().cpu_times()[:2]))


def _cores() -> set[int]:
    """Return the numbers of the cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return set(os.sched_getaffinity(0))
    return set(range(os.cpu_count() or 1))
