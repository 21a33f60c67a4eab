"""Triton kernels of the products that few rows pass: a layer norm before, an activation or a sum after, in the same kernel.

A program computes a block of outputs for all rows at once, and always for ROWS of them, so that a row's numbers do not depend on how
many are beside it. Only `few_rows` runs them; without Triton the file can be imported and nothing in it can be run.
"""

from __future__ import annotations

try:
    from triton import jit
    from triton import language as tl
except ImportError:

    def jit(function=None, **_how):
        return function or jit


NORM_BLOCK = 512
"""Inputs whose sums a layer norm takes at once."""


@jit
def _moments(x, r, rows, D: tl.constexpr, BLOCK: tl.constexpr):
    """Return the mean and the reciprocal deviation (ROWS,) of x (rows, D), float32, in one pass.

    Sums are of differences from a row's own first number, which lies within sqrt(D) deviations of the mean: what is lost by
    cancellation is below D 2^-20 of the variance in the worst case, and 2^-20 as a rule.
    """
    first = tl.load(x + r * D, mask=r < rows, other=0.0).to(tl.float32)
    total = tl.zeros((r.shape[0], BLOCK), tl.float32)
    squares = tl.zeros((r.shape[0], BLOCK), tl.float32)
    for start in range(0, D, 3 * BLOCK):
        for ahead in tl.static_range(0, 3 * BLOCK, BLOCK):  # three loads on their way at once
            k = start + ahead + tl.arange(0, BLOCK)
            inside = (r < rows)[:, None] & (k < D)[None, :]
            value = tl.load(x + r[:, None] * D + k[None, :], mask=inside, other=0.0).to(tl.float32)
            value = tl.where(inside, value - first[:, None], 0.0)
            total += value
            squares += value * value
    mean = tl.sum(total, axis=1) / D
    variance = tl.maximum(tl.sum(squares, axis=1) / D - mean * mean, 0.0)
    return first + mean, tl.rsqrt(variance + 1e-5)


@jit
def _normed(value, mean, scale, norm_weight, norm_bias, k, D: tl.constexpr):
    """Return the layer norm of a block (ROWS, BLOCK_K) of inputs k, 0 beyond the last input."""
    weight = tl.load(norm_weight + k, mask=k < D, other=0.0).to(tl.float32)
    bias = tl.load(norm_bias + k, mask=k < D, other=0.0).to(tl.float32)
    return (value.to(tl.float32) - mean[:, None]) * scale[:, None] * weight[None, :] + bias[None, :]


@jit
def _block(weight, n, k, D_OUT: tl.constexpr, D_IN: tl.constexpr):
    """Return W^T (BLOCK_K, BLOCK_N) of a weight (D_OUT, D_IN) at inputs k and outputs n, 0 beyond its end."""
    inside = (k < D_IN)[:, None] & (n < D_OUT)[None, :]
    return tl.load(weight + n[None, :] * D_IN + k[:, None], mask=inside, other=0.0)


@jit(do_not_specialize=["rows"])
def linear(
    x,  # (rows, D_IN)
    norm_weight,  # (D_IN,) or None: no layer norm
    norm_bias,
    weight,  # (D_OUT, D_IN)
    bias,  # (D_OUT,)
    add_to,  # (rows, D_OUT) or None
    out,  # (rows, D_OUT)
    rows,
    D_IN: tl.constexpr,
    D_OUT: tl.constexpr,
    ROWS: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_K: tl.constexpr,
    NORM_BLOCK: tl.constexpr,
):
    """Compute x W^T + b, of the layer norm of x where there is one, added to `add_to` where there is one."""
    n = tl.program_id(0) * BLOCK_N + tl.arange(0, BLOCK_N)
    r = tl.arange(0, ROWS)
    if norm_weight is not None:
        mean, scale = _moments(x, r, rows, D_IN, NORM_BLOCK)
    sums = tl.zeros((ROWS, BLOCK_N), tl.float32)
    for start in range(0, D_IN, BLOCK_K):
        k = start + tl.arange(0, BLOCK_K)
        value = tl.load(x + r[:, None] * D_IN + k[None, :], mask=(r < rows)[:, None] & (k < D_IN)[None, :], other=0.0)
        if norm_weight is not None:
            value = _normed(value, mean, scale, norm_weight, norm_bias, k, D_IN)
        sums = tl.dot(value.to(weight.dtype.element_ty), _block(weight, n, k, D_OUT, D_IN), sums)
    sums += tl.load(bias + n, mask=n < D_OUT, other=0.0).to(tl.float32)[None, :]
    at, inside = r[:, None] * D_OUT + n[None, :], (r < rows)[:, None] & (n < D_OUT)[None, :]
    if add_to is not None:
        sums += tl.load(add_to + at, mask=inside, other=0.0).to(tl.float32)
    tl.store(out + at, sums.to(out.dtype.element_ty), mask=inside)


@jit(do_not_specialize=["rows"])
def gated(
    x,  # (rows, D_IN)
    norm_weight,  # (D_IN,)
    norm_bias,
    weight,  # (2 D_OUT, D_IN), the gate's rows first
    bias,  # (2 D_OUT,)
    factor,  # (D_OUT,)
    out,  # (rows, D_OUT)
    rows,
    D_IN: tl.constexpr,
    D_OUT: tl.constexpr,
    ROWS: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_K: tl.constexpr,
    NORM_BLOCK: tl.constexpr,
):
    """Compute SiLU(gate * factor) * up of the layer norm of x."""
    n = tl.program_id(0) * BLOCK_N + tl.arange(0, BLOCK_N)
    r = tl.arange(0, ROWS)
    up_weight = weight + D_OUT * D_IN
    mean, scale = _moments(x, r, rows, D_IN, NORM_BLOCK)
    gate = tl.zeros((ROWS, BLOCK_N), tl.float32)
    up = tl.zeros((ROWS, BLOCK_N), tl.float32)
    for start in range(0, D_IN, BLOCK_K):
        k = start + tl.arange(0, BLOCK_K)
        value = tl.load(x + r[:, None] * D_IN + k[None, :], mask=(r < rows)[:, None] & (k < D_IN)[None, :], other=0.0)
        value = _normed(value, mean, scale, norm_weight, norm_bias, k, D_IN).to(weight.dtype.element_ty)
        gate = tl.dot(value, _block(weight, n, k, D_OUT, D_IN), gate)
        up = tl.dot(value, _block(up_weight, n, k, D_OUT, D_IN), up)
    gate += tl.load(bias + n, mask=n < D_OUT, other=0.0).to(tl.float32)[None, :]
    up += tl.load(bias + D_OUT + n, mask=n < D_OUT, other=0.0).to(tl.float32)[None, :]
    gate *= tl.load(factor + n, mask=n < D_OUT, other=0.0).to(tl.float32)[None, :]
    inside = (r < rows)[:, None] & (n < D_OUT)[None, :]
    hidden = gate * tl.sigmoid(gate) * up
    tl.store(out + r[:, None] * D_OUT + n[None, :], hidden.to(out.dtype.element_ty), mask=inside)
