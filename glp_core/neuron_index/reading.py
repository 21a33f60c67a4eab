"""How meta-neurons are read from activations: at which noise level, with which noise; always deterministic.

The noise of a reading is drawn once from its seed and shared by all activations, so a token has one value whatever it is read with.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from glp_core.jobs.pause import pause
from glp_core.neuron_index.neuron_data import Reading
from glp_core.prior.glp import GLP

ROWS_AT_ONCE, ROWS_BETWEEN_PAUSES = 2048, 128


def read_neurons(glp: GLP, acts: Tensor, reading: Reading) -> Tensor:
    """Return all neurons (n, n_layers * d_mlp), float32 and signed, of activations (n, d)."""
    if reading.draws == 0:
        return glp.neurons(acts, sigma=reading.sigma, noise=0).flatten(1)
    draws = iter(draw_noise(glp, reading))
    total = glp.neurons(acts, sigma=reading.sigma, noise=next(draws).expand(acts.shape)).flatten(1)
    for noise in draws:
        total.add_(glp.neurons(acts, sigma=reading.sigma, noise=noise.expand(acts.shape)).flatten(1))
    return total.div_(reading.draws)


def read_in_parts(glp: GLP, acts: Tensor, reading: Reading) -> Tensor:
    """Return what `read_neurons` does, on the CPU, part by part with a pause before each."""
    parts = []
    for part in acts.split(ROWS_BETWEEN_PAUSES):
        pause()
        parts.append(read_neurons(glp, part, reading).cpu())
    return torch.cat(parts)


def read_many(glp: GLP, acts: Tensor, reading: Reading) -> Tensor:
    """Return what `read_neurons` does for many activations (n, d), batch by batch, as bfloat16 on the CPU to halve the memory."""
    return torch.cat([read_neurons(glp, part, reading).bfloat16().cpu() for part in acts.split(ROWS_AT_ONCE)])


def draw_noise(glp: GLP, reading: Reading) -> Tensor:
    """Return the reading's noise (draws, d)."""
    generator = torch.Generator().manual_seed(reading.seed)
    return torch.randn(reading.draws, glp.d_input, generator=generator)


@dataclass(frozen=True, eq=False)
class NeuronFires:
    """Whether a neuron is beyond a value: above one that is positive, below one that is negative."""

    glp: GLP
    reading: Reading
    layer: int
    neuron: int
    beyond: float

    def __call__(self, acts: Tensor) -> Tensor:
        """Return for activations (n, d) whether it fires (n,)."""
        values = read_neurons(self.glp, acts, self.reading)[:, self.layer * self.glp.d_mlp + self.neuron]
        return values > self.beyond if self.beyond >= 0 else values < self.beyond


class NoiseAxis(NamedTuple):
    """One neuron on the same activations at several noise levels."""

    sigmas: np.ndarray
    """Noise levels (S,)."""
    noise_free: np.ndarray
    """Values without noise (S, n)."""
    values: np.ndarray
    """Values with independent noise per token and seed (S, seeds, n)."""


def noise_axis(
    glp: GLP, acts: Tensor, layer: int, neuron: int, sigmas: tuple[float, ...] = (0.05, 0.1, 0.3, 0.5), seeds: int = 8
) -> NoiseAxis:
    """Read one neuron of activations (n, d) at `sigmas`, without noise and with `seeds` draws each."""
    free, noisy = [], []
    for sigma in sigmas:
        free.append(glp.neurons(acts, sigma=sigma, noise=0)[:, layer, neuron].cpu().numpy())
        draws = []
        for seed in range(seeds):
            pause()
            generator = torch.Generator().manual_seed(seed)
            draws.append(glp.neurons(acts, sigma=sigma, generator=generator)[:, layer, neuron].cpu().numpy())
        noisy.append(draws)
    return NoiseAxis(np.array(sigmas), np.array(free), np.array(noisy))
