"""Two workspaces in a real browser: the switch, a part that is missing made by its button, and a link to the other workspace."""

import re

import pytest

from tests.browser.conftest import PATIENCE, running
from tests.support import pages


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """Address of a dashboard over two tiny workspaces, `mine` to begin with and `other`, which has no directions."""
    home = tmp_path_factory.mktemp("home")
    environment = pages.make_home(home, "other")
    for path in (home / "other" / "directions").glob("*"):
        path.unlink()
    with running("tests/support/tiny_server.py", home / "log.txt", environment) as address:
        yield address


def test_the_switch_opens_another_workspace_a_button_makes_what_it_lacks_and_its_link_leads_there(open_page):
    page = open_page("steering?steering_prompt=Rain+fell")
    page.get_by_role("combobox", name="Direction").wait_for()
    page.get_by_test_id("stSidebar").get_by_role("button", name="mine").click()
    page.get_by_role("navigation", name="Other workspaces").get_by_role("link", name="other").click()
    page.wait_for_url(re.compile("workspace=other"))
    page.get_by_text("This workspace has no direction").wait_for()

    page.get_by_role("button", name="Make it here").click()
    page.get_by_text("Making").first.wait_for()
    page.get_by_role("combobox", name="Direction").wait_for(timeout=2 * PATIENCE)
    assert page.get_by_label("Prompt", exact=True).input_value() == "Rain fell"

    page.get_by_role("button", name="Share").click()
    address = page.get_by_test_id("stCode").inner_text().strip()
    assert "workspace=other" in address
    again = open_page(address.split("/", 3)[3])
    again.get_by_test_id("stSidebar").get_by_role("button", name="other").wait_for()
    again.get_by_role("combobox", name="Direction").wait_for()

    with again.context.expect_page() as opened:
        again.get_by_role("link", name="Lab").first.evaluate("link => window.open(link.href)")  # as "Open in new tab" does
    opened.value.wait_for_url(re.compile("lab.*workspace=other"))
    opened.value.get_by_test_id("stSidebar").get_by_role("button", name="other").wait_for()
