"""A plan's memory: five copies of the network in float32, one in the arithmetic's number type, and a step's values."""

import pytest
import torch

from glp_core.training.plan import TrainConfig
from tests.support.tiny import WIDTH, tiny_glp

BATCH, VALUES = 256, 2 * (6 * 64 + 4 * 48)


@pytest.mark.parametrize(("dtype", "copies", "each"), [(torch.float32, 5 * 4, 4), (torch.bfloat16, 5 * 4 + 2, 2)])
def test_training_takes_copies_of_the_weights_and_the_values_of_a_step(dtype, copies, each):
    weights = sum(parameter.numel() for parameter in tiny_glp().network.parameters())
    plan = TrainConfig(d_model=48, d_mlp=64, n_layers=2, batch=BATCH)
    assert plan.memory(WIDTH, dtype) == copies * weights + BATCH * VALUES * each
    assert plan.memory(WIDTH, dtype, processes=4) == copies * weights + BATCH // 4 * VALUES * each
