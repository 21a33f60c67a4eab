"""A GLP network laid out for fast inference: time conditioning computed once a noise level, gate and up in one product.

The gate's product with the time embedding is linear, so for a fixed noise level it folds into a scale; nothing is approximated.
"""

import copy
from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from functools import partial
from threading import Lock
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from glp_core.jobs.pause import pause
from glp_core.prior.facts import LAID_OUT_BELOW
from glp_core.speed import few_rows
from glp_core.speed.few_rows import Norm
from glp_core.speed.packed import MOST_ROWS, halved, packed, product
from glp_core.speed.replay import hold

if TYPE_CHECKING:
    from glp_core.prior.network import Network

KEPT_LEVELS = 256
"""Noise levels whose conditioning is kept; one takes n_layers x d_mlp numbers."""
EIGHT_BITS_BELOW = 4
"""Rows up to which, this one not included, a rough answer may come from weights of eight bits. Fewer rows than this wait for memory,
which eight bits halve (1.6 to 2.2 times faster); from here on bfloat16's own kernels are as fast. The decode loop's batches are
multiples of it, so its texts do not depend on which kernel was taken."""


class _Linear:
    """x W^T + b on the CPU or an accelerator, with the weight laid out once in oneDNN's blocked order where that is faster.

    On a CPU that multiplies bfloat16 the weight is kept in eight bits as well, with a scale for each output; in float32, where that is
    asked for, in 16 bits.
    """

    def __init__(self, weight: Tensor, bias: Tensor, *, pack: bool, halves: bool) -> None:
        self.weight, self.bias = weight, bias
        self.packed = packed(weight) if pack else None
        self.eight_bits = _eight_bits(weight) if pack else None
        self.halves = halved(weight, bias) if pack and halves else None

    def __call__(self, x: Tensor, add_to: Tensor | None = None, *, rough: bool = False) -> Tensor:
        """Return x W^T + b (n, out), added to `add_to` (n, out) when given; `rough`: few rows may be off by 1%."""
        y = self._rough(x) if rough else None
        if y is None and self.packed is not None:
            return product(x, self.packed, self.bias, add_to)
        if y is None:
            y = F.linear(x, self.weight, self.bias)
        return y if add_to is None else y.add_(add_to)

    def _rough(self, x: Tensor) -> Tensor | None:
        if self.eight_bits is not None and len(x) < EIGHT_BITS_BELOW:
            return torch._weight_int8pack_mm(x, *self.eight_bits).add_(self.bias)
        return self.halves(x) if self.halves is not None and len(x) <= MOST_ROWS else None


def _eight_bits(weight: Tensor) -> tuple[Tensor, Tensor] | None:
    """Return the weight as int8 (out, in) and its scales (out,), or None where there is no kernel for them."""
    if weight.device.type != "cpu" or weight.dtype != torch.bfloat16:
        return None
    scales = (weight.detach().float().abs().amax(1) / 127).clamp_min(1e-12).to(weight.dtype)
    whole = (weight.detach().float() / scales.float()[:, None]).round().clamp(-127, 127).to(torch.int8)
    try:
        torch._weight_int8pack_mm(weight.new_zeros(1, weight.shape[1]), whole, scales)
    except (AttributeError, RuntimeError):
        return None
    return whole, scales


class _FusedBlock(NamedTuple):
    ln_weight: Tensor
    ln_bias: Tensor
    gate_up: _Linear
    down: _Linear


class FastDenoiser:
    """Compute what `Network` computes, for inference; safe to use from several threads."""

    def __init__(self, network: "Network", *, pack: bool | None = None, halves: bool = False) -> None:
        self.network, self.halves = network, halves
        if pack is None:
            pack = sum(p.numel() for p in network.parameters()) <= LAID_OUT_BELOW
        laid_out = partial(_Linear, pack=pack, halves=halves)
        self.enter = laid_out(network.in_proj.weight, network.in_proj.bias)
        self.leave = laid_out(network.out_proj.weight, network.out_proj.bias)
        self.blocks = [
            _FusedBlock(
                block.ln.weight,
                block.ln.bias,
                laid_out(*_joined(block.gate_proj, block.up_proj)),
                laid_out(block.down_proj.weight, block.down_proj.bias),
            )
            for block in network.layers
        ]
        self._norms = self._norms_in_float32() if all(few_rows.serves(linear.weight) for linear in self.linears) else None
        """Of the kernels for few rows; None where they do not serve."""
        self._times: OrderedDict[Hashable, list[Tensor]] = OrderedDict()
        self._lock = Lock()

    def at(self, network: "Network") -> "FastDenoiser":
        """Return the same layout for a network that differs from this one in its time embedding only."""
        other = copy.copy(self)
        other.network, other._times, other._lock = network, OrderedDict(), Lock()
        return other

    @property
    def linears(self) -> list[_Linear]:
        """All laid-out products."""
        return [self.enter, *(linear for block in self.blocks for linear in (block.gate_up, block.down)), self.leave]

    @torch.no_grad()
    def velocity(self, z: Tensor, sigma: float, layer: int | None = None, *, rough: bool = False) -> Tensor:
        """Return velocities (n, d_input), float32, at one noise level; `rough`: few rows may be off by 1%, for time."""
        times, norms = self.times(sigma, layer), self._norms
        if norms is not None and len(z) <= few_rows.MOST_ROWS:
            found = few_rows.attempted(self.enter.weight.device, lambda: self._fused_velocity(z, times, norms))
            if found is not None:
                return found
        return self._velocity(z, times, rough)

    @torch.no_grad()
    def velocities(
        self, asked: Sequence[tuple[Tensor, float]], layer: int | None = None, *, rough: bool = False
    ) -> list[Tensor]:
        """Return what `velocity` does for several latents, all (n, d_input), each at its own noise level.

        They pass the network together: few rows wait for its weights, which are read once.
        """
        if len(asked) == 1 or self._norms is not None:
            return [self.velocity(z, sigma, layer, rough=rough) for z, sigma in asked]
        times = self._times_together(tuple(sigma for _, sigma in asked), layer)
        return list(self._velocity(torch.cat([z for z, _ in asked]), times, rough).chunk(len(asked)))

    @torch.no_grad()
    def neurons(self, z: Tensor, sigma: float, layer: int | None = None) -> Tensor:
        """Return every block's neurons, the post-SwiGLU values (n, n_layers, d_mlp), float32, at one noise level."""
        x, hidden = self._enter(z), []
        for block, time in zip(self.blocks, self.times(sigma, layer), strict=True):
            hidden.append(self._hidden(block, x, time))
            if len(hidden) < len(self.blocks):  # nobody reads what the last block adds
                x = block.down(hidden[-1], add_to=x)
        return torch.stack(hidden, dim=1).float()

    @torch.no_grad()
    def times(self, sigma: float, layer: int | None = None) -> list[Tensor]:
        """Return each block's projected time embedding (d_mlp,), computed once for a noise level and LLM layer."""
        return self._kept((sigma, layer), lambda: self._times_at(sigma, layer))

    def _times_at(self, sigma: float, layer: int | None) -> list[Tensor]:
        device = self.network.in_proj.weight.device
        layers = None if layer is None else torch.tensor([layer], device=device)
        emb = self.network.embed(torch.tensor([sigma], device=device), layers)[0, 0]
        return [F.linear(emb, b.time_proj.weight, b.time_proj.bias) for b in self.network.layers]

    def _times_together(self, sigmas: tuple[float, ...], layer: int | None) -> list[Tensor]:
        """Return each block's projected time embeddings at several noise levels (levels, 1, d_mlp)."""
        blocks = zip(*(self.times(sigma, layer) for sigma in sigmas), strict=True)
        return self._kept((sigmas, layer), lambda: [torch.stack(times)[:, None] for times in blocks])

    def _kept(self, key: Hashable, make: Callable[[], list[Tensor]]) -> list[Tensor]:
        with self._lock:
            kept = self._times.get(key)
        made = make() if kept is None else kept
        with self._lock:
            self._times[key] = made
            self._times.move_to_end(key)
            while len(self._times) > KEPT_LEVELS:
                self._times.popitem(last=False)
        hold(made)
        return made

    def _norms_in_float32(self) -> list[Norm]:
        """Return the layer norms of the blocks and the last one."""
        pairs = [*((block.ln_weight, block.ln_bias) for block in self.blocks), (self.network.ln.weight, self.network.ln.bias)]
        return [Norm(weight.detach().float(), bias.detach().float()) for weight, bias in pairs]

    def _fused_velocity(self, z: Tensor, times: list[Tensor], norms: list[Norm]) -> Tensor:
        """Return velocities (n, d_input), float32, of few rows: each product in one kernel with what surrounds it."""
        x = few_rows.linear(z.to(self.enter.weight.device), self.enter.weight, self.enter.bias)
        for block, time, norm in zip(self.blocks, times, norms, strict=False):  # the last norm is no block's
            hidden = few_rows.gated(x, block.gate_up.weight, block.gate_up.bias, time, norm=norm)
            x = few_rows.linear(hidden, block.down.weight, block.down.bias, add_to=x)
        return few_rows.linear(x, self.leave.weight, self.leave.bias, norm=norms[-1], dtype=torch.float32)

    def _velocity(self, z: Tensor, times: list[Tensor], rough: bool) -> Tensor:
        """Return velocities (n, d_input), float32, by torch's products."""
        x = self._enter(z, rough)
        for block, time in zip(self.blocks, times, strict=True):
            x = block.down(self._hidden(block, x, time, rough), add_to=x, rough=rough)
        ln = self.network.ln
        return self.leave(F.layer_norm(x, x.shape[-1:], ln.weight, ln.bias), rough=rough).float()

    def _enter(self, z: Tensor, rough: bool = False) -> Tensor:
        weight = self.enter.weight
        return self.enter(z.to(weight.device, weight.dtype), rough=rough)

    def _hidden(self, block: _FusedBlock, x: Tensor, time: Tensor, rough: bool = False) -> Tensor:
        if x.is_cpu:  # an accelerator takes no time worth sharing, and may be recording
            pause()
        normed = F.layer_norm(x, x.shape[-1:], block.ln_weight, block.ln_bias)
        gate, up = block.gate_up(normed, rough=rough).chunk(2, dim=-1)
        if time.ndim > 1:  # as many rows for each noise level
            gate, up = (one.unflatten(0, (len(time), -1)) for one in (gate, up))
        return F.silu(gate * time, inplace=True).mul_(up).flatten(0, -2)


def _joined(first: nn.Linear, second: nn.Linear) -> tuple[Tensor, Tensor]:
    """Join two linears' weights and biases in one tensor each, and let their parameters be views of it, so that nothing is kept twice."""
    made = []
    for name in ("weight", "bias"):
        joined = torch.cat([getattr(first, name).detach(), getattr(second, name).detach()])
        rows = len(getattr(first, name))
        setattr(first, name, nn.Parameter(joined[:rows], requires_grad=False))
        setattr(second, name, nn.Parameter(joined[rows:], requires_grad=False))
        made.append(joined)
    return made[0], made[1]
