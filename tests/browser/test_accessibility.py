"""No serious finding of axe-core on any view, light and dark: names of controls, contrast, roles, order of headings."""

from importlib.resources import files

import pytest

from tests.browser.conftest import PATIENCE

pytestmark = pytest.mark.nightly

VIEWS = {
    "overview": "Readable neurons",
    "steering": "An example is filled in",
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


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("view", VIEWS)
def test_axe_finds_nothing_grave(open_page, view, dark):
    page = open_page(view, dark=dark)
    page.get_by_test_id("models-ready").wait_for(state="attached", timeout=PATIENCE)
    page.get_by_text(VIEWS[view]).first.wait_for()
    page.wait_for_selector("[data-testid=stApp][data-test-script-state=notRunning]")
    page.wait_for_timeout(500)
    assert not findings(page)
