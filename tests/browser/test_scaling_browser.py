"""Scaling and Manifold in a real browser: the law is drawn, the link keeps the axes, a text is measured."""

import pytest

pytestmark = pytest.mark.browser


def test_the_scaling_page_draws_the_law_and_its_link_keeps_the_axes(open_page):
    page = open_page("scaling")
    page.get_by_text("ten times the compute lowers the loss by").wait_for()
    page.get_by_test_id("stPlotlyChart").first.wait_for()
    again = open_page("scaling?scaling_x=activations")
    again.locator(".xtitle", has_text="Activations seen").first.wait_for()
    assert again.get_by_text("ten times the compute").count() == 0


def test_the_manifold_page_measures_the_example_text(open_page):
    page = open_page("manifold")
    page.locator(".glp-strip").wait_for()
    page.get_by_text("of real ones, where 5% of a real text's do on average").wait_for()
    assert page.locator(".glp-strip span").first.get_attribute("title") == "the first token is never scored"
