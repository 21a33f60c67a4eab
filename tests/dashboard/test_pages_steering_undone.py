"""The fold of the Steering page that says what the projection left of the push, and its controls."""

import math

import pytest

from dashboard.service import results
from dashboard.steering.comparison import CleanReading, Column, Comparison
from dashboard.steering.undone import CONTROLS, table, words
from glp_core.steering.generation import Step
from glp_core.steering.trials import controls
from tests.dashboard.test_steering_verdict import request
from tests.support.steering_page import open_page, run

NAN = math.nan


def column(arm, kept, concept, pushed=2.5):
    steps = [Step(i, arm, i, " x", -1.0, 1.0, 1.5, kept, 0.1, False, pushed, 0.3, 0.7) for i in range(3)]
    return Column(arm, steps, CleanReading(arm, [-1.0] * 3, concept))


def said(kept, concept, strength=1.0, pushed=2.5):
    columns = {"unsteered": column("unsteered", NAN, 0.1), "walk": column("walk", kept, concept, pushed)}
    return words(Comparison(request(strength=strength), columns), columns["walk"])


@pytest.mark.parametrize(
    ("kept", "concept", "strength", "first"),
    [
        (0.9, 0.8, 1.0, "No: the walk kept most of the push. In the text, the concept moved by +0.70."),
        (0.3, 0.8, 1.0, "In part: the walk took away more than half of the push. Even so the concept moved by +0.70."),
        (
            0.1,
            0.12,
            1.0,
            "Along the direction, yes: the walk took away most of the push. In the text, the concept moved by +0.02.",
        ),
        (
            0.1,
            0.9,
            -1.0,
            "Along the direction, yes: the walk took away most of the push. In the text, the concept moved by +0.80.",
        ),
        (0.1, NAN, 1.0, "Along the direction, yes: the walk took away most of the push. It left 10%"),
    ],
)
def test_the_words_say_whether_the_push_was_undone_and_whether_the_concept_came_through(kept, concept, strength, first):
    assert said(kept, concept, strength).startswith(first)


def test_the_numbers_follow_and_a_distance_only_where_there_is_a_meter():
    assert "cosine of 0.30 to the push, and lies 0.70 median norms aside" in said(0.9, 0.5)
    assert "1.00 before the push, 2.50 after it and 1.50 after the projection" in said(0.9, 0.5)
    assert "manifold" not in said(0.9, 0.5, pushed=NAN)


def test_the_table_has_a_row_for_every_column():
    rows = table([column("walk", 0.25, 0.5), column("opposite", 0.5, 0.1)])
    assert list(rows["Column"]) == ["Manifold walk", "Wrong sign"] and list(rows["Push kept"]) == [25, 50]


def test_the_page_and_the_core_mean_the_same_controls():
    assert CONTROLS == controls.CONTROLS


def test_the_controls_are_written_at_a_press_and_are_there_when_the_page_is_drawn_again(llm):
    results.small_results.clear()
    at = run(open_page(steering_tokens="4", steering_strength="1"))
    assert not at.dataframe, "it is drawn when it is opened"
    at.session_state["steering_undone"] = True
    at.run()
    assert any("the walk" in one.value and "of the push" in one.value for one in at.markdown)
    assert list(at.dataframe[0].value["Column"]) == ["Unsteered", "Raw steered", "Manifold walk"]
    at.button(key="steering_controls").click().run()
    assert not at.exception
    everything = [
        "Unsteered",
        "Raw steered",
        "Manifold walk",
        "Wrong sign",
        "Random direction",
        "Norm-restored",
        "Gaussian prior",
        "Prompted",
    ]
    assert list(at.dataframe[0].value["Column"]) == everything
    assert at.dataframe[0].value["Push kept"].notna().sum() == 5 and at.dataframe[0].value["Concept"].notna().all()
    at.run()
    assert list(at.dataframe[0].value["Column"]) == everything and "steering_controls" not in [one.key for one in at.button]


def test_a_run_without_a_push_has_no_fold(llm):
    at = run(open_page(steering_tokens="4", steering_strength="0"))
    at.session_state["steering_undone"] = True
    at.run()
    assert not at.dataframe and "steering_controls" not in [one.key for one in at.button]
