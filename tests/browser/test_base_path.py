"""A server under a path and several names, as a proxy shows it: its pages, its links, and who may call it."""

import json

import pytest

from tests.browser.conftest import PATIENCE
from tests.support import pages, serving

pytestmark = pytest.mark.nightly

BASE = "/interp-lab"
"""Ends as a page is called, which must not be taken for one."""
NAMES = ("a.example", "b.example")


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """Address of a dashboard below BASE that was told NAMES, over a tiny workspace."""
    home = tmp_path_factory.mktemp("home")
    words = ["-m", "dashboard.launch", "--host", "0.0.0.0", "--base-path", BASE, *(f"--allow-host={name}" for name in NAMES)]
    own = pages.make_home(home)
    with serving.running(words, "--port", home / "log.txt", own, patience=PATIENCE / 1000, base_path=BASE) as started:
        yield started.address


def test_pages_and_links_below_a_base_path_lead_to_each_other(open_page, server):
    page = open_page("overview")
    page.get_by_text("One story in five clicks").wait_for()
    assert page.url == f"{server}/"
    assert page.get_by_text("Page not found").count() == 0
    page.get_by_role("link", name="Steering").first.click()
    page.get_by_role("combobox", name="Direction").wait_for()
    page.get_by_label("Prompt", exact=True).fill("Rain fell")
    page.keyboard.press("Tab")
    page.wait_for_url("**steering_prompt=Rain+fell**")
    page.get_by_role("button", name="Share", exact=True).click()
    address = page.get_by_test_id("stCode").filter(has_text="Rain+fell").inner_text().strip()
    assert address.startswith(f"{server}/steering?")
    page.goto("about:blank")
    page.goto(address)
    page.get_by_role("combobox", name="Direction").wait_for()
    assert page.get_by_label("Prompt", exact=True).input_value() == "Rain fell"
    page.get_by_test_id("models-ready").wait_for(state="attached")
    assert json.loads(serving.read(f"{server}/api/ready"))["models"] == "done"


def test_a_server_with_several_names_is_called_by_each_and_by_no_other(server):
    assert serving.read(f"{server}/_stcore/metrics") == b"Closed.\n"
    assert serving.knock(server, host=NAMES[1], origin=f"https://{NAMES[1]}") == 101
    assert serving.knock(server, host="c.example", origin="https://c.example") == 403
    assert serving.knock(server, host=NAMES[1], origin="https://c.example") == 403
