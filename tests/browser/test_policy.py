"""The watch over all browser tests: it sees what a page asks another server for, and what the server's policy keeps from it."""

import pytest

from dashboard.server import HEADERS
from tests.browser.conftest import watch

HERE = "http://localhost:1"
PAGE = "<img src='https://elsewhere.example/a.png'><img src='/b.png'>"


@pytest.mark.parametrize(
    "headers, words", [(HEADERS, "img-src blocks https://elsewhere"), ({}, "https://elsewhere.example/a.png")]
)
def test_the_watch_sees_what_a_page_wants_from_another_server(browser, headers, words):
    stray, context = [], browser.new_context()
    watch(context, HERE, stray)
    context.route("**/*", lambda route: route.fulfill(body=PAGE, content_type="text/html", headers=headers))
    context.new_page().goto(HERE)
    context.close()
    assert any(one.startswith(words) for one in stray), stray
    assert not any("b.png" in one for one in stray)
