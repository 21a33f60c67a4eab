"""A plan's memory is that of five copies of the network it trains."""

from glp_core.training.plan import TrainConfig
from tests.support.tiny import WIDTH, tiny_glp


def test_training_takes_five_copies_of_the_weights():
    network = tiny_glp().network
    planned = TrainConfig(d_model=48, d_mlp=64, n_layers=2).memory(WIDTH)
    assert planned == 5 * 4 * sum(parameter.numel() for parameter in network.parameters())
