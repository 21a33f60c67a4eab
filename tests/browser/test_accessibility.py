"""No serious finding of axe-core on any view, light and dark: names of controls, contrast, roles, order of headings."""

from importlib.resources import files

import pytest

from tests.browser.conftest import PATIENCE
from tests.browser.test_steering_browser import RUN

pytestmark = pytest.mark.nightly

VIEWS = {
    "overview": "Readable neurons",
    "steering": "Recommended (the line):",
    "neurons": "Layers",
    "neurons?view=unit&layer=1&unit=314": "Most positive",
    "neurons?view=map": "Colour",
    "neurons?view=lists&stars=1/314": "Name of the list",
    "concepts": "What else L",
    "concepts?concepts_part=Your+own+concept": "Find",
    "scaling": "What would it take?",
    "manifold": "Text",
    "manifold?manifold_view=Strength": "Prompts",
    "manifold?manifold_view=Map": "Plane",
    "manifold?manifold_view=Evidence": "At equal fluency",
    "lab": "Direction",
    "lab?lab_view=Sweep": "Strengths",
    "lab?lab_view=Saved+runs": "Run",
    "steering?steering_strength=nan&steering_direction=%3Cscript%3E": "wanted a number from -3 to 3",
}
"""Address of a view to words that are there once it is drawn."""
GRAVE = ("serious", "critical")


def findings(page):
    """Return what axe-core finds grave, a line each."""
    page.evaluate((files("axe_playwright_python") / "axe.min.js").read_text())
    found = page.evaluate("axe.run(document, {resultTypes: ['violations']})")["violations"]
    return [
        f"{one['id']} ({one['impact']}): {node['target']} {node['html'][:160]} {node['failureSummary'][:240]}"
        for one in found
        if one["impact"] in GRAVE
        for node in one["nodes"][:3]
    ]


def drawn(open_page, view, *, dark=False):
    """Return a page that shows a view, once all of it is there."""
    page = open_page(view, dark=dark)
    page.get_by_test_id("models-ready").wait_for(state="attached", timeout=PATIENCE)
    page.get_by_text(VIEWS[view]).first.wait_for()
    page.wait_for_selector("[data-testid=stApp][data-test-script-state=notRunning]")
    page.wait_for_timeout(500)
    return page


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("view", VIEWS)
def test_axe_finds_nothing_grave(open_page, view, dark):
    assert not findings(drawn(open_page, view, dark=dark))


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_axe_finds_nothing_grave_after_a_run_and_in_what_opens(open_page, dark):
    page = drawn(open_page, "steering", dark=dark)
    page.locator(RUN).click()
    page.wait_for_selector("[data-run=done]")
    page.wait_for_selector(".js-plotly-plot")
    page.wait_for_selector("[data-testid=stApp][data-test-script-state=notRunning]")
    assert not findings(page)
    for name in ("Share", "More"):
        page.get_by_role("button", name=name, exact=True).click()
        page.get_by_test_id("stPopoverBody").wait_for()
        page.wait_for_timeout(300)
        assert not findings(page)
        page.keyboard.press("Escape")
