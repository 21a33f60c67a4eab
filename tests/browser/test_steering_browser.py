"""Steering in a real browser against the real demo: run, stop, restore, download, two people at once, a closed tab, dark, narrow."""

import json
import re
import time
import urllib.request
from urllib.parse import urlencode

import pytest

from tests.browser.conftest import check_alone

RUN, STOP = ".st-key-steering_start button", ".st-key-steering_stop button"
TOKENS = ".glp-card[data-arm={}] .glp-strip span[title]"
ARMS = ("unsteered", "raw", "walk")


def path(**values):
    return "steering?" + urlencode({f"steering_{name}": value for name, value in values.items()})


def steer(page, *, wait="[data-run=done]"):
    page.locator(RUN).click()
    page.wait_for_selector(wait)


def texts(page):
    """Return the columns' texts by arm, as a reader sees them."""
    return {arm: page.locator(f"[data-run] .glp-card[data-arm={arm}] .glp-strip").inner_text() for arm in ARMS}


def load(server):
    return json.load(urllib.request.urlopen(f"{server}/api/ready", timeout=10))


def directions(page):
    """Return the names in the direction menu."""
    page.locator(".st-key-steering_direction input").click()
    names = page.locator("[role=option]").all_inner_texts()
    page.keyboard.press("Escape")
    return names


def test_a_run_streams_three_columns_and_can_be_restored_from_its_link_and_downloaded(open_page, tmp_path):
    page = open_page(path(tokens=12, strength=1.5, prompt="The weather was"))
    assert page.locator("[data-testid=stAlert]").inner_text().endswith("Press Run to write the texts.")
    steer(page, wait=TOKENS.format("walk"))  # tokens are there before the run has finished
    page.wait_for_selector("[data-run=done]")
    shown = texts(page)
    assert len(set(shown.values())) == 3 and all(shown.values())
    for arm in ARMS:
        hover = page.locator(TOKENS.format(arm)).first.get_attribute("title")
        assert re.search(r"distance \d", hover) and re.search(r"surprise \d", hover)
    page.wait_for_selector(".js-plotly-plot")

    page.get_by_role("button", name="Download", exact=True).click()
    with page.expect_download() as download:
        page.get_by_role("button", name="JSON", exact=True).click()
    told = json.loads(download.value.path().read_text())
    assert told["finished"] and [column["arm"] for column in told["columns"]] == list(ARMS)
    assert [len(column["tokens"]) for column in told["columns"]] == [12, 12, 12]
    page.keyboard.press("Escape")

    page.get_by_role("button", name="Share", exact=True).click()
    link = page.locator("[data-testid=stPopoverBody] code").inner_text()
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.get_by_test_id("stPopoverBody").get_by_role("button", name="Copy", exact=True).click()
    page.get_by_text("Copied", exact=True).wait_for()
    assert page.evaluate("navigator.clipboard.readText()") == link
    again = open_page(link.split("/", 3)[3])
    again.wait_for_function("document.querySelector('.st-key-steering_prompt textarea')?.value == 'The weather was'")
    again.wait_for_selector("[data-run=done]")  # the texts come back without a press
    assert texts(again) == shown


@pytest.mark.parametrize("stay", ["true", "false"])
def test_a_run_in_whose_midst_the_page_is_loaded_again_is_there(open_page, server, stay):
    page = open_page(path(tokens=256, temperature=0.9, seed=17, stay=stay))
    steer(page, wait=TOKENS.format("walk"))
    page.reload()
    page.wait_for_selector(TOKENS.format("walk"))
    given_up = page.get_by_text("Stopped when you left the page or lost the connection")
    page.locator(STOP).or_(given_up).first.wait_for()
    if stay == "true" or not given_up.count():
        assert load(server)["running"] == 1
        page.locator(STOP).click()
    page.wait_for_selector("[data-run=stopped]")
    assert page.locator(TOKENS.format("walk")).count() < 256


def numbers(page, name):
    """Return one row of every column's numbers, by arm, from the drawn cards."""
    cards = page.locator("[data-run] .glp-card").all()
    rows = {card.get_attribute("data-arm"): card.locator(f"dt:text-is('{name}') + dd").inner_text() for card in cards}
    return {arm: re.search(r"-?[\d.]+%?", words) for arm, words in rows.items()}


def test_the_first_press_shows_the_effect_and_ends_in_a_line_that_its_own_columns_bear_out(open_page):
    page = open_page("steering")  # as a visitor finds it
    steer(page)
    line = page.locator(".glp-verdict").inner_text()
    repeated = {arm: found[0] for arm, found in numbers(page, "repetition").items()}
    concept = {arm: found[0] for arm, found in numbers(page, "concept").items()}
    kept = numbers(page, "kept push")["walk"][0]
    assert (
        f"Raw repeats {repeated['raw']} of its tokens, the walk {repeated['walk']}, unsteered {repeated['unsteered']}." in line
    )
    scores = line.replace(" (a broken text's)", "")
    assert f"raw {concept['raw']}, the walk {concept['walk']}, unsteered {concept['unsteered']}." in scores
    assert f"The walk kept {kept} of the push." in line
    raw, walk = (int(repeated[arm].rstrip("%")) for arm in ("raw", "walk"))
    assert raw >= walk + 10 and float(concept["walk"]) >= float(concept["unsteered"]) + 0.3
    assert "The walk holds where raw breaks" in line
    assert walk < 50 <= raw or float(numbers(page, "log-probability")["raw"][0]) <= -5
    check_alone(page)
    board = page.locator(".glp-board").bounding_box()
    assert board["y"] < 560 and page.locator(".glp-verdict").bounding_box()["y"] > board["y"] + board["height"]


def test_live_writes_without_a_press_and_the_rare_controls_are_one_click_away(open_page):
    page = open_page(path(tokens=8, live="true", prompt="The weather was", strength=0.5))
    page.wait_for_selector("[data-run=done]")
    page.locator(".st-key-steering_more button").first.click()
    page.locator(".st-key-steering_extra input").click()
    page.get_by_role("option", name="paper's projection", exact=True).click()
    page.wait_for_selector("[data-run=done] .glp-card[data-arm=glp] .glp-strip span[title]")
    assert page.locator("[data-run] .glp-card").count() == 4


def test_stop_ends_a_run_at_once_and_keeps_what_was_written(open_page, server):
    page = open_page(path(tokens=256))
    steer(page, wait=TOKENS.format("walk"))
    page.locator(STOP).click()
    page.wait_for_selector("[data-run=stopped]")
    written = page.locator(TOKENS.format("unsteered")).count()
    assert 0 < written < 256
    assert load(server)["running"] == 0
    assert page.locator(STOP).is_disabled()


def test_a_closed_tab_frees_the_device_within_two_seconds(open_page, server):
    page = open_page(path(tokens=256))
    steer(page, wait=TOKENS.format("walk"))
    assert load(server)["running"] == 1
    page.close()
    deadline = time.monotonic() + 2.5  # half a second for the socket to close and for this test to look
    while load(server)["running"]:
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_two_people_at_once_each_get_their_own_solo_result(open_page):
    pages = [open_page(path(tokens=6, strength=1.2)) for _ in range(2)]
    names = directions(pages[0])[:2]
    assert len(names) == 2
    alone = []
    for page, name in zip(pages, names, strict=True):
        page.locator(".st-key-steering_direction input").click()
        page.get_by_role("option", name=name, exact=True).click()
        page.wait_for_timeout(300)  # the page is drawn anew: a direction brings the strength that holds along it
        page.wait_for_selector("[data-test-script-state=notRunning]")
        steer(page)
        alone.append(texts(page))
    assert alone[0]["raw"] != alone[1]["raw"] and alone[0]["unsteered"] == alone[1]["unsteered"]
    for page in pages:
        page.evaluate("document.querySelector('[data-run]').setAttribute('data-run', 'old')")
        page.locator(RUN).click()
    for page, own in zip(pages, alone, strict=True):
        page.wait_for_selector("[data-run=done]")
        assert texts(page) == own


def test_hostile_text_neither_runs_nor_restyles_here_or_in_the_exported_page(open_page, browser, tmp_path):
    attack = "</span><img src=x onerror='window.hacked=1'><style>body{display:none}</style><script>window.hacked=1</script>"
    page = open_page(path(tokens=8, prompt=attack, temperature=2, direction=attack))
    assert "<img src=x" in page.locator("[data-testid=stAlert]").first.inner_text()
    steer(page)
    assert page.evaluate("window.hacked") is None and page.locator(RUN).is_visible()
    page.get_by_role("button", name="Download", exact=True).click()
    with page.expect_download() as download:
        page.get_by_role("button", name="HTML page", exact=True).click()
    download.value.save_as(tmp_path / "page.html")
    alone = page.context.new_page()
    requests = []
    alone.on("request", lambda request: requests.append(request.url))
    alone.goto(f"file://{tmp_path / 'page.html'}")
    assert alone.evaluate("window.hacked") is None and alone.locator(".glp-card").count() == 3
    assert len(requests) == 1  # the file itself: it fetches nothing


def test_text_can_be_read_and_nothing_is_cut_off_at_768_pixels(open_page):
    page = open_page(path(tokens=6), width=768)
    steer(page)
    assert page.evaluate("document.scrollingElement.scrollWidth") <= 768
    for arm in ARMS:
        box = page.locator(f".glp-card[data-arm={arm}]").bounding_box()
        assert box["x"] >= 0 and box["x"] + box["width"] <= 768 and box["width"] >= 180
    background, text = brightness(page)
    assert background > 650 and text < 250
    dark = open_page(path(tokens=6), width=768, dark=True)
    dark.wait_for_selector("[data-run=done]")  # the texts come back without a press
    background, text = brightness(dark)
    assert background < 150 and text > 550


def brightness(page):
    """Return the sums of red, green and blue of the page's background and of its texts."""
    colours = page.evaluate(
        "[getComputedStyle(document.querySelector('.stApp')).backgroundColor,"
        " getComputedStyle(document.querySelector('.glp-strip')).color]"
    )
    return [sum(map(int, re.findall(r"\d+", colour)[:3])) for colour in colours]
