"""The neuron pages in a real browser over the demo workspace; no test depends on particular neurons."""

import contextlib
import re

import pytest
from playwright.sync_api import TimeoutError

from tests.browser.conftest import PATIENCE

HOSTILE = 'A <img src=x onerror="document.title=1"> and </style><b>bold</b> \u202eabc\u202c\u200f **x** $y$ 👩\u200d🚀 end'
TOKEN = "button[data-position='{}']"


def wait_for_neurons(page):
    """Wait until the models have read the text and the neurons are listed."""
    page.locator("button[data-neuron]").first.wait_for()
    page.wait_for_selector("[data-test-script-state=notRunning]")


def shown_text(page):
    """Return the text of the strip of tokens."""
    return "".join(page.locator(".strip button").all_text_contents())


def wait_for_url(page, *parts):
    page.wait_for_url(lambda url: all(re.search(part, url) for part in parts), timeout=PATIENCE)


def unfolded_text(page, number):
    """Unfold a text and return it; again when the page was drawn anew under the click, which folds it."""
    text = page.locator(".glp-texts details[open] p")
    for patience in (3_000, 10_000, PATIENCE):
        page.wait_for_selector("[data-test-script-state=notRunning]")
        page.locator(".glp-texts summary").nth(number).click()
        with contextlib.suppress(TimeoutError):
            return text.inner_text(timeout=patience)
    raise AssertionError("The text stays folded.")


def test_from_a_text_to_a_neuron_its_texts_steering_and_back(open_page):
    page = open_page("neurons")
    wait_for_neurons(page)
    page.locator(TOKEN.format(2)).click()
    wait_for_url(page, "picked=2")
    page.get_by_text(re.compile(r"^1 of \d+ tokens · click")).wait_for()
    wait_for_neurons(page)  # listed anew for the token
    page.locator("button[data-neuron]").nth(1).click()
    wait_for_url(page, r"unit=\d+")
    name = re.search(r"layer=(\d+)&unit=(\d+)", page.url)
    page.locator("strong", has_text=f"L{name[1]} / {name[2]}").first.wait_for()  # the button opens the neuron that is previewed
    wait_for_neurons(page)
    page.get_by_role("button", name="Open neuron").click()
    heading = page.get_by_role("heading", name=f"L{name[1]} / {name[2]}")
    heading.wait_for()
    assert unfolded_text(page, 1).strip()
    page.get_by_role("link", name="Steer to its high side").click()
    page.get_by_role("heading", name="Steering").wait_for()
    page.get_by_text("Write direction of a meta-neuron").wait_for()
    meaning = page.get_by_text("This push: ").inner_text()
    assert 4 < float(re.search(r"([+-][\d.]+) standard deviations", meaning)[1]) < 8
    page.go_back()
    heading.wait_for()
    page.go_back()
    wait_for_neurons(page)
    assert page.locator(TOKEN.format(2)).get_attribute("aria-pressed") == "true"


def test_a_link_restores_text_tokens_and_neuron_and_the_keyboard_reaches_others(open_page):
    page = open_page("neurons?view=text&layer=0&unit=1&picked=1&text=Two+red+apples+fell+down")
    wait_for_neurons(page)
    assert page.get_by_label(re.compile("^Text, up to")).input_value() == "Two red apples fell down"
    assert shown_text(page) == "Two red apples fell down"
    assert page.locator(TOKEN.format(1)).get_attribute("aria-pressed") == "true"
    page.get_by_text("L0 / 1", exact=True).wait_for()
    page.locator(TOKEN.format(0)).focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Enter")
    wait_for_url(page, "picked=1(,|%2C)2")
    page.get_by_text(re.compile(r"^2 of \d+ tokens")).wait_for()
    wait_for_neurons(page)  # listed anew for the token
    layer, number = page.locator("button[data-neuron]").nth(1).get_attribute("data-neuron").split("/")
    page.locator("button[data-neuron]").first.focus()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    wait_for_url(page, rf"layer={layer}&unit={number}\b")


def test_five_megabytes_are_refused_in_words_and_hostile_text_is_shown_as_text(open_page):
    page = open_page("neurons")
    wait_for_neurons(page)
    title = page.title()
    box = page.get_by_label(re.compile("^Text, up to"))
    box.evaluate(
        """(area) => {
            Object.getOwnPropertyDescriptor(HTMLTextAreaElement.prototype, "value").set.call(area, "x".repeat(5000000))
            area.dispatchEvent(new Event("input", {bubbles: true}))
        }"""
    )
    box.press("Control+Enter")
    page.get_by_text("5,000,000 characters").wait_for()
    assert len(page.url) < 5000
    box.fill(HOSTILE)
    box.press("Control+Enter")
    page.locator(".strip", has_text="document.title=1").wait_for()
    wait_for_neurons(page)
    shown = shown_text(page)
    assert 'onerror="document.title=1"' in shown and "</style>" in shown and "⟨U+202E⟩" in shown and "end" in shown
    assert "\u202e" not in shown
    assert page.title() == title
    assert page.locator("[data-testid=stMain] img[src=x]").count() == 0
    page.get_by_role("radio", name="One neuron").click()
    page.get_by_role("heading", name=re.compile(r"^L\d+ . \d+$")).wait_for()
    page.get_by_role("group", name="Your text, read by this neuron").filter(has_text="document.title=1").wait_for()
    assert 'onerror="document.title=1"' in shown_text(page)


def test_a_concept_of_ones_own_is_found_from_the_filled_in_example(open_page):
    page = open_page("concepts?concepts_part=Your+own+concept")
    page.get_by_role("button", name="Find neurons").click()
    wait_for_neurons(page)
    page.get_by_text(re.compile("AUC 0|AUC 1")).first.wait_for()
    assert page.locator("button[data-neuron]").count() == 10


POINTS = """() => {
  const drawn = document.querySelector(".js-plotly-plot"), box = drawn.getBoundingClientRect()
  const { xaxis, yaxis } = drawn._fullLayout, trace = drawn._fullData[0]
  return Array.from(trace.x, (x, i) => ({
    x: box.left + xaxis._offset + xaxis.l2p(x), y: box.top + yaxis._offset + yaxis.l2p(trace.y[i]), name: trace.customdata[i][0],
  }))
}"""
"""The first trace's points on the screen, with the neurons that they stand for."""


def drawn_points(page):
    page.locator(".js-plotly-plot .gl-container canvas").first.wait_for()
    page.wait_for_selector("[data-test-script-state=notRunning]")
    page.locator(".js-plotly-plot").scroll_into_view_if_needed()
    return page.evaluate(POINTS)


@pytest.mark.nightly
def test_a_click_on_the_map_opens_the_neuron_and_a_lasso_lists_its_neurons(open_page):
    page = open_page("neurons?view=map")
    points = drawn_points(page)
    outermost = max(points, key=lambda point: point["x"])  # no other point is likely to lie on it
    page.mouse.move(outermost["x"], outermost["y"])
    page.mouse.click(outermost["x"], outermost["y"])
    wait_for_url(page, "view=unit", "layer=", r"unit=\d+")
    layer, number = re.search(r"layer=(\d+)&unit=(\d+)", page.url).groups()
    near = [p["name"] for p in points if abs(p["x"] - outermost["x"]) < 12 and abs(p["y"] - outermost["y"]) < 12]
    assert f"{layer}/{number}" in near
    page.go_back()
    moved = {point["name"]: point["x"] for point in drawn_points(page)}
    plot = page.locator(".js-plotly-plot .nsewdrag").first.bounding_box()
    page.mouse.move(plot["x"] + 5, plot["y"] + 5)
    page.mouse.down()
    page.mouse.move(plot["x"] + 65, plot["y"] + 5, steps=6)
    page.mouse.up()
    assert all(55 < point["x"] - moved[point["name"]] < 65 for point in drawn_points(page))
    page.locator(".js-plotly-plot").hover()
    page.locator(".modebar-btn[data-title='Lasso Select']").click()
    points = drawn_points(page)
    left, right = (f(point["x"] for point in points) for f in (min, max))
    top, bottom = (f(point["y"] for point in points) for f in (min, max))
    corners = [(left, top), (right, top), (right, bottom), (left, bottom), (left, top)]
    page.mouse.move(*corners[0])
    page.mouse.down()
    for corner in corners[1:]:
        page.mouse.move(*corner, steps=12)
    page.mouse.up()
    page.get_by_text(re.compile(r"neurons in the lasso")).wait_for()
    page.locator("button[data-neuron]").first.click()
    wait_for_url(page, "view=unit", r"unit=\d+")


def chosen_task(page):
    return page.locator(".st-key-concepts_task_box input").input_value()


def click_dot(page, number, title):
    """Click a task's dot until it is the one that is shown: a click while the chart is drawn anew is lost."""
    box = "title => document.querySelector('.st-key-concepts_task_box input').value == title"
    for _ in range(5):
        dot = page.locator(".st-key-concepts_dots .trace").first.locator(".point").nth(number).bounding_box()
        page.mouse.click(dot["x"] + dot["width"] / 2, dot["y"] + dot["height"] / 2)
        with contextlib.suppress(TimeoutError):
            page.wait_for_function(box, arg=title, timeout=8_000)
            return
    raise AssertionError(f"no click chose {title}")


@pytest.mark.nightly
def test_a_click_chooses_a_task_moves_the_line_to_a_token_and_opens_a_listed_neuron(open_page):
    page = open_page("concepts")
    page.get_by_text("Positive:").wait_for()
    page.wait_for_selector("[data-test-script-state=notRunning]")
    page.locator(".st-key-concepts_dots .point").first.wait_for()
    for number in (4, 7):
        title = page.evaluate(f"document.querySelector('.st-key-concepts_dots .js-plotly-plot')._fullData[0].y[{number}]")
        assert title != chosen_task(page)
        click_dot(page, number, title)
    page.get_by_role("radio", name="table").click()
    cells = page.locator(".st-key-concepts_table canvas").first
    cells.wait_for()
    page.wait_for_selector("[data-test-script-state=notRunning]")
    cells.click(position={"x": 200, "y": 35 * 2 + 15}, force=True)  # its scroller lies on it
    page.wait_for_function("title => document.querySelector('.st-key-concepts_task_box input').value != title", arg=title)

    page.get_by_role("link", name="Open the neuron").click()
    page.get_by_text(re.compile(r"^Token \d+ of \d+")).wait_for()
    page.wait_for_selector("[data-test-script-state=notRunning]")
    token = page.locator(TOKEN.format(3))
    token.click()
    page.get_by_text(re.compile(r"^Token 4 of")).wait_for()
    marked = re.compile(rf"^{re.escape(token.text_content().strip())} [+−]")
    page.locator(".st-key-neuron_histogram .annotation-text", has_text=marked).wait_for()
    page.get_by_role("button", name="Star", exact=True).click()
    page.get_by_role("button", name="Unstar").wait_for()
    page.get_by_role("radio", name="Lists").click()
    page.get_by_text("click one to open it").wait_for()
    page.wait_for_selector("[data-test-script-state=notRunning]")
    row = page.locator(".st-key-lists_rows button[data-neuron]").first
    layer, number = row.get_attribute("data-neuron").split("/")
    row.click()
    page.get_by_role("heading", name=f"L{layer} / {number}").wait_for()


def test_a_searched_concept_is_the_one_that_is_shown(open_page):
    page = open_page("concepts")
    page.get_by_text("Positive:").wait_for()
    page.get_by_label("Search the tasks").fill("zzzz")
    page.get_by_label("Search the tasks").press("Enter")
    page.get_by_text("No task matches zzzz").wait_for()
    page.get_by_label("Search the tasks").fill("clickbait")
    page.get_by_label("Search the tasks").press("Enter")
    page.get_by_text("negatives, not positives, are clickbait headlines").wait_for()


def neuron_shown(page, layer, number):
    page.get_by_role("heading", name=f"L{layer} / {number}", exact=True).wait_for()
    page.wait_for_selector("[data-test-script-state=notRunning]")


@pytest.mark.nightly
def test_interesting_neurons_their_neighbours_and_a_comparison_are_a_click_away(open_page):
    page = open_page("neurons?view=unit&layer=0&unit=0")
    neuron_shown(page, 0, 0)
    page.get_by_role("button", name="◀").click()  # before the first is the last
    page.wait_for_url(lambda url: "unit=0" not in url, timeout=PATIENCE)
    page.get_by_role("button", name="▶").click()
    neuron_shown(page, 0, 0)
    page.get_by_role("button", name="▶").click()
    neuron_shown(page, 0, 1)
    page.get_by_role("button", name="Interesting").click()
    listed = page.locator("[data-testid=stPopoverBody] button[data-neuron]")
    layer, number = listed.nth(2).get_attribute("data-neuron").split("/")
    listed.nth(2).click()
    neuron_shown(page, layer, number)
    listed.first.wait_for(state="hidden")  # the list does not cover it

    page.get_by_role("radio", name="Over text").click()
    wait_for_neurons(page)
    page.get_by_role("button", name="Compare with another").click()
    page.get_by_text(f"L{layer}/{number} is kept: now choose another neuron").wait_for()
    other = page.locator("button[data-neuron]").first
    name = other.get_attribute("data-neuron")
    other.click()
    page.get_by_text(f"Colour: L{name} above, L{layer}/{number} below").wait_for()
    page.get_by_role("button", name="End the comparison").click()
    page.get_by_role("button", name="Compare with another").wait_for()
