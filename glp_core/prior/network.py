"""The GLP's network and its normaliser: noisy latents in, velocities out.

Follows Luo et al. 2026 (arXiv 2602.06964); parameter names are those of the released checkpoints. Knows nothing of solvers or files.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from glp_core.errors import GlpError


@dataclass(frozen=True)
class DenoiserConfig:
    """Shape of the network; the paper uses d_model = 2 d_input and d_mlp = 2 d_model."""

    d_input: int
    """Width of an activation."""
    d_model: int
    """Width of the residual stream."""
    d_mlp: int
    """Hidden neurons (meta-neurons) a block."""
    n_layers: int
    """Blocks."""
    multi_layer_n_layers: int | None = None
    """Layers of the LLM when one network serves all of them, else None."""

    def __post_init__(self) -> None:
        for name in ("d_input", "d_model", "d_mlp", "n_layers"):
            value = getattr(self, name)
            if type(value) is not int or value < 1:
                raise GlpError(f"{name} is {value!r}, wanted a whole number of at least 1.")
        depth = self.multi_layer_n_layers
        if depth is not None and (type(depth) is not int or depth < 2):
            raise GlpError(f"multi_layer_n_layers is {depth!r}, wanted a whole number of at least 2, or none.")


def sinusoidal(values: Tensor, dim: int, max_period: float = 10_000.0) -> Tensor:
    """Return embeddings (n, dim) of values (n,), cosines first."""
    half = dim // 2
    frequencies = torch.exp(-math.log(max_period) * torch.arange(half, dtype=torch.float32, device=values.device) / half)
    angles = values.float()[:, None] * frequencies
    return F.pad(torch.cat([angles.cos(), angles.sin()], dim=-1), (0, dim % 2))


class Block(nn.Module):
    """Residual SwiGLU block whose gate is multiplied by the embedded noise level."""

    def __init__(self, d_model: int, d_mlp: int) -> None:
        super().__init__()
        self.up_proj = nn.Linear(d_model, d_mlp)
        self.down_proj = nn.Linear(d_mlp, d_model)
        self.gate_proj = nn.Linear(d_model, d_mlp)
        self.time_proj = nn.Linear(d_model, d_mlp)
        self.ln = nn.LayerNorm(d_model)

    def hidden(self, x: Tensor, emb: Tensor) -> Tensor:
        """Return the meta-neurons (groups, n, d_mlp) for x (groups, n, d_model) and emb (groups, 1, d_model)."""
        normed = self.ln(x)
        return F.silu(self.gate_proj(normed) * self.time_proj(emb)) * self.up_proj(normed)

    def forward(self, x: Tensor, emb: Tensor) -> Tensor:
        return x + self.down_proj(self.hidden(x, emb))


class Network(nn.Module):
    """Predict velocities; rows that share a noise level share its embedding."""

    def __init__(self, config: DenoiserConfig) -> None:
        super().__init__()
        d = config.d_model
        self.config = config
        self.layers = cast("Sequence[Block]", nn.ModuleList(Block(d, config.d_mlp) for _ in range(config.n_layers)))
        self.in_proj = nn.Linear(config.d_input, d)
        self.out_proj = nn.Linear(d, config.d_input)
        self.time_embed = nn.Sequential(nn.Linear(d, d), nn.SiLU(), nn.Linear(d, d))
        if config.multi_layer_n_layers:
            self.layer_embed = nn.Sequential(nn.Linear(d, d), nn.SiLU(), nn.Linear(d, d))
        self.ln = nn.LayerNorm(d)

    def embed(self, sigma: Tensor, layer: Tensor | None = None) -> Tensor:
        """Return conditioning (groups, 1, d_model) for noise levels and LLM layers (groups,)."""
        dtype = self.in_proj.weight.dtype
        emb = self.time_embed(sinusoidal(1000 * sigma, self.config.d_model).to(dtype))
        depths = self.config.multi_layer_n_layers
        if layer is not None and depths is not None:
            depth = layer.float() / (depths - 1)
            emb = emb + self.layer_embed(sinusoidal(depth, self.config.d_model).to(dtype))
        return emb[:, None]

    def forward(self, z: Tensor, emb: Tensor) -> Tensor:
        """Return velocities (n, d_input) for z (n, d_input); row i is conditioned on emb[i // (n / groups)]."""
        x = self.in_proj(z).unflatten(0, (len(emb), -1))
        for block in self.layers:
            x = block(x, emb)
        return self.out_proj(self.ln(x)).flatten(0, 1)


class Normalizer(nn.Module):
    """Standardise activations per dimension with stored statistics, per LLM layer for multi-layer models."""

    mean: Tensor
    std: Tensor
    var: Tensor

    def __init__(self, mean: Tensor, var: Tensor) -> None:
        super().__init__()
        if mean.shape != var.shape or mean.ndim == 0:
            raise GlpError(
                f"Statistics disagree: mean has shape {tuple(mean.shape)}, var {tuple(var.shape)}; wanted the same dimensions for both."
            )
        if not (torch.isfinite(mean).all() and torch.isfinite(var).all() and (var > 0).all()):
            raise GlpError("Statistics hold values that are not finite, or variances that are not above 0.")
        self.register_buffer("mean", mean.float().reshape(-1, mean.shape[-1]))
        self.register_buffer("std", var.float().reshape(-1, var.shape[-1]).sqrt())
        self.register_buffer("var", var.float().reshape(-1, var.shape[-1]), persistent=False)

    def row(self, layer: Tensor | int | None) -> Tensor | int:
        """Return the index of the statistics for an LLM layer."""
        if len(self.mean) == 1:
            return 0
        return checked_layer(layer, len(self.mean))


def checked_layer(layer: Tensor | int | None, depth: int) -> Tensor | int:
    """Return `layer`, or raise GlpError unless it names layers of 0 to depth - 1."""
    if layer is None:
        raise GlpError(f"This GLP serves {depth} LLM layers: say which with layer=.")
    low, high = (int(layer.min()), int(layer.max())) if isinstance(layer, Tensor) else (layer, layer)
    if not 0 <= low <= high < depth:
        raise GlpError(f"LLM layer {layer} is out of range: this GLP serves layers 0 to {depth - 1}.")
    return layer
