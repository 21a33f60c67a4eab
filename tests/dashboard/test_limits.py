"""A visitor who has asked for all that the server lets one: the page says so, and begins nothing."""

import re

import pytest

from dashboard.service import follow, resources, results
from dashboard.service.visitors import limits
from glp_core.errors import GlpError
from glp_core.jobs.limits import VisitorLimits
from tests.support.steering_page import open_page, run


def test_a_run_beyond_the_limit_is_told_and_not_begun(llm, monkeypatch):
    kept = VisitorLimits(tokens_a_day=10)
    monkeypatch.setattr(limits, "limits", lambda: kept)
    at = open_page("steering", steering_tokens="4").button(key="steering_start").click().run()
    said = re.sub(r"\\(.)", r"\1", at.error[0].value)
    assert "10 tokens a day for one visitor, and this run asks for 12" in said and not at.exception
    assert "steering_run" not in at.session_state


def test_the_controls_of_a_comparison_count_toward_the_tokens_of_a_day(llm, monkeypatch):
    results.small_results.clear()
    kept = VisitorLimits(tokens_a_day=31)
    monkeypatch.setattr(limits, "limits", lambda: kept)
    monkeypatch.setattr(limits, "visitor", lambda: "203.0.113.9")
    monkeypatch.setattr(follow, "PATIENCE", 0)
    at = run(open_page("steering", steering_tokens="4", steering_strength="1"))
    assert not at.error
    at.session_state["steering_undone"] = True
    at.run()
    at.button(key="steering_controls").click().run()
    said = re.sub(r"\\(.)", r"\1", at.error[0].value)
    assert "31 tokens a day for one visitor; 19 are left of yours and this run asks for 20" in said and not at.exception


def test_a_reading_is_no_run(llm, monkeypatch):
    kept = VisitorLimits(runs_a_minute=1)
    monkeypatch.setattr(limits, "limits", lambda: kept)
    for tokens in (0, 0, 3, 0):
        assert resources.submit(lambda _cancelled: iter(["done"]), title="reading", tokens=tokens).wait(10)
    with pytest.raises(GlpError, match="begun 1 runs within a minute"):
        resources.submit(lambda _cancelled: iter(["done"]), title="writing", tokens=3)


def test_a_variable_that_is_no_number_is_named(monkeypatch):
    monkeypatch.setenv("GLP_EXPLORER_TOKENS_A_DAY", "1e6")
    with pytest.raises(GlpError, match="GLP_EXPLORER_TOKENS_A_DAY is '1e6', wanted a whole number"):
        limits._whole("GLP_EXPLORER_TOKENS_A_DAY")


@pytest.mark.parametrize(
    ("address", "header", "visitor"),
    [
        ("8.8.8.8", "198.51.100.1", "8.8.8.8"),  # from elsewhere: whoever asks may write any header
        ("10.0.0.2", "198.51.100.1, 203.0.113.9", "203.0.113.9"),
        (None, "203.0.113.9", "203.0.113.9"),
        (None, "", ""),
    ],
)
def test_a_visitor_is_known_by_address_and_a_proxy_on_this_network_is_believed(monkeypatch, address, header, visitor):
    class Context:
        ip_address = address
        headers = {"X-Forwarded-For": header} if header else {}

    monkeypatch.setattr(limits.st, "context", Context)
    assert limits.visitor() == visitor
