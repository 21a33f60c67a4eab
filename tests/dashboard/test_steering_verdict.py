"""The line under the board: what it judges from a run's own numbers, and that the numbers in it are those of the columns."""

import re
from dataclasses import replace

import pytest

from dashboard.service.directions import zones
from dashboard.steering.comparison import CleanReading, Column, Comparison, collect
from dashboard.steering.request import OWN_NUMBERS, TUNED, Request
from dashboard.steering.verdict import verdict
from glp_core.steering.generation import Step

NAN = float("nan")
FLUENT, LOOPING = list(range(20)), [1, 2] * 10
"""Token ids: 0% of tokens repeated, and 90% of tokens with 89% of bigrams."""


def request(**changes):
    asked = Request(
        prompt="The film was", mode="continue", direction="joy", title="Joy", strength=1.0, projection="walk", walk_noise=0.25,
        pushes=16, hold=0.0, noise_level=0.5, solver="ab2", steps=4, max_tokens=20, temperature=0.0, seed=0, extra="none",
    )  # fmt: skip
    return replace(asked, **changes)


def column(arm, ids, concept, log_probability=-2.0, kept=NAN):
    tokens = [Step(i, arm, token, f" w{token}", -1.0, 1.0, 1.0, kept, 0.02, False) for i, token in enumerate(ids)]
    return Column(arm, tokens, CleanReading(arm, [log_probability] * len(ids), concept))


def words(*columns, **changes):
    asked = request(**changes)
    return verdict(Comparison(asked, {one.arm: one for one in columns}))


CASES = [
    # unsteered, raw, walk: token ids, concept, log-probability; then words of the judgement
    (
        (FLUENT, 0.2, -2),
        (LOOPING, 0.8, -3),
        (FLUENT, 0.95, -3),
        "The walk holds where raw breaks, and moves towards the concept",
    ),
    ((FLUENT, 0.2, -2), (LOOPING, 0.8, -3), (FLUENT, 0.22, -3), "The walk holds where raw breaks."),
    ((FLUENT, 0.95, -2), (LOOPING, 0.8, -3), (FLUENT, 0.95, -3), "was there already"),
    ((LOOPING, 0.2, -1), (LOOPING, 0.8, -3), (FLUENT, 0.95, -3), "where the unsteered text loops"),
    ((FLUENT, 0.2, -2), (FLUENT, 0.8, -3), (LOOPING, 0.95, -3), "Projection lost here: raw holds, the walk breaks"),
    ((FLUENT, 0.2, -2), (FLUENT, 0.8, -3), (FLUENT, 0.95, -6), "Projection lost here: raw holds, the walk breaks"),
    ((FLUENT, 0.2, -2), (LOOPING, 0.8, -3), (LOOPING, 0.95, -3), "Too strong"),
    ((LOOPING, 0.2, -2), (LOOPING, 0.8, -3), (LOOPING, 0.95, -3), "Every text breaks"),
    ((FLUENT, 0.2, -2), (FLUENT, 0.5, -3), (FLUENT, 0.9, -3), "The walk moves further towards the concept than raw"),
    ((FLUENT, 0.2, -2), (FLUENT, 0.9, -3), (FLUENT, 0.5, -3), "Projection lost here: raw moves further"),
    ((FLUENT, 0.2, -2), (FLUENT, 0.9, -3), (FLUENT, 0.9, -3), "projection makes little difference"),
    ((FLUENT, 0.2, -2), (FLUENT, 0.25, -3), (FLUENT, 0.2, -3), "does not move the concept yet"),
    ((FLUENT, 0.95, -2), (FLUENT, 0.97, -3), (FLUENT, 0.99, -3), "there already: another prompt"),
    ((FLUENT, NAN, -2), (FLUENT, NAN, -3), (FLUENT, NAN, -3), "no probe"),
]


@pytest.mark.parametrize(("plain", "raw", "walk", "expected"), CASES)
def test_the_judgement_follows_the_columns(plain, raw, walk, expected):
    line = words(column("unsteered", *plain), column("raw", *raw), column("walk", *walk, kept=0.17))
    assert expected in line.judgement


def test_where_most_texts_hold_both_that_break_are_not_called_too_strong(monkeypatch):
    measured = {"drifting": 1.0, "broken": 1.4, "rows": [{"strength": 2.0}]}
    held = measured | {"drifting": None, "broken": None}
    entry = {"arms": {"raw": measured, "walk": held}, "recommended": 0.6, "n": 64}
    monkeypatch.setattr(
        zones.workspace_facts, "report", lambda name: {"directions": {"sports": entry}} if name == "strengths" else None
    )
    columns = column("unsteered", FLUENT, 0.2), column("raw", LOOPING, 0.8), column("walk", LOOPING, 0.95)
    assert (
        "On most prompts the walk holds at this strength"
        in words(*columns, direction="sports", strength=1.2, walk=TUNED, prior="workspace").judgement
    )
    glp = column("glp", LOOPING, 0.95)
    assert (
        "On most prompts raw holds"
        in words(*columns[:2], glp, direction="sports", strength=0.6, projection="paper's projection").judgement
    )
    assert "Too strong" in words(*columns[:2], glp, direction="sports", strength=1.2, projection="paper's projection").judgement
    for changes in (
        {"strength": 2.2},
        {"strength": -1.2},
        {"strength": 1.2, "prior": "small"},
        {"strength": 1.2, "walk": OWN_NUMBERS},
    ):
        assert "Too strong" in words(*columns, **{"direction": "sports", "walk": TUNED} | changes).judgement


def test_a_push_away_is_judged_by_how_far_away_it_goes():
    columns = column("unsteered", FLUENT, 0.6), column("raw", FLUENT, 0.5), column("walk", FLUENT, 0.1)
    assert "The walk moves further away from the concept than raw" in words(*columns, strength=-1.0).judgement
    assert "the same" in words(*columns, strength=0.0).judgement


def test_the_numbers_are_those_of_the_columns():
    half = [*range(10), *range(10)]
    line = words(column("unsteered", FLUENT, 0.2), column("raw", LOOPING, 0.8), column("walk", half, 0.956, kept=0.17))
    assert "Raw repeats 90% of its tokens, the walk 50%, unsteered 0%." in line.numbers
    assert "Concept “Joy”: raw 0.80 (a broken text's), the walk 0.96 (a broken text's), unsteered 0.20." in line.numbers
    assert "The walk kept 17% of the push." in line.numbers
    whole = words(column("unsteered", FLUENT, 0.2), column("raw", LOOPING, 0.8), column("walk", FLUENT, 0.956))
    assert "raw 0.80 (a broken text's), the walk 0.96, unsteered 0.20." in whole.numbers
    assert "salad" not in line.numbers


def test_a_fourth_column_and_word_salad_are_named():
    columns = [column("unsteered", FLUENT, NAN), column("raw", LOOPING, NAN), column("walk", FLUENT, NAN, -6.0)]
    line = words(*columns, column("glp", FLUENT, NAN), extra="paper's projection")
    assert "the walk 0%, the paper's projection 0%" in line.numbers and "Concept" not in line.numbers
    assert re.search(r"Word salad to the unsteered model: the walk -6\.0 nats", line.numbers)


def test_nothing_is_judged_before_every_text_is_there_and_read():
    asked = request()
    assert verdict(collect(asked, [])) is None
    columns = {arm: column(arm, FLUENT, 0.5) for arm in asked.arms}
    columns["walk"].reading = None
    assert verdict(Comparison(asked, columns)) is None


def test_a_text_that_ended_at_once_is_said_to_have_none_of_its_words_repeated():
    line = words(column("unsteered", FLUENT, 0.2), column("raw", FLUENT, 0.8), column("walk", [], NAN))
    assert line.judgement.startswith("The walk ended at once")
    assert "the walk 0%" in line.numbers and "nan" not in line.numbers


def test_a_text_of_line_breaks_alone_has_broken():
    raw = column("raw", FLUENT, 0.9)
    raw.tokens[:] = [token._replace(text="\n") for token in raw.tokens]
    assert "holds where raw breaks" in words(column("unsteered", FLUENT, 0.2), raw, column("walk", FLUENT, 0.9)).judgement
