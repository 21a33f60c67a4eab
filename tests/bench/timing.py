"""Fair timings on a busy machine: the candidates take turns in one process, and medians are compared."""

import time
from statistics import median


def interleaved(candidates, repeats, warmup=1):
    """Run each of {name: function} in turn, `repeats` times; return {name: median seconds}."""
    for _ in range(warmup):
        for function in candidates.values():
            function()
    seconds = {name: [] for name in candidates}
    for _ in range(repeats):
        for name, function in candidates.items():
            start = time.perf_counter()
            function()
            seconds[name].append(time.perf_counter() - start)
    return {name: median(values) for name, values in seconds.items()}


def times_faster(slow, fast):
    return round(slow / fast, 2)
