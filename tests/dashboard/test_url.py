"""What links may hold: every parameter's range, and messages that say what was wrong."""

import math
from types import SimpleNamespace

import pytest

from dashboard.widgets import url
from glp_core.errors import GlpError

STRENGTH = url.number("s", "Strength", 1.0, -3, 3)


@pytest.mark.parametrize("good", ["1.5", 1.5, -3, "3", 0])
def test_numbers_in_range_pass_as_numbers(good):
    assert STRENGTH.check(good) == float(good)


@pytest.mark.parametrize("bad", ["nan", math.nan, "inf", -math.inf, "3.01", 7, "", None, "1; drop", [1], "9" * 400])
def test_other_numbers_are_refused_with_what_was_got_and_wanted(bad):
    with pytest.raises(GlpError, match="^Strength is .*, wanted a number from -3 to 3"):
        STRENGTH.check(bad)


def test_long_values_are_shortened_in_messages():
    with pytest.raises(GlpError) as caught:
        STRENGTH.check("9" * 100_000)
    assert len(str(caught.value)) < 200


def test_whole_numbers_must_be_whole():
    tokens = url.whole("t", "Tokens", 64, 1, 256)
    assert tokens.check("64") == 64 and isinstance(tokens.check(64.0), int)
    for bad in ("1.5", "0", "257", "nan", "1e3"):
        with pytest.raises(GlpError, match="Tokens is"):
            tokens.check(bad)


def test_choices_name_what_there_is():
    mode = url.choice("m", "Mode", "chat", ("continue", "chat"))
    assert mode.check("chat") == "chat"
    with pytest.raises(GlpError, match="Mode is 'sing', wanted one of: continue, chat"):
        mode.check("sing")


def test_switches_read_words():
    live = url.switch("l", "Live", False)
    assert live.check("true") is True and live.check(False) is False
    with pytest.raises(GlpError, match="wanted true or false"):
        live.check("perhaps")


def test_texts_are_neither_empty_nor_endless():
    prompt = url.text("p", "Prompt", "a", 10)
    assert prompt.check("  ten chars"[:10]) == "  ten char"
    with pytest.raises(GlpError, match="Prompt is empty"):
        prompt.check(" \n ")
    with pytest.raises(GlpError, match="Prompt has 100,000 characters, wanted at most 10"):
        prompt.check("x" * 100_000)


def test_values_are_checked_together_and_defaults_fill_in():
    other = url.whole("n", "Number", 4, 1, 9)
    assert url.checked([STRENGTH, other], {"s": "2"}) == {"s": 2.0, "n": 4}
    with pytest.raises(GlpError, match="Number is '0'"):
        url.checked([STRENGTH, other], {"s": 1, "n": "0"})


@pytest.mark.parametrize(
    "shown, base, root",
    [
        ("http://localhost:8501/", "", "http://localhost:8501"),
        ("http://localhost:8501/lab?lab_view=Sweep", "", "http://localhost:8501"),
        ("https://box.example/glp/steering/", "glp", "https://box.example/glp"),
        ("https://box.example/of/a/proxy/steering", "", "https://box.example/of/a/proxy"),
        ("https://explorer.lab/", "", "https://explorer.lab"),
        ("https://box.example/interp-lab/", "interp-lab", "https://box.example/interp-lab"),
        ("https://box.example/lab/", "/lab/", "https://box.example/lab"),
        ("https://box.example/lab/lab", "lab", "https://box.example/lab"),
    ],
)
def test_an_address_to_share_begins_as_the_browsers_does(shown, base, root, monkeypatch):
    context = SimpleNamespace(context_info=SimpleNamespace(url=shown))
    monkeypatch.setattr(url, "get_script_run_ctx", lambda: context)
    monkeypatch.setattr(url.st, "get_option", {"server.baseUrlPath": base}.get)
    assert url.address("neurons", {}) == f"{root}/neurons"
    assert url.address("neurons", {"view": "map"}) == f"{root}/neurons?view=map"
