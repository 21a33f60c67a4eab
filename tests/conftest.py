"""Fixtures that many tests share: a tiny LLM and GLP, and the demo workspace with its models, loaded once a session."""

import os

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
WORKER = "PYTEST_XDIST_WORKER" in os.environ
if WORKER:  # the workers share the cores; torch reads this when it is loaded
    os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest  # noqa: E402

from glp_core.workspace import DEMO, Workspace  # noqa: E402
from tests.support import tiny  # noqa: E402

SLOWEST = (
    "browser",
    "tests/building/test_whole_build.py",
    "tests/cli/test_second_device_commands.py",
    "tests/test_second_device.py",
    "tests/training/test_ranks.py",
    "tests/test_tour.py",
    "tests/neurons/test_maps.py",
)
"""Groups of tests that take longest: they begin first, so that no worker is left alone with one at the end."""


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config, items):
    """Mark the browser's tests; leave out nightly ones unless -m names them; for workers, put the slowest groups first.

    Without nightly ones, a browser's test that fails is tried once more and said to be in the summary: a busy machine can swap
    what a page shows between two looks of a test.
    """
    nightly = "nightly" in config.option.markexpr
    for item in items:
        if _group(item.nodeid) == "browser":
            item.add_marker(pytest.mark.browser)
            if not nightly:
                item.add_marker(pytest.mark.flaky(reruns=1))
    if not nightly:
        items[:] = [item for item in items if not item.get_closest_marker("nightly")]
    if WORKER:
        items.sort(key=lambda item: SLOWEST.index(_group(item.nodeid)) if _group(item.nodeid) in SLOWEST else len(SLOWEST))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """Keep a file's tests, and all of the browser's, on one worker: what their fixtures make is made once."""
    from xdist.scheduler import LoadScopeScheduling

    class Groups(LoadScopeScheduling):
        def _split_scope(self, nodeid):
            return _group(nodeid)

    return Groups(config, log)


def _group(nodeid):
    file = nodeid.partition("::")[0]
    return "browser" if file.startswith("tests/browser/") else file


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
