"""Fixtures that many tests share: a tiny LLM and GLP, and the demo workspace with its models, loaded once a session."""

import os

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import pytest  # noqa: E402

from glp_core.workspace import DEMO, Workspace  # noqa: E402
from tests.support import tiny  # noqa: E402


@pytest.fixture(scope="session")
def tiny_model():
    """A function that makes a tiny random model of a family, for example tiny_model("gpt2")."""
    return tiny.tiny_model


@pytest.fixture(scope="session")
def tiny_llm():
    return tiny.make_tiny_llm()


@pytest.fixture(scope="session")
def tiny_glp():
    return tiny.tiny_glp()


@pytest.fixture(scope="session")
def demo():
    return Workspace.open(DEMO)


@pytest.fixture(scope="session")
def demo_llm(demo):
    return demo.load_llm()


@pytest.fixture(scope="session")
def demo_glp(demo):
    return demo.load_glp()
