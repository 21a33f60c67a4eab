"""Weights laid out once so that a CPU multiplies few rows several times faster: in oneDNN's blocked order, or in 16 bits.

Few rows wait for memory, and torch's own float32 product is far from its speed on some processors. Knows tensors and linear layers;
knows nothing of the models that have them.
"""

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

PACKED_FOR = 16
"""Rows that oneDNN's layout is chosen for; it serves any number of them."""
MOST_ROWS = 64
"""That count as few. Above, torch's own product is as fast, and what is read in large batches does not depend on the layout."""
MOST_PARAMETERS = 500_000_000
"""Of a model that is laid out."""
TILE, ODD_TAILS = 6, (1, 2)
"""Rows that FBGEMM takes at once, and those left at the end that it sums in another order."""


def packed(weight: Tensor) -> Tensor | None:
    """Return a weight (out, in) in oneDNN's blocked order, or None where this build of torch or this device cannot."""
    if weight.device.type != "cpu" or not torch.backends.mkldnn.is_available():
        return None
    try:
        laid_out: Tensor = torch.ops.mkldnn._reorder_linear_weight(weight.detach(), PACKED_FOR)
        product(weight.new_zeros(1, weight.shape[1]), laid_out, None)
    except (AttributeError, RuntimeError):
        return None
    return laid_out


def product(x: Tensor, weight: Tensor, bias: Tensor | None, add_to: Tensor | None = None) -> Tensor:
    """Return x W^T + b (..., out) for a packed weight, added to `add_to` (..., out) when given."""
    if add_to is None:
        return torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")
    return torch.ops.mkldnn._linear_pointwise.binary(x, add_to, weight, bias, "add")


class Halves:
    """x W^T + b in float32 of a weight that is kept in 16 bits: exact for weights that were stored so, else within 2^-11 of each."""

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        self._kept = torch.ops.quantized.linear_prepack_fp16(weight.detach(), None if bias is None else bias.detach())

    def __call__(self, x: Tensor) -> Tensor:
        """Return the product (..., out); a row's numbers do not depend on how many are beside it."""
        rows = x.reshape(-1, x.shape[-1])
        tail = len(rows) % TILE
        if tail in ODD_TAILS:
            padded = F.pad(rows, (0, 0, 0, max(ODD_TAILS) + 1 - tail))
            return torch.ops.quantized.linear_dynamic_fp16(padded, self._kept)[: len(rows)].reshape(*x.shape[:-1], -1)
        return torch.ops.quantized.linear_dynamic_fp16(x, self._kept)


def halved(weight: Tensor, bias: Tensor | None) -> Halves | None:
    """Return a float32 weight (out, in) in 16 bits, or None where there is no kernel for it or a number is too large."""
    if (
        weight.device.type != "cpu"
        or weight.dtype != torch.float32
        or not bool(weight.abs().max() < torch.finfo(torch.half).max)
    ):
        return None
    try:
        halves = Halves(weight, bias)
        halves(weight.new_zeros(1, weight.shape[1]))
    except (AttributeError, RuntimeError):
        return None
    return halves


class StepLinear(nn.Linear):
    """Compute what another linear layer does, with its own parameters; one token of each of few rows, a decode step, by their copy.

    The copy is in 16 bits where there is a kernel for it. Texts that are read pass torch's own product.
    """

    def __init__(self, linear: nn.Linear) -> None:
        nn.Module.__init__(self)
        self.in_features, self.out_features = linear.in_features, linear.out_features
        self.weight, self.bias = linear.weight, linear.bias
        self.halves = halved(linear.weight, linear.bias)
        self.packed = packed(linear.weight) if self.halves is None else None

    def forward(self, x: Tensor) -> Tensor:
        """Return x W^T + b (..., out)."""
        is_step = x.ndim == 3 and x.shape[1] == 1 and 0 < len(x) <= MOST_ROWS and not x.requires_grad
        if is_step and self.halves is not None:
            return self.halves(x)
        if is_step and self.packed is not None:
            return product(x, self.packed, self.bias)
        return super().forward(x)


def lay_out(model: nn.Module) -> None:
    """Put a layer with a second layout in the place of each that would gain from it."""
    for name, linear in _gaining(model).items():
        parent, _, own = name.rpartition(".")
        setattr(model.get_submodule(parent), own, StepLinear(linear))


def layout_bytes(model: nn.Module) -> int:
    """Return the bytes of the layouts that `lay_out` would make; 0 for a model that is too large for them."""
    if sum(parameter.numel() for parameter in model.parameters()) > MOST_PARAMETERS:
        return 0
    has_kernel = "fbgemm" in torch.backends.quantized.supported_engines
    return _bytes(_gaining(model).values(), (torch.half if has_kernel else torch.float32).itemsize)


def laid_out_bytes(model: nn.Module) -> int:
    """Return the bytes of the layouts that a model has."""
    made = [module for module in model.modules() if isinstance(module, StepLinear)]
    halves = [layer for layer in made if layer.halves is not None]
    others = [layer for layer in made if layer.packed is not None]
    return _bytes(halves, torch.half.itemsize) + _bytes(others, torch.float32.itemsize)


def _gaining(model: nn.Module) -> dict[str, nn.Linear]:
    named = model.named_modules()
    return {name: one for name, one in named if type(one) is nn.Linear and one.weight.dtype == torch.float32}


def _bytes(layers: Iterable[nn.Linear], of_each: int) -> int:
    return sum(layer.weight.numel() * of_each for layer in layers)
