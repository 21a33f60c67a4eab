"""Record what an accelerator does for a computation once, and replay it: one launch where there were hundreds.

Small networks leave an accelerator waiting for its host; a CUDA graph takes the host out. On the CPU, and where recording fails, the
computation simply runs. Knows tensors and functions of tensors; knows nothing of networks.
"""

import warnings
from collections import OrderedDict
from collections.abc import Callable, Hashable
from contextvars import ContextVar
from threading import Lock
from typing import NamedTuple

import torch
from torch import Tensor

from glp_core.speed import few_rows

MOST_KEPT = 24
"""Recordings; each holds the memory of its intermediate results."""
MOST_ROWS = 4096
"""Of the inputs' last but one dimension: larger batches keep an accelerator busy without recordings."""

_held: ContextVar[list[object] | None] = ContextVar("held", default=None)
"""What the recording that is being made reads beside its inputs."""

Compute = Callable[..., Tensor]
"""A function of tensors that copies nothing to or from the host and decides nothing by a tensor's values."""


class Recording(NamedTuple):
    """A computation over fixed buffers."""

    inputs: tuple[Tensor, ...]
    replay: Callable[[], None]
    output: Tensor
    held: list[object]
    """What it reads beside the inputs, by address: it must live as long as the recording."""


def hold(tensors: object) -> None:
    """Let the recording that is being made, if any, keep tensors that others may let go and that it reads again at every replay."""
    held = _held.get()
    if held is not None:
        held.append(tensors)


class Replays:
    """The recordings of one model, by what they compute and the shapes that they take."""

    def __init__(self, *, most: int = MOST_KEPT) -> None:
        self._most = most
        self._kept: OrderedDict[Hashable, Recording | None] = OrderedDict()
        """None: seen once, or could not be recorded."""
        self._failed: dict[Hashable, str] = {}
        self._lock = Lock()

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
            recording.replay()
            return recording.output.clone()

    @property
    def failures(self) -> list[str]:
        """Why computations could not be recorded, or few rows have no kernels of their own, for reports."""
        return sorted({*self._failed.values(), *few_rows.failures.values()})

    def _recording(self, key: Hashable, compute: Compute, inputs: tuple[Tensor, ...]) -> Recording | None:
        seen = key in self._kept
        recording = self._kept.get(key)
        if seen and recording is None and key not in self._failed:
            buffers, held = tuple(value.clone() for value in inputs), list[object]()
            token = _held.set(held)
            try:
                device = inputs[0].device
                replay, output = RECORDERS[device.type](lambda: compute(*buffers), device)
                recording = Recording(buffers, replay, output, held)
            except RuntimeError as error:
                self._failed[key] = str(error).splitlines()[0]
            finally:
                _held.reset(token)
        self._kept[key] = recording
        self._kept.move_to_end(key)
        while len(self._kept) > self._most:
            self._failed.pop(self._kept.popitem(last=False)[0], None)
        return recording


def _record_cuda(compute: Callable[[], Tensor], device: torch.device) -> tuple[Callable[[], None], Tensor]:
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
            with torch.cuda.graph(graph, stream=stream, capture_error_mode="thread_local"):
                output = compute()
        except UserWarning as empty:
            raise RuntimeError(str(empty)) from empty
        finally:
            torch.cuda.set_stream(before)  # torch.cuda.graph stays on its own where ending the capture fails
    return graph.replay, output


EMPTY = "The CUDA Graph is empty"
"""Begins what torch only warns of: every replay would leave the recorded call's output as it is."""
_one_at_a_time = Lock()
"""torch records one graph at a time, and filters of warnings are the process's."""
Recorder = Callable[[Callable[[], Tensor], torch.device], tuple[Callable[[], None], Tensor]]
RECORDERS: dict[str, Recorder] = {"cuda": _record_cuda}
"""How a device records, by its type."""
