"""What one visitor may ask of a shared server: counted by a clock of the tests' own, told in words with the time to wait."""

import pytest

from glp_core.errors import GlpError
from glp_core.jobs import limits
from glp_core.jobs.limits import VisitorLimits


class Clock:
    def __init__(self):
        self.at = 1000.0

    def __call__(self):
        return self.at


def ask(kept, visitor="a", tokens=0):
    with kept.taking(visitor, tokens):
        pass


def test_without_limits_anything_goes():
    kept = VisitorLimits()
    for _ in range(1000):
        ask(kept, tokens=10**9)


def test_runs_a_minute_are_counted_over_the_minute_just_past_and_for_each_visitor():
    clock = Clock()
    kept = VisitorLimits(runs_a_minute=2, now=clock)
    ask(kept)
    clock.at += 20
    ask(kept)
    with pytest.raises(GlpError, match="begun 2 runs within a minute, as many as .* Wait 40 seconds."):
        ask(kept)
    ask(kept, "b")
    clock.at += 40.5
    ask(kept)
    with pytest.raises(GlpError, match="Wait 20 seconds"):
        ask(kept)


def test_tokens_a_day_say_what_is_left_and_when_there_is_room():
    clock = Clock()
    kept = VisitorLimits(tokens_a_day=100, now=clock)
    ask(kept, tokens=60)
    clock.at += 3600
    ask(kept, tokens=30)
    with pytest.raises(
        GlpError, match="100 tokens a day for one visitor; 10 are left of yours .* asks for 20. .* wait 23 hours"
    ):
        ask(kept, tokens=20)
    with pytest.raises(GlpError, match="this run asks for 101: ask for fewer"):
        ask(kept, tokens=101)
    ask(kept, tokens=10)
    clock.at += 23 * 3600 + 1
    ask(kept, tokens=60)


def test_what_could_not_begin_does_not_count_and_few_visitors_are_remembered(monkeypatch):
    kept = VisitorLimits(runs_a_minute=1, now=Clock())
    with pytest.raises(KeyError), kept.taking("a"):
        raise KeyError
    ask(kept)
    monkeypatch.setattr(limits, "MOST_VISITORS", 3)
    for visitor in "bcde":
        ask(kept, visitor)
    assert len(kept._asked) == 3
