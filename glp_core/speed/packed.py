"""Weights laid out once so that a CPU multiplies few rows several times faster: in oneDNN's blocked order, or in 16 bits.

Few rows wait for memory, and torch's own product is far from its speed on some processors: in bfloat16 it orders the weight anew at
every call. Knows tensors and linear layers; knows nothing of the models that have them.
"""

from collections.abc import Iterator, Sequence
from itertools import accumulate

import torch
from torch import Tensor, nn
from torch.nn import functional as F

PACKED_FOR = 16
"""Rows that oneDNN's layout is chosen for; it serves any number of them."""
MOST_ROWS = 64
"""That count as few. Above, torch's own product is as fast, and what is read in large batches does not depend on the layout."""
MOST_TOKENS = 512
"""Of all rows, that are read in bfloat16 by a second layout too: ordering the weight anew is a good part of reading so few."""
MOST_PARAMETERS = 500_000_000
"""Of a model that is laid out."""
GAINING = torch.float32, torch.bfloat16
"""Number types of weights that gain from a second layout."""
READ_THE_SAME = ("q_proj", "k_proj", "v_proj"), ("gate_proj", "up_proj"), ("w1", "w3")
"""Names of neighbours that read the same numbers in most families: one product for all of them waits once for its threads."""
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
    """x W^T + b in float32 of a weight that is kept in 16 bits.

    Exact for weights that float16 holds; others move by 2^-11 of themselves at most, below its least normal number, 6e-5, by 3e-8.
    """

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


class _Step:
    """The product of a decode step, by a second layout of a weight: in 16 bits where there is a kernel for it."""

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        self.bias = bias
        self.halves = halved(weight, bias)
        self.packed = packed(weight) if self.halves is None else None

    def __call__(self, x: Tensor) -> Tensor | None:
        """Return x W^T + b (..., out), or None where there is no kernel for it."""
        if self.halves is not None:
            return self.halves(x)
        return None if self.packed is None else product(x, self.packed, self.bias)


class _Together:
    """Layers that read the same numbers one after the other: the first computes what all of them answer, in one product."""

    def __init__(self, linears: Sequence[nn.Linear]) -> None:
        weights = [linear.weight.detach() for linear in linears]
        biases = [linear.bias.detach() for linear in linears if linear.bias is not None]
        self.step = _Step(torch.cat(weights), torch.cat(biases) if biases else None)
        ends = list(accumulate(linear.out_features for linear in linears))
        self._parts = [slice(end - linear.out_features, end) for linear, end in zip(linears, ends, strict=True)]
        self._last: tuple[Tensor, Tensor, frozenset[int]] | None = None
        """What was read last, what it gave, and which layers have not asked for their part of it."""

    def part(self, x: Tensor, place: int) -> Tensor | None:
        """Return the answer of the layer at `place` (..., out), or None where there is no kernel for it."""
        last = self._last
        if last is None or last[0] is not x or place not in last[2]:
            made = self.step(x)
            if made is None:
                return None
            last = x, made, frozenset(range(len(self._parts)))
        left = last[2] - {place}
        self._last = (x, last[1], left) if left else None
        return last[1][..., self._parts[place]]


class StepLinear(nn.Linear):
    """Compute what another linear layer does, with its own parameters: a decode step, one token of each of few rows, by their copy.

    Texts that are read pass torch's own product, short ones in bfloat16 the copy too.
    """

    def __init__(self, linear: nn.Linear, together: _Together | None = None, place: int = 0) -> None:
        nn.Module.__init__(self)
        self.in_features, self.out_features = linear.in_features, linear.out_features
        self.weight, self.bias = linear.weight, linear.bias
        self._together, self._place = together or _Together([linear]), place

    @property
    def step(self) -> _Step:
        """Its second layout, which may be others' too."""
        return self._together.step

    def forward(self, x: Tensor) -> Tensor:
        """Return x W^T + b (..., out)."""
        made = self._together.part(x, self._place) if self._few(x) else None
        return super().forward(x) if made is None else made

    def _few(self, x: Tensor) -> bool:
        if x.ndim != 3 or x.requires_grad:
            return False
        rows, tokens, _ = x.shape
        is_step = tokens == 1 and 0 < rows <= MOST_ROWS
        return is_step or (self.weight.dtype == torch.bfloat16 and 0 < rows * tokens <= MOST_TOKENS)


def lay_out(model: nn.Module) -> None:
    """Put a layer with a second layout in the place of each that would gain from it."""
    for names, linears in _gaining(model):
        together = _Together(linears)
        for place, (name, linear) in enumerate(zip(names, linears, strict=True)):
            parent, _, own = name.rpartition(".")
            setattr(model.get_submodule(parent), own, StepLinear(linear, together, place))


def layout_bytes(model: nn.Module) -> int:
    """Return the bytes of the layouts that `lay_out` would make; 0 for a model that is too large for them."""
    if sum(parameter.numel() for parameter in model.parameters()) > MOST_PARAMETERS:
        return 0
    halves = "fbgemm" in torch.backends.quantized.supported_engines
    return sum(_bytes(linear.weight, halves=halves) for _, linears in _gaining(model) for linear in linears)


def laid_out_bytes(model: nn.Module) -> int:
    """Return the bytes of the layouts that a model has."""
    made = [module for module in model.modules() if isinstance(module, StepLinear)]
    laid_out = [one for one in made if one.step.halves is not None or one.step.packed is not None]
    return sum(_bytes(one.weight, halves=one.step.halves is not None) for one in laid_out)


def _gaining(model: nn.Module) -> Iterator[tuple[list[str], list[nn.Linear]]]:
    """Yield the names of layers that gain from a second layout, and the layers; those that read the same numbers together."""
    named = {name: one for name, one in model.named_modules() if type(one) is nn.Linear and one.weight.dtype in GAINING}
    groups: dict[tuple[str, str, object], list[str]] = {}
    for name, one in named.items():
        parent, _, own = name.rpartition(".")
        kind = next((" ".join(names) for names in READ_THE_SAME if own in names), own)
        groups.setdefault((parent, kind, (one.in_features, one.weight.dtype, one.bias is None)), []).append(name)
    for names in groups.values():
        yield names, [named[name] for name in names]


def _bytes(weight: Tensor, *, halves: bool) -> int:
    """Return the bytes of a weight's second layout."""
    of_each = torch.half.itemsize if halves and weight.dtype == torch.float32 else weight.element_size()
    return weight.numel() * of_each
