"""What sweeps have written, kept by content: one file a cell, replaced whole as texts come, so that a kill loses no finished one.

A text in a file is one that was written with exactly what the file's name stands for. Plain files: torch is not needed.
"""

import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

from glp_core.errors import GlpError
from glp_core.files import Json, read_object, write_json
from glp_core.steering.sweeps.cells import Cell, Text, cells, key, texts
from glp_core.steering.sweeps.config import SweepConfig

NUMBERS = (
    *("concept", "log_probability", "asked_log_probability", "repetition", "repeated_bigrams"),
    *("distance", "kept_push", "cosine", "correction"),
)


class Entry(NamedTuple):
    """One text, and what was measured on it; nan for what has no value."""

    text: str
    concept: float
    """By the direction's probe."""
    log_probability: float
    """Mean of the tokens under the unsteered model, after the prompt."""
    asked_log_probability: float
    """The same after an instruction that asks for the concept."""
    repetition: float
    repeated_bigrams: float
    distance: float
    kept_push: float
    """Mean share of the push that the projection left."""
    cosine: float
    """Mean, between the push and what the activation moved by."""
    correction: float
    """Mean length of what the projection did at right angles to the push, in median norms."""
    tokens: int
    """That were written, about: those of its stop token are not counted."""

    def to_json(self) -> Json:
        """Return the entry with null for nan."""
        return {
            name: None if isinstance(value, float) and not math.isfinite(value) else value
            for name, value in self._asdict().items()
        }

    @staticmethod
    def from_json(value: object) -> "Entry":
        """Read an entry; raise ValueError when it is none."""
        if not isinstance(value, dict) or not isinstance(value.get("text"), str):
            raise ValueError("no text")
        numbers = {name: math.nan if value.get(name) is None else float(value[name]) for name in NUMBERS}
        return Entry(text=value["text"], tokens=int(value["tokens"]), **numbers)


Entries = dict[str, Entry]
"""By the name of their text."""


class SweepStore:
    """The cells of a folder.

    Cells that were read are remembered as long as their files stay as they are.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._read: dict[str, tuple[int, Entries]] = {}

    def path(self, name: str) -> Path:
        """Return where a cell of that key is kept."""
        return self.folder / "cells" / name[:2] / f"{name}.json"

    def entries(self, name: str) -> Entries:
        """Return what is written of a cell; what is damaged counts as not written."""
        path = self.path(name)
        try:
            written = path.stat().st_mtime_ns
        except OSError:
            return {}
        if name not in self._read or self._read[name][0] != written:
            self._read[name] = written, _entries(path)
        return self._read[name][1]

    def add(self, name: str, about: Json, entries: Mapping[str, Entry]) -> None:
        """Keep texts of a cell beside those that are there."""
        together = self.entries(name) | dict(entries)
        write_json(self.path(name), {"about": about, "texts": {text: one.to_json() for text, one in together.items()}})

    def found(self, config: SweepConfig) -> dict[Cell, dict[Text, Entry]]:
        """Return what is written of a sweep."""
        found = {}
        for cell in cells(config):
            entries = self.entries(key(config, cell))
            found[cell] = {text: entries[text.name] for text in texts(config, cell) if text.name in entries}
        return found

    def missing(self, config: SweepConfig) -> list[tuple[Cell, list[Text]]]:
        """Return what is still to be written, in the order in which to write it."""
        found = self.found(config)
        todo = ((cell, [text for text in texts(config, cell) if text not in found[cell]]) for cell in cells(config))
        return [(cell, left) for cell, left in todo if left]


def written(found: Mapping[Cell, Mapping[Text, Entry]]) -> int:
    """Return how many texts there are."""
    return sum(len(entries) for entries in found.values())


def _entries(path: Path) -> Entries:
    entries: Entries = {}
    try:
        items: Iterable[tuple[str, object]] = dict(read_object(path).get("texts", {})).items()
    except (GlpError, TypeError, ValueError):
        return {}
    for name, value in items:
        try:
            entries[name] = Entry.from_json(value)
        except (KeyError, TypeError, ValueError, OverflowError):
            continue
    return entries
