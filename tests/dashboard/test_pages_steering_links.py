"""Links to the Steering page: what they restore, what is wrong with one, those of before, and results that come back."""

import os
import re

import pytest

from tests.support.steering_page import board, open_page, run


def test_a_link_restores_the_whole_state(llm):
    query = {
        "steering_prompt": "A model of", "steering_mode": "chat", "steering_direction": "upwards", "steering_strength": "-0.7",
        "steering_noise": "0.25", "steering_solver": "euler", "steering_steps": "20", "steering_tokens": "16",
        "steering_temperature": "0.5", "steering_seed": "7", "steering_extra": "norm-restored", "steering_colour": "surprise",
    }  # fmt: skip
    at = open_page(**query)
    assert not at.warning
    assert at.text_area(key="steering_prompt").value == "A model of"
    assert at.selectbox(key="steering_direction").value == "upwards"
    assert at.slider(key="steering_strength").value == -0.7
    assert at.number_input(key="steering_seed").value == 7
    assert at.number_input(key="steering_noise").value == 0.25
    run(at)
    assert list(board(at)) == ["unsteered", "raw", "glp", "norm"]
    address = next(one.value for one in at.code if "steering_seed" in one.value)
    assert all(key in address for key in query) and "steering_seed=7" in address


OLD_LINKS = [
    ({"steering_noise": "0.3"}, ["unsteered", "raw", "glp"]),
    ({"steering_solver": "euler", "steering_steps": "10"}, ["unsteered", "raw", "glp"]),
    ({"steering_extra": "Gaussian"}, ["unsteered", "raw", "glp", "gaussian"]),
    ({"steering_strength": "0.7"}, ["unsteered", "raw", "walk"]),
    ({"steering_extra": "paper's projection", "steering_noise": "0.3"}, ["unsteered", "raw", "walk", "glp"]),
    ({"steering_extra": "Gaussian prior", "steering_noise": "0.3"}, ["unsteered", "raw", "walk", "gaussian"]),
    ({"steering_projection": "walk", "steering_noise": "0.5"}, ["unsteered", "raw", "walk"]),
]


@pytest.mark.parametrize(("query", "arms"), OLD_LINKS)
def test_a_link_of_before_the_walk_opens_with_the_papers_projection_where_it_sets_it_up(llm, query, arms):
    at = open_page(steering_tokens="4", **query)
    assert not at.warning
    run(at)
    assert list(board(at)) == arms


def test_a_neurons_direction_opens_by_its_title_and_by_its_name_of_before(llm):
    for words in ("unit:0/1", "neuron L0/1"):
        at = open_page(steering_direction=words)
        assert not at.warning and at.selectbox(key="steering_direction").value == "neuron L0/1"
        assert at.query_params["steering_direction"] in ("neuron L0/1", ["neuron L0/1"])


HOSTILE = [
    {
        "steering_strength": ("nan", "Strength is 'nan', wanted a number from -3 to 3"),
        "steering_noise": ("-0.1", "Noise level is '-0.1', wanted a number from 0 to 1"),
        "steering_direction": ("<script>", "Direction is '<script>', wanted one of: positive sentiment, upwards"),
        "steering_tokens": ("100000", "Tokens is '100000', wanted a number from 1 to 256"),
        "steering_steps": ("inf", "Steps is 'inf', wanted a number from 1 to 100"),
        "steering_seed": ("1e999", "Seed is '1e999', wanted a number from 0"),
        "steering_pushes": ("9" * 400, "wanted a number from 1 to 64"),
        "steering_prompt": ("word " * 1_200, "Prompt has 6,000 characters"),
    },
    {
        "steering_strength": ("1e9", "Strength is '1e9', wanted a number from -3 to 3"),
        "steering_seed": ("9" * 400, "Seed is '999"),
        "steering_prompt": ("", "Prompt is empty"),
        "steering_direction": (
            "unit:9999/999999",
            "Direction is 'unit:9999/999999', wanted one of: positive sentiment, upwards",
        ),
    },
]
"""Links of values that do not fit, with what is said of each."""


@pytest.mark.parametrize("link", HOSTILE)
def test_a_hostile_link_is_told_and_the_defaults_used(llm, link):
    at = open_page(**{key: value for key, (value, _) in link.items()})
    told = re.sub(r"\\(.)", r"\1", at.warning[0].value)
    assert not [words for _, words in link.values() if words not in told]
    assert not link.keys() & at.query_params.keys()
    assert at.selectbox(key="steering_direction").value == "positive sentiment"
    run(at)
    assert board(at) and not at.error


def test_a_finished_run_comes_back_with_its_link_in_another_session(llm):
    query = {"steering_tokens": "6", "steering_prompt": "A link"}
    first = board(run(open_page(**query)))
    assert first and board(open_page(**query)) == first
    assert not board(open_page(**query | {"steering_seed": "1"}))


def test_a_run_of_other_weights_does_not_come_back(llm, workspace):
    query = {"steering_tokens": "6", "steering_prompt": "A link"}
    assert board(run(open_page(**query)))
    written = workspace.folder / "glp" / "final.safetensors"
    os.utime(written, (written.stat().st_atime, written.stat().st_mtime + 10))
    assert not board(open_page(**query))
