"""What a strength means, against a normal distribution and numpy."""

import numpy as np
import pytest
import torch
from scipy.stats import norm

from glp_core.data.bank import Bank
from glp_core.errors import GlpError
from glp_core.steering.push_scale import PushScale


def bank_of(acts):
    return Bank(acts, torch.zeros(len(acts)), [("", "", "")] * len(acts), {})


def test_a_strength_in_deviations_and_percentiles_of_a_normal_bank():
    acts = torch.randn(20_000, 3, generator=torch.Generator().manual_seed(0)) * torch.tensor([2.0, 5.0, 1.0]) + 7
    scale = PushScale.of(bank_of(acts), torch.tensor([0.0, 1.0, 0.0]), median_norm=12.0)
    assert scale.deviations(0.5) == pytest.approx(0.5 * 12 / 5, rel=0.02)
    assert scale.deviations(-0.5) == pytest.approx(-scale.deviations(0.5))
    for strength in (-0.5, 0.0, 0.3, 0.8):
        assert scale.percentile(strength) == pytest.approx(norm.cdf(strength * 12 / 5), abs=0.01)
    assert scale.percentile(50) == 1 and scale.percentile(-50) == 0


def test_massive_activations_are_left_out():
    acts = torch.randn(500, 3, generator=torch.Generator().manual_seed(0))
    sinks = torch.tensor([[400.0, 0, 0]] * 9)
    vector = torch.tensor([1.0, 0.0, 0.0])
    assert PushScale.of(bank_of(torch.cat([acts, sinks])), vector, 1.7) == PushScale.of(bank_of(acts), vector, 1.7)


def test_the_demos_bank_serves_every_shipped_direction(demo):
    bank = Bank.load(demo.folder / "bank")
    for name in demo.direction_names():
        direction = demo.direction(name)
        scale = PushScale.of(bank, direction.vector, demo.median_norm)
        along = bank.acts.double().numpy() @ direction.vector.double().numpy()
        usual = bank.acts.norm(dim=1).numpy() <= 10 * demo.median_norm
        pushed = np.median(along[usual]) + 0.4 * demo.median_norm
        assert scale.percentile(0.4) == pytest.approx((along[usual] < pushed).mean(), abs=2e-3)
        assert scale.deviations(1.0) == pytest.approx(demo.median_norm / along[usual].std(ddof=1), rel=1e-3)


def test_a_vector_of_another_model_is_refused():
    with pytest.raises(GlpError, match="4 dimensions"):
        PushScale.of(bank_of(torch.randn(5, 3)), torch.ones(4), 1.0)
    with pytest.raises(GlpError, match="do not differ"):
        PushScale.of(bank_of(torch.ones(5, 3)), torch.ones(3), 1.0)
