"""The figures that a person is promised on a busy server, every night: they take minutes."""

import pytest

from tests.load import scenes, streams
from tests.load.__main__ import started

pytestmark = pytest.mark.nightly


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    log = tmp_path_factory.mktemp("server") / "log.txt"
    with started(log) as one:
        yield one
    assert "Traceback" not in log.read_text()


@pytest.fixture(scope="module")
def solo(server):
    """Seconds that 64 tokens take a visitor who is alone."""
    return scenes.alone(server.address, 64)[1]


def holds(rows):
    rows = list(rows)
    assert any(row.holds for row in rows)
    assert not [row for row in rows if row.holds is False], rows


def test_twelve_visitors_get_their_first_token_in_three_seconds_and_all_within_three_times_what_one_waits(server, solo):
    holds(scenes.crowd(server.address, 12, 64, solo))


def test_a_long_text_holds_a_short_one_up_by_no_more_than_its_share(server):
    holds(scenes.fairness(server.address, 256, 16))


def test_a_text_flows_while_others_use_the_other_pages(server):
    holds(streams.slices(server.address, 128))


def test_nothing_is_computed_for_a_visitor_who_left(server):
    holds(streams.leaving(server, 256))


def test_memory_is_flat_over_runs_and_page_loads_of_something_new(server):
    holds(scenes.memory(server.address, server.process, runs=200, loads=300, tokens=4))


def test_another_torch_process_slows_a_text_down_by_no_more_than_two_and_a_half_times(server, solo):
    holds(scenes.beside(server.address, 64, solo))
