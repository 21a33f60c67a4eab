"""Schedules are the released code's; solvers converge on a field whose solution is known, at their order."""

import math

import pytest
import torch

from glp_core import GlpError
from glp_core.prior import flow
from glp_core.prior.flow import TwoCalls


class GaussianField:
    """The exact velocity of independent normal data with these variances: z(s) scales with sqrt((1 - s)^2 v + s^2)."""

    def __init__(self, variances):
        self.variances = torch.tensor(variances, dtype=torch.float64)
        self.calls = []

    def __call__(self, z, sigma):
        self.calls.append(sigma)
        total = (1 - sigma) ** 2 * self.variances + sigma**2
        return z * (sigma - (1 - sigma) * self.variances) / total

    def solution(self, z, start, end):
        def spread(s):
            return ((1 - s) ** 2 * self.variances + s**2).sqrt()

        return z * spread(end) / spread(start)


@pytest.fixture
def field():
    return GaussianField([0.3, 1.0, 2.5])


def start(n=4):
    return torch.randn(n, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def test_half_noise_in_twenty_steps_starts_at_0_474_and_makes_ten_calls(field):
    sigmas = flow.projection_schedule(0.5, 20)
    assert sigmas[0] == pytest.approx(0.474, abs=5e-4) and sigmas[-1] == 0
    flow.euler(field, start(), sigmas)
    assert len(field.calls) == 10


@pytest.mark.parametrize("steps", [1, 2, 20, 50, 1000])
def test_the_schedule_is_the_diffusers_schedulers(steps):
    from_1000_to_1 = torch.linspace(1000, 1, steps, dtype=torch.float64) / 1000
    assert flow.schedule(steps) == pytest.approx([*from_1000_to_1.tolist(), 0.0], abs=1e-9)


@pytest.mark.parametrize("steps", [1, 3, 7, 20, 50, 100, 1000])
def test_the_start_is_indexed_as_the_released_code_does(steps):
    for percent in range(1, 101):
        index = int((torch.tensor([1 - percent / 100]) * steps).long())
        assert len(flow.projection_schedule(percent / 100, steps)) == steps + 1 - index


def test_no_noise_is_nothing_to_do_and_full_noise_is_the_whole_schedule():
    assert flow.projection_schedule(0.0, 20) == [0.0]
    assert flow.projection_schedule(1.0, 20) == flow.schedule(20)


@pytest.mark.parametrize("level", [-0.1, 1.1, math.nan, math.inf])
def test_noise_levels_outside_0_to_1_are_refused(level):
    for call in (
        lambda: flow.projection_schedule(level, 20),
        lambda: flow.even_schedule(level, 4),
        lambda: flow.two_calls_at(level, [TwoCalls(0.5)]),
    ):
        with pytest.raises(GlpError, match="0 .clean. to 1"):
            call()


def test_unknown_solvers_and_no_steps_are_refused():
    with pytest.raises(GlpError, match="euler, midpoint, ab2, radau, fitted"):
        flow.solver_plan("rk45", 0.5, 10)
    for solver in flow.CALLS_PER_INTERVAL:
        with pytest.raises(GlpError, match="at least 1"):
            flow.solver_plan(solver, 0.5, 0)


def test_noise_is_added_by_row_or_to_all():
    z, eps = torch.ones(3, 2), torch.zeros(3, 2)
    assert torch.equal(flow.add_noise(z, eps, 0.25), torch.full((3, 2), 0.75))
    assert torch.equal(flow.add_noise(z, eps, torch.tensor([0.0, 0.5, 1.0]))[:, 0], torch.tensor([1.0, 0.5, 0.0]))


class MixtureField:
    """The exact velocity of one-dimensional data from two normals; its flow keeps quantiles, which gives the solution."""

    parts = ((0.3, -1.5, 0.3), (0.7, 1.0, 0.5))  # weight, mean, variance

    def at(self, sigma):
        return [(w, (1 - sigma) * m, (1 - sigma) ** 2 * v + sigma**2, m, v) for w, m, v in self.parts]

    def __call__(self, z, sigma):
        densities = torch.stack(
            [w * (-((z - mean) ** 2) / (2 * total)).exp() / total**0.5 for w, mean, total, _, _ in self.at(sigma)]
        )
        each = [(sigma - (1 - sigma) * v) * (z - mean) / total - m for _, mean, total, m, v in self.at(sigma)]
        return (densities / densities.sum(0) * torch.stack(each)).sum(0)

    def quantile_of(self, z, sigma):
        return sum(w * 0.5 * (1 + torch.erf((z - mean) / (2 * total) ** 0.5)) for w, mean, total, _, _ in self.at(sigma))

    def solution(self, z, start, end):
        wanted = self.quantile_of(z, start)
        low, high = torch.full_like(z, -20), torch.full_like(z, 20)
        for _ in range(60):
            middle = (low + high) / 2
            below = self.quantile_of(middle, end) < wanted
            low, high = torch.where(below, middle, low), torch.where(below, high, middle)
        return low


@pytest.mark.parametrize(("solver", "order"), [("euler", 1), ("midpoint", 2), ("ab2", 2), ("radau", 3)])
def test_halving_the_step_divides_the_error_by_two_to_the_order(solver, order):
    field, z = MixtureField(), torch.linspace(-2, 2, 41, dtype=torch.float64)
    exact = field.solution(z, 0.7, 0.0)
    errors = [(flow.SOLVERS[solver](field, z, flow.even_schedule(0.7, n)) - exact).norm() for n in (64, 128)]
    assert math.log2(errors[0] / errors[1]) == pytest.approx(order, abs=0.2)
    assert errors[1] < 0.02 * (exact - z).norm()


@pytest.mark.parametrize("solver", flow.SOLVERS)
def test_solvers_reach_the_gaussian_closed_form(field, solver):
    z, exact = start(), field.solution(start(), 0.6, 0.0)
    assert (flow.SOLVERS[solver](field, z, flow.even_schedule(0.6, 200)) - exact).norm() < 0.01 * (exact - z).norm()


@pytest.mark.parametrize("solver", ["midpoint", "ab2", "radau", "fitted"])
@pytest.mark.parametrize("calls", [2, 3, 4, 6])
def test_a_plan_makes_no_more_calls_than_asked_for_and_starts_exactly_at_the_noise_level(field, solver, calls):
    sigmas = flow.solver_plan(solver, 0.5, calls)
    flow.integrate(solver, field, start(), sigmas, fitted=[TwoCalls(0.5)])
    assert field.calls[0] == 0.5
    assert len(field.calls) <= max(calls, flow.CALLS_PER_INTERVAL[solver])


def test_radau_with_three_calls_beats_euler_with_ten(field):
    z, exact = start(), field.solution(start(), 0.474, 0.0)
    radau = flow.radau(field, z, flow.even_schedule(0.474, 1))
    assert len(field.calls) == 3
    assert (radau - exact).norm() < 0.5 * (flow.euler(field, z, flow.even_schedule(0.474, 10)) - exact).norm()


def test_solvers_leave_their_input_as_it_is(field):
    z = start()
    for solver in flow.CALLS_PER_INTERVAL:
        flow.integrate(solver, field, z, flow.solver_plan(solver, 0.5, 6), fitted=[TwoCalls(0.5)])
        assert torch.equal(z, start())


def test_neutral_two_calls_are_ralstons_method():
    def field(z, sigma):
        return 2.0 * sigma * torch.ones_like(z)  # dz/ds = 2 s: a second-order method is exact

    z = start()
    torch.testing.assert_close(TwoCalls(0.4)(field, z), z - 0.4**2)


def test_fitted_steps_are_mixed_between_levels_and_held_beyond_them():
    low, high = TwoCalls(0.2, share=0.5, weights=(0.1, 0.9)), TwoCalls(0.6, share=0.7, weights=(0.3, 0.7), scale=0.04)
    middle = flow.two_calls_at(0.3, [high, low])
    assert (middle.noise_level, middle.share, middle.scale) == pytest.approx((0.3, 0.55, 0.01))
    assert middle.weights == pytest.approx((0.15, 0.85))
    assert flow.two_calls_at(0.6, [low, high]) == high
    assert flow.two_calls_at(0.05, [low, high]).share == 0.5
    assert flow.two_calls_at(0.9, [low, high]).share == 0.7


def test_without_fitted_steps_the_message_says_how_to_make_them(field):
    with pytest.raises(GlpError, match="glp_core solvers"):
        flow.integrate("fitted", field, start(), flow.solver_plan("fitted", 0.5, 2))


@pytest.mark.parametrize("level", [0.0004, 0.99999])
def test_a_level_that_no_number_of_steps_comes_near_is_refused_at_once(level):
    with pytest.raises(GlpError, match=f"wanted {level:g}: take another solver"):
        flow.check_start("euler", level, 20)


@pytest.mark.parametrize(("level", "steps", "enough"), [(0.5, 1, 3), (0.01, 1, 150), (0.1, 5, 16), (0.9, 3, 10)])
def test_steps_that_have_no_level_near_are_refused_with_how_many_have(level, steps, enough):
    with pytest.raises(GlpError, match=f"{steps} steps of Euler begin at noise level .*, wanted {level:g}") as refused:
        flow.check_start("euler", level, steps)
    said = int(str(refused.value).split("take ")[1].split()[0])
    flow.check_start("euler", level, said)
    assert said <= enough
    flow.check_start("ab2", level, steps)
    flow.check_start("euler", 0.5, 20)
    flow.check_start("euler", 0.0, 1)
