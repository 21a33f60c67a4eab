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
LARGEST_UPLOAD = 2_000_000
"""Bytes."""
LONGEST_TEXT = 2_000
"""Characters of one text."""
FITS_URL = 3_000
"""Characters of one box of texts up to which the link holds it."""
FEWEST, MOST = 5, 500
"""Texts a class."""
BOXED = ("with the concept", "without it")
"""What the classes of the boxes are called."""


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


def params(positive: str, negative: str, *, prefix: str = "") -> tuple[url.Param, url.Param]:
    """Return the parameters of two boxes with these texts to begin with; their keys begin with `prefix`."""
    return (
        url.text(f"{prefix}positive", "Positive texts", positive, FITS_URL),
        url.text(f"{prefix}negative", "Negative texts", negative, FITS_URL),
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


NO_FILE = TwoClasses([], [])
"""What `upload` returns before there is a file."""


def upload(*, key: str) -> TwoClasses | None:
    """Draw the folded upload of a table; return its texts, NO_FILE without one, and None when it cannot be read, which is said."""
    with st.expander("Upload a table instead (columns text and label; not part of the link)"):
        file = st.file_uploader("Table", FILES, key=f"{key}_csv", label_visibility="collapsed")
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
    if len(data) > LARGEST_UPLOAD:
        raise GlpError(f"The file has {len(data):,} bytes, wanted at most {LARGEST_UPLOAD:,}. Upload fewer texts.")
    return read_labelled_texts(data)
