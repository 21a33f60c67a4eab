"""What a sweep found, on texts whose numbers are set by hand: gains, fluency, bands, the verdict, pairs, and the words for them."""

import math
from dataclasses import replace

import numpy as np
import pytest

from dashboard.lab.sweeps.results import pair_words
from glp_core.stats import resample_counts
from glp_core.steering.sweeps import words
from glp_core.steering.sweeps.analysis import analyse
from glp_core.steering.sweeps.cells import Cell, cells, texts
from glp_core.steering.sweeps.config import Along, Scorer
from glp_core.steering.sweeps.pairs import counts as counts_of
from glp_core.steering.sweeps.pairs import pairs
from glp_core.steering.sweeps.runs import found_in, rows
from glp_core.steering.sweeps.scores import Marks, question_name
from glp_core.steering.sweeps.store import Entry

PROMPTS = tuple(f"prompt {i}" for i in range(8))
CONCEPT = {"unsteered": 0.2, "drawn": 0.2, "prompted": 0.5, "raw": 0.5, "walk": 0.9, "glp": 0.6, "opposite": 0.0, "random": 0.2}
LIKELY = {
    "unsteered": -1.0,
    "drawn": -3.0,
    "prompted": -1.0,
    "raw": -2.0,
    "walk": -1.5,
    "glp": -2.0,
    "opposite": -1.0,
    "random": -1.0,
}


@pytest.fixture
def config(small):
    arms = ("raw", "walk", "glp", "opposite", "random", "prompted")
    return small(
        prompts=PROMPTS, arms=arms, directions=(Along("up", "upwards", (1.0, 2.0)),), noise_levels=(0.2, 0.5), seeds=(0, 1)
    )


def made(config, **without):
    """Every text of a sweep; odd prompts show more of the concept, twice the strength is half as fluent."""
    table = {}
    for cell in cells(config):
        table[cell] = {}
        for text in texts(config, cell):
            odd = config.prompts.index(text.prompt) % 2
            likely = LIKELY[cell.arm] - (0.5 if cell.strength == 2.0 else 0.0)
            concept = CONCEPT[cell.arm] + (0.1 * odd if cell.strength else 0.0)
            table[cell][text] = Entry(
                f"{cell.arm} {text.seed} sea", concept, likely, likely - 1, 0.5, 0.0, 1.0, 1.0, 1.0, 0.0, 2
            )
    return table


def test_gain_and_fluency_are_those_of_the_definitions(config):
    entry = analyse(config, made(config))["up"]
    assert list(entry["series"]) == ["raw", "walk", "glp 0.2", "glp 0.5", "opposite", "random"] and entry["n"] == 8
    raw, walk = (entry["series"][name]["points"] for name in ("raw", "walk"))
    assert [point["strength"] for point in raw] == [1.0, 2.0]
    assert raw[0]["gain"] == pytest.approx((0.55 - 0.2) / 0.8, abs=1e-4) and raw[0]["fluency"] == pytest.approx(0.5)
    assert walk[1]["fluency"] == pytest.approx(0.5) and entry["prompted"]["gain"] == pytest.approx(0.3 / 0.8, abs=1e-4)
    counts = resample_counts(8)
    drawn = ((counts @ (np.arange(8) % 2 * 0.1 + 0.5) / 8) - 0.2) / 0.8
    assert raw[0]["gain_ci"] == pytest.approx(np.quantile(drawn, [0.025, 0.975]), abs=2e-3)
    assert entry["series"]["walk"]["hypervolume"] == pytest.approx(0.75 * (0.95 - 0.2) / 0.8, abs=1e-3)
    assert entry["differences"]["walk-raw"]["verdict"] == "ahead" and entry["differences"]["walk-glp"]["theirs"] == "glp 0.2"
    assert (entry["best"]["series"], entry["best"]["strength"]) == ("walk", 1.0)
    said = " ".join(words.found(entry))
    assert "The walk gains 94% of the way to the concept at fluency 0.5 or more, more than raw steering with 44%" in said
    assert "the wrong sign gains at most 0% and a random direction gains at most 6%, so the gain is the direction's own" in said
    assert "prompts: the walk at strength 1" in said and "Asking in words gains 38%" in said


def test_cells_that_are_not_whole_and_sweeps_that_have_not_begun_are_left_out(config):
    table = made(config)
    half = {cell: dict(list(entries.items())[:3]) if cell.arm == "walk" else entries for cell, entries in table.items()}
    entry = analyse(config, half)["up"]
    assert "walk" not in entry["series"] and "walk-raw" not in entry["differences"]
    assert analyse(config, {cell: entries for cell, entries in table.items() if cell.arm != "drawn"}) == {}
    gone = {"text": "", "log_probability": math.nan, "asked_log_probability": math.nan, "concept": math.nan}
    nothing = {
        cell: {text: one._replace(**gone) for text, one in entries.items()} if cell.arm == "raw" else entries
        for cell, entries in table.items()
    }
    assert "raw" not in analyse(config, nothing)["up"]["series"]


def test_arms_are_compared_over_the_strengths_that_both_have(config):
    table = made(config)
    raw_begun = {cell: {} if cell.arm == "raw" and cell.strength == 2.0 else entries for cell, entries in table.items()}
    entry = analyse(config, raw_begun)["up"]
    one = entry["differences"]["walk-raw"]
    assert one["strengths"] == [1.0] and not one["same_strengths"] and entry["differences"]["walk-glp"]["same_strengths"]
    walk, raw = (entry["series"][name]["points"][0] for name in ("walk", "raw"))
    areas = [point["gain"] * point["fluency"] for point in (walk, raw)]
    assert one["hypervolumes"] == pytest.approx(areas, abs=1e-3) and one["hypervolume"] == pytest.approx(
        areas[0] - areas[1], abs=1e-3
    )
    assert "over the strengths that both have (1) it is ahead of it" in words.found(entry)[0]
    apart = {("raw", 2.0), ("walk", 1.0)}
    nothing = {cell: {} if (cell.arm, cell.strength) in apart else entries for cell, entries in table.items()}
    entry = analyse(config, nothing)["up"]
    assert "verdict" not in entry["differences"]["walk-raw"]
    assert words.found(entry)[0] == "The walk and raw steering are not compared: they have no strength in common."


def judged_by_server(config, table, unmarked):
    """Return the sweep as a server scores it, and marks of all texts that `unmarked` (cell, text) does not name."""
    scorer = Scorer("server", (), "the sea", "", "http://localhost:1/v1", "m")
    distinct = {
        cell: {text: one._replace(text=f"{cell} {text}") for text, one in entries.items()} for cell, entries in table.items()
    }
    marks = {
        question_name(text, one): Marks(2 * min(1.0, one.concept), 1.0)
        for cell, entries in distinct.items()
        for text, one in entries.items()
        if cell.arm != "drawn" and not unmarked(cell, text)
    }
    return replace(config, scorer=scorer), distinct, marks


def test_texts_without_a_mark_take_their_prompt_out_everywhere_and_are_told(config):
    odd = PROMPTS[1]
    server, table, marks = judged_by_server(
        config, made(config), lambda cell, text: cell.arm == "walk" and (text.prompt, text.seed) == (odd, 1)
    )
    entry = analyse(server, table, marks)["up"]
    assert (entry["n"], entry["unmarked"]) == (7, 2)
    raw = entry["series"]["raw"]["points"][0]
    assert raw["gain"] == pytest.approx((0.5 + 0.1 * 3 / 7 - 0.2) / 0.8, abs=1e-4), "raw is of the same prompts as the walk"
    assert words.found(entry)[0].startswith("2 texts have no mark from the server: all numbers are of the 7 prompts")
    server, table, marks = judged_by_server(config, made(config), lambda cell, text: cell.arm == "glp" and text.prompt != odd)
    entry = analyse(server, table, marks)["up"]
    assert entry["n"] == 8 and not [name for name in entry["series"] if name.startswith("glp")], "the server has not come to it"
    server, table, marks = judged_by_server(config, made(config), lambda cell, text: cell.arm == "unsteered")
    report = analyse(server, table, marks)
    assert report == {} and "the server has marked too few" in words.unfound(server, table, marks, report)[0]


def test_controls_are_walked_at_the_levels_of_the_walk_and_told_by_level(config):
    levelled = replace(config, walk_levels=(0.2, 0.5))
    table = {
        cell: {
            text: one._replace(concept=0.9) if (cell.arm, cell.noise_level) == ("random", 0.5) else one
            for text, one in of.items()
        }
        for cell, of in made(levelled).items()
    }
    entry = analyse(levelled, table)["up"]
    assert {"walk 0.2", "opposite 0.2", "random 0.2", "opposite 0.5", "random 0.5"} <= set(entry["series"])
    said = " ".join(words.found(entry))
    assert "a random direction gains at most 88%, so part of the gain at noise level 0.5 is not the direction's own" in said


def test_before_any_steered_text_is_written_no_setting_is_said_to_gain_nothing(config):
    table = {cell: of for cell, of in made(config).items() if cell.arm in ("unsteered", "drawn", "prompted")}
    said = words.found(analyse(config, table)["up"])
    assert "No steered text is written yet." in said and not any("No setting gains" in one for one in said)


def test_a_lexicon_and_a_server_score_in_place_of_the_probe(small, config):
    table = made(config)
    lexicon = small(**{name: getattr(config, name) for name in ("prompts", "arms", "directions", "noise_levels", "seeds")},
                    scorer=Scorer("lexicon", ("sea",)))  # fmt: skip
    assert analyse(lexicon, table)["up"]["series"]["raw"]["points"][0]["gain"] == 0, "unsteered texts hold the word too"
    judged = {question_name(text, one): Marks(2.0, 1.0) for text, one in table[Cell("up", "walk", 1.0, None)].items()}
    points = analyse(config, table, judged)["up"]["series"]["walk"]["points"]
    assert points[0]["marks"] == {"concept": 2.0, "fluency": 1.0, "both": pytest.approx(4 / 3, abs=1e-3)}


def test_pairs_of_arms_that_are_alike_favour_neither_when_they_are_made_both_ways(small):
    prompts = tuple(f"prompt {number}" for number in range(80))
    config = small(
        prompts=prompts,
        arms=("raw", "walk"),
        directions=(Along("up", "upwards", (0.5, 1.0, 1.5, 2.0)),),
        noise_levels=(),
        seeds=(0,),
    )
    rng, table = np.random.default_rng(0), {}
    for cell in cells(config):
        table[cell] = {}
        for text in texts(config, cell):
            likely = rng.uniform(-3, -1) if cell.strength else -1.0
            concept = rng.uniform() if cell.strength else 0.1
            table[cell][text] = Entry("sea", concept, likely, likely - 1, 0.0, 0.0, 1.0, 1.0, 1.0, 0.0, 2)
    one, other = (counts_of(pairs(config, table, "up", best_of=arm)) for arm in ("raw", "walk"))
    assert one.more - one.less > 10 and other.less - other.more > 10, "one way alone favours a side"
    both = one.more + other.more, one.less + other.less
    assert abs(both[0] - both[1]) < 0.25 * sum(both)
    words = pair_words(pairs(config, table, "up"), pairs(config, table, "up", best_of="walk"))
    assert f"more in **{both[0]}**, less in **{both[1]}** of {one.of + other.of}" in words


def test_pairs_are_equally_fluent_and_raw_has_its_best_text(config):
    found = pairs(config, made(config), "up")
    assert [pair.prompt for pair in found] == list(PROMPTS)
    first = found[0]
    assert (first.raw.strength, first.walk.strength) == (1.0, 2.0) and first.raw.fluency == pytest.approx(first.walk.fluency)
    assert (first.raw.text, first.walk.text) == ("raw 0 sea", "walk 0 sea") and first.walk.concept > first.raw.concept


def test_lines_of_texts_give_back_what_was_found(config):
    table = made(config)
    judged = {question_name(text, one): Marks(2.0, 1.0) for text, one in table[Cell("up", "raw", 2.0, None)].items()}
    again, marks = found_in(list(rows(config, table, judged)))
    assert again == table and set(marks) == set(judged) and analyse(config, again, marks) == analyse(config, table, judged)
