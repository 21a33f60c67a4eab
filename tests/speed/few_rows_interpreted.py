"""`python few_rows_interpreted.py CASE` with TRITON_INTERPRET=1: compare the kernels with torch's own layers, on the CPU."""

import sys
from unittest import mock

import numpy as np
import torch
from torch.nn import functional as F
from triton import language as tl
from triton.runtime import interpreter

from glp_core.prior.glp import GLP
from glp_core.prior.network import DenoiserConfig
from glp_core.speed import few_rows
from glp_core.speed.few_rows import Norm


def dot(_self, a, b, sums, *_precision):
    """Multiply what the interpreter keeps of bfloat16, its bits: its own product would take them for whole numbers."""

    def numbers(one):
        return (one.data.astype(np.uint32) << 16).view(np.float32) if one.dtype.scalar == tl.bfloat16 else one.data

    return interpreter.TensorHandle(np.matmul(numbers(a), numbers(b)) + sums.data, sums.dtype.scalar)


def drawn(*shape):
    return torch.randn(*shape).bfloat16()


def layer(n, d_in, d_out):
    """Return x with a mean far from 0, a weight, a bias, a layer norm, and the norm's product in float32."""
    x, weight, bias = drawn(n, d_in) + 5, (drawn(d_out, d_in) / d_in**0.5).bfloat16(), drawn(d_out)
    norm = Norm(drawn(d_in).float(), drawn(d_in).float())
    return x, weight, bias, norm, F.linear(F.layer_norm(x.float(), (d_in,), *norm), weight.float(), bias.float())


def close(found, expected):
    torch.testing.assert_close(found.float(), expected, rtol=1.5e-2, atol=5e-2)


def products():
    for n, d_in, d_out in ((3, 130, 70), (16, 37, 19), (2, 600, 24), (1, 1, 3)):
        x, weight, bias, norm, expected = layer(n, d_in, 2 * d_out)
        close(few_rows.linear(x, weight, bias, norm=norm, dtype=torch.float32), expected)
        factor, (gate, up) = drawn(d_out), expected.chunk(2, dim=-1)
        close(few_rows.gated(x, weight, bias, factor, norm=norm), F.silu(gate * factor.float()) * up)
        plain, add_to = F.linear(x.float(), weight.float(), bias.float()), drawn(n, 2 * d_out)
        close(few_rows.linear(x.float(), weight, bias, dtype=torch.float32), plain)
        close(few_rows.linear(x, weight, bias, add_to=add_to, dtype=torch.float32), plain + add_to.float())
        assert few_rows.linear(x, weight, bias).dtype == torch.bfloat16


def rows():
    x, weight, bias, norm, _ = layer(16, 130, 38)
    x[3] = float("nan")
    for compute in (
        lambda x: few_rows.linear(x, weight, bias, norm=norm),
        lambda x: few_rows.linear(x, weight, bias, add_to=x[:, :38]),
        lambda x: few_rows.gated(x, weight, bias, bias[:19], norm=norm),
    ):
        together = compute(x)
        for i in (0, 15):
            assert torch.equal(compute(x[i : i + 1])[0], together[i])
            assert torch.equal(compute(x[: i + 1])[i], together[i])
        assert together[3].isnan().all() and together.isnan().any(1).sum() == 1


def velocity():
    torch.manual_seed(0)
    glp = GLP(DenoiserConfig(32, 64, 96, 2), torch.zeros(32), torch.ones(32))
    glp.network.bfloat16()
    z = torch.randn(2, 32)
    with torch.no_grad():
        embedded = glp.network.embed(torch.tensor([0.3]))
        exact = glp.network.float()(z, embedded.float())
    glp.network.bfloat16()
    with mock.patch.object(few_rows, "serves", lambda _weight: True):
        glp.prepare()
    found = glp.velocity(z, 0.3)
    assert not few_rows.failures and found.dtype == torch.float32
    close(found, exact)
    glp._fast._norms = None
    plain = glp.velocity(z, 0.3)
    assert not torch.equal(found, plain), "the kernels did not run"
    close(found, plain)


if __name__ == "__main__":
    torch.manual_seed(1)
    interpreter.InterpreterBuilder.create_dot = dot
    {"products": products, "rows": rows, "velocity": velocity}[sys.argv[1]]()
