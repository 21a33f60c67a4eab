"""The fast layout: eight-bit weights for few rows, no less exact than ten steps are, and never where a text is decoded; 16-bit ones in
float32, where they are asked for."""

import gc
import weakref

import pytest
import torch

from glp_core.evaluation.solver_error import Trial
from glp_core.llm.decoding import ROWS
from glp_core.prior import fast, flow
from glp_core.prior.checkpoint import load_glp, save_glp
from glp_core.prior.fast import KEPT_LEVELS
from glp_core.prior.glp import GLP
from glp_core.prior.network import DenoiserConfig
from glp_core.prior.walk import WalkSettings
from glp_core.speed.packed import MOST_ROWS
from glp_core.speed.replay import RECORDERS, Recorded
from tests.support import tiny

WIDTH = 96


@pytest.fixture(scope="module")
def glp():
    """A random GLP in bfloat16 with eight-bit weights beside it."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        made = GLP(DenoiserConfig(WIDTH, 192, 384, 2), torch.zeros(WIDTH), torch.ones(WIDTH))
    made.network.bfloat16()
    made.prepare()
    if made._fast.enter.eight_bits is None:
        pytest.skip("no kernel for eight-bit weights here")
    return made


def test_a_product_with_eight_bit_weights_is_that_of_the_rounded_weights(glp):
    linear = glp._fast.blocks[0].gate_up
    whole, scales = linear.eight_bits
    x = torch.randn(3, linear.weight.shape[1]).bfloat16()
    exact = x.float() @ (whole.float() * scales.float()[:, None]).T + linear.bias.float()
    torch.testing.assert_close(linear(x, rough=True).float(), exact, rtol=2e-2, atol=2e-2)
    assert (whole.float() * scales.float()[:, None] - linear.weight.float()).abs().max() <= 0.51 * scales.float().max()


def test_rows_of_a_rough_answer_do_not_influence_one_another(glp):
    z = torch.randn(3, WIDTH)
    together = glp._fast.velocity(z, 0.3, rough=True)
    assert all(torch.equal(glp._fast.velocity(z[i : i + 1], 0.3, rough=True)[0], together[i]) for i in range(3))
    assert not torch.equal(glp._fast.velocity(z, 0.3), together)


@pytest.mark.parametrize("rows", [1, ROWS, 3 * ROWS])
def test_latents_at_several_noise_levels_that_pass_together_are_those_that_pass_alone(glp, rows):
    asked = [(torch.randn(rows, WIDTH), sigma) for sigma in (0.1, 0.5, 0.3)]
    for rough in (True, False):
        alone = [glp._fast.velocity(z, sigma, rough=rough) for z, sigma in asked]
        for part in (asked, asked[:2], asked[:1]):
            together = glp._fast.velocities(part, rough=rough)
            assert len(together) == len(part)
            for one, other in zip(together, alone, strict=False):
                if rows % ROWS == 0:
                    assert torch.equal(one, other)
                torch.testing.assert_close(one, other, atol=0.05, rtol=0.05)


def test_batches_of_the_decode_loop_and_exact_questions_never_see_eight_bits(glp, monkeypatch):
    def refused(*_args):
        raise AssertionError("eight-bit weights were used")

    monkeypatch.setattr(torch, "_weight_int8pack_mm", refused)
    assert ROWS >= fast.EIGHT_BITS_BELOW
    acts, few = torch.randn(ROWS, WIDTH), torch.randn(1, WIDTH)
    glp.project(acts, noise=acts)
    glp.walk_by(WalkSettings(0.3, 2), acts, acts, torch.randn(2, ROWS, WIDTH))
    glp.neurons(few), glp.velocity(few, 0.3), glp.denoising_error(few, 0.3)
    glp.project(few, 0.5, 60, noise=few)  # 30 calls: more exact than eight bits
    for ask in (
        lambda: glp.project(few, noise=few),
        lambda: glp.walk_by(WalkSettings(0.3, 2), few, few, torch.randn(2, 1, WIDTH)),
    ):
        with pytest.raises(AssertionError, match="were used"):
            ask()


def test_on_the_demo_ten_rough_calls_err_no_more_than_bfloat16_s(demo):
    exact, native = (load_glp(demo.folder / "glp", dtype=dtype) for dtype in (torch.float32, torch.bfloat16))
    if native._fast.enter.eight_bits is None:
        pytest.skip("no kernel for eight-bit weights here")
    generator = torch.Generator().manual_seed(0)
    acts = exact.sample(torch.randn(24, exact.d_input, generator=generator), 10)
    plan = flow.projection_schedule(0.5, 20)
    trial = Trial.make(exact, acts, plan[0], calls=60)
    rough = torch.cat([native._integrate("euler", part, plan, None) for part in trial.start.split(3)])
    assert trial.error(rough) <= 1.1 * trial.error_of("euler", plan, native)


def test_float32_weights_in_16_bits_serve_walks_and_few_calls_of_few_rows_only_where_asked_for(tmp_path):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        made = GLP(DenoiserConfig(WIDTH, 192, 384, 2), torch.zeros(WIDTH), torch.ones(WIDTH))
    save_glp(made, tmp_path, about={})
    exact, halves = load_glp(tmp_path), load_glp(tmp_path, halves=True)
    if halves._fast.enter.halves is None:
        pytest.skip("no kernel for 16-bit weights here")
    acts, noise = torch.randn(MOST_ROWS, WIDTH), torch.randn(4, MOST_ROWS, WIDTH)

    def walked(glp, rows):
        return glp.walk_by(WalkSettings(0.3, 4), acts[rows], acts[rows], noise[:, rows])

    few = walked(halves, slice(0, 3))
    assert 0 < (few - walked(exact, slice(0, 3))).norm() < 1e-3 * few.norm()
    assert torch.equal(walked(halves, slice(0, MOST_ROWS))[:3], few), "rows do not influence one another"
    for ask in (
        lambda glp: glp.project(acts, 0.5, 60, noise=acts),
        lambda glp: glp.denoising_error(acts, 0.3, noise=acts),
        lambda glp: glp.neurons(acts, noise=acts),
    ):
        assert torch.equal(ask(halves), ask(exact)), "other questions are answered exactly"


def test_a_recording_keeps_the_noise_levels_that_it_reads(monkeypatch):
    monkeypatch.setitem(
        RECORDERS, "cpu", lambda compute, _device: Recorded(lambda: None, compute(), 0)
    )  # keeps nothing itself, as a CUDA graph does
    glp, acts = tiny.tiny_glp(), torch.randn(3, tiny.WIDTH)
    for _ in range(2):
        glp.project(acts, noise=acts)
    read = [weakref.ref(time) for times in glp._fast._times.values() for time in times]
    for level in torch.linspace(0.01, 0.99, KEPT_LEVELS + 1).tolist():
        glp.denoising_error(acts, level, noise=acts)
    gc.collect()
    assert len(glp._fast._times) == KEPT_LEVELS and all(time() is not None for time in read)


def test_statistics_keep_their_digits_when_the_weights_are_rounded():
    glp, acts = tiny.tiny_glp(), 100 + torch.randn(3, tiny.WIDTH)
    latents = glp.normalize(acts)
    assert torch.equal(glp.to(torch.bfloat16).normalize(acts), latents) and glp.dtype == torch.bfloat16
