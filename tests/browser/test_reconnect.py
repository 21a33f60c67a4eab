"""A visitor whose network was away for 70 seconds: the same run is there, and no second one is begun."""

from urllib.parse import urlsplit

import pytest

from tests.support.cable import Cable

pytestmark = pytest.mark.nightly

AWAY = 70
WATCH = """() => {
  window.states = []
  const look = () => { const board = document.querySelector("[data-run]"); if (board) window.states.push(board.dataset.run) }
  new MutationObserver(look).observe(document.body, {subtree: true, childList: true, attributes: true})
}"""
CONNECTED = "[data-testid=stApp][data-test-connection-state=CONNECTED]"


def test_after_seventy_seconds_without_a_network_the_same_run_is_there(browser, server):
    cable = Cable(urlsplit(server).port)
    context, other = browser.new_context(), browser.new_context()
    try:
        page = context.new_page()
        page.set_default_timeout(90_000)
        page.goto(f"http://127.0.0.1:{cable.port}/steering?steering_tokens=24&steering_temperature=0.9&steering_seed=5")
        page.get_by_role("button", name="Run", exact=True).click()
        page.wait_for_selector("[data-run=done]")
        written = page.locator("[data-run]").inner_text()
        page.evaluate(WATCH)
        cable.pull()
        page.wait_for_selector("[data-testid=stApp]:not([data-test-connection-state=CONNECTED])")
        page.wait_for_timeout(1000 * AWAY)
        visitor = other.new_page()  # whose leaving makes the server clear away sessions
        visitor.goto(f"{server}/scaling")
        visitor.wait_for_selector(CONNECTED)
        visitor.close()
        cable.put_in()
        page.wait_for_selector(CONNECTED)
        page.wait_for_timeout(3000)
        assert page.locator("[data-run]").inner_text() == written
        assert set(page.evaluate("window.states")) <= {"done"}
    finally:
        context.close()
        other.close()
        cable.pull()
