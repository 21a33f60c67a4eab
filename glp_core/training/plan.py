"""What a training run is to do: shape, length, batch, learning rate at each step, and which checkpoints are kept."""

import math
from dataclasses import dataclass

import torch

from glp_core.errors import GlpError
from glp_core.prior.network import DenoiserConfig, Network

COPIES = 5
"""Of the weights, while they are trained."""
VALUES_OF_MLP, VALUES_OF_MODEL = 6, 4
"""Of those widths, that a block keeps of each activation until its gradient is known, roughly."""

RATE, WIDTH = 2e-3, 1152
"""Peak learning rate of that width; other widths get RATE * sqrt(WIDTH / width)."""


def peak_rate(width: int) -> float:
    """Return the peak learning rate of a prior of that d_model."""
    return round(RATE * (WIDTH / width) ** 0.5, 6)


RANGES = {
    "learning_rate": (1e-12, 10.0),
    "final_factor": (0.0, 1.0),
    "warmup": (0, 10**18),
    "decay": (0.0, 1.0),
    "beta2": (0.0, 0.9999999),
    "weight_decay": (0.0, 10.0),
    "clip": (1e-12, 1e12),
    "ema": (0.0, 0.9999999),
}
"""What a configuration's numbers lie between; beyond, a run diverges, learns nothing, or ends in torch."""


@dataclass(frozen=True)
class TrainConfig:
    """How a GLP is trained."""

    d_model: int = 1152
    """Width; the paper uses twice the activation's."""
    d_mlp: int = 2304
    """Hidden neurons a block; the paper uses twice d_model."""
    n_layers: int = 3
    """Blocks."""
    activations: int = 10_000_000
    """Activations to see; the store is repeated when it holds fewer."""
    batch: int = 2048
    """Activations a step."""
    sigma_groups: int = 128
    """Distinct noise levels a batch."""
    learning_rate: float = 2e-3
    """Peak of the schedule."""
    final_factor: float = 0.01
    """Learning rate at the end, as a share of the peak."""
    warmup: int = 150_000
    """Activations over which the rate rises."""
    decay: float = 0.35
    """Share of the run, at its end, in which the rate falls in a cosine; before it a run may be made longer or shorter."""
    beta2: float = 0.99
    """AdamW's memory of squared gradients."""
    weight_decay: float = 0.0
    """AdamW's decay."""
    clip: float = 1.0
    """Largest gradient norm."""
    ema: float = 0.99
    """Decay a step of the averaged weights that are evaluated and saved; 0 keeps the raw ones."""
    seed: int = 0
    """Of weights, noise and order."""
    first_checkpoint: int = 32
    """Steps to the first kept checkpoint; the others follow at its doublings, and the end."""
    log_every: int = 50
    """Steps between rows of train.csv."""
    validation: int = 16_384
    """Held-out activations of the validation loss."""

    def __post_init__(self) -> None:
        for name in ("batch", "sigma_groups", "first_checkpoint", "log_every", "validation"):
            if getattr(self, name) < 1:
                raise GlpError(f"{name} is {getattr(self, name)}, wanted at least 1.")
        for name, (low, high) in RANGES.items():
            if not low <= getattr(self, name) <= high:  # nan is nowhere
                raise GlpError(f"{name} is {getattr(self, name):g}, wanted a number from {low:g} to {high:g}.")
        if not 0 <= self.seed < 2**31:
            raise GlpError(f"seed is {self.seed}, wanted a number from 0 to {2**31 - 1:,}.")
        if self.batch % self.sigma_groups:
            raise GlpError(f"batch {self.batch} is no multiple of sigma_groups {self.sigma_groups}.")
        if self.activations < self.batch:
            raise GlpError(f"activations {self.activations} is less than one batch ({self.batch}).")

    def memory(self, width: int, dtype: torch.dtype, processes: int = 1) -> int:
        """Return the bytes that training on activations of that width takes in each process, without the activations.

        They are weights, gradients, two moments and averaged weights in float32, the weights in the number type of the arithmetic where it
        is a shorter one, and a step's values.
        """
        with torch.device("meta"):
            network = Network(DenoiserConfig(width, self.d_model, self.d_mlp, self.n_layers))
        a_weight = COPIES * 4 + (dtype.itemsize if dtype.itemsize < 4 else 0)
        an_activation = self.n_layers * (VALUES_OF_MLP * self.d_mlp + VALUES_OF_MODEL * self.d_model) * dtype.itemsize
        weights = sum(parameter.numel() for parameter in network.parameters())
        return a_weight * weights + an_activation * self.batch // processes

    @property
    def steps(self) -> int:
        return self.activations // self.batch

    @property
    def rising(self) -> float:
        """Steps of the warm-up: a tenth of the run at most."""
        return min(self.warmup, self.activations / 10) / self.batch

    def rate(self, step: int) -> float:
        """Return the learning rate of a step: linear warm-up, plateau, then a cosine to final_factor."""
        if step < self.rising:
            return self.learning_rate * (step + 1) / (self.rising + 1)
        falling = self.steps * self.decay
        share = max(0.0, (step + falling - self.steps) / max(1.0, falling))
        return self.learning_rate * (self.final_factor + (1 - self.final_factor) * 0.5 * (1 + math.cos(math.pi * share)))

    def keeps(self, step: int) -> bool:
        """Say whether the checkpoint after `step` steps is kept."""
        doublings, rest = divmod(step, self.first_checkpoint)
        return step == self.steps or (rest == 0 and doublings.bit_count() == 1)


@dataclass(frozen=True)
class Extension:
    """Where a run was made longer or shorter: the rate rises anew from what it had fallen to."""

    step: int
    """Steps done by then."""
    rate: float
    """Learning rate of the last of them."""


def learning_rate(config: TrainConfig, extension: Extension | None, step: int) -> float:
    """Return the planned rate of a step; after an extension it is reached in a new warm-up."""
    planned = config.rate(step)
    if extension is None or step < extension.step:
        return planned
    share = (step + 1 - extension.step) / (config.rising + 1)
    return min(planned, extension.rate + (config.learning_rate - extension.rate) * share)
