"""Helpers for tests of the Steering page: open it, press Run, read its columns."""

import html
import re

from tests.support import pages


def open_page(name="steering", **query):
    return pages.open_page(name, **query)


def board(at):
    """Return the texts of the drawn columns by arm."""
    found = next((one.value for one in at.get("html") if "data-run" in one.value), "")
    cards = re.findall(r'data-arm="(\w+)".*?<div class="glp-strip">(.*?)</div>', found, re.S)
    return {arm: html.unescape(re.sub(r"<[^>]+>", "", strip)) for arm, strip in cards}


def run(at):
    return at.button(key="steering_start").click().run()
