"""A GLP network laid out for fast inference: time conditioning computed once a noise level, gate and up in one product.

The gate's product with the time embedding is linear, so for a fixed noise level it folds into a scale; nothing is approximated.
"""

from collections import OrderedDict
from threading import Lock
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

if TYPE_CHECKING:
    from glp_core.model import Network

KEPT_LEVELS = 256
"""Noise levels whose conditioning is kept; one takes n_layers x d_mlp numbers."""


class _FusedBlock(NamedTuple):
    ln_weight: Tensor
    ln_bias: Tensor
    gate_up_weight: Tensor
    gate_up_bias: Tensor
    down_weight: Tensor
    down_bias: Tensor


class FastDenoiser:
    """Compute what `Network` computes, for inference; safe to use from several threads."""

    def __init__(self, network: "Network") -> None:
        self.network = network
        self.blocks = [
            _FusedBlock(
                block.ln.weight,
                block.ln.bias,
                torch.cat([block.gate_proj.weight, block.up_proj.weight]),
                torch.cat([block.gate_proj.bias, block.up_proj.bias]),
                block.down_proj.weight,
                block.down_proj.bias,
            )
            for block in network.layers
        ]
        self._times: OrderedDict[tuple[float, int | None], list[Tensor]] = OrderedDict()
        self._lock = Lock()

    @property
    def dtype(self) -> torch.dtype:
        return self.blocks[0].down_weight.dtype

    @torch.no_grad()
    def velocity(self, z: Tensor, sigma: float, layer: int | None = None) -> Tensor:
        """Return velocities (n, d_input), float32, at one noise level."""
        x = self._enter(z)
        for block, time in zip(self.blocks, self.times(sigma, layer), strict=True):
            x = x + F.linear(self._hidden(block, x, time), block.down_weight, block.down_bias)
        network = self.network
        x = F.layer_norm(x, x.shape[-1:], network.ln.weight, network.ln.bias)
        return F.linear(x, network.out_proj.weight, network.out_proj.bias).float()

    @torch.no_grad()
    def neurons(self, z: Tensor, sigma: float, layer: int | None = None) -> Tensor:
        """Return every block's post-SwiGLU units (n, n_layers, d_mlp), float32, at one noise level."""
        x, hidden = self._enter(z), []
        for block, time in zip(self.blocks, self.times(sigma, layer), strict=True):
            hidden.append(self._hidden(block, x, time))
            x = x + F.linear(hidden[-1], block.down_weight, block.down_bias)
        return torch.stack(hidden, dim=1).float()

    @torch.no_grad()
    def times(self, sigma: float, layer: int | None = None) -> list[Tensor]:
        """Return each block's projected time embedding (d_mlp,), computed once for a noise level and LLM layer."""
        key = (sigma, layer)
        with self._lock:
            if key in self._times:
                self._times.move_to_end(key)
                return self._times[key]
        device = self.network.in_proj.weight.device
        layers = None if layer is None else torch.tensor([layer], device=device)
        emb = self.network.embed(torch.tensor([sigma], device=device), layers)[0, 0]
        made = [F.linear(emb, b.time_proj.weight, b.time_proj.bias) for b in self.network.layers]
        with self._lock:
            self._times[key] = made
            while len(self._times) > KEPT_LEVELS:
                self._times.popitem(last=False)
        return made

    def _enter(self, z: Tensor) -> Tensor:
        weight = self.network.in_proj.weight
        return F.linear(z.to(weight.device, weight.dtype), weight, self.network.in_proj.bias)

    def _hidden(self, block: _FusedBlock, x: Tensor, time: Tensor) -> Tensor:
        normed = F.layer_norm(x, x.shape[-1:], block.ln_weight, block.ln_bias)
        gate, up = F.linear(normed, block.gate_up_weight, block.gate_up_bias).chunk(2, dim=-1)
        return F.silu(gate * time).mul_(up)
