"""Helpers for tests of the Steering page: open it, press Run, read its columns."""

import html
import re

from streamlit.testing.v1 import AppTest

from tests.support import pages


def open_page(name="steering", **query):
    at = AppTest.from_file(pages.ENTRY, default_timeout=pages.SECONDS)
    at.query_params.update(query)
    at.run()
    if name != "overview":
        at.switch_page(f"../pages/{name}.py")
        at.query_params.update(query)
        at.run()
    assert not at.exception
    return at


def board(at):
    """Return the texts of the drawn columns by arm."""
    found = next((one.value for one in at.get("html") if "data-run" in one.value), "")
    cards = re.findall(r'data-arm="(\w+)".*?<div class="glp-strip">(.*?)</div>', found, re.S)
    return {arm: html.unescape(re.sub(r"<[^>]+>", "", strip)) for arm, strip in cards}


def run(at):
    return at.button(key="steering_start").click().run()
