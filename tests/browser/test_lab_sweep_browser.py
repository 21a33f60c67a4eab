"""A person sweeps a little, clicks a point for its texts, and takes the report along, which opens without a server."""

import re

import pytest
from playwright.sync_api import expect

from tests.browser.conftest import running
from tests.support import pages


@pytest.mark.nightly
def test_a_tiny_sweep_a_click_on_a_point_and_the_report(browser, tmp_path):
    environment = pages.make_home(tmp_path)
    context = browser.new_context(viewport={"width": 1280, "height": 1000}, accept_downloads=True)
    with running("dashboard/server.py", tmp_path / "log.txt", environment) as address:
        page = context.new_page()
        page.set_default_timeout(90_000)
        page.goto(f"{address}/lab?lab_view=Sweep", wait_until="commit")
        page.get_by_label("Tokens").fill("4")
        page.get_by_label("Tokens").press("Enter")
        page.get_by_role("button", name="Run", exact=True).click()
        expect(page.get_by_text("all written already")).to_be_visible(timeout=90_000)
        assert "lab_run=" in page.url
        point = page.locator(".js-plotly-plot .points path.point").first
        point.dispatch_event("mousemove")
        point.click(force=True)
        expect(page.get_by_role("heading", name=re.compile("at strength 0.15"))).to_be_visible()
        page.get_by_role("button", name="Download", exact=True).click()
        with page.expect_download() as taken:
            page.get_by_role("button", name="HTML report").click()
        report = tmp_path / "report.html"
        taken.value.save_as(report)
    page, asked = context.new_page(), []  # the first one still asks for its server
    page.on("request", lambda request: asked.append(request.url))
    page.goto(report.as_uri())
    expect(page.locator(".js-plotly-plot .points path.point").first).to_be_visible()
    page.locator(".js-plotly-plot .points path.point").first.click(force=True)
    expect(page.locator("details[open]")).to_have_count(1)
    assert [url for url in asked if not url.startswith(("file:", "data:", "blob:"))] == []
    context.close()
