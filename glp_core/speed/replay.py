"""Record what an accelerator does for a computation once, and replay it: one launch where there were hundreds.

Small networks leave an accelerator waiting for its host; a CUDA graph takes the host out. On the CPU, and where recording fails, the
computation simply runs. Knows tensors and functions of tensors; knows nothing of networks.
"""

import warnings
from collections import OrderedDict
from collections.abc import Callable, Hashable
from contextvars import ContextVar
from threading import Lock, RLock
from typing import NamedTuple

import torch
from torch import Tensor

from glp_core.speed import few_rows

MOST_KEPT, BYTES_KEPT = 24, 1 << 30
"""Recordings, and what they take in all: each holds the memory of its intermediate results, which nothing else can use."""
MOST_MARKED = 256
"""Computations without a recording that are remembered."""
MOST_ROWS = 4096
"""Of the inputs' last but one dimension: larger batches keep an accelerator busy without recordings."""

_held: ContextVar[list[object] | None] = ContextVar("held", default=None)
"""What the recording that is being made reads beside its inputs."""

Compute = Callable[..., Tensor]
"""A function of tensors that copies nothing to or from the host and decides nothing by a tensor's values."""


class Recorded(NamedTuple):
    """What a device recorded."""

    replay: Callable[[], None]
    output: Tensor
    size: int
    """Bytes of what it computes on the way and gives out."""


class Recording(NamedTuple):
    """A computation over fixed buffers."""

    inputs: tuple[Tensor, ...]
    recorded: Recorded
    held: list[object]
    """What it reads beside the inputs, by address: it must live as long as the recording."""

    @property
    def size(self) -> int:
        """Bytes that nothing else can use."""
        return self.recorded.size + sum(buffer.nbytes for buffer in self.inputs)


def hold(tensors: object) -> None:
    """Let the recording that is being made, if any, keep tensors that others may let go and that it reads again at every replay."""
    held = _held.get()
    if held is not None:
        held.append(tensors)


class Replays:
    """The recordings of one model, by what they compute and the shapes that they take."""

    def __init__(self, *, most: int = MOST_KEPT) -> None:
        self._most = most
        self._kept: OrderedDict[Hashable, Recording] = OrderedDict()
        self._marked: OrderedDict[Hashable, str] = OrderedDict()
        """What is not recorded: why it cannot be, or nothing where it was only seen once."""
        self._lock = RLock()

    def run(self, key: Hashable, compute: Compute, *inputs: Tensor) -> Tensor:
        """Return compute(*inputs); from the second time on, replayed.

        Args:
            key: everything besides the inputs that the computation depends on.
        """
        device = inputs[0].device
        if device.type not in RECORDERS or inputs[0].shape[-2] > MOST_ROWS:
            return compute(*inputs)
        whole = (key, *((tuple(x.shape), x.dtype, x.device) for x in inputs))
        with self._lock, torch.inference_mode(False), torch.no_grad():
            recording = self._recording(whole, compute, inputs)
            if recording is None:
                return compute(*inputs)
            for buffer, value in zip(recording.inputs, inputs, strict=True):
                buffer.copy_(value)
            recording.recorded.replay()
            return recording.recorded.output.clone()

    def clear(self) -> None:
        """Let all recordings go; torch gives what they take back when it needs memory or is told to empty its cache."""
        with self._lock:
            self._kept.clear()

    @property
    def failures(self) -> list[str]:
        """Why computations could not be recorded, or few rows have no kernels of their own, for reports."""
        return sorted({*filter(None, self._marked.values()), *few_rows.failures.values()})

    def _recording(self, key: Hashable, compute: Compute, inputs: tuple[Tensor, ...]) -> Recording | None:
        if key not in self._kept:
            why = self._marked.pop(key, None)
            if why != "":
                self._mark(key, why or "")
                return None
            try:
                self._keep(key, _recording_of(compute, inputs))
            except RuntimeError as error:
                if isinstance(error, torch.OutOfMemoryError):
                    self.clear()
                self._mark(key, f"{type(error).__name__}: {error}".splitlines()[0])
                return None
        self._kept.move_to_end(key)
        return self._kept[key]

    def _mark(self, key: Hashable, why: str) -> None:
        self._marked[key] = why
        if len(self._marked) > MOST_MARKED:
            self._marked.popitem(last=False)

    def _keep(self, key: Hashable, recording: Recording) -> None:
        """Keep a recording, and of the others those used last, as far as there is room; raise RuntimeError where it has none alone."""
        if recording.size > BYTES_KEPT:
            raise RuntimeError(f"A recording takes {recording.size >> 20:,} MiB, wanted {BYTES_KEPT >> 20:,} at most")
        self._kept[key] = recording
        while len(self._kept) > self._most or sum(one.size for one in self._kept.values()) > BYTES_KEPT:
            self._kept.popitem(last=False)


def _recording_of(compute: Compute, inputs: tuple[Tensor, ...]) -> Recording:
    buffers, held, device = tuple(value.clone() for value in inputs), list[object](), inputs[0].device
    token = _held.set(held)
    try:
        return Recording(buffers, RECORDERS[device.type](lambda: compute(*buffers), device), held)
    finally:
        _held.reset(token)


def _record_cuda(compute: Callable[[], Tensor], device: torch.device) -> Recorded:
    """Run a computation twice, so that libraries have chosen their kernels, then record it as a CUDA graph of its card.

    Raises:
        RuntimeError: it cannot be recorded; the thread goes on with the stream that it had.
    """
    graph = torch.cuda.CUDAGraph()
    with _one_at_a_time, torch.cuda.device(device), warnings.catch_warnings():
        warnings.filterwarnings("error", EMPTY)
        before, stream = torch.cuda.current_stream(device), torch.cuda.Stream(device)
        stream.wait_stream(before)
        try:
            with torch.cuda.stream(stream):
                for _ in range(2):
                    compute()
            before.wait_stream(stream)
            torch.cuda.empty_cache()  # as torch.cuda.graph does: what is reserved more from here on is the graph's
            reserved = torch.cuda.memory_reserved(device)
            with torch.cuda.graph(graph, stream=stream, capture_error_mode="thread_local"):
                output = compute()
        except UserWarning as empty:
            raise RuntimeError(str(empty)) from empty
        finally:
            torch.cuda.set_stream(before)  # torch.cuda.graph stays on its own where ending the capture fails
    return Recorded(graph.replay, output, max(0, torch.cuda.memory_reserved(device) - reserved))


EMPTY = "The CUDA Graph is empty"
"""Begins what torch only warns of: every replay would leave the recorded call's output as it is."""
_one_at_a_time = Lock()
"""torch records one graph at a time, and filters of warnings are the process's."""
Recorder = Callable[[Callable[[], Tensor], torch.device], Recorded]
RECORDERS: dict[str, Recorder] = {"cuda": _record_cuda}
"""How a device records, by its type."""
