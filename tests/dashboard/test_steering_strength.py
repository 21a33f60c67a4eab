"""What the Steering page says of a strength: in real activations, and as reports measured it."""

import json
import re
from dataclasses import asdict, replace
from types import SimpleNamespace

import pytest
import torch

from dashboard.service import first_example, resources
from dashboard.service.directions import pushes, zones
from dashboard.steering import examples, strength
from dashboard.widgets import frame
from glp_core.data.bank import Bank
from glp_core.llm.site import Site
from glp_core.prior.projection import make_projector
from glp_core.prior.walk import WalkRule, WalkSettings
from glp_core.steering.generation import Arm, Sampling, generate
from tests.support import tiny
from tests.support.steering_page import board, open_page, run


def measured_report(direction="positive", arms=("raw", "glp")):
    """Return a report as `steer` writes it, of two strengths."""
    rows = [{"arm": "unsteered", "strength": 0.0, "concept": 0.5, "log_probability": -1.0, "repetition": 0.1, "n": 7}]
    for push, repeated in ((0.4, 0.2), (2.0, 0.9)):
        for i, arm in enumerate(arms):
            numbers = {"concept": 0.6 + i / 5, "log_probability": -1.0, "repetition": repeated / (i + 1)}
            rows.append({"arm": arm, "strength": push, "n": 7} | numbers)
    cost = {"strength": 2.0, "loss_rise_ci": [1.0, 4.0], "n": 8}
    costs = [cost | {"arm": "glp", "loss_rise": 1.5}, cost | {"arm": "raw", "loss_rise": 3.25}]
    return {"rows": rows, "elsewhere": costs, "settings": {"direction": direction}}


def captions(at):
    return [re.sub(r"\\(.)", r"\1", one.value) for one in at.caption]


def test_what_was_measured_at_a_strength_is_said_beside_it_and_nothing_elsewhere(llm, workspace):
    workspace.save_report("steering_sentiment", measured_report())
    assert "concept unsteered 0.50, raw 0.60, paper's projection 0.80" in strength.measured_words("positive", 0.5)
    far = strength.measured_words("positive", 2.1)
    assert "repeated tokens 10%, 90%, 45%" in far
    assert "Loss on neutral text, nats a token: raw +3.25, paper's projection +1.50." in far
    assert "neutral" not in strength.measured_words("positive", 0.5)
    assert "strengths 0.4 to 2, not here" in strength.measured_words("positive", -0.4)
    assert strength.measured_words("up", 0.4) == ""
    workspace.save_report("steering_up", measured_report("up", ("raw", "walk")))
    assert "concept unsteered 0.50, raw 0.60, walk 0.80" in strength.measured_words("up", 0.4)
    for kept, said in ((workspace.direction_digest("up"), True), ("another", False)):
        one = measured_report("up", ("raw", "walk"))
        workspace.save_report("steering_up", one | {"settings": one["settings"] | {"digest": kept}})
        assert bool(strength.measured_words("up", 0.4)) == said, "an earlier direction of the name speaks for itself alone"
    assert any(words.startswith("Measured at +0.4 on 7 prompts") for words in captions(open_page(steering_strength="0.4")))
    for damaged in ("{", "[]", '{"rows": [{}], "settings": {"direction": "positive"}}'):
        (workspace.folder / "reports" / "steering_sentiment.json").write_text(damaged)
        assert strength.measured_words("positive", 0.4) == ""


def test_a_strength_is_said_in_deviations_of_real_activations_and_how_far_it_goes(llm, workspace):
    acts = torch.randn(400, tiny.WIDTH, generator=torch.Generator().manual_seed(3))
    Bank(acts, torch.zeros(400).long(), [("", "a", "")] * 400, {}).save(workspace.folder / "bank")
    resources.warm_up().wait(30)
    along = acts.half().float() @ workspace.direction("up").vector
    assert strength.meaning("up", 0.2).startswith(
        f"This push: {0.2 * workspace.median_norm / along.std():+.1f} standard deviations"
    )
    reached = (along < along.median() + 0.2 * workspace.median_norm).float().mean()
    assert f"beyond {reached:.1%} of 400 real tokens" in strength.meaning("up", 0.2)
    assert "beyond all 400 real tokens" in strength.meaning("up", 3.0) and "below all 400" in strength.meaning("up", -3.0)
    at = open_page(steering_direction="upwards", steering_strength="0.2")
    assert strength.meaning("up", 0.2) in captions(at)
    wanted = pushes.DEVIATIONS * float(along.std()) / workspace.median_norm
    opens = pushes.opening("up", -1)
    assert opens.strength == pytest.approx(-wanted, abs=0.05) and opens.strength == round(opens.strength, 1)
    assert opens.words.endswith(
        f"{opens.strength / wanted * -pushes.DEVIATIONS:.1f} standard deviations of real activations along the direction."
    )
    assert f"{opens.deviations:+.1f} standard deviations" in strength.meaning("up", opens.strength)
    up, before = workspace.direction("up"), pushes.scale("up")
    replace(up, vector=up.vector.roll(1)).save(workspace.folder / "directions")
    assert pushes.scale("up") != before  # made anew under its old name
    workspace.save_report("strengths", {"directions": {"up": advice()}})
    assert pushes.opening("up") == (1.2, None, True)  # what was measured goes first


def test_a_link_that_cannot_tell_opens_at_strength_one_or_waits_for_the_models(llm, workspace, monkeypatch):
    resources.warm_up().wait(30)
    assert pushes.opening("up", -0.2) == (-1.0, None, False)  # no bank
    monkeypatch.setattr(resources, "warm_up", lambda: SimpleNamespace(live=True))
    assert pushes.opening("up") is None


def rows(*broken):
    return [{"strength": 0.4 * (i + 1), "broken": share, "gain": 0.1, "fluency": 0.5} for i, share in enumerate(broken)]


def advice(**changes):
    """Return one direction's entry as `strengths` writes it: raw drifts and breaks, walked texts hold to the end."""
    arms = {
        "raw": {"drifting": 0.8, "broken": 1.2, "rows": rows(0.1, 0.3, 0.8, 0.9)},
        "walk": {"drifting": None, "broken": None, "rows": rows(0.0, 0.1, 0.2, 0.2)},
    }
    return {"limits": {}, "arms": arms, "recommended": 1.2, "gain": 0.4, "fluency": 0.6, "n": 100} | changes


def test_zones_of_another_direction_that_had_the_name_are_not_shown(llm, workspace):
    digest = workspace.direction_digest("up")
    for kept, shown in ((digest, True), ("another", False)):
        workspace.save_report("strengths", {"directions": {"up": advice(digest=kept)}})
        assert (zones.of("up") is not None) == shown


def test_zones_are_drawn_under_the_slider_where_they_were_measured(llm, workspace):
    assert zones.of("up") is None
    workspace.save_report("strengths", {"directions": {"up": advice()}})
    at = open_page(steering_direction="upwards", steering_strength="0.4")
    drawn = next(one.value for one in at.get("html") if "glp-track" in one.value)
    assert "raw drifts from 0.8, breaks from 1.2" in drawn and "walk holds to 1.6" in drawn
    parts = re.findall(r'class="(\w+)" style="left:([\d.]+)%;width:([\d.]+)%"', drawn)
    ends = [(name, round(6 * float(left) / 100 - 3, 2), round(6 * float(width) / 100, 2)) for name, left, width in parts]
    assert ends == [("holds", 0.0, 0.8), ("drifts", 0.8, 0.4), ("breaks", 1.2, 0.4), ("holds", 0.0, 1.6)]
    assert any(
        words.startswith("Recommended (the line): 1.2, which gains most where walked text holds, on 100")
        for words in captions(at)
    )
    assert not any("glp-track" in one.value for one in open_page(steering_direction="positive sentiment").get("html"))


@pytest.mark.parametrize(
    "damaged",
    [{}, {"directions": []}, {"directions": {"up": {}}}, {"directions": {"up": advice(recommended="x")}},
     {"directions": {"up": advice(arms={"raw": {"drifting": float("inf")}})}}],
)  # fmt: skip
def test_a_damaged_report_of_strengths_draws_nothing(llm, workspace, damaged):
    (workspace.folder / "reports" / "strengths.json").write_text(json.dumps(damaged))
    assert zones.of("up") is None
    assert not any("glp-track" in one.value for one in open_page(steering_direction="upwards").get("html"))


def test_another_direction_brings_its_tested_strength(llm, workspace):
    workspace.save_report("strengths", {"directions": {"up": advice()}})
    at = open_page(steering_strength="-0.3")
    at.selectbox(key="steering_direction").set_value("upwards").run()
    assert at.slider(key="steering_strength").value == 1.2
    at.selectbox(key="steering_direction").set_value("positive sentiment").run()
    assert at.slider(key="steering_strength").value == 1.2  # not measured along this one: it stays
    assert open_page(steering_direction="upwards", steering_strength="-0.3").slider(key="steering_strength").value == -0.3


FIRST = {
    "prompt": "The weather was",
    "direction": "up",
    "strength": 0.7,
    "seed": 5,
    "settings": {"tokens": 8, "temperature": 0.5},
}


def press(raw=0.5, walk=0.1, concept=0.6):
    """A first press of these shares of broken texts, whose walked text has this probability of the concept; by default it just tells."""
    columns = {"unsteered": {"concept": 0.1}, "walk": {"concept": concept}}
    settings = FIRST["settings"] | {"prefixes": 3}
    return FIRST | {"broken": {"raw": raw, "walk": walk}, "columns": columns, "settings": settings}


def test_an_example_that_shows_little_says_so_with_the_numbers_and_the_way_out(llm, workspace):
    for telling in (FIRST, press(), press(concept=None)):
        workspace.save_report("first_press", telling)
        assert first_example.small_effect() == ""
    faults = {
        "20% of 3 walked texts break too": press(walk=0.2),
        "the walked text shows the concept with a probability of only 0.50": press(concept=0.5),
        "only 40% of 3 raw texts break": press(raw=0.4),
    }
    for fault, weak in faults.items():
        workspace.save_report("first_press", weak)
        assert f"at strength 0.7, the most telling one of those that were tried, {fault}. " in first_example.small_effect()
    [words] = [box.value.replace("\\", "") for box in open_page().warning]
    assert words.startswith("Expect a small effect") and "only 40% of 3 raw texts break" in words
    assert f"python -m glp_core build --effort full --workspace {workspace.folder.name}" in words
    (workspace.folder / "build.json").write_text(json.dumps({"glp": "elsewhere"}))
    assert f"train --run longer --from {workspace.folder / 'glp'} --install" in first_example.small_effect()
    assert not open_page(steering_prompt="Something else").warning


def test_the_page_opens_with_the_example_of_measured_effect_and_the_tuned_walk(llm, workspace):
    workspace.save_report("first_press", FIRST)
    rule = WalkRule(WalkSettings(noise_level=0.2, pushes=8, hold=0.5, fresh=False), WalkSettings(0.3, 4), border=0.5)
    workspace.save_report("walk_tuning", {"chosen": asdict(rule), "lengths": {}})
    at = open_page()
    assert at.text_area(key="steering_prompt").value == "The weather was"
    assert at.selectbox(key="steering_direction").value == "upwards"
    assert at.slider(key="steering_strength").value == 0.7
    keys = ("steering_seed", "steering_tokens", "steering_temperature")
    assert [at.number_input(key=key).value for key in keys] == [5, 8, 0.5]
    walked = board(run(at))["walk"]
    settings = resources.workspace().walk()
    assert settings == rule
    projector = make_projector("walk", glp=resources.glp(), walk=settings)
    arm = Arm("walk", workspace.direction("up").vector, 0.7, projector)
    site = Site(llm, workspace.layer, workspace.median_norm)
    steps = generate(site, llm.encode("The weather was"), [arm], Sampling(8, 0.5, seed=5))
    assert frame.token_html(walked).replace("<i>␣</i>", " ") == frame.token_html("".join(step.text for step in steps))


@pytest.mark.parametrize(
    "change", [{"strength": 99}, {"strength": "x"}, {"direction": "gone"}, {"prompt": " "}, {"settings": {}}, {"seed": -1}]
)
def test_a_first_example_that_does_not_fit_gives_way_to_the_list(llm, workspace, change):
    workspace.save_report("first_press", FIRST | change)
    assert open_page().text_area(key="steering_prompt").value == examples.EXAMPLES[0].prompt
