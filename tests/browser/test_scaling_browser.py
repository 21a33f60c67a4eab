"""Scaling in a real browser: the law is drawn, the link keeps the axes."""

import pytest

pytestmark = pytest.mark.browser


def test_the_scaling_page_draws_the_law_and_its_link_keeps_the_axes(open_page):
    page = open_page("scaling")
    page.get_by_text("ten times the compute lowers the loss by").wait_for()
    page.get_by_test_id("stPlotlyChart").first.wait_for()
    again = open_page("scaling?scaling_x=activations")
    again.locator(".xtitle", has_text="Activations seen").first.wait_for()
    assert again.get_by_text("ten times the compute").count() == 0


def test_a_click_on_a_checkpoint_shows_its_numbers(open_page):
    page = open_page("scaling")
    page.get_by_text("Click a point for that checkpoint's numbers.").wait_for()
    point = page.get_by_test_id("stPlotlyChart").first.locator(".scatterlayer .points path").last
    point.wait_for()
    box = point.bounding_box()
    page.mouse.click(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.get_by_text("Checkpoint of").wait_for()
    assert page.locator(".glp-facts dt", has_text="Validation loss").count() == 1
