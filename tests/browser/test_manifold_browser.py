"""The Manifold page in a real browser over the demo workspace: a text is measured, a sweep runs, the reports are drawn."""

import pytest

from tests.browser.conftest import check_alone, check_headings

FAR_OUTSIDE = """(() => {
  const { _fullData: traces, _fullLayout: { xaxis, yaxis } } = document.querySelector(".js-plotly-plot")
  const out = ({ range }, value) => value < range[0] || value > range[1]
  return traces.flatMap((trace) => Array.from(trace.x, (x, i) => out(xaxis, x) || out(yaxis, trace.y[i]))).filter(Boolean).length
})()"""
"""How many points the first figure leaves out."""
LAST_POINT = """() => {
  const drawn = document.querySelector(".js-plotly-plot"), box = drawn.getBoundingClientRect()
  const { xaxis, yaxis } = drawn._fullLayout, { x, y } = drawn._fullData.at(-1)
  return [box.left + xaxis._offset + xaxis.l2p(x.at(-1)), box.top + yaxis._offset + yaxis.l2p(y.at(-1))]
}"""
"""Where the last point of the first figure is on the screen."""


def test_the_manifold_page_measures_the_example_text(open_page):
    page = open_page("manifold")
    page.locator(".glp-strip").wait_for()
    page.get_by_text("are farther off than 95% of real ones").wait_for()
    assert page.locator(".glp-strip span").first.get_attribute("title") == "the first token is never scored"


def test_a_sweep_runs_counts_as_a_job_and_can_be_stopped(open_page):
    page = open_page("manifold?manifold_view=Strength&manifold_prompts=100")
    page.get_by_text("press Run").wait_for()
    page.wait_for_selector("[data-test-script-state=notRunning]")
    assert page.locator(".st-key-manifold_stop button").is_disabled()
    check_alone(page, "manifold_view")
    page.locator(".st-key-manifold_run button").click()
    page.locator(".st-key-manifold_stop button:enabled").wait_for()
    page.get_by_test_id("stSidebar").get_by_text("1 running").wait_for()
    page.locator(".st-key-manifold_stop button").click()
    page.locator(".st-key-manifold_run button:enabled").wait_for()
    page.get_by_test_id("stSidebar").get_by_text("free").wait_for()


@pytest.mark.nightly
def test_the_map_has_a_text_of_ones_own_and_a_double_click_shows_the_points_far_outside(open_page):
    page = open_page("manifold?manifold_view=Map&manifold_map_text=true&manifold_text=A%20cat%20on%20a%20mat")
    page.get_by_text("How well can they be told from real activations").wait_for()
    page.get_by_test_id("stPlotlyChart").first.wait_for()
    assert page.get_by_label("Text", exact=True).input_value() == "A cat on a mat"
    page.locator(".legendtext", has_text="your text").wait_for()
    page.wait_for_selector("[data-test-script-state=notRunning]")
    check_alone(page, "manifold_view")
    opened = page.evaluate(FAR_OUTSIDE)
    plot = page.locator(".js-plotly-plot .nsewdrag").first.bounding_box()
    page.mouse.dblclick(plot["x"] + plot["width"] - 15, plot["y"] + 15)
    page.wait_for_function(f"{FAR_OUTSIDE} == 0")
    assert opened > 0
    page.mouse.move(*page.evaluate(LAST_POINT))
    page.locator(".hoverlayer .hovertext", has_text="your text").wait_for()


def test_the_evidence_is_one_question_at_a_time(open_page):
    page = open_page("manifold?manifold_view=Evidence&manifold_evidence=Detection")
    page.get_by_role("heading", name="Which off-manifold activations are detected?").wait_for()
    check_headings(page)
    page.wait_for_selector("[data-test-script-state=notRunning]")
    check_alone(page, "manifold_view")
    page.get_by_role("radio", name="Scorecard").click()
    page.get_by_text("Are its activations like real ones?").wait_for()
    assert page.get_by_text("Which off-manifold activations are detected?").count() == 0
    assert "manifold_evidence=Scorecard" in page.url


def test_what_does_not_fit_in_a_link_is_named_and_leaves_the_address(open_page):
    page = open_page("manifold?manifold_view=Strength&manifold_prompts=1e999&manifold_plane=x")
    page.get_by_text("Prompts is '1e999', wanted a number from 2 to 100").wait_for()
    page.get_by_text("Plane is 'x', wanted one of: PCA, UMAP").wait_for()
    assert page.get_by_label("Prompts", exact=True).input_value() == "50"
    assert "1e999" not in page.url and "manifold_view=Strength" in page.url


@pytest.mark.nightly
def test_a_map_that_was_stopped_stays_so_until_it_is_to_go_on(open_page):
    page = open_page("manifold?manifold_view=Map&manifold_steps=50&manifold_strength=1.75")
    page.get_by_role("button", name="Stop", exact=True).click()
    page.get_by_text("Stopped. Go on, or ask for something else.").wait_for()
    page.wait_for_selector("[data-test-script-state=notRunning]")
    assert page.get_by_text("How well can they be told").count() == 0
    page.get_by_role("button", name="Go on").click()
    page.get_by_text("How well can they be told from real activations").wait_for()
