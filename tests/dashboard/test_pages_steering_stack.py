"""Several directions at once, and where the push acts, through the Steering page."""

import re
from dataclasses import replace

import pytest

from dashboard.service import neurons
from dashboard.steering import board, stack
from dashboard.steering.comparison import Comparison
from dashboard.widgets import frame
from glp_core.errors import GlpError
from glp_core.llm.decoding import Sampling
from glp_core.llm.site import Site
from glp_core.neuron_index.neuron_data import NOISE_FREE
from glp_core.steering.directions import stacked
from glp_core.steering.generation import Arm, generate
from tests.dashboard.test_steering_verdict import column, request
from tests.support import steering_page
from tests.support.steering_page import open_page, run

SHORT = {"steering_prompt": "the cat sat on the mat", "steering_tokens": "5", "steering_direction": "upwards"}


def said(at):
    kinds = ("caption", "warning", "error")
    return "\n".join(str(one.value) for kind in kinds for one in at.get(kind)).replace("\\", "")


@pytest.mark.parametrize("text", ["", "law:0.5", "law:0.5,formal:-0.3:off", "a-b:3,c:-3"])
def test_a_stack_survives_its_way_through_a_link(text):
    assert stack.write(stack.read(text)) == text


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("law", "wanted a direction and its strength"),
        ("law:x", "wanted a direction and its strength"),
        ("law:nan", "from -3 to 3"),
        ("law:4", "from -3 to 3"),
        ("law:1:on", "nothing or off"),
        ("a:1,a:2", "each once"),
        (",".join(f"d{i}:1" for i in range(5)), "at most 4"),
    ],
)
def test_what_is_no_stack_is_named(text, words):
    with pytest.raises(GlpError, match=words):
        stack.read(text)


def raw_text(llm, workspace, parts):
    vector, strength = stacked([(workspace.direction(name).vector, value) for name, value in parts])
    steps = generate(Site(llm, 2, 5.0), llm.encode(SHORT["steering_prompt"]), [Arm("raw", vector, strength)], Sampling(5))
    return frame.visible("".join(step.text for step in steps)).strip()


def test_a_stack_of_a_link_is_pushed_as_one_and_its_switches_work(llm, workspace):
    at = run(open_page(**SHORT, steering_strength="1", steering_stack="positive:-2"))
    assert not at.exception and "Also positive sentiment -2.0." in said(at)
    shown = steering_page.board(at)
    assert shown["raw"].strip() == raw_text(llm, workspace, [("up", 1.0), ("positive", -2.0)])
    at.toggle(key="steering_stack_on_positive").set_value(False).run()
    assert at.query_params["steering_stack"] == "positive:-2:off" and "Also" not in said(at)
    run(at)
    assert steering_page.board(at)["raw"].strip() == raw_text(llm, workspace, [("up", 1.0)])
    at.slider(key="steering_stack_at_positive").set_value(0.7).run()
    assert at.query_params["steering_stack"] == "positive:0.7:off"
    at.multiselect(key="steering_stack_names").set_value([]).run()
    assert "steering_stack" not in at.query_params


def test_a_direction_that_is_added_begins_at_half_a_norm(llm):
    at = open_page(**SHORT)
    at.multiselect(key="steering_stack_names").set_value(["positive"]).run()
    assert at.query_params["steering_stack"] == "positive:0.5" and "Also positive sentiment +0.5." in said(at)


def test_words_of_the_prompt_are_pushed_and_outlined_and_new_tokens_are_not(llm):
    at = run(open_page(**SHORT, steering_strength="2", steering_where=stack.WORDS, steering_span="cat sat"))
    assert not at.exception
    html = next(one.value for one in at.get("html") if "data-run" in one.value)
    prompt = html.partition('<div class="glp-columns">')[0]
    marked = "".join(re.findall(r'<span class="glp-mark"[^>]*>([^<]*)</span>', prompt))
    assert "cat" in marked and "mat" not in marked
    assert "The push acts on “cat sat” of the prompt." in said(at)


def test_words_that_are_not_in_the_prompt_and_none_at_all_are_named(llm):
    at = run(open_page(**SHORT, steering_where=stack.WORDS, steering_span="dog"))
    assert "'dog' is not in the prompt" in said(at)
    at = run(open_page(**SHORT, steering_where=stack.WORDS))
    assert "Say on which words of the prompt the push acts" in said(at)


def test_a_push_can_depend_on_a_neuron_and_on_a_probe(llm, monkeypatch):
    class Index:
        reading, tail = NOISE_FREE, [1e9] * 10_000
        check_shape = staticmethod(lambda *_shape: None)

    monkeypatch.setattr(neurons, "index", Index)
    asked = dict(SHORT, steering_strength="2")
    never = steering_page.board(run(open_page(**asked, steering_where=stack.NEURON, steering_neuron="0/3")))
    assert never["raw"] == never["unsteered"]
    always = run(open_page(**asked, steering_where=stack.PROBE, steering_probability="0", steering_probe="positive sentiment"))
    assert "The push acts on new tokens where the probe of “positive sentiment” is above 0." in said(always)
    everywhere = run(open_page(**asked))
    assert steering_page.board(always)["raw"] == steering_page.board(everywhere)["raw"] != never["raw"]
    assert "There is no neuron 9/9" in said(run(open_page(**asked, steering_where=stack.NEURON, steering_neuron="9/9")))


def test_all_tokens_can_be_pushed(llm):
    at = run(open_page(**SHORT, steering_strength="2", steering_where=stack.ALL))
    html = next(one.value for one in at.get("html") if "data-run" in one.value)
    prompt = html.partition('<div class="glp-columns">')[0]
    assert prompt.count("glp-mark") == len(llm.encode(SHORT["steering_prompt"])) - 1  # all but the model's own first token


def test_links_name_what_does_not_fit(llm):
    at = open_page(
        steering_stack="gone:1", steering_where="x", steering_beyond="9", steering_probe="x", steering_probability="2"
    )
    for words in (
        "names 'gone', which is no direction",
        "Push acts on is 'x'",
        "Beyond is '9'",
        "Probe is 'x'",
        "above is '2'",
    ):
        assert words in said(at), words


def test_tokens_that_a_conditional_push_acted_on_are_outlined():
    raw = column("raw", [1, 2, 3], 0.5)
    raw.tokens[1] = raw.tokens[1]._replace(edited=False)
    shown = board.board(Comparison(request(where=stack.PROBE), {"raw": raw}), "none")
    assert re.findall(r'<span( class="glp-mark")?', shown.partition("glp-strip")[2].partition("</div>")[0]) == [
        ' class="glp-mark"',
        "",
        ' class="glp-mark"',
    ]


def test_a_columns_head_says_the_whole_push():
    asked = request(stack="law:-0.3,formal-talk:1:off")
    assert asked.push_words == "+1 joy, -0.3 law" and asked.acts
    assert not replace(request(stack="law:0.5:off"), strength=0.0).acts
    assert replace(asked, stack="").push_words == "+1 × median norm"
