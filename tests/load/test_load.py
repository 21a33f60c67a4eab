"""The load tool: its visitor sees what a server shows, and the figures that a person is promised, which take minutes, every night."""

import pytest

from tests.load import scenes
from tests.load.__main__ import started

pytestmark = pytest.mark.nightly


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    log = tmp_path_factory.mktemp("server") / "log.txt"
    with started(log) as one:
        yield one
    assert "Traceback" not in log.read_text()


def test_all_of_twelve_visitors_get_their_texts_within_three_times_what_one_waits(server):
    _, solo = scenes.alone(server.address, 32)
    runs = scenes.press(server.address, [i / 6 for i in range(12)], [32] * 12)
    assert None not in runs
    assert max(run.done for run in runs) <= 3 * solo


def test_a_long_text_holds_a_short_one_up_by_no_more_than_its_share(server):
    rows = scenes.fairness(server.address, 256, 16)
    assert rows[0].holds, rows


def test_memory_is_flat_over_runs_and_page_loads(server):
    rows = scenes.memory(server.address, server.process, runs=200, loads=300, tokens=4)
    assert all(row.holds for row in rows), rows
