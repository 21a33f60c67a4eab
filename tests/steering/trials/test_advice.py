"""Recommended strengths, zones and the first example, on texts whose answer is known."""

import numpy as np
import pytest

from glp_core.errors import GlpError
from glp_core.steering.trials import advice
from glp_core.steering.trials.frontier import Cell, Curves
from glp_core.steering.trials.outcomes import Outcome

N = 40


def cell(concept, likelihood, repetition=0.2, broken=0.0):
    """Texts of which a share lies far beyond every limit."""
    likely = np.full(N, likelihood)
    likely[: round(broken * N)] = -99.0
    return Cell(np.full(N, concept), likely, np.full(N, repetition))


def curves(shares):
    """Arms with the share of broken texts at strengths 1, 2, 3."""
    cells = {("unsteered", 0.0): cell(0.1, -1.0)}
    for arm, broken in shares.items():
        cells |= {(arm, float(i + 1)): cell(0.4 + 0.2 * i, -1.0, broken=share) for i, share in enumerate(broken)}
    return Curves(cells, broken=-3.0)


def test_zones_begin_where_texts_break_and_the_last_sound_strength_is_recommended():
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


def test_a_strength_that_a_smaller_one_beats_in_concept_and_fluency_is_not_recommended():
    cells = {("unsteered", 0.0): cell(0.1, -1.0)}
    concepts, likelihoods = (0.4, 0.9, 0.5), (-1.0, -1.5, -2.0)
    cells |= {("walk", float(i + 1)): cell(*both) for i, both in enumerate(zip(concepts, likelihoods, strict=True))}
    found = advice.advise({"d": Curves(cells, broken=-3.0)})["d"]
    assert found["arms"]["walk"]["drifting"] is None and found["recommended"] == 2.0


def test_limits_are_kept_by_all_but_a_twentieth_of_the_models_own_texts():
    greedy = Cell(np.zeros(2000), np.full(2000, -1.0), np.random.default_rng(0).random(2000))
    limits = advice.CurveLimits.of(Curves({("unsteered", 0.0): greedy}, broken=-3.0))
    assert limits.likelihood == -3.0
    assert (greedy.repetition > limits.repetition).mean() == pytest.approx(0.05, abs=0.002)
    nothing = Cell(np.array([np.nan]), np.array([np.nan]), np.array([np.nan]))
    assert limits.broken(nothing).all()


def outcome(prefix, arm, strength, concept, likelihood=-1.0, repetition=0.2):
    return Outcome(prefix, arm, strength, f"{arm} {prefix}", concept, likelihood, repetition, 0.0, 1.0, 1.0, -9.0, "d")


def test_the_first_example_is_plain_unsteered_broken_raw_and_full_of_the_concept_walked():
    listed = [outcome(prefix, "drawn", 0.0, 0.1, -4.0) for prefix in range(4)]
    for prefix, (plain, raw, walk) in enumerate([(0.1, 0.5, 0.9), (0.1, 0.1, 0.95), (0.8, 0.0, 1.0), (0.1, 0.9, 0.9)]):
        listed += [
            outcome(prefix, "unsteered", 0.0, plain),
            outcome(prefix, "raw", 1.0, raw),
            outcome(prefix, "walk", 1.0, walk),
        ]
    chosen = advice.candidates({"d": Curves.of(listed)})
    assert [one["prefix"] for one in chosen] == [1, 0, 3], "prefix 2 shows the concept by itself"
    only = [one for one in listed if one.prefix == 2 or one.arm == "drawn"]
    assert len(advice.candidates({"d": Curves.of(only)})) == 1, "better than none"
    again = [(one, [o for o in listed if o.prefix == one["prefix"] and o.arm != "drawn"]) for one in chosen]
    again[0][1][2] = outcome(1, "walk", 1.0, 0.2)  # written at full length it lost the concept
    press = advice.first_press(again, ["a", "b", "c", "d"])
    assert (press["prompt"], press["direction"], press["strength"], press["seed"]) == ("a", "d", 1.0, 0)
    assert press["columns"]["walk"] == {"text": "walk 0", "concept": 0.9, "log_probability": -1.0, "repetition": 0.2}
    assert press["effect"] == pytest.approx(0.4)
    with pytest.raises(GlpError, match="strengths`"):
        advice.first_press([], [])


def test_a_harder_push_is_one_that_breaks_the_raw_text_alone_and_gains_the_concept():
    def texts(strength, raw, walk):
        return [outcome(0, arm, strength, concept, likelihood) for arm, (concept, likelihood) in (("raw", raw), ("walk", walk))]

    listed = [
        outcome(0, "unsteered", 0.0, 0.1),
        *texts(0.6, (0.9, -1.0), (0.9, -1.0)),  # both hold
        *texts(0.8, (0.9, -9.0), (0.5, -1.0)),
        *texts(1.0, (0.9, -9.0), (0.8, -1.0)),
        *texts(1.2, (0.9, -9.0), (0.2, -1.0)),  # the walk gains little
        *texts(1.4, (0.9, -9.0), (0.9, -9.0)),  # both break
    ]
    assert advice.breaking(listed) == [1.0, 0.8]
    told = advice.example({"direction": "d", "prefix": 0, "strength": 1.0}, listed[5:7], ["a"])
    assert (told["prompt"], told["strength"], told["columns"]["walk"]["concept"]) == ("a", 1.0, 0.8)


def test_a_push_that_is_harder_at_the_strengths_beside_it_too_comes_first():
    assert advice.steadiest([2.0, 0.6, 1.2, 1.0, 0.8]) == [1.0, 0.8, 0.6, 1.2, 2.0]
    assert advice.steadiest([]) == []
