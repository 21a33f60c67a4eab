"""Products of few rows on an accelerator with what stands before and after them, each in one kernel.

A small network leaves an accelerator waiting for one short kernel after another: fused, a SwiGLU block is two of them. Knows tensors
and weights; knows nothing of the networks that have them.
"""

from collections.abc import Callable
from functools import cache
from importlib import import_module
from types import ModuleType
from typing import NamedTuple

import torch
from torch import Tensor

MOST_ROWS = 16
"""Rows that a kernel takes: the least that a tensor core multiplies at once, so that fewer are not faster."""
MOST_NUMBERS = 32_000_000
"""In a weight that gains. A larger one waits for memory, 20 us at 3 TB/s, not for kernels to start, and with it every program would
go over the many inputs of a wide layer norm."""


class Blocks(NamedTuple):
    """How a product is divided: each program takes `outputs`, and goes over its inputs by `inputs`."""

    outputs: int
    inputs: int
    warps: int
    stages: int
    """Blocks of weights that are on their way at once."""


LEAST_CAPABILITY = (8, 0)
"""Of a card: older tensor cores do not multiply bfloat16."""
PLAIN = Blocks(16, 256, 4, 4)
"""Of a product without a layer norm; the fastest of 20 on an H200, as are the next two."""
NORMED = Blocks(16, 256, 4, 3)
"""Of one behind a layer norm."""
GATED = Blocks(32, 256, 4, 3)
"""Of two at once behind a layer norm."""

failures: dict[torch.device, str] = {}
"""Why a device's kernels could not be made: it is not tried again."""


class Norm(NamedTuple):
    """A layer norm's parameters, (inputs,) each; in float32 a program's loads of them are wide enough to be fetched ahead."""

    weight: Tensor
    bias: Tensor


def serves(weight: Tensor) -> bool:
    """Say whether products with a weight (out, in) may come from here."""
    fits = weight.is_cuda and weight.dtype == torch.bfloat16 and weight.numel() <= MOST_NUMBERS
    able = fits and torch.cuda.get_device_capability(weight.device) >= LEAST_CAPABILITY
    return able and weight.device not in failures and _kernels() is not None


def attempted(device: torch.device, compute: Callable[[], Tensor]) -> Tensor | None:
    """Return what a computation by these kernels returns; None, and a note in `failures`, where the device cannot have them."""
    if device in failures:
        return None
    try:
        return compute()
    except torch.OutOfMemoryError:
        raise
    except Exception as error:  # a compiler, a linker or a driver that is missing, too old or too new
        failures[device] = f"{type(error).__name__}: {error}".splitlines()[0]
        return None


def linear(
    x: Tensor,  # (n, in), n <= MOST_ROWS
    weight: Tensor,  # (out, in)
    bias: Tensor,  # (out,)
    *,
    norm: Norm | None = None,
    add_to: Tensor | None = None,  # (n, out)
    dtype: torch.dtype | None = None,
    blocks: Blocks | None = None,
) -> Tensor:
    """Return x W^T + b (n, out), of the layer norm of x when given, added to `add_to` when given; in `dtype` or the weight's."""
    out = x.new_empty(len(x), len(weight), dtype=dtype or weight.dtype)
    blocks = blocks or (PLAIN if norm is None else NORMED)
    norm_weight, norm_bias = norm or (None, None)
    add_to = add_to if add_to is None else add_to.contiguous()
    _launch("linear", blocks, out, x.contiguous(), norm_weight, norm_bias, weight, bias, add_to)
    return out


def gated(
    x: Tensor,  # (n, in), n <= MOST_ROWS
    weight: Tensor,  # (2 out, in), the gate's rows first
    bias: Tensor,  # (2 out,)
    factor: Tensor,  # (out,)
    *,
    norm: Norm,
    blocks: Blocks | None = None,
) -> Tensor:
    """Return SiLU(gate * factor) * up (n, out) of the layer norm of x."""
    out = x.new_empty(len(x), len(weight) // 2, dtype=weight.dtype)
    _launch("gated", blocks or GATED, out, x.contiguous(), *norm, weight, bias, factor)
    return out


def _launch(name: str, blocks: Blocks, out: Tensor, x: Tensor, *tensors: Tensor | None) -> None:
    """Run a kernel: one program for each block of outputs."""
    (n, d_out), d_in = out.shape, x.shape[1]
    sizes = {"D_IN": d_in, "D_OUT": d_out, "ROWS": MOST_ROWS, "BLOCK_N": blocks.outputs, "BLOCK_K": blocks.inputs}
    options = {"num_warps": blocks.warps, "num_stages": blocks.stages}
    kernels = _kernels()
    assert kernels is not None and n <= MOST_ROWS
    with torch.cuda.device_of(x):
        kernel = getattr(kernels, name)
        kernel[(-(-d_out // blocks.outputs),)](x, *tensors, out, n, NORM_BLOCK=kernels.NORM_BLOCK, **sizes, **options)


@cache
def _kernels() -> ModuleType | None:
    """Return the kernels, or None without Triton, which torch's builds for CUDA bring along."""
    try:
        import_module("triton")
    except Exception:  # absent, or of another build than torch
        return None
    return import_module("glp_core.speed.few_rows_kernels")
