"""Scaling in a real browser: the law is drawn, the link keeps the axes."""

import pytest

from dashboard.service import priors
from tests.browser.conftest import check_headings


def test_the_law_is_drawn_and_a_click_on_a_checkpoint_shows_its_numbers(open_page):
    page = open_page("scaling")
    page.get_by_text("ten times the compute lowers the loss by").wait_for()
    page.get_by_text("Click a point for that checkpoint's numbers.").wait_for()
    page.get_by_role("heading", name="What would it take?").wait_for()
    check_headings(page)
    point = page.get_by_test_id("stPlotlyChart").first.locator(".scatterlayer .points path").last
    point.wait_for()
    buttons, legend = (page.locator(f".js-plotly-plot .{part}").first.bounding_box() for part in ("modebar", "legend"))
    assert legend["x"] + legend["width"] <= buttons["x"], "the legend can be read beside the figure's buttons"
    box = point.bounding_box()
    page.mouse.click(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.get_by_text("Checkpoint of").wait_for()
    assert page.locator(".glp-facts dt", has_text="Validation loss").count() == 1


def test_a_link_keeps_the_axes(open_page):
    page = open_page("scaling?scaling_x=activations")
    page.locator(".xtitle", has_text="Activations seen").first.wait_for()
    assert page.get_by_text("ten times the compute").count() == 0


@pytest.mark.nightly
def test_a_link_with_a_prior_steers_with_it(open_page):
    names = [prior.name for prior in priors.listed()]
    assert len(names) >= 2
    texts = []
    for name in names[:2]:
        page = open_page(f"steering?prior={name}&steering_tokens=24&steering_strength=2.0&steering_prompt=The+weather+was")
        page.locator(".st-key-steering_start button").click()
        page.wait_for_selector("[data-run=done]")
        texts.append(page.locator("[data-run] .glp-card[data-arm=walk] .glp-strip").inner_text())
        page.locator(".st-key-steering_more button").first.click()
        assert page.locator(".st-key-prior input").input_value() == name
    assert texts[0] != texts[1]
