"""A real server with the demo workspace, and a headless browser to drive it. Slow by nature: keep these tests few."""

import time
from contextlib import contextmanager
from urllib.parse import urlsplit

import pytest

from tests.support import chromium, serving

PATIENCE = 90_000
"""Milliseconds to wait for a marker: CI machines have two cores."""
LAID_OUT = 20
"""Seconds in which a page that has been drawn is laid out."""
TELL_WHAT_IS_BLOCKED = """addEventListener("securitypolicyviolation", (event) =>
  tellBlocked(`${event.effectiveDirective} blocks ${event.blockedURI || event.sample} on ${location.href}`))"""


@pytest.fixture(scope="session")
def server(tmp_path_factory):
    """Address of a dashboard over the demo workspace; its log is in the test's temporary folder."""
    with running("dashboard/server.py", tmp_path_factory.mktemp("server") / "log.txt", {}) as address:
        yield address


@contextmanager
def running(script, log, environment):
    """Run a server of a script while the block runs; give its address."""
    with serving.running(serving.streamlit(script), "--server.port", log, environment, patience=PATIENCE / 1000) as server:
        yield server.address


@pytest.fixture(scope="session")
def browser():
    """Headless Chromium."""
    with chromium.launched() as one:
        yield one


@pytest.fixture
def open_page(browser, server):
    """A function that opens a path of the app in a session of its own and waits until it is drawn.

    At the end, fail if a page asked another server for something, or wanted what the server's own policy forbids.
    """
    contexts, stray = [], []

    def open_one(path="", *, width=1280, height=1000, dark=False):
        scheme = "dark" if dark else "light"
        contexts.append(
            browser.new_context(viewport={"width": width, "height": height}, color_scheme=scheme, accept_downloads=True)
        )
        watch(contexts[-1], server, stray)
        page = contexts[-1].new_page()
        page.set_default_timeout(PATIENCE)
        page.goto(f"{server}/{path}")
        page.wait_for_selector("[data-testid=stAppViewContainer]")
        page.wait_for_selector("h1")
        return page

    yield open_one
    for context in contexts:
        context.close()
    assert not stray, stray


def watch(context, server, stray):
    """Put into `stray` what the pages of a context ask other servers for, and what the Content-Security-Policy keeps from them."""
    here = f"http://{urlsplit(server).netloc}/"

    def asked(request):
        if not request.url.startswith((here, "data:", "blob:", "file:")):  # a page that was downloaded is opened as a file
            stray.append(request.url)

    def said(message):
        if "Content Security Policy" in message.text:
            stray.append(message.text)

    context.on("request", asked)
    context.on("console", said)
    context.expose_binding("tellBlocked", lambda _source, words: stray.append(words))
    context.add_init_script(TELL_WHAT_IS_BLOCKED)


CONTROLS = ("Selectbox", "Slider", "NumberInput", "TextInput", "Checkbox", "Button", "ButtonGroup", "Popover")
ALONE = """(kinds) => {
  const controls = kinds.flatMap((kind) => [...document.querySelectorAll(`[data-testid=stMain] [data-testid=st${kind}]`)])
    .filter((node) => node.getBoundingClientRect().height && !node.closest("details:not([open])"))
  const boxes = controls.map((node) => node.getBoundingClientRect())
  const apart = (a, b) => a !== b && !controls[a].contains(controls[b]) && !controls[b].contains(controls[a])
  const level = (a, b) => Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top) > 0.5 * Math.min(a.height, b.height)
  const alone = (one) => !boxes.some((box, other) => apart(one, other) && level(boxes[one], box))
  return [...controls.keys()].filter(alone).map((one) => controls[one].closest("[class*=st-key-]").className.match(/st-key-(\\S+)/)[1])
}"""
"""The keys of controls that have no other one beside them."""


def check_alone(page, *wanted):
    """Fail unless the controls of these keys, and no others but boxes for a text, come to stand alone in a row."""
    until = time.monotonic() + LAID_OUT
    while (found := page.evaluate(ALONE, list(CONTROLS))) != list(wanted) and time.monotonic() < until:
        page.wait_for_timeout(100)
    assert found == list(wanted)


def check_headings(page):
    """Fail unless the page's headings begin with level 1 and go down one level at a time."""
    levels = page.evaluate("[...document.querySelectorAll('h1,h2,h3,h4')].map(node => +node.tagName[1])")
    assert levels[0] == 1 and all(after <= before + 1 for before, after in zip(levels, levels[1:], strict=False)), levels
