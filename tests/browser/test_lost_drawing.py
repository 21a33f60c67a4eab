"""A browser takes a chart's WebGL context away: the chart is drawn again, and at the second time its points are there as a table."""

import pytest

pytestmark = pytest.mark.nightly

LOSE = """() => {
  const held = [...document.querySelectorAll(".js-plotly-plot canvas")]
    .map((canvas) => canvas.getContext("webgl") || canvas.getContext("webgl2")).filter((gl) => gl && !gl.isContextLost())
  held.forEach((gl) => gl.getExtension("WEBGL_lose_context").loseContext())
  return held.length
}"""
DRAWN = """() => [...document.querySelectorAll(".js-plotly-plot canvas")]
  .some((canvas) => { const gl = canvas.getContext("webgl") || canvas.getContext("webgl2"); return gl && !gl.isContextLost() })"""


def test_a_lost_chart_is_drawn_again_and_then_shown_as_a_table(open_page):
    page = open_page("neurons?view=map")
    page.wait_for_function(DRAWN)
    page.wait_for_timeout(500)
    assert page.evaluate(LOSE)
    page.wait_for_function(DRAWN)
    page.wait_for_timeout(1000)
    assert page.evaluate(LOSE)
    page.get_by_text("The browser has lost this drawing twice").wait_for()
    page.wait_for_selector("[data-testid=stDataFrame]")
    page.get_by_role("button", name="Draw it again").click()
    page.wait_for_function(DRAWN)
    assert page.get_by_text("The browser has lost this drawing twice").count() == 0


LOST_AT_ONCE = """() => {
  const original = HTMLCanvasElement.prototype.getContext
  const given = new Set()
  HTMLCanvasElement.prototype.getContext = function (kind, ...more) {
    const context = original.call(this, kind, ...more)
    if (context && kind.startsWith("webgl") && !given.has(this) && given.size < 3) {
      given.add(this)
      setTimeout(() => context.getExtension("WEBGL_lose_context").loseContext(), 0)
    }
    return context
  }
}"""
"""Takes the first chart's three contexts away as soon as its script is done with them."""


def test_a_chart_that_is_lost_before_anybody_watches_is_drawn_again(open_page):
    page = open_page("scaling")
    page.evaluate(f"({LOST_AT_ONCE})()")
    page.get_by_role("link", name="Meta-neurons").first.click()
    page.get_by_role("radio", name="Map").click()
    page.locator("[class*=_again] .js-plotly-plot").wait_for()
    page.wait_for_function(DRAWN)
    assert page.get_by_text("The browser has lost this drawing twice").count() == 0
