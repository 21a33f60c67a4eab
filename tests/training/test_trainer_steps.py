"""A training step written out: the loss, its clipped gradient, AdamW and the rate of each step, from the same start."""

from copy import deepcopy

import pytest
import torch

from glp_core.training.plan import TrainConfig
from glp_core.training.trainer import Trainer

WIDTH, BATCH, GROUPS, SEED = 12, 64, 16, 3
SHAPE = {"d_model": 24, "d_mlp": 32, "n_layers": 2, "batch": BATCH, "sigma_groups": GROUPS, "activations": BATCH * 40}
PLAN = {"warmup": BATCH * 4, "learning_rate": 5e-3, "beta2": 0.9, "weight_decay": 3.0, "ema": 0.0, "seed": SEED}


class Given:
    """A supply of the batches that it is given."""

    keeps_place, resident, settings, width = False, None, {}, WIDTH

    def __init__(self, acts):
        self.acts = acts

    def statistics(self):
        return {"mean": self.acts.flatten(0, 1).mean(0), "var": self.acts.flatten(0, 1).var(0)}

    def held_out(self, n, device):
        return None

    def settle(self, kept, ranks):
        pass

    def batches(self, size, step, seed, ranks):
        yield from self.acts[step:]

    def state(self):
        return {}


@pytest.fixture(scope="module")
def acts():
    generator = torch.Generator().manual_seed(0)
    return torch.randn(3, BATCH, WIDTH, generator=generator) @ torch.randn(WIDTH, WIDTH, generator=generator) + 3


def by_hand(glp, acts, clip, weight_decay=PLAN["weight_decay"], beta2=PLAN["beta2"], rates=(1e-3, 2e-3, 3e-3)):
    """Train a copy with these batches; the warm-up takes 4 steps to 5e-3 at the fifth."""
    network = deepcopy(glp.network)
    params = list(network.parameters())
    optimizer = torch.optim.AdamW(params, betas=(0.9, beta2), weight_decay=weight_decay, foreach=False)
    for step, (batch, rate) in enumerate(zip(acts, rates, strict=True)):
        generator = torch.Generator().manual_seed(SEED * 1_000_000_007 + step)
        eps = torch.randn(BATCH, WIDTH, generator=generator)
        sigmas = (torch.arange(GROUPS) + torch.rand(GROUPS, generator=generator)) / GROUPS
        sigmas = sigmas[torch.randperm(GROUPS, generator=generator)]
        z = (batch - acts.flatten(0, 1).mean(0)) / acts.flatten(0, 1).var(0).sqrt()
        each = sigmas.repeat_interleave(BATCH // GROUPS)
        velocity = network((1 - each[:, None]) * z + each[:, None] * eps, network.embed(each))
        optimizer.zero_grad()
        (velocity - (eps - z)).pow(2).mean().backward()
        norm = torch.cat([p.grad.flatten() for p in params]).norm()
        for p in params:
            p.grad *= min(1.0, clip / float(norm))
        optimizer.param_groups[0]["lr"] = rate
        optimizer.step()
    return torch.cat([p.detach().flatten() for p in params])


@pytest.mark.parametrize(("clip", "other_clip"), [(1e-5, 1e9), (1e9, 1e-5)])
def test_three_steps_are_adamws_with_the_plans_rate_clipping_decay_and_memory(acts, tmp_path, clip, other_clip):
    made = Trainer(TrainConfig(**SHAPE | PLAN, clip=clip), Given(acts), tmp_path, dtype=torch.float32)
    start = deepcopy(made.glp)
    made.run(stop=lambda: made.step == 3)
    moved = torch.cat([p.detach().flatten() for p in made.params.values()])
    torch.testing.assert_close(moved, by_hand(start, acts, clip), atol=2e-6, rtol=1e-5)
    for other in ({"rates": (5e-3,) * 3}, {"clip": other_clip}, {"weight_decay": 0.01}, {"beta2": 0.999}):
        assert (moved - by_hand(start, acts, **{"clip": clip} | other)).abs().max() > 1e-4, (
            f"{other} must matter to show anything"
        )


def test_a_batch_that_is_let_go_is_copied_before_the_next_step(acts, tmp_path, monkeypatch):
    """An Apple GPU reads a CPU tensor that is copied without waiting after it was freed (pytorch/pytorch#189690)."""
    moved, to = [], torch.Tensor.to
    monkeypatch.setattr(
        torch.Tensor, "to", lambda tensor, *where, **how: moved.append(how.get("non_blocking")) or to(tensor, *where, **how)
    )
    trainer = Trainer(TrainConfig(**SHAPE, **PLAN), Given(acts), tmp_path, dtype=torch.float32)
    trainer.run(stop=lambda: trainer.step == 1)
    assert moved and not any(moved)
