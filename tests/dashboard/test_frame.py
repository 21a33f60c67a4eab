"""Token strips and escaping: hostile texts against an HTML parser; what a reader sees against what was there."""

import random
import unicodedata
from html.parser import HTMLParser

import pytest
from streamlit.testing.v1 import AppTest

from dashboard.widgets import frame

HOSTILE = [
    "<script>alert(1)</script>",
    '" onmouseover="alert(1)',
    "</span><style>*{display:none}</style>",
    "<img src=http://evil.example/?q=1>",
    "&lt;b&gt;",
    "\x00\x07\x1b[31m",
    "\u202eevil\u202c",
    "\u200b\ufeff\u2028",
    "\ud800",
    "`$x$` :red[y] ![z](http://evil.example)",
    "a\nb\r\nc",
    "\t",
    "é漢😀",
]


class Seen(HTMLParser):
    """Collects tags, attributes and text as a browser would read them."""

    def __init__(self):
        super().__init__(convert_charrefs=True)
        self.tags, self.attributes, self.text = [], [], ""

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs

    def handle_data(self, data):
        self.text += data


def seen(markup):
    parser = Seen()
    parser.feed(markup)
    parser.close()
    return parser


def test_no_token_can_add_a_tag_or_an_attribute():
    strip = frame.token_strip(HOSTILE, [1.0] * len(HOSTILE), scale=(0, 2), titles=HOSTILE)
    read = seen(strip)
    assert set(read.tags) <= {"div", "span", "i", "br"}
    assert {name for name, _ in read.attributes} <= {"class", "style", "title"}
    assert all(value.startswith("background-color:rgba(") for name, value in read.attributes if name == "style")


def test_tokens_made_of_random_characters_stay_inside_their_span():
    draw = random.Random(0)
    alphabet = "<>&\"'`=/ \n\t\x00\u202e\u2066\u200d\u0301abc" + "".join(chr(draw.randrange(0x20, 0x3000)) for _ in range(200))
    for _ in range(300):
        tokens = ["".join(draw.choices(alphabet, k=draw.randrange(8))) for _ in range(5)]
        read = seen(frame.token_strip(tokens, None, scale=(0, 1), titles=tokens))
        assert read.tags.count("span") == 5 and set(read.tags) <= {"div", "span", "i", "br"}
        assert not any(unicodedata.category(c) in ("Cc", "Cf", "Cs") and c != "\n" for c in read.text)


@pytest.mark.parametrize(
    ("token", "shown"),
    [
        ("\x00", "␀"),
        ("\x1b", "␛"),
        ("\x7f", "␡"),
        ("\u202e", "⟨U+202E⟩"),
        ("\ud800", "⟨U+D800⟩"),
        ("a\nb", "a↵b"),
        ("   ", "  ␣"),
    ],
)
def test_what_cannot_be_seen_is_shown_by_a_sign(token, shown):
    assert seen(frame.token_strip([token], None, scale=(0, 1))).text == shown


def test_ordinary_text_reads_as_it_was():
    tokens = ["The", " cat", " é", "漢字", " <b>", "!"]
    assert seen(frame.token_strip(tokens, None, scale=(0, 1))).text == "The cat é漢字 <b>!"


def test_a_strip_can_always_be_sent_to_a_browser():
    frame.token_strip(HOSTILE, None, scale=(0, 1), titles=HOSTILE).encode()


def test_values_are_on_hover_and_in_the_colour_and_nan_has_none():
    strip = frame.token_strip(["a", "b", "c"], [0.0, 3.0, float("nan")], scale=(0, 3))
    titles = [value for name, value in seen(strip).attributes if name == "title"]
    styles = [value for name, value in seen(strip).attributes if name == "style"]
    assert titles[:2] == ["0", "3"]
    assert len(styles) == 2 and styles[0].endswith(",0.000)") and not styles[1].endswith(",0.000)")


def test_signed_values_have_their_own_ends():
    strip = frame.token_strip(["a", "b"], [-2.0, 8.0], scale=(-2, 8), diverging=True)
    blue, orange = [value for name, value in seen(strip).attributes if name == "style"]
    assert blue.split(",")[-1] == orange.split(",")[-1] and blue != orange


@pytest.mark.parametrize("words", HOSTILE)
def test_a_message_is_shown_letter_by_letter(words):
    escaped = frame.plain_markdown(words)
    for mark in "*_`$[]<>!#:|~":
        assert escaped.count(mark) == escaped.count(f"\\{mark}")


def test_facts_are_escaped():
    read = seen(frame.facts([("<i>", "<script>")], title="<b>"))
    assert set(read.tags) == {"strong", "dl", "dt", "dd"} and read.text == "<b><i><script>"


def test_a_command_that_a_box_quotes_is_shown_as_code_and_all_else_letter_by_letter():
    def page():
        from dashboard.widgets import frame

        frame.notice_box("No *index*. Make it with `python -m glp_core index --workspace 'a *b*'`, or ask `<b>`.")

    shown = AppTest.from_function(page).run().warning[0].value
    assert "`python -m glp_core index --workspace 'a *b*'`" in shown
    assert r"No \*index\*\." in shown and r"\`\<b\>\`" in shown
