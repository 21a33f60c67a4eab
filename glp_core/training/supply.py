"""Where a training run gets its activations from: a protocol, and a store as one; stream.py has another.

A supply gives batches from any step on, as if the earlier ones had been given too.
"""

from collections.abc import Iterator
from typing import Protocol

import torch
from torch import Tensor

from glp_core.data.resident import ResidentActivations, fits
from glp_core.data.store import ActivationStore
from glp_core.errors import GlpError
from glp_core.files import Json
from glp_core.training.held_out import HeldOut
from glp_core.training.ranks import Ranks

WINDOW = 4_000_000
"""Activations of a store in memory, mixed with one another: 4.6 GB at width 576 in bfloat16."""
WINDOW_BYTES = 8_000_000_000
"""What they take at most: of wider ones there are fewer."""


class Supply(Protocol):
    """Batches of activations, and what is to be known of them."""

    keeps_place: bool
    """Whether `state` says where the next batches come from; else the step does."""
    resident: bool | None
    """Whether all activations are on the device, in an order of their own that a run keeps; None: not chosen (yet)."""

    @property
    def width(self) -> int:
        """Dimensions of an activation."""
        ...

    @property
    def settings(self) -> Json:
        """What makes a run another one when it changes; empty where nothing does."""
        ...

    def facts(self) -> Json:
        """Return the LLM, its layer, median_norm, and how many distinct activations were read, to be kept with the weights.

        Counts are over all processes: all of them must ask.
        """
        ...

    def statistics(self) -> dict[str, Tensor]:
        """Return `mean`, `var` (d) and `covariance` (d, d), float32, the same in all processes; all of them must ask."""
        ...

    def held_out(self, n: int, device: torch.device) -> HeldOut:
        """Return `n` held-out activations of text, and some of conversations where there are any."""
        ...

    def batches(self, size: int, step: int, seed: int, ranks: Ranks) -> Iterator[Tensor]:
        """Yield this process's share (size / processes, d) of each batch from `step` on, without end."""
        ...

    def state(self) -> dict[str, Tensor]:
        """Return what the batches after the last one given depend on; empty where that is the step alone."""
        ...

    def restore(self, tensors: dict[str, Tensor]) -> None:
        """Take up what `state` returned."""
        ...

    def settle(self, kept: bool | None, ranks: Ranks) -> None:
        """Decide on `resident`, in all processes alike, before training takes its memory; `kept`: as it was in a run that goes on."""
        ...


class StoreSupply:
    """Collected activations, epoch after epoch; every process reads the same ones and takes its rows of each batch."""

    keeps_place = False

    def __init__(
        self, store: ActivationStore, device: torch.device | str = "cpu", resident: bool | None = None, *, beside: int = 0
    ) -> None:
        """Take a store.

        Args:
            resident: whether it is loaded whole to the device; None: on CUDA where it fits, else a window at a time.
            beside: bytes that training takes on the device.
        """
        self.store, self.device, self.resident, self._beside = store, torch.device(device), resident, beside

    @property
    def width(self) -> int:
        return self.store.width

    @property
    def settings(self) -> Json:
        return {"source": self.store.manifest["source"]} if "source" in self.store.manifest else {}

    def facts(self) -> Json:
        store = self.store
        facts = {"llm": store.manifest["llm"], "layer": store.manifest["layer"], "median_norm": store.median_norm}
        facts |= {"distinct_activations": store.n_activations}
        return facts | ({"chat_activations": store.n_chat} if store.n_chat else {})

    def statistics(self) -> dict[str, Tensor]:
        return self.store.statistics()

    def held_out(self, n: int, device: torch.device) -> HeldOut:
        return HeldOut.of(self.store, n, device)

    def state(self) -> dict[str, Tensor]:
        return {}

    def restore(self, tensors: dict[str, Tensor]) -> None:
        pass

    def batches(self, size: int, step: int, seed: int, ranks: Ranks) -> Iterator[Tensor]:
        """Yield batches whose order depends on the epoch alone, not on `seed`."""
        window, resident = self.store.shards_within(self._together), self._resident(ranks)
        epoch, skip = 0, step
        while True:
            n = resident.n_batches(size) if resident else self.store.n_batches(size, epoch=epoch, window=window)
            if n == 0:
                raise GlpError(f"The store holds fewer activations than one batch of {size}: collect more.")
            if skip < n:
                source = (
                    resident.batches(size, epoch=epoch, skip=skip)
                    if resident
                    else self.store.batches(size, epoch=epoch, skip=skip, window=window)
                )
                yield from (ranks.share(batch) for batch in source)
            epoch, skip = epoch + 1, max(0, skip - n)

    @property
    def _together(self) -> int:
        """Activations that are in memory together."""
        return min(WINDOW, WINDOW_BYTES // self.store.acts(0)[:1].nbytes)

    @property
    def window_bytes(self) -> int:
        """Bytes of the activations that are in main memory together, where the store is not on the device whole."""
        return min(self._together, self.store.n_activations) * self.store.acts(0)[:1].nbytes

    def settle(self, kept: bool | None, ranks: Ranks) -> None:
        if self.resident is None:
            self.resident = kept is not False and not ranks.any(not fits(self.store, self.device, self._beside))

    def _resident(self, ranks: Ranks) -> ResidentActivations | None:
        """Return the store on the device, in all processes or in none: the two ways have orders of their own."""
        self.settle(None, ranks)
        return ResidentActivations(self.store, self.device) if self.resident else None
