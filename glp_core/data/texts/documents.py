"""Documents made of a source's texts: a stream in a fixed order that is taken up anywhere, and those that are held out of it.

A folder's files are read in turn, several at a time, a text of each. Empty texts and test rows of the probing tasks are left out; one
text in HELD_OUT_OF, by its digest, is held out, so that a text that is there twice is on one side.
"""

import hashlib
import json
import time
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from glp_core.checked.shapes import Limits, Many, check
from glp_core.data.corpus import HELD_OUT, Document, is_test_row, number_of
from glp_core.data.texts.files import TextFile
from glp_core.data.texts.formats import Rows, rows_of
from glp_core.data.texts.source import OwnTexts
from glp_core.errors import GlpError
from glp_core.files import read_object, write_json
from glp_core.llm.sources import cache_folder

FILES_AT_ONCE = 8
HELD_OUT_OF = 20
"""A multiple of 5, so that texts held out here are none of a probing task's test rows (corpus.split_of)."""
DOCUMENTS_BETWEEN_MARKS = 4096
SECONDS_BETWEEN_SAVES = 10.0
STREAMS = 4
"""Kept open: texts and conversations are read from one corpus at different places."""

State = dict[str, Any]
"""How far the files have been read; JSON."""


def is_held_out(text: str) -> bool:
    """Return whether a text is kept for validation, by its digest alone."""
    return number_of(text) % HELD_OUT_OF == 1


def held_out(source: OwnTexts) -> tuple[Document, ...]:
    """Return the first HELD_OUT distinct documents that no GLP is trained on, fewer where the texts end before.

    Raises:
        GlpError: there is none.
    """
    found: dict[str, Document] = {}
    n = 0
    for n, document in enumerate(Texts(source.files(), source.field), 1):  # noqa: B007 - counted for the message
        if is_held_out(document.text):
            found.setdefault(document.text, document)
        if len(found) == HELD_OUT:
            break
    if not found:
        raise GlpError(
            f"{source.label} has {n:,} texts, and none is held out for validation, which one in {HELD_OUT_OF} is. Give more texts."
        )
    return tuple(found.values())


class TrainingDocuments:
    """The documents of a source that are not held out, by number; reading on is a stream, and going back starts at a mark."""

    def __init__(self, source: OwnTexts) -> None:
        self._files, self._field = source.files(), source.field
        self._marks = _Marks(source, self._files)
        self._streams: dict[int, Iterator[Document]] = {}

    def __getitem__(self, which: slice, /) -> Sequence[Document]:
        """Return documents of a range; fewer where the texts end before."""
        start, stop = which.start or 0, which.stop
        assert start >= 0 and which.step in (None, 1)
        stream = self._stream_at(start)
        documents = list(islice(stream, None if stop is None else max(0, stop - start)))
        self._streams[start + len(documents)] = stream
        while len(self._streams) > STREAMS:
            del self._streams[next(iter(self._streams))]
        return documents

    def _stream_at(self, number: int) -> Iterator[Document]:
        """Return the documents from `number` on: an open stream where one is not beyond and no mark is nearer."""
        marked, state = self._marks.before(number)
        reached = max((place for place in self._streams if marked <= place <= number), default=None)
        stream = self._from(marked, state) if reached is None else self._streams.pop(reached)
        skipped = number - (marked if reached is None else reached)
        next(islice(stream, skipped, skipped), None)
        return stream

    def _from(self, number: int, state: State | None) -> Iterator[Document]:
        texts = Texts(self._files, self._field, state)
        while True:
            if number % DOCUMENTS_BETWEEN_MARKS == 0:
                self._marks.note(number, texts)
            document = next(texts, None)
            if document is None:
                return
            if not is_held_out(document.text) and not is_test_row(document.text):
                number += 1
                yield document


class Texts:
    """The texts of several files in turn, those without a word left out; `state` says how to go on."""

    def __init__(self, files: Sequence[TextFile], field: str, state: State | None = None) -> None:
        self._files, self._field = files, field
        first = min(FILES_AT_ONCE, len(files))
        state = state or {"open": [[number, 0] for number in range(first)], "next": first, "turn": 0}
        self._open = [self._opened(number, place) for number, place in state["open"]]
        self._next, self._turn = state["next"], state["turn"]

    def __iter__(self) -> "Texts":
        return self

    def __next__(self) -> Document:
        while self._open:
            one = self._open[self._turn]
            row = next(one.rows, None)
            if row is None:
                self._close()
                continue
            one.place, text = row
            self._turn = (self._turn + 1) % len(self._open)
            if text is not None and text.strip():
                return Document(text, self._files[one.number].name)
        raise StopIteration

    def state(self) -> State:
        """Return what a stream that goes on here is made with."""
        return {"open": [[one.number, one.place] for one in self._open], "next": self._next, "turn": self._turn}

    def _opened(self, number: int, place: int) -> "_Opened":
        return _Opened(number, place, rows_of(self._files[number], self._field, place))

    def _close(self) -> None:
        """Put the next file in the place of one that has ended, or close its place."""
        if self._next < len(self._files):
            self._open[self._turn] = self._opened(self._next, 0)
            self._next += 1
        else:
            del self._open[self._turn]
            self._turn = self._turn % len(self._open) if self._open else 0


class _Opened:
    """One of the files that are read in turn."""

    def __init__(self, number: int, place: int, rows: Rows) -> None:
        self.number, self.place, self.rows = number, place, rows


class _Marks:
    """States of a source at some of its documents, kept in the cache folder: without them everything before is read again."""

    def __init__(self, source: OwnTexts, files: Sequence[TextFile]) -> None:
        same = [source.to_json(), FILES_AT_ONCE, *((file.name, file.stamp) for file in files)]
        digest = hashlib.sha256(json.dumps(same).encode()).hexdigest()[:16]
        self._path = cache_folder() / "texts" / f"{digest}.json"
        self._states: dict[int, State] = _stored_states(self._path, len(files))
        self._saved = time.monotonic()

    def before(self, number: int) -> tuple[int, State | None]:
        """Return the last marked document that is not beyond `number`, and its state; 0 and None for the start."""
        place = max((marked for marked in self._states if marked <= number), default=0)
        return place, self._states.get(place)

    def note(self, number: int, texts: Texts) -> None:
        """Keep the state before document `number`."""
        if number in self._states or number == 0:
            return
        self._states[number] = texts.state()
        if time.monotonic() - self._saved >= SECONDS_BETWEEN_SAVES:
            write_json(self._path, {str(number): state for number, state in self._states.items()})
            self._saved = time.monotonic()


def _stored_states(path: Path, n_files: int) -> dict[int, State]:
    """Return the marks kept in a file; none where it is not there or damaged, since then all is read again."""
    place, file = Limits(int, 0, 2**62), Limits(int, 0, n_files - 1)
    shape = {"*": {"open": Many((file, place)), "next": Limits(int, 0, n_files), "turn": Limits(int, 0, FILES_AT_ONCE)}}
    try:
        stored = check(read_object(path), shape, str(path))
    except GlpError:
        return {}
    known = {int(number): state for number, state in stored.items() if number.isdecimal() and len(number) < 16}
    return {number: state for number, state in known.items() if state["turn"] < max(1, len(state["open"]))}
