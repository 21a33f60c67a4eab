"""Several processes that train one GLP together, as torchrun starts them: each computes the gradient of its rows of a batch.

Gradients are averaged, so that all processes make the same step; the first one writes. Knows tensors; knows nothing of GLPs.
"""

import importlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.distributed as dist
from torch import Tensor

from glp_core.errors import GlpError


@dataclass(frozen=True)
class Ranks:
    """This process among those of a run; alone by default."""

    rank: int = 0
    size: int = 1

    @classmethod
    def join(cls, device: torch.device) -> "Ranks":
        """Join the processes that torchrun started; alone when it started none."""
        size = int(os.environ.get("WORLD_SIZE", "1"))
        if size == 1:
            return cls()
        # imported after the group, this module's default arguments would keep the group for good
        importlib.import_module("torch.distributed.nn.functional")
        if device.index is not None:
            torch.cuda.set_device(device)  # what NCCL and torch.compile allocate without a device is on this process's card
        if not dist.is_initialized():
            dist.init_process_group("cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo")
        return cls(dist.get_rank(), size)

    @property
    def first(self) -> bool:
        """Whether this process writes."""
        return self.rank == 0

    def share(self, batch: Tensor) -> Tensor:
        """Return this process's rows of a batch, or of anything that goes with it row by row."""
        if self.size == 1:
            return batch
        each = len(batch) // self.size
        return batch[self.rank * each : (self.rank + 1) * each]

    def check(self, **counts: int) -> None:
        """Raise GlpError for the first of these counts that the processes cannot share evenly."""
        for name, count in counts.items():
            if count % self.size:
                raise GlpError(f"{name} is {count}, wanted a multiple of the {self.size} processes.")

    def check_shared(self, folder: Path, step: int, *, place: bool, wanted: bool) -> None:
        """Raise GlpError, in all processes, unless all of them found a run at the same step.

        Args:
            folder: of the run.
            place: whether this process found its place in the texts there.
            wanted: whether there has to be one.
        """
        steps = [int(one) for one in self.each(step)]
        other = next((rank for rank, one in enumerate(steps) if one != steps[0]), None)
        shared = "--out must be a folder that all machines share."
        if other is not None:
            raise GlpError(
                f"Process {other} finds {folder} at step {steps[other]:,}, process 0 at step {steps[0]:,}; wanted one state for all. "
                f"{shared}"
            )
        places = self.each(place)
        if not all(places) and (wanted or any(places)):
            rank = places.index(0.0)
            raise GlpError(
                f"{folder} lacks supply-{rank}-step-{steps[0]}.safetensors, process {rank}'s place in the texts. {shared} "
                "If the file is lost, remove the folder: the run begins anew."
            )

    def average(self, tensors: Sequence[Tensor]) -> None:
        """Replace tensors of one number type by their mean over the processes, in one message.

        Raises:
            GlpError: another process has ended, or cannot be reached.
        """
        self._exchange(tensors, self.size)

    def add_up(self, tensors: Sequence[Tensor]) -> None:
        """Replace tensors of one number type by their sums over the processes, as `average` does: all get the same bits."""
        self._exchange(tensors, 1)

    def each(self, value: float) -> list[float]:
        """Return what every process has given, by their numbers; all of them must ask."""
        every = torch.zeros(self.size, dtype=torch.float64)
        every[self.rank] = value
        self.add_up([every])
        return every.tolist()

    def _exchange(self, tensors: Sequence[Tensor], divisor: int) -> None:
        if self.size == 1:
            return
        flat = torch.cat([tensor.flatten() for tensor in tensors])
        self._reduce(flat)
        flat /= divisor
        for tensor, part in zip(tensors, flat.split([tensor.numel() for tensor in tensors]), strict=True):
            tensor.copy_(part.view_as(tensor))

    def any(self, here: bool) -> bool:
        """Return whether any process says so; all of them must ask."""
        if self.size == 1:
            return here
        said = torch.tensor(float(here))  # on the CPU, so that no process waits for a device
        self._reduce(said)
        return bool(said > 0)

    def wait(self) -> None:
        """Wait until every process is here."""
        self.any(False)

    @staticmethod
    def _reduce(tensor: Tensor) -> None:
        try:
            dist.all_reduce(tensor)
        except torch.OutOfMemoryError:  # this process's own
            raise
        except RuntimeError as error:  # gloo and NCCL tell a lost peer so
            why = f"{type(error).__name__}: {error}".splitlines()[0]
        else:
            why = ""
        if why:
            dist.destroy_process_group()  # gloo's threads must end before Python does, and the error's frames would keep them
            raise GlpError(
                f"Another process of this run has ended, or cannot be reached ({why}). Start the same command again: it goes on from "
                "the saved state."
            )
