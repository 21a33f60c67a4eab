"""What a training run is checked on at each kept checkpoint: held-out losses by kind of token, and how large the neurons are."""

from dataclasses import dataclass

import torch
from torch import Tensor

from glp_core.data.store import ActivationStore
from glp_core.prior.glp import GLP
from glp_core.training.loss import validation_loss

MOST_CHAT = 4096
"""Held-out activations of each part of conversations."""
NEURON_ROWS = 512
"""Held-out activations on which neurons are read."""
SIGMA = 0.1
"""Noise level of that reading."""
QUANTILES = {"p50": 0.5, "p90": 0.9, "p99": 0.99, "p999": 0.999, "max": 1.0}


@dataclass(frozen=True)
class HeldOut:
    """Held-out activations on a device, by what their tokens are part of."""

    parts: dict[str, Tensor]

    @staticmethod
    def of(store: ActivationStore, n: int, device: torch.device) -> "HeldOut":
        """Take `n` activations of text, and some of each part of conversations where the store has them."""
        parts = {"text": store.validation(n).to(device)}
        for part, acts in store.chat_validation(MOST_CHAT).items():
            parts[part] = acts.to(device)
        return HeldOut(parts)

    def check(self, glp: GLP, dtype: torch.dtype | None) -> dict[str, float]:
        """Return the loss of each part, computed in `dtype` where given, and quantiles of the neurons' absolute values on text."""
        losses = {part: validation_loss(glp, acts, dtype=dtype) for part, acts in self.parts.items()}
        return losses | neuron_quantiles(glp, self.parts["text"])


def neuron_quantiles(glp: GLP, acts: Tensor) -> dict[str, float]:
    """Return quantiles of the absolute values of all neurons over NEURON_ROWS of the activations (n, d), read at SIGMA.

    Values of thousands beside a median of 0 make a prior's neurons unreadable, whatever its loss.
    """
    rows = acts[:: max(1, len(acts) // NEURON_ROWS)][:NEURON_ROWS]
    values = glp.neurons(rows, SIGMA, generator=torch.Generator().manual_seed(0)).abs().flatten().sort().values
    return {name: float(values[min(len(values) - 1, int(share * len(values)))]) for name, share in QUANTILES.items()}
