"""What a projection left of a push, by hand on the axes and as laws that hold for any vectors."""

import torch

from glp_core.steering.retention import retention

X, Y = torch.tensor([1.0, 0, 0]), torch.tensor([0, 1.0, 0])
CLEAN = torch.tensor([5.0, 5.0, 5.0])


def of(pushed, final, clean=CLEAN, median_norm=2.0):
    return [float(one) for one in retention(clean[None], pushed[None], final[None], median_norm)]


def test_a_push_that_is_left_as_it_is_is_kept_whole():
    assert of(CLEAN + 4 * X, CLEAN + 4 * X) == [1.0, 1.0, 0.0]


def test_a_projection_that_takes_half_and_steps_aside_is_told_apart_into_both():
    kept, cosine, correction = of(CLEAN + 4 * X, CLEAN + 2 * X - 6 * Y)
    assert (kept, correction) == (0.5, 3.0)
    assert abs(cosine - 2 / 40**0.5) < 1e-6


def test_a_projection_that_turns_the_push_round_is_below_nothing():
    assert of(CLEAN - 3 * Y, CLEAN + 3 * Y) == [-1.0, -1.0, 0.0]


def test_the_sign_of_a_direction_does_not_matter_and_no_push_says_nothing():
    assert of(CLEAN - 4 * X, CLEAN - 1 * X)[0] == 0.25
    assert all(value != value for value in of(CLEAN, CLEAN + Y))  # nan


def test_along_and_aside_add_up_to_the_whole_way():
    g = torch.Generator().manual_seed(0)
    clean, push, final = (torch.randn(20, 8, generator=g) for _ in range(3))
    kept, cosine, correction = retention(clean, clean + push, final, 1.0)
    moved = (final - clean).norm(dim=1)
    torch.testing.assert_close((kept * push.norm(dim=1)).square() + correction.square(), moved.square())
    torch.testing.assert_close(cosine, kept * push.norm(dim=1) / moved)
