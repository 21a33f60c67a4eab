"""The flow-matching loss: what training lowers and validation measures.

Noise levels are stratified over the batch and shared by groups of rows, so that the time conditioning, a quarter of the
network's arithmetic, is computed once a group and every batch covers [0, 1] evenly.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from glp_core.prior.flow import add_noise
from glp_core.prior.glp import GLP


def stratified_sigmas(groups: int, generator: torch.Generator) -> Tensor:
    """Return one uniform noise level in each of `groups` equal parts of [0, 1], in random order, on the generator's device."""
    device = generator.device
    levels = (torch.arange(groups, device=device) + torch.rand(groups, generator=generator, device=device)) / groups
    return levels[torch.randperm(groups, generator=generator, device=device)]


def flow_loss(glp: GLP, z: Tensor, sigmas: Tensor, eps: Tensor) -> Tensor:
    """Return the mean squared velocity error; row i of z (n, d) has noise level sigmas[i // (n / groups)] (paper, training)."""
    noisy = add_noise(z, eps, sigmas.repeat_interleave(len(z) // len(sigmas)))
    return (glp.network(noisy, glp.network.embed(sigmas)).float() - (eps - z)).square().mean()


@torch.no_grad()
def validation_loss(glp: GLP, acts: Tensor, *, seed: int = 0, batch: int = 2048, dtype: torch.dtype | None = None) -> float:
    """Return the flow-matching loss on held-out activations (n, d): one stratified noise level and one draw each, seeded.

    Noise is drawn on the CPU, so that devices compare.
    """
    generator = torch.Generator().manual_seed(seed)
    total = 0.0
    with torch.autocast(glp.device.type, dtype=dtype or torch.bfloat16, enabled=dtype is not None):
        for part in acts.split(batch):
            z = glp.normalize(part)
            eps = torch.randn(z.shape, generator=generator).to(z.device)
            total += float(flow_loss(glp, z, stratified_sigmas(len(z), generator).to(z.device), eps)) * len(z)
    return total / len(acts)


Loss = Callable[[Tensor, Tensor, Tensor], Tensor]
"""Of activations, noise levels and noise."""


class CompiledLoss:
    """A loss that is compiled, or as it is on a machine that cannot compile, for want of a C compiler, say."""

    def __init__(self, loss: Loss) -> None:
        self._loss, self._compiled, self._works = loss, torch.compile(loss, dynamic=False), False
        self.failure = ""
        """Why it is not compiled."""

    def __call__(self, acts: Tensor, sigmas: Tensor, eps: Tensor) -> Tensor:
        """Return the loss."""
        if not self.failure:
            try:
                value = self._compiled(acts, sigmas, eps)
                self._works = True
                return value
            except torch.OutOfMemoryError:
                raise
            except Exception as error:  # whatever a compiler, a linker or a driver that is missing raises
                if self._works:
                    raise
                self.failure = f"{type(error).__name__}: {error}".splitlines()[0]
        return self._loss(acts, sigmas, eps)
