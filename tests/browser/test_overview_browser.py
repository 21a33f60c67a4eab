"""The Overview in a real browser: its address, the story's links, and colours that everybody can read."""

import re

import pytest
from playwright.sync_api import expect

from tests.browser.conftest import PATIENCE, check_headings

NUMBERS = re.compile(r"[\d.]+")
STREAMLITS_OPACITY = "0.6"
"""Of captions, before the page's own style is there."""


def luminance(colour):
    """Relative luminance by WCAG 2."""
    channels = [value / 255 for value in colour[:3]]
    linear = [c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(front, back, opacity=1.0):
    """Contrast of a colour on an opaque one, by WCAG 2."""
    alpha = opacity * (front[3] if len(front) > 3 else 1.0)
    mixed = [alpha * f + (1 - alpha) * b for f, b in zip(front[:3], back[:3], strict=True)]
    high, low = sorted((luminance(mixed), luminance(back)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def numbers(words):
    return [float(number) for number in NUMBERS.findall(words)]


def test_the_name_of_the_overview_is_an_address_and_its_story_is_true(open_page):
    page = open_page("overview")
    page.get_by_text("One story in five clicks").wait_for()
    assert page.get_by_text("Page not found").count() == 0
    page.get_by_role("heading").get_by_text("This workspace").first.wait_for()
    check_headings(page)
    page.get_by_role("link", name="4. See the distance").click()
    page.get_by_text("An example is filled in").wait_for()
    assert "manifold_view=Strength" in page.url
    page.go_back()
    page.set_default_timeout(2 * PATIENCE)  # three texts of full length
    page.get_by_role("link", name="2. See it break").click()
    page.wait_for_selector("[data-run=done]")
    line = page.locator(".glp-verdict").inner_text()
    raw, walk = map(int, re.search(r"Raw repeats (\d+)% of its tokens, the walk (\d+)%", line).groups())
    assert raw > walk + 10, line  # one falls apart, the other holds


@pytest.mark.parametrize("dark", [False, True])
def test_captions_and_the_primary_button_can_be_read(open_page, dark):
    page = open_page("manifold", dark=dark)
    caption = page.get_by_test_id("stCaptionContainer").filter(has_text="This judges activations").first
    expect(caption).not_to_have_css("opacity", STREAMLITS_OPACITY)
    back = page.get_by_test_id("stApp").evaluate("node => getComputedStyle(node).backgroundColor")
    opacity = float(caption.evaluate("node => getComputedStyle(node).opacity"))
    front = caption.locator("p").first.evaluate("node => getComputedStyle(node).color")
    assert contrast(numbers(front), numbers(back), opacity) >= 4.5
    page.get_by_role("radio", name="Strength").click()
    button = page.locator(".st-key-manifold_run button:enabled").first
    button.wait_for()
    words = button.locator("p").evaluate("node => getComputedStyle(node).color")
    assert contrast(numbers(words), numbers(button.evaluate("node => getComputedStyle(node).backgroundColor"))) >= 4.5
    page.get_by_role("link", name="Scaling").first.click()
    page.get_by_role("heading", name="Scaling").wait_for()
    page.go_back()  # to an address without parameters, which Streamlit put into the history
    page.wait_for_url("**manifold_view=Strength**")
    assert page.get_by_role("radio", name="Strength").is_checked()
