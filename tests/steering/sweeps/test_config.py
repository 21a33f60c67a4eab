"""A configuration survives JSON; what does not fit is refused by name; what is not here is told."""

import json
from dataclasses import replace

import pytest

from glp_core.errors import GlpError
from glp_core.steering.sweeps.cells import Cell, count, key, series, spread_out
from glp_core.steering.sweeps.config import Along, Scorer, SweepConfig, differences, settings_apart


def test_a_configuration_survives_json(small):
    config = small(
        seeds=(3, 1),
        noise_levels=(0.25, 0.5),
        title="Mine <b>",
        scorer=Scorer("lexicon", ("sea", "ship")),
        made_with={"layer": 2},
    )
    assert SweepConfig.from_json(json.loads(json.dumps(config.to_json()))) == config


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"format": "other"}, "no configuration of a sweep"),
        ({"prompts": []}, "prompts are 0, wanted 1"),
        ({"prompts": "The cat"}, "prompts is 'The cat'"),
        ({"prompts": ["a", "a"]}, "prompts hold something twice"),
        ({"prompts": [3]}, "a prompt is 3, wanted a text"),
        ({"arms": ["raw", "sideways"]}, "arm is 'sideways', wanted one of raw"),
        ({"directions": [{"name": "../up", "title": "x", "strengths": [1]}]}, "letters, digits"),
        ({"directions": [{"name": "up", "title": "x", "strengths": [0, 1]}]}, "0, which is written anyway"),
        ({"directions": [{"name": "up", "title": "x", "strengths": [1e999]}]}, "hold inf, wanted numbers from -10 to 10"),
        ({"directions": [{"name": "up", "strengths": [1]}]}, "lacks something"),
        ({"directions": 3}, "directions is 3"),
        ({"noise_levels": []}, "noise levels are 0"),
        ({"noise_levels": [2]}, "hold 2, wanted numbers from 0 to 1"),
        ({"seeds": [True]}, "seed is True"),
        ({"tokens": 10**6}, "wanted a whole number from 1 to 512"),
        ({"temperature": "hot"}, "hold 'hot'"),
        ({"tokns": 3}, "tokns, which nothing reads"),
        ({"scorer": {"kind": "lexicon"}}, "words are 0"),
        ({"scorer": {"kind": "server", "model": "m", "concept": "c", "endpoint": "http://key@host/v1"}}, "without a key in it"),
        ({"scorer": {"kind": "server", "model": "m", "concept": "c", "endpoint": "http://h/v1?key=1"}}, "without a key in it"),
        (
            {"scorer": {"kind": "server", "endpoint": "http://h/v1", "model": "m", "concept": "c", "wording": "?"}},
            "lacks {text}",
        ),
        ({"scorer": {"kind": "server", "endpoint": "http://h/v1"}}, "a model's name and the concept"),
        ({"made_with": []}, "JSON object"),
    ],
)
def test_what_does_not_fit_is_refused_by_name(small, changes, words):
    with pytest.raises(GlpError, match=words.replace("{", r"\{").replace("}", r"\}")):
        SweepConfig.from_json(small().to_json() | changes)


def test_what_is_not_here_is_told(small):
    made = {"glp": "aa", "dtype": "float32", "versions": {"torch": "2.13.0", "numpy": "2"}, "llm": {"name": "x"}}
    config = small(made_with=made, directions=(Along("up", "upwards", (1.0,), "1234"),))
    assert differences(config, made, {"up": "1234"}) == []
    said = differences(config, made | {"glp": "bb", "versions": {"torch": "2.14.0", "numpy": "2"}}, {"up": "9999"})
    assert said == [
        "the prior: made with aa, here it is bb",
        "versions, torch: made with 2.13.0, here it is 2.14.0",
        "the direction up is another one here: 9999 in place of 1234",
    ]
    assert "not in this workspace" in differences(config, made, {})[0]


@pytest.mark.parametrize(
    ("changes", "what", "values"),
    [
        ({"prompts": ("The cat sat", "He said")}, "prompts", (("a", "b"), ("The cat sat", "He said"))),
        ({"scorer": Scorer("lexicon", ("sea",))}, "scorer, words", (("land",), ("sea",))),
        ({"walk_pushes": 3}, "walk pushes", (16, 3)),
        ({"directions": (Along("up", "upwards", (1.0,), "56"),)}, "digest of upwards (up)", ("1234", "56")),
        ({"directions": (Along("up", "upwards", (2.0,), "1234"),)}, "strengths along upwards (up)", ((1.0,), (2.0,))),
        ({"made_with": {"glp": "aa", "llm": {"name": "y"}}}, "the language model, name", ("x", "y")),
        ({"made_with": {"glp": "bb", "llm": {"name": "x"}}}, "the prior", ("aa", "bb")),
    ],
)
def test_two_configurations_differ_by_each_setting_that_decides_texts_or_scores(small, changes, what, values):
    first = small(
        prompts=("a", "b"), directions=(Along("up", "upwards", (1.0,), "1234"),), scorer=Scorer("lexicon", ("land",)),
        made_with={"glp": "aa", "llm": {"name": "x"}},
    )  # fmt: skip
    assert settings_apart(first, replace(first, title="another")) == []
    assert settings_apart(first, replace(first, **changes)) == [(what, *values)]


def test_cells_are_counted_by_hand_and_named_by_all_that_decides_their_texts(small):
    config = small(noise_levels=(0.3, 0.5), walk_levels=(0.1, 0.2), seeds=(0, 1))
    # unsteered and prompted, drawn four times, and 2 strengths of raw, norm, and twice of walk, glp, gaussian, wrong, random
    assert count(config) == 3 * (2 * 2 + 4 + 2 * 2 * (1 + 2 + 2 + 1 + 2 + 2 + 2))
    assert series(config)[:5] == ["raw", "walk 0.1", "walk 0.2", "glp 0.3", "glp 0.5"]
    walk = Cell("up", "walk", 1.0, 0.1)
    changed = [{"walk_pushes": 3}, {"tokens": 7}, {"temperature": 1.0}, {"made_with": {"layer": 1}}]
    changed += [{"directions": (Along("up", "upwards", (1.0,), "other"),)}]
    names = [
        key(config, walk),
        key(config, walk._replace(strength=0.9)),
        *(key(replace(config, **one), walk) for one in changed),
    ]
    assert len(set(names)) == len(names)
    same = replace(config, prompts=("another",), seeds=(5,), arms=("walk",), title="t", scorer=Scorer("lexicon", ("a",)))
    assert key(same, walk) == names[0]


def test_strengths_are_visited_so_that_a_curve_is_whole_early():
    assert spread_out((5.0, 1.0, 2.0, 3.0, 4.0)) == [3.0, 2.0, 5.0, 1.0, 4.0]
