"""The GLP's network and its normaliser: noisy latents in, velocities out.

Follows Luo et al. 2026 (arXiv 2602.06964); parameter names are those of the released checkpoints. Knows nothing of solvers or files.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from glp_core.errors import GlpError

WIDEST, MOST_LAYERS = 2**28, 4096
"""Of a network that is built: what a file says beyond is damage."""


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
            most = MOST_LAYERS if name == "n_layers" else WIDEST
            if type(value) is not int or not 1 <= value <= most:
                raise GlpError(f"{name} is {value!r}, wanted a whole number from 1 to {most:,}.")
        depth = self.multi_layer_n_layers
        if depth is not None and (type(depth) is not int or not 2 <= depth <= MOST_LAYERS):
            raise GlpError(f"multi_layer_n_layers is {depth!r}, wanted a whole number from 2 to {MOST_LAYERS:,}, or none.")


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
        if layer is not None and self.config.multi_layer_n_layers is not None:
            emb = emb + self._embed_layer(layer)
        return emb[:, None]

    def _embed_layer(self, layer: Tensor) -> Tensor:
        """Return the embedding (groups, d_model) of LLM layers (groups,), by their depth in the LLM."""
        depth = layer.float() / (cast("int", self.config.multi_layer_n_layers) - 1)
        return self.layer_embed(sinusoidal(depth, self.config.d_model).to(self.in_proj.weight.dtype))

    def at(self, layer: int) -> "Network":
        """Return a multi-layer network for one LLM layer: the layer's embedding joins a bias, all other weights are shared."""
        first, middle, last = cast("tuple[nn.Linear, nn.SiLU, nn.Linear]", tuple(self.time_embed))
        with torch.inference_mode(False), torch.no_grad():
            embedded = self._embed_layer(torch.tensor([layer], device=last.bias.device))[0]
            bias = nn.Parameter(last.bias + embedded, requires_grad=last.bias.requires_grad)
        with torch.device("meta"):  # nothing is allocated: every part is put in place below
            one = Network(replace(self.config, multi_layer_n_layers=None))
            joined = nn.Linear(last.in_features, last.out_features)
        joined.weight, joined.bias = last.weight, bias
        one.time_embed = nn.Sequential(first, middle, joined)
        one.layers, one.in_proj, one.out_proj, one.ln = self.layers, self.in_proj, self.out_proj, self.ln
        return one

    def neurons(self, z: Tensor, emb: Tensor) -> Tensor:
        """Return every block's neurons (n, n_layers, d_mlp), float32, for z and emb as `forward` takes them."""
        x = self.in_proj(z.to(self.in_proj.weight.dtype)).unflatten(0, (len(emb), -1))
        hidden = []
        for block in self.layers:
            hidden.append(block.hidden(x, emb))
            x = x + block.down_proj(hidden[-1])
        return torch.stack([h.flatten(0, 1) for h in hidden], dim=1).float()

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
        mean, var = (values.float().reshape(-1, values.shape[-1]) for values in (mean, var))
        measured = (torch.isfinite(mean) & torch.isfinite(var) & (var > 0)).all(1)
        if not measured.any():
            raise GlpError("Statistics hold values that are not finite, or variances that are not above 0.")
        self.layers = tuple(measured.nonzero().flatten().tolist())
        """Rows that hold numbers: a GLP may have been trained on some layers of the LLM only."""
        self.register_buffer("mean", mean)
        self.register_buffer("std", var.sqrt())
        self.register_buffer("var", var, persistent=False)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "Normalizer":
        """Move to another device; statistics stay float32, whatever number type the weights are turned into."""
        before = dict(self.named_buffers())
        super()._apply(fn, recurse)
        for name, values in before.items():
            if not values.is_meta:
                setattr(self, name, values.to(getattr(self, name).device))
        return self

    def row(self, layer: Tensor | int | None) -> Tensor | int:
        """Return the index of the statistics for an LLM layer."""
        return 0 if len(self.mean) == 1 else checked_layer(layer, self.layers)


def checked_layer(layer: Tensor | int | None, served: Sequence[int]) -> Tensor | int:
    """Return `layer`, or raise GlpError unless it names layers that are served."""
    if layer is None:
        raise GlpError(f"This GLP serves {len(served)} LLM layers: say which with layer=, or take one with glp.at(layer).")
    if any(one not in served for one in (layer.unique().tolist() if isinstance(layer, Tensor) else [layer])):
        whole = len(served) == served[-1] - served[0] + 1
        words = f"{served[0]} to {served[-1]}" if whole else ", ".join(map(str, served))
        raise GlpError(f"LLM layer {layer} is out of range: this GLP serves layers {words}.")
    return layer
