"""A visitor who is away, on another page or without a network: the run ends or is given back, as the setting says; none is begun twice."""

import time
from contextlib import contextmanager
from urllib.parse import urlsplit

import pytest

from glp_core.steering.generation import Arm, Sampling, generate
from tests.browser.conftest import PATIENCE
from tests.browser.test_steering_browser import RUN, TOKENS, load, path
from tests.support.cable import Cable

pytestmark = pytest.mark.nightly

AWAY = 70
LONG = {"tokens": 256, "temperature": 0.9, "seed": 5}
WRITING = TOKENS.format("unsteered")
WATCH = """() => {
  window.states = []
  window.counts = []
  const look = () => {
    const board = document.querySelector("[data-run]")
    if (board) window.states.push(board.dataset.run)
    const cards = [...document.querySelectorAll(".glp-card[data-arm=unsteered]")]  // two while a new one takes an old one's place
    if (cards.length) window.counts.push(Math.max(...cards.map((card) => card.querySelectorAll(".glp-strip span[title]").length)))
  }
  new MutationObserver(look).observe(document.body, {subtree: true, childList: true, attributes: true})
}"""
CONNECTED = "[data-testid=stApp][data-test-connection-state=CONNECTED]"


@pytest.fixture
def cable(server):
    one = Cable(urlsplit(server).port)
    yield one
    one.pull()


@contextmanager
def page_over(cable, browser, address):
    """A page that is reached through the cable."""
    context = browser.new_context()
    try:
        page = context.new_page()
        page.set_default_timeout(PATIENCE)
        page.goto(f"http://127.0.0.1:{cable.port}/{address}")
        page.get_by_test_id("models-ready").wait_for(state="attached")
        yield page
    finally:
        context.close()


def stay_away(cable, page, browser, server, seconds=AWAY):
    """Pull the cable for so long, while another visitor comes and goes, whose leaving makes the server clear away sessions."""
    cable.pull()
    page.wait_for_selector("[data-testid=stApp]:not([data-test-connection-state=CONNECTED])")
    page.wait_for_timeout(1000 * seconds)
    other = browser.new_context()
    visitor = other.new_page()
    visitor.goto(f"{server}/scaling")
    visitor.wait_for_selector(CONNECTED)
    other.close()
    cable.put_in()
    page.wait_for_selector(CONNECTED)


def begin(page):
    """Press Run, and go on once all columns have begun."""
    page.locator(RUN).click()
    page.wait_for_selector(TOKENS.format("walk"))
    page.evaluate(WATCH)


def runs(server, *, within=0.0):
    """Return how many runs are written, 0 as soon as none is."""
    deadline = time.monotonic() + within
    while (running := load(server)["running"]) and time.monotonic() < deadline:
        time.sleep(0.1)
    return running


def whole(page, demo, llm):
    """Return how many tokens the unsteered text has, written here by itself: as many as were asked for, or up to the one that ends it."""
    ids = llm.encode(page.get_by_label("Prompt", exact=True).input_value())
    sampling = Sampling(LONG["tokens"], LONG["temperature"], LONG["seed"])
    return len(list(generate(demo.site(llm), ids, [Arm("unsteered")], sampling)))


def never_begun_again(page):
    counts = page.evaluate("window.counts")
    return counts == sorted(counts)


def go(page, name):
    page.get_by_test_id("stTopNavLink").filter(has_text=name).first.click()
    page.get_by_role("heading", name=name, exact=True, level=1).wait_for()


def test_after_seventy_seconds_without_a_network_the_same_run_is_there(browser, server, cable):
    with page_over(cable, browser, path(tokens=24, temperature=0.9, seed=5)) as page:
        page.locator(RUN).click()
        page.wait_for_selector("[data-run=done]")
        written = page.locator("[data-run]").inner_text()
        page.evaluate(WATCH)
        stay_away(cable, page, browser, server)
        page.wait_for_timeout(3000)
        assert page.locator("[data-run]").inner_text() == written
        assert set(page.evaluate("window.states")) <= {"done"}


def test_a_run_that_stays_is_written_on_without_a_network_and_given_back_whole(browser, server, cable, demo, demo_llm):
    with page_over(cable, browser, path(**LONG, stay="true")) as page:
        begin(page)
        stay_away(cable, page, browser, server)
        page.wait_for_selector("[data-run=done]")
        assert page.locator(WRITING).count() == whole(page, demo, demo_llm)
        assert never_begun_again(page) and not runs(server, within=1.0)


def test_a_run_that_does_not_stay_ends_with_the_connection_and_says_so(browser, server, cable):
    with page_over(cable, browser, path(**LONG)) as page:
        begin(page)
        cable.pull()
        assert not runs(server, within=2.5)  # half a second for the socket to close and for this test to look
        stay_away(cable, page, browser, server, seconds=3)
        page.wait_for_selector("[data-run=stopped]")
        page.get_by_text("Stopped when you left the page or lost the connection").wait_for()
        assert 0 < page.locator(WRITING).count() < LONG["tokens"] and never_begun_again(page) and not runs(server)


def test_a_run_ends_within_two_seconds_of_going_to_another_page(open_page, server):
    page = open_page(path(**LONG))
    begin(page)
    page.get_by_test_id("stTopNavLink").filter(has_text="Scaling").first.click()
    assert not runs(server, within=2.0)
    go(page, "Steering")
    page.wait_for_selector("[data-run=stopped]")
    assert not runs(server) and never_begun_again(page)


def test_a_run_that_stays_goes_on_during_another_page_and_is_there_on_return(open_page, server, demo, demo_llm):
    page = open_page(path(**LONG, stay="true"))
    begin(page)
    go(page, "Scaling")
    page.wait_for_timeout(2500)
    assert runs(server) == 1
    go(page, "Steering")
    page.wait_for_selector(WRITING)
    assert runs(server) == 1
    page.wait_for_selector("[data-run=done]")
    assert page.locator(f"[data-run] {WRITING}").count() == whole(page, demo, demo_llm)
    assert never_begun_again(page) and not runs(server, within=1.0)
