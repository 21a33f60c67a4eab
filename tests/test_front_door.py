"""The names that `glp_core` offers, and the example in its docstring, run on the real demo."""

import re
import subprocess
import sys
from importlib import import_module
from textwrap import dedent

import pytest
import torch

import glp_core
from glp_core import Arm, GlpError, load_llm, steer
from glp_core.llm.decoding import Sampling
from glp_core.llm.site import Site
from glp_core.steering.generation import generate
from tests.support import tiny


def test_every_name_comes_from_its_home_and_no_other_does():
    assert set(glp_core.__all__) == set(glp_core._HOMES)
    for name in glp_core.__all__:
        home = import_module(f"glp_core.{glp_core._HOMES[name]}")
        assert getattr(glp_core, name) is getattr(home, name)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        glp_core.nothing  # noqa: B018 - the access is the test


def test_torch_is_loaded_only_when_a_name_needs_it():
    light = "import sys, glp_core; glp_core.GlpError, glp_core.LlmSource; print('torch' in sys.modules); "
    code = light + "glp_core.GLP; print('torch' in sys.modules)"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout == "False\nTrue\n"


def test_an_llm_is_loaded_from_a_source_and_what_is_none_is_refused_with_an_example():
    with pytest.raises(GlpError, match=r"The LLM to load is 'org/model', wanted an LlmSource, such as LlmSource\('hub'"):
        load_llm("org/model")


def test_the_docstrings_example_runs_on_the_demo(demo):
    example = re.search(r"\n\n((?:    .*\n|\n)+)", glp_core.__doc__)[1]
    names: dict = {}
    exec(dedent(example), names)  # noqa: S102 - our own docstring
    texts, glp = names["texts"], names["glp"]
    assert list(texts) == ["plain", "steered", "projected"] and len(set(texts.values())) == 3
    assert names["projected"].shape == names["words"].shape and torch.isfinite(names["projected"]).all()
    assert names["neurons"].shape == (len(names["words"]), glp.n_layers, glp.d_mlp)


def test_steer_returns_what_generate_yields(tiny_llm):
    site, direction = Site(tiny_llm, 1, 4.0), torch.nn.functional.normalize(torch.ones(tiny.WIDTH), dim=0)
    arms = [Arm("plain"), Arm("pushed", direction, 1.5)]
    steps = list(generate(site, tiny_llm.encode("The cat"), arms, Sampling(8)))
    expected = {arm.name: "".join(step.text for step in steps if step.arm == arm.name) for arm in arms}
    assert steer(site, "The cat", arms, max_tokens=8) == expected
    with pytest.raises(GlpError, match="Two arms have one name: got plain, plain"):
        steer(site, "The cat", [arms[0], arms[0]])
