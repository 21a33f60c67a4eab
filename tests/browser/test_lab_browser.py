"""The Lab in a real browser: a table of 40 texts becomes a direction, which is stacked and pushed at some words of the prompt."""

from urllib.parse import parse_qs, urlsplit

import pytest

from tests.browser.conftest import check_headings, running
from tests.support import pages

TABLE = "text,label\n" + "".join(f"the cat sat on mat {i},animal\nrain fell on the film {i},cinema\n" for i in range(20))


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """Address of a dashboard over a tiny workspace, in which directions can be kept."""
    home = tmp_path_factory.mktemp("home")
    with running("dashboard/server.py", home / "log.txt", pages.make_home(home)) as address:
        yield address


def upload(page, text):
    page.locator("input[type=file]").set_input_files({"name": "texts.csv", "mimeType": "text/csv", "buffer": text.encode()})


def test_a_table_becomes_a_direction_that_is_stacked_and_pushed_at_words_of_the_prompt(open_page):
    page = open_page("lab")
    page.get_by_text("Upload a table instead").click()
    upload(page, "text,label\nhi, there,1\nbye,0\n")
    page.get_by_text("Line 2 has another number of cells").wait_for()
    assert page.get_by_role("button", name="Make it").is_disabled()
    page.get_by_role("button", name="Remove texts.csv").click()
    page.get_by_text("Line 2 has another number of cells").wait_for(state="hidden")
    upload(page, TABLE)
    page.get_by_text("'cinema': 20 texts").click()
    page.get_by_role("button", name="Make it").click()
    page.get_by_text("It tells the texts apart.").wait_for()
    page.get_by_text("Plus means 'cinema': 20 texts").wait_for()
    check_headings(page)
    page.get_by_label("Name", exact=True).fill("Cinema")
    page.get_by_role("button", name="Keep it").click()
    page.get_by_text("Kept as Cinema.").wait_for()

    page = open_page(
        "steering?steering_direction=Cinema&steering_strength=1&steering_tokens=6&steering_prompt=the+cat+sat+on+the+mat"
    )
    page.get_by_role("button", name="Stack", exact=True).click()
    page.get_by_role("combobox", name="Also push along").click()
    page.get_by_role("option", name="upwards").click()
    page.get_by_text("Also upwards +0.5.").wait_for()
    page.keyboard.press("Escape")
    page.get_by_role("button", name="Where", exact=True).click()
    page.get_by_text("words of the prompt", exact=True).click()
    page.get_by_role("textbox", name="Words of the prompt").fill("cat sat")
    page.keyboard.press("Tab")
    page.get_by_text("The push acts on “cat sat” of the prompt.").wait_for()
    page.keyboard.press("Escape")
    page.locator(".st-key-steering_start button").click()
    page.wait_for_selector("[data-run=done]")
    outlined = "".join(page.locator(".glp-prompt .glp-mark").all_inner_texts())
    assert "cat" in outlined and "mat" not in outlined
    assert "+1 cinema, +0.5 up" in page.locator("[data-run] [data-arm=raw] h2").inner_text()
    held = parse_qs(urlsplit(page.url).query)
    assert (held["steering_stack"], held["steering_span"]) == (["up:0.5"], ["cat sat"])


def test_a_shared_link_opens_the_lab_as_it_was(open_page):
    page, box = open_page("lab"), "Texts with the concept, one per line"
    page.get_by_label(box).fill("a cat\na dog")
    page.keyboard.press("Tab")
    page.wait_for_url("**lab_positive=*")
    page.wait_for_selector("[data-test-script-state=notRunning]")
    page.get_by_role("button", name="Share").click()
    link = urlsplit(page.locator("code", has_text="lab?").inner_text())
    assert parse_qs(link.query) == {"lab_positive": ["a cat\na dog"]}, "what is as it is by default is not in it"
    again = open_page(f"{link.path.lstrip('/')}?{link.query}")
    again.wait_for_function("document.querySelector('textarea')")
    assert again.get_by_label(box).input_value() == "a cat\na dog"
