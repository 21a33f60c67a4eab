"""Two classes of texts that a person gives: two boxes with a text a line, or a table that is uploaded, whose labels are shown."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import streamlit as st

from dashboard.widgets import frame, url
from dashboard.widgets.texts import long_text
from glp_core.errors import GlpError
from glp_core.steering.origins.labelled_texts import LabelledTexts, read_labelled_texts

FILES = ("csv", "tsv", "json", "jsonl")
"""Endings of tables that can be uploaded."""
LARGEST_UPLOAD = 2
"""MB of a table of texts."""
LONGEST_TEXT = 2_000
"""Characters of one text."""
FITS_URL = 3_000
"""Characters of one box of texts up to which the link holds it."""
FEWEST, MOST = 5, 500
"""Texts a class."""
BOXED = ("with the concept", "without it")
"""What the classes of the boxes are called."""

EXAMPLE_POSITIVE = """Whisk the eggs with the sugar until the mixture is pale and thick.
Simmer the sauce over low heat for twenty minutes, stirring often.
Fold the melted butter into the flour and let the dough rest.
Roast the carrots with olive oil, salt and thyme until they are tender.
Chop two onions finely and fry them until golden.
Bake the bread at 220 degrees until the crust is brown.
Drain the pasta, but keep a cup of the starchy water.
Marinate the chicken overnight in yoghurt, garlic and lemon juice.
Sprinkle grated cheese on top and put the dish under the grill.
Bring the stock to a boil and add the lentils and the bay leaf.
Knead the dough for ten minutes on a floured surface.
Beat the cream until it forms soft peaks, then chill it."""
EXAMPLE_NEGATIVE = """The library lends books for four weeks, and returns are free.
My sister plays the cello in a small orchestra.
The new bridge shortened the way to school by ten minutes.
Sales of electric cars rose by a fifth last year.
He painted the fence green and the gate white.
The museum shows photographs from the nineteen fifties.
Our neighbours adopted two grey cats from the shelter.
The river rises in the mountains and flows into a wide lake.
She studied history in Vienna and now teaches at a college.
The company moved its headquarters to a smaller town.
The last bus leaves at eleven from the station square.
He trained for the marathon with a group of friends."""


class TwoClasses(NamedTuple):
    """The texts."""

    positive: list[str]
    negative: list[str]
    labels: tuple[str, str] = BOXED
    """What the classes are called, the positive one first."""
    file: str = ""
    """Name of the table; empty: from the boxes."""

    @property
    def words(self) -> str:
        """How many there are, and where they come from."""
        source = "from the file" if self.file else "from the boxes"
        return f"{len(self.positive)} positive and {len(self.negative)} negative texts {source}"

    def check(self, most: int = MOST) -> None:
        """Raise GlpError unless both classes have enough texts and at most so many, none too long and none in both."""
        for title, texts in (("positive", self.positive), ("negative", self.negative)):
            if not FEWEST <= len(texts) <= most:
                raise GlpError(f"Got {len(texts)} {title} texts, wanted {FEWEST} to {most:,}, one per line.")
            longest = max(map(len, texts))
            if longest > LONGEST_TEXT:
                raise GlpError(f"A {title} text has {longest:,} characters, wanted at most {LONGEST_TEXT:,}. Cut it.")
        both = set(self.positive) & set(self.negative)
        if both:
            raise GlpError(f"{len(both)} texts are in both classes, for example {min(both)[:60]!r}. Take them out of one.")


def params(prefix: str = "") -> tuple[url.Param, url.Param]:
    """Return the parameters of two boxes, which begin with texts on cooking and on other things; their keys begin with `prefix`."""
    return (
        url.text(f"{prefix}positive", "Positive texts", EXAMPLE_POSITIVE, FITS_URL),
        url.text(f"{prefix}negative", "Negative texts", EXAMPLE_NEGATIVE, FITS_URL),
    )


def draw(boxes: Sequence[url.Param], *, key: str, height: int = 190, side_by_side: bool = True) -> TwoClasses | None:
    """Draw the upload and the boxes; return the texts, those of the table where there is one. None: it cannot be read, which is said.

    Args:
        key: what the widgets' keys begin with.
    """
    uploaded = upload(key=key)
    places = st.columns(2) if side_by_side else [st.container(), st.container()]
    written = []
    for place, param, title in zip(places, boxes, ("positive", "negative"), strict=True):
        with place:
            label = f"Texts {'with' if title == 'positive' else 'without'} the concept, one per line"
            written.append(texts_of(long_text.text_area(param, label, key=f"{key}_{title}", height=height)))
    positive, negative = written
    return TwoClasses(positive, negative) if uploaded == NO_FILE else uploaded


def swap_button(boxes: Sequence[url.Param], *, key: str) -> None:
    """Draw the button that makes the positive texts the negative ones."""
    st.button("Swap the boxes", icon=":material/swap_vert:", key=f"{key}_swap", on_click=_swap, args=(boxes, key))


def _swap(boxes: Sequence[url.Param], key: str) -> None:
    """Make the positive texts the negative ones (in a callback)."""
    keys = [f"{key}_positive", f"{key}_negative"]
    words = [long_text.text_of(param, key=box) for param, box in zip(boxes, keys, strict=True)]
    for param, box, text in zip(boxes, keys, reversed(words), strict=True):
        long_text.set_text(param, text, key=box)


NO_FILE = TwoClasses([], [])
"""What `upload` returns before there is a file."""


def upload(*, key: str) -> TwoClasses | None:
    """Draw the folded upload of a table; return its texts, NO_FILE without one, and None when it cannot be read, which is said."""
    with st.expander("Upload a table instead (columns text and label; not part of the link)"):
        file = st.file_uploader("Table", FILES, key=f"{key}_csv", max_upload_size=LARGEST_UPLOAD, label_visibility="collapsed")
        if file is None:
            return NO_FILE
        try:
            texts = texts_of_file(file.getvalue())
        except GlpError as error:
            frame.error_box(error)
            return None
        words = "Label of the texts with the concept"
        words += "" if texts.sure else " (a guess, as the labels do not say: choose)"
        positive = st.radio(words, texts.labels, format_func=_label_words(texts), key=f"{key}_label_{file.file_id}")
        return TwoClasses(*texts.of(positive), texts.named(positive), file.name)


def _label_words(texts: LabelledTexts) -> Callable[[str], str]:
    return lambda label: frame.plain_markdown(texts.in_words(label))


def texts_of(box: str) -> list[str]:
    """Return the texts of a box, one per line, each once."""
    return list(dict.fromkeys(line.strip() for line in box.splitlines() if line.strip()))


def texts_of_file(data: bytes) -> LabelledTexts:
    """Return the texts of an uploaded table; GlpError when it is too large or cannot be read."""
    frame.check_size(len(data), LARGEST_UPLOAD)
    return read_labelled_texts(data)
