"""A whole store on a device: batches in random order without reading a file or waiting for the CPU."""

from collections.abc import Iterator

import torch
from torch import Tensor

from glp_core.data.store import ActivationStore
from glp_core.memory import free_memory

SHARE_OF_FREE = 0.9
"""Of the device's free memory that the activations may take with what training needs beside them; the rest is lost between tensors."""


class ResidentActivations:
    """All training activations of a store on a device."""

    def __init__(self, store: ActivationStore, device: torch.device | str) -> None:
        first = store.acts(0)
        self.acts = torch.empty(store.n_activations, first.shape[1], dtype=first.dtype, device=device)
        start = 0
        for number in range(len(store.shards)):
            part = store.acts(number)
            self.acts[start : start + len(part)].copy_(part)
            start += len(part)

    def n_batches(self, size: int) -> int:
        """Return how many batches an epoch has; a remainder is left out."""
        return len(self.acts) // size

    def batches(self, size: int, *, epoch: int = 0, skip: int = 0) -> Iterator[Tensor]:
        """Yield batches (size, d) of one epoch in an order drawn on the device; the same epoch gives the same batches there."""
        device = self.acts.device
        order = torch.randperm(len(self.acts), generator=torch.Generator(device).manual_seed(epoch), device=device)
        for i in range(skip, self.n_batches(size)):
            yield self.acts[order[i * size : (i + 1) * size]]


def fits(store: ActivationStore, device: torch.device, beside: int) -> bool:
    """Say whether a device is a CUDA one, whose memory is its own, with room for the store and so many bytes beside it."""
    if device.type != "cuda":
        return False
    needed = store.n_activations * store.acts(0)[:1].nbytes
    return needed + beside < SHARE_OF_FREE * (free_memory(device) or 0)
