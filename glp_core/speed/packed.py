"""Weights laid out once in oneDNN's blocked order: on a CPU few rows are then multiplied several times faster.

Torch's own float32 product of a few rows is far from the memory's speed on some processors. Knows tensors and linear layers; knows
nothing of the models that have them.
"""

from collections.abc import Iterable

import torch
from torch import Tensor, nn

PACKED_FOR = 16
"""Rows that the layout is chosen for; it serves any number of them."""
MOST_ROWS = 64
"""Above, torch's own product is as fast, and what is read in large batches does not depend on the layout."""
MOST_PARAMETERS = 500_000_000
"""Of a model that is laid out: its memory doubles."""


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


class FewRowsLinear(nn.Linear):
    """Compute what another linear layer does, with its own parameters."""

    def __init__(self, linear: nn.Linear) -> None:
        nn.Module.__init__(self)
        self.in_features, self.out_features = linear.in_features, linear.out_features
        self.weight, self.bias = linear.weight, linear.bias
        self.packed = packed(linear.weight)

    def forward(self, x: Tensor) -> Tensor:
        """Return x W^T + b (..., out)."""
        if self.packed is None or x.requires_grad or x.numel() > MOST_ROWS * self.in_features:
            return super().forward(x)
        return product(x, self.packed, self.bias)


def lay_out(model: nn.Module) -> None:
    """Put a layer with a second layout in the place of each that would gain from it."""
    for name, linear in _gaining(model).items():
        parent, _, own = name.rpartition(".")
        setattr(model.get_submodule(parent), own, FewRowsLinear(linear))


def layout_bytes(model: nn.Module) -> int:
    """Return the bytes of the layouts that `lay_out` would make; 0 for a model that is too large for them."""
    if sum(parameter.numel() for parameter in model.parameters()) > MOST_PARAMETERS:
        return 0
    return _bytes(_gaining(model).values())


def laid_out_bytes(model: nn.Module) -> int:
    """Return the bytes of the layouts that a model has."""
    return _bytes(module for module in model.modules() if isinstance(module, FewRowsLinear))


def _gaining(model: nn.Module) -> dict[str, nn.Linear]:
    named = model.named_modules()
    return {name: one for name, one in named if type(one) is nn.Linear and one.weight.dtype == torch.float32}


def _bytes(layers: Iterable[nn.Linear]) -> int:
    return sum(layer.weight.numel() * layer.weight.element_size() for layer in layers)
