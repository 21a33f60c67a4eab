"""Every reader, on thousands of damaged and hostile files: a sentence that names what is wrong, and nothing else.

What is asked of each: no exception but GlpError, no more than MOST_MEMORY beside what it had, no more than MOST_SECONDS.
"""

import math
import os
import resource
import signal
import warnings
from contextlib import contextmanager
from datetime import date
from pathlib import Path

import hypothesis
import pandas as pd
import pytest
from hypothesis import HealthCheck, Phase
from hypothesis import strategies as st

from glp_core.checked.tables import read_table
from glp_core.errors import GlpError
from tests.support import damage_world
from tests.support.damage import damaged
from tests.support.damage_readers import READERS, SLOW, unknown

IN_ALL, IN_ALL_NIGHTLY = 2_000, 20_000
"""Inputs at least, of the readers that are fast; every slow one has some beside."""
SLOW_EACH, SLOW_EACH_NIGHTLY = 8, 1_000
SEED = int(os.environ.get("GLP_TEST_SEED") or date.today().strftime("%Y%m%d"))
"""Of the nightly inputs; a failure prints it."""
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
    """Let a block have so much more memory, and so many seconds, and no more, whatever it makes of the exceptions that stop it."""
    late = []
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)

    def stop(*_):
        late.append(f"not read after {MOST_SECONDS} seconds")
        raise TimeoutError(late[0])

    before = signal.signal(signal.SIGALRM, stop)
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + MOST_MEMORY, hard))
    signal.alarm(MOST_SECONDS)
    try:
        yield
    finally:
        signal.alarm(0)
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
        signal.signal(signal.SIGALRM, before)
        assert not late, late


def read_damaged(world, name, examples, seed=None):
    """Let a reader read as many damaged files; return how many it was."""
    read, files = (READERS | SLOW)[name]
    tried = 0
    read(world)
    files = [world / file for file in files]
    whole = {path: path.read_bytes() for path in files}

    @hypothesis.settings(
        max_examples=examples, deadline=None, database=None, derandomize=seed is None, phases=(Phase.generate, Phase.shrink),
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @hypothesis.given(st.data())
    def check(data):
        nonlocal tried
        tried += 1
        path = data.draw(st.sampled_from(files))
        bad = data.draw(damaged(path, whole[path]))
        path.write_bytes(bad)
        try:
            with bounded():
                read(world)
        except GlpError as error:
            assert 10 < len(str(error)) < 2_000
            assert not out_of_memory(error)
        finally:
            path.write_bytes(whole[path])

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        (check if seed is None else hypothesis.seed(seed)(check))()
    return tried


def out_of_memory(error):
    """Say whether an exception was made of one that more memory than is allowed was asked for."""
    if error is None:
        return False
    here = isinstance(error, MemoryError) or "t allocate memory" in str(error)
    return here or out_of_memory(error.__cause__ or error.__context__)


@pytest.mark.parametrize("name", READERS | SLOW)
def test_a_damaged_file_is_refused_in_a_sentence(world, name):
    read_damaged(world, name, SLOW_EACH if name in SLOW else math.ceil(IN_ALL / len(READERS)))


@pytest.mark.nightly
@pytest.mark.parametrize("name", READERS | SLOW)
def test_a_damaged_file_is_refused_in_a_sentence_many_times(world, name, record_property):
    print(f"GLP_TEST_SEED={SEED}")
    examples = SLOW_EACH_NIGHTLY if name in SLOW else math.ceil(IN_ALL_NIGHTLY / len(READERS))
    record_property("inputs", read_damaged(world, name, examples, seed=SEED))


def test_the_bound_would_be_felt():
    with pytest.raises(MemoryError), bounded():
        bytearray(2 * MOST_MEMORY)


def test_every_kind_of_file_of_a_workspace_is_damaged_here(world):
    assert not unknown(world)


def test_a_column_that_a_tables_own_notes_make_its_index_is_missed(tmp_path):
    pd.DataFrame({"task": ["a", "b"], "value": [1.0, 2.0]}).set_index("task").to_parquet(tmp_path / "x.parquet")
    with pytest.raises(GlpError, match="no readable table"):
        read_table(tmp_path / "x.parquet", {"task": "text", "value": "number"})
