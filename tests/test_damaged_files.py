"""Every reader, on thousands of damaged and hostile files: a sentence that names what is wrong, and nothing else.

What is asked of each: no exception but GlpError, no more than MOST_MEMORY beside what it had, no more than MOST_SECONDS.
"""

import resource
import signal
import warnings
from contextlib import contextmanager
from pathlib import Path

import hypothesis
import pytest
from hypothesis import HealthCheck, Phase
from hypothesis import strategies as st

from glp_core.errors import GlpError
from tests.support import damage_world
from tests.support.damage import damaged

IN_ALL, IN_ALL_NIGHTLY = 2_000, 20_000
MOST_MEMORY = 400_000_000
"""Bytes of address space: the files have a few hundred thousand at most."""
MOST_SECONDS = 10


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    folder = tmp_path_factory.mktemp("world") / "workspace"
    damage_world.make(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GLP_EXPLORER_CACHE", str(folder / "cache"))
        yield folder


@contextmanager
def bounded():
    """Let a block have so much more memory, and so many seconds, and no more."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)

    def stop(*_):
        raise TimeoutError(f"not read after {MOST_SECONDS} seconds")

    before = signal.signal(signal.SIGALRM, stop)
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + MOST_MEMORY, hard))
    signal.alarm(MOST_SECONDS)
    try:
        yield
    finally:
        signal.alarm(0)
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
        signal.signal(signal.SIGALRM, before)


def read_damaged(world, name, examples, seed=None):
    read, files = damage_world.READERS[name]
    read(world)
    files = [world / file for file in files]
    whole = {path: path.read_bytes() for path in files}

    @hypothesis.settings(
        max_examples=examples, deadline=None, database=None, derandomize=seed is None, phases=(Phase.generate, Phase.shrink),
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @hypothesis.given(st.data())
    def check(data):
        path = data.draw(st.sampled_from(files))
        bad = data.draw(damaged(path, whole[path]))
        path.write_bytes(bad)
        try:
            with bounded():
                read(world)
        except GlpError as error:
            assert 10 < len(str(error)) < 2_000
        finally:
            path.write_bytes(whole[path])

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        (check if seed is None else hypothesis.seed(seed)(check))()


@pytest.mark.parametrize("name", damage_world.READERS)
def test_a_damaged_file_is_refused_in_a_sentence(world, name):
    read_damaged(world, name, IN_ALL // len(damage_world.READERS))


@pytest.mark.nightly
@pytest.mark.parametrize("name", damage_world.READERS)
def test_a_damaged_file_is_refused_in_a_sentence_many_times(world, name, pytestconfig):
    read_damaged(world, name, IN_ALL_NIGHTLY // len(damage_world.READERS), seed=1)


def test_the_bound_would_be_felt():
    with pytest.raises(MemoryError), bounded():
        bytearray(2 * MOST_MEMORY)


def test_every_kind_of_file_of_a_workspace_is_damaged_here(world):
    listed = {file for _, files in damage_world.READERS.values() for file in files}
    kept = {str(path.relative_to(world)) for path in world.rglob("*") if path.is_file()}
    alike = ("directions/", "glp/", "training/", "sweeps/", ".build.lock")
    assert not [name for name in kept - listed if not name.startswith(alike)]
