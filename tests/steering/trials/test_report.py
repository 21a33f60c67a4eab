"""The steering report: that rows are what generation writes, and that its numbers are those of their definitions."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from glp_core.errors import GlpError
from glp_core.files import read_json
from glp_core.llm.site import Site
from glp_core.prior.projection import make_projector
from glp_core.steering.directions import Direction
from glp_core.steering.generation import Arm, Sampling, clean_reading, generate
from glp_core.steering.origins.recipes import PERSONAS, RECIPES, instruction
from glp_core.steering.trials.outcomes import Outcome, conditions, measure
from glp_core.steering.trials.report import renewed, summarise
from glp_core.workspace import DEMO
from tests.support import tiny

LAYER, NORM = 1, 4.0
PREFIXES = ["The cat sat", "She said that the film was", "He"]


@pytest.fixture(scope="module")
def direction():
    vector = torch.randn(tiny.WIDTH, generator=torch.Generator().manual_seed(3))
    facts = {"name": "d", "title": "D", "layer": LAYER, "median_norm": NORM, "auroc": 1.0, "how": "", "n_train": 1, "n_test": 1}
    return Direction(vector=vector / vector.norm(), probe_weight=vector / 20, probe_bias=0.1, **facts)


@pytest.fixture(scope="module")
def outcomes(tiny_llm, tiny_glp, direction):
    projectors = {"raw": None, "glp": make_projector("glp", glp=tiny_glp)}
    return measure(tiny_llm, conditions(direction, projectors, (0.5, 1.5), prompted=True), PREFIXES, sampling=Sampling(8))


def test_every_outcome_is_what_generating_it_alone_gives(tiny_llm, tiny_glp, direction, outcomes):
    assert len(outcomes) == len(PREFIXES) * (2 + 2 * 2)
    site = Site(tiny_llm, LAYER, NORM)
    asked = tiny_llm.encode_chat([{"role": "user", "content": "Write about d."}])
    for outcome in outcomes:
        projector = make_projector("glp", glp=tiny_glp) if outcome.arm == "glp" else None
        arm = Arm("a", direction.vector if outcome.strength else None, outcome.strength, projector)
        ids = tiny_llm.encode(PREFIXES[outcome.prefix])
        after = [*asked, *ids[1:]]
        steps = list(generate(site, after if outcome.arm == "prompted" else ids, [arm], Sampling(8, seed=outcome.prefix)))
        tokens = [s.token for s in steps if s.token not in tiny_llm.stop_ids]
        assert outcome.text == "".join(s.text for s in steps)
        assert outcome.repetition == pytest.approx(1 - len(set(tokens)) / len(tokens))
        (read,), mean = clean_reading(site, ids, [tokens])
        assert outcome.log_probability == pytest.approx(np.mean(read), abs=1e-4)
        assert outcome.asked_log_probability == pytest.approx(np.mean(clean_reading(site, after, [tokens])[0]), abs=1e-4)
        assert outcome.concept == pytest.approx(float(direction.concept(mean)), abs=1e-4)


def test_a_model_without_a_chat_template_is_asked_in_a_line_before_the_text(tiny_llm, direction, monkeypatch):
    monkeypatch.setattr(tiny_llm.tokenizer, "chat_template", None)
    planned = conditions(direction, {}, (), prompted=True)
    plain, prompted = measure(tiny_llm, planned, PREFIXES[:1], sampling=Sampling(8))
    assert (plain.arm, prompted.arm) == ("unsteered", "prompted")
    ids = tiny_llm.encode(f"Write about d.\n\n{PREFIXES[0]}")
    steps = list(generate(Site(tiny_llm, LAYER, NORM), ids, [Arm("a")], Sampling(8)))
    assert prompted.text == "".join(step.text for step in steps)
    assert prompted.log_probability != prompted.asked_log_probability


def test_a_summary_has_means_intervals_and_paired_comparisons(outcomes):
    drawn = [one._replace(arm="drawn") for one in outcomes if one.arm == "unsteered"]
    report = summarise([*outcomes, *drawn])
    json.dumps(report, allow_nan=False)
    assert [(row["arm"], row["strength"]) for row in report["rows"]] == [
        ("unsteered", 0.0),
        ("prompted", 0.0),
        ("raw", 0.5),
        ("glp", 0.5),
        ("raw", 1.5),
        ("glp", 1.5),
        ("drawn", 0.0),
    ]
    cells = report["texts"]["cells"]
    for row in report["rows"][:-1]:
        cell = [o for o in outcomes if (o.arm, o.strength) == (row["arm"], row["strength"])]
        assert row["n"] == len(PREFIXES)
        assert row["concept"] == pytest.approx(np.mean([o.concept for o in cell]), abs=1e-4)
        assert row["concept_ci"][0] <= row["concept"] <= row["concept_ci"][1]
    assert report["rows"][0]["kept_push"] is None and report["rows"][3]["kept_push"] is not None
    assert [(c["arm"], c["strength"]) for c in report["comparisons"]] == [("glp", 0.5), ("glp", 1.5)]
    assert [(row["arm"], row["strength"]) for row in cells] == [(row["arm"], row["strength"]) for row in report["rows"][:-1]]
    assert cells[1]["concept"] == pytest.approx([o.concept for o in outcomes if o.arm == "prompted"], abs=1e-4)


def test_an_interval_covers_what_theory_says():
    """The mean of n normals: 1.96 standard errors on both sides."""
    values = np.random.default_rng(1).normal(size=400)
    made = [Outcome(i, "raw", 1.0, "", v, 0.0, 0.5, 0.0, np.nan, np.nan) for i, v in enumerate(values)]
    made += [o._replace(arm="glp", concept=o.concept + 0.25, repetition=0.2) for o in made]
    report = summarise([*made, made[0]._replace(arm="drawn", strength=0.0)])
    low, high = report["rows"][0]["concept_ci"]
    half = 1.96 * values.std() / 20
    assert (low, high) == pytest.approx((values.mean() - half, values.mean() + half), abs=0.012)
    (compared,) = report["comparisons"]
    assert compared["repetition_ratio"] == pytest.approx(0.4)
    assert compared["concept_difference_ci"] == pytest.approx([0.25, 0.25])


def test_nothing_to_measure_is_refused(tiny_llm, direction):
    with pytest.raises(GlpError, match="at least one prefix"):
        measure(tiny_llm, conditions(direction, {"raw": None}), [])


def test_progress_counts_texts_as_they_are_written_and_as_they_are_read_both_ways(tiny_llm, direction):
    told = []
    planned = conditions(direction, {"raw": None}, (0.5, 1.5))
    measure(tiny_llm, planned, PREFIXES, sampling=Sampling(3), progress=lambda *one: told.append(one))
    done, total, words = zip(*told, strict=True)
    assert set(total) == {3 * 3 * len(PREFIXES)} == {done[-1]}
    assert list(done) == sorted(set(done)) and words[-1] == "reading" and words[0] != "reading"


def test_unsteered_texts_are_written_and_read_once_for_all_directions(tiny_llm, direction, monkeypatch):
    from glp_core.steering.trials import outcomes

    written, reads = [], []
    write, read = outcomes.write_texts, outcomes.read_texts
    monkeypatch.setattr(
        outcomes, "read_texts", lambda site, *rows, **k: reads.append([*zip(*rows, strict=True)]) or read(site, *rows, **k)
    )
    monkeypatch.setattr(
        outcomes, "write_texts", lambda site, rows, *a, **k: written.append(len(rows)) or write(site, rows, *a, **k)
    )
    other = replace(direction, name="other", probe_bias=-3.0)
    planned = [one for d in (direction, other) for one in conditions(d, {"raw": None}, (1.0,))]
    made = measure(tiny_llm, planned, PREFIXES, sampling=Sampling(4))
    assert written == [3 * len(PREFIXES)]
    assert len(reads) == 2 and all(len(rows) <= written[0] and len(rows) == len(set(rows)) for rows in reads)
    assert [(one.direction, one.arm, one.prefix) for one in made] == [
        (c.direction.name, c.arm, prefix) for c in planned for prefix in range(len(PREFIXES))
    ]
    plain, others = ([one for one in made if one.arm == "unsteered" and one.direction == name] for name in ("d", "other"))
    assert [one.text for one in plain] == [one.text for one in others]
    assert all(a.concept > b.concept for a, b in zip(plain, others, strict=True))


def test_every_shipped_direction_has_an_instruction_of_its_own(demo):
    words = [instruction(demo.direction(name)) for name in demo.direction_names()]
    assert len(set(words)) == len(words) == len([*RECIPES, *PERSONAS])


@pytest.mark.parametrize("name", ["prefixes", "validation_prefixes"])
def test_the_shipped_prefixes_are_a_hundred_different_openings(name):
    prefixes = read_json(DEMO / f"{name}.json")
    assert len(prefixes) == len(set(prefixes)) == 100
    assert all(text == text.strip() and 8 < len(text) < 60 for text in prefixes)


def test_validation_prefixes_are_not_the_test_prefixes():
    assert not set(read_json(DEMO / "prefixes.json")) & set(read_json(DEMO / "validation_prefixes.json"))


def test_an_arm_measured_anew_takes_its_place_and_the_others_stay(outcomes):
    drawn = [one._replace(arm="drawn") for one in outcomes if one.arm == "unsteered"]
    before = summarise([*outcomes, *drawn])
    fresh = [one._replace(concept=1.0, repetition=one.repetition / 2) for one in outcomes if one.arm == "glp"]
    after = renewed(json.loads(json.dumps(before)), fresh)
    whole = summarise([*(one for one in outcomes if one.arm != "glp"), *drawn, *fresh])

    def told(report, name):
        return sorted((json.dumps(one, sort_keys=True) for one in report[name]), key=str)

    assert told(after, "rows") == told(whole, "rows") and told(after, "examples") == told(whole, "examples")
    assert (
        told(after["texts"], "cells") == told(whole["texts"], "cells") and after["texts"]["broken"] == before["texts"]["broken"]
    )
    for one, other in zip(after["comparisons"], whole["comparisons"], strict=True):
        assert one["repetition_ratio"] == pytest.approx(other["repetition_ratio"], abs=1e-3)
        assert one["concept_difference_ci"] == pytest.approx(other["concept_difference_ci"], abs=1e-3)
        assert one["log_probability_difference"] is None
