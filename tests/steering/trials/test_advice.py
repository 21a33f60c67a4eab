"""Recommended strengths, zones and the first example, on texts whose answer is known."""

import numpy as np
import pytest

from glp_core.steering.trials import advice
from glp_core.steering.trials.frontier import Cell, Curves
from glp_core.steering.trials.outcomes import Outcome

N = 40


def cell(concept, likelihood, repetition=0.2, broken=0.0):
    """Texts of which a share is less likely than the limit of -3."""
    likely = np.full(N, likelihood)
    likely[: round(broken * N)] = -4.0
    return Cell(np.full(N, concept), likely, np.full(N, repetition))


def curves(shares):
    """Arms with the share of broken texts at strengths 1, 2, 3."""
    cells = {("unsteered", 0.0): cell(0.1, -1.0)}
    for arm, broken in shares.items():
        cells |= {(arm, float(i + 1)): cell(0.4 + 0.2 * i, -1.0, broken=share) for i, share in enumerate(broken)}
    return Curves(cells, broken=-3.0)


def test_zones_begin_where_texts_break_and_the_sound_strength_of_greatest_gain_is_recommended():
    steered = {
        "d": curves({"raw": (0.0, 0.3, 0.8), "walk": (0.0, 0.1, 0.5)}),
        "e": curves({"raw": (1, 1, 1), "walk": (0.5, 0, 0)}),
    }
    found = advice.advise(steered)
    d = found["d"]
    assert (d["arms"]["raw"]["drifting"], d["arms"]["raw"]["broken"]) == (2.0, 3.0)
    assert (d["arms"]["walk"]["drifting"], d["arms"]["walk"]["broken"]) == (3.0, None)
    assert d["recommended"] == 2.0 and d["gain"] == pytest.approx(5 / 9, abs=1e-3)
    assert found["e"]["recommended"] is None


@pytest.mark.parametrize("likelihoods", [(-1.0, -1.5, -2.0), (-1.0, -1.5, -1.2)])
def test_a_strength_that_gains_less_than_a_smaller_one_is_not_recommended(likelihoods):
    cells = {("unsteered", 0.0): cell(0.1, -1.0)}
    concepts = (0.4, 0.9, 0.5)
    cells |= {("walk", float(i + 1)): cell(*both) for i, both in enumerate(zip(concepts, likelihoods, strict=True))}
    found = advice.advise({"d": Curves(cells, broken=-3.0)})["d"]
    assert found["arms"]["walk"]["drifting"] is None and found["recommended"] == 2.0


def test_a_strength_whose_texts_are_far_from_fluent_is_not_recommended():
    cells = {("unsteered", 0.0): cell(0.1, -1.0)}
    likelihoods = (-1.5, -1.9, -2.5)  # -3 is broken: fluencies of .75, .55, .25
    cells |= {("walk", float(i + 1)): cell(0.5 + 0.1 * i, likelihood) for i, likelihood in enumerate(likelihoods)}
    found = advice.advise({"d": Curves(cells, broken=-3.0)})["d"]
    assert found["arms"]["walk"]["drifting"] is None, "not one is broken"
    assert found["recommended"] == 2.0 and found["fluency"] == pytest.approx(0.55)


def test_without_a_concept_probe_zones_are_found_and_nothing_is_recommended():
    blind = curves({"raw": (0.2, 0.6, 1.0), "walk": (0.0, 0.05, 0.5)})
    cells = {at: one._replace(concept=np.full(N, np.nan)) for at, one in blind.cells.items()}
    found = advice.advise({"d": Curves(cells, broken=-3.0)})
    entry = found["d"]
    assert (entry["recommended"], entry["gain"]) == (None, None)
    assert (entry["arms"]["raw"]["drifting"], entry["arms"]["raw"]["broken"]) == (2.0, 3.0)
    assert advice.telling(found) == []


def test_limits_are_kept_by_all_but_a_twentieth_of_the_models_own_texts():
    greedy = Cell(np.zeros(2000), np.full(2000, -1.0), np.random.default_rng(0).random(2000))
    limits = advice.CurveLimits.of(Curves({("unsteered", 0.0): greedy}, broken=-3.0))
    assert limits.likelihood == -3.0
    assert (greedy.repetition > limits.repetition).mean() == pytest.approx(0.05, abs=0.002)
    nothing = Cell(np.array([np.nan]), np.array([np.nan]), np.array([np.nan]))
    assert limits.broken(nothing).all()


def outcome(prefix, arm, strength, concept, likelihood=-1.0, repetition=0.2):
    return Outcome(prefix, arm, strength, f"{arm} {prefix}", concept, likelihood, repetition, 0.0, 1.0, 1.0, -9.0, "d")


def test_the_first_example_is_taken_where_raw_texts_break_and_walked_ones_hold():
    steered = {
        "great but whole": curves({"raw": (0, 0, 0), "walk": (0, 0, 0)}),
        "typical": curves({"raw": (0.2, 0.6, 1.0), "walk": (0.0, 0.05, 0.5)}),
    }
    for strength in (1.0, 2.0, 3.0):  # worth nothing raw, but not broken
        steered["great but whole"].cells["raw", strength] = cell(0.0, -1.0)
    listed = advice.telling(advice.advise(steered))
    assert (listed[0].direction, listed[0].strength, listed[0].shows) == ("typical", 2.0, True)
    assert len(listed) == 6 and not any(one.shows for one in listed[1:])
    assert listed[1].direction == "great but whole", "where nothing shows it, the greatest effect is better than none"
    assert advice.telling({"walk only": {"arms": {"walk": {"rows": []}}}}) == []


def test_in_it_the_text_of_greatest_effect_comes_first_and_those_that_show_the_concept_unsteered_last():
    listed = [outcome(prefix, "drawn", 0.0, 0.1, -4.0) for prefix in range(4)]
    for prefix, (plain, raw, walk) in enumerate([(0.1, 0.5, 0.9), (0.1, 0.1, 0.95), (0.8, 0.0, 1.0), (0.1, 0.9, 0.9)]):
        listed += [
            outcome(prefix, "unsteered", 0.0, plain),
            outcome(prefix, "raw", 1.0, raw),
            outcome(prefix, "walk", 1.0, walk),
        ]
    found = advice.effects(Curves.of(listed), 1.0)
    assert list(found) == [1, 0, 3, 2]
    assert [found[prefix] for prefix in (1, 0, 3)] == pytest.approx([0.85, 0.4, 0.0])


@pytest.mark.parametrize(
    ("plain", "raw", "walk", "alone"),
    [
        ((0.1, -1.0), (0.9, -9.0), (0.8, -1.0), True),
        ((0.1, -1.0), (0.9, -1.0), (0.9, -1.0), False),  # raw holds too
        ((0.1, -1.0), (0.9, -9.0), (0.9, -9.0), False),  # both break
        ((0.1, -1.0), (0.9, -9.0), (0.2, -1.0), False),  # the walk shows little
        ((0.1, -9.0), (0.9, -9.0), (0.8, -1.0), False),  # the unsteered text is broken itself
    ],
)
def test_an_example_is_a_text_that_breaks_raw_alone_and_shows_the_concept(plain, raw, walk, alone):
    arms = {"unsteered": plain, "raw": raw, "walk": walk}
    listed = [outcome(0, arm, 1.0 * (arm != "unsteered"), *numbers) for arm, numbers in arms.items()]
    long = [one._replace(text="word " * advice.LEAST_WORDS) for one in listed]
    assert advice.breaks_alone(long) is alone
    assert not advice.breaks_alone(listed), "a text of two words shows little"
    told = advice.example(listed, "a", 3)
    assert (told["prompt"], told["direction"], told["strength"], told["seed"]) == ("a", "d", 1.0, 3)
    shown = {"text": "walk 0", "concept": walk[0], "log_probability": walk[1], "repetition": 0.2}
    assert told["columns"]["walk"] == shown
