"""The Manifold page in a real browser over the demo workspace: a text is measured, a sweep runs, the reports are drawn."""

import pytest

pytestmark = pytest.mark.browser


def test_the_manifold_page_measures_the_example_text(open_page):
    page = open_page("manifold")
    page.locator(".glp-strip").wait_for()
    page.get_by_text("of real ones, where 5% of a real text's do on average").wait_for()
    assert page.locator(".glp-strip span").first.get_attribute("title") == "the first token is never scored"


def test_a_sweep_runs_to_its_end_in_the_chart(open_page):
    page = open_page("manifold?manifold_view=Strength&manifold_prompts=20")
    page.get_by_text("press Run").wait_for()
    page.get_by_role("button", name="Run").click()
    page.get_by_text("projection with the GLP brings the activation nearer on").wait_for()
    assert page.locator(".legendtext", has_text="Paper's projection").count() >= 1


def test_the_map_and_the_detection_table_are_drawn(open_page):
    page = open_page("manifold?manifold_view=Map")
    page.get_by_text("How well a classifier tells them from real ones").wait_for()
    page.get_by_text("What gets detected?").wait_for()
    page.get_by_test_id("stPlotlyChart").first.wait_for()
