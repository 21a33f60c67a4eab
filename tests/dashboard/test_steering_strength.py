"""What the Steering page says of a strength: in real activations, and as reports measured it."""

import re

import torch

from dashboard.service import resources
from dashboard.steering import strength
from glp_core.data.bank import Bank
from tests.support import tiny
from tests.support.steering_page import open_page


def measured_report(direction="positive", arms=("raw", "glp")):
    """Return a report as `steer` writes it, of two strengths."""
    rows = [{"arm": "unsteered", "strength": 0.0, "concept": 0.5, "repetition": 0.1, "n": 7}]
    for push, repeated in ((0.4, 0.2), (2.0, 0.9)):
        for i, arm in enumerate(arms):
            rows.append({"arm": arm, "strength": push, "concept": 0.6 + i / 5, "repetition": repeated / (i + 1), "n": 7})
    return {"rows": rows, "settings": {"direction": direction}}


def captions(at):
    return [re.sub(r"\\(.)", r"\1", one.value) for one in at.caption]


def test_what_was_measured_at_a_strength_is_said_beside_it_and_nothing_elsewhere(llm, workspace):
    workspace.save_report("steering_sentiment", measured_report())
    assert "concept unsteered 0.50, raw 0.60, paper's projection 0.80" in strength.measured_words("positive", 0.5)
    assert "repeated tokens 10%, 90%, 45%" in strength.measured_words("positive", 2.1)
    assert "strengths 0.4 to 2 of this direction, not here" in strength.measured_words("positive", -0.4)
    assert strength.measured_words("up", 0.4) == ""
    workspace.save_report("steering_up", measured_report("up", ("raw", "walk")))
    assert "concept unsteered 0.50, raw 0.60, walk 0.80" in strength.measured_words("up", 0.4)
    assert any(words.startswith("Measured at +0.4 on 7 prompts") for words in captions(open_page(steering_strength="0.4")))
    for damaged in ("{", "[]", '{"rows": [{}], "settings": {"direction": "positive"}}'):
        (workspace.folder / "reports" / "steering_sentiment.json").write_text(damaged)
        assert strength.measured_words("positive", 0.4) == ""


def test_a_strength_is_said_in_deviations_of_real_activations_and_how_far_it_goes(llm, workspace):
    acts = torch.randn(400, tiny.WIDTH, generator=torch.Generator().manual_seed(3))
    Bank(acts, torch.zeros(400).long(), [("", "a", "")] * 400, {}).save(workspace.folder / "bank")
    resources.warm_up().wait(30)
    along = acts.half().float() @ workspace.direction("up").vector
    assert strength.meaning("up", 0.2).startswith(f"{0.2 * workspace.median_norm / along.std():+.1f} standard deviations")
    reached = (along < along.median() + 0.2 * workspace.median_norm).float().mean()
    assert f"beyond {reached:.1%} of 400 real tokens" in strength.meaning("up", 0.2)
    assert "beyond all 400 real tokens" in strength.meaning("up", 3.0) and "below all 400" in strength.meaning("up", -3.0)
    at = open_page(steering_direction="upwards", steering_strength="0.2")
    assert strength.meaning("up", 0.2) in captions(at)
