"""Read a table of texts with two labels, from anybody's file, and say which label is the positive one or that this is a guess.

Reads CSV with commas, semicolons or tabs, JSON (a list of objects) and JSON lines, in UTF-8 or UTF-16. Commands and pages share it.
"""

import csv
import io
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice

from glp_core.errors import GlpError
from glp_core.files import parse_json
from glp_core.llm.text_stream import encodable

DELIMITERS = (",", ";", "\t")
LONGEST_CELL = 1_000_000
"""Characters; csv's own limit is 131,072."""
PAIRS = (
    *(("1", "0"), ("1", "-1"), ("true", "false"), ("yes", "no"), ("y", "n"), ("t", "f"), ("+", "-"), ("on", "off")),
    *(("positive", "negative"), ("pos", "neg"), ("with", "without"), ("has", "has not"), ("concept", "other")),
)
"""Labels that say themselves which is the positive one, as positive and negative."""

Row = tuple[int, Mapping[str, object]]
"""A row's line in the file, and its cells by column in small letters."""


class MissingColumn(GlpError):
    """A table has not the column that is looked for."""


@dataclass(frozen=True)
class LabelledTexts:
    """Two classes of texts."""

    classes: dict[str, list[str]]
    """The two labels as they stand in the file, the positive one first as far as can be told, to their texts, each once."""
    sure: bool
    """Whether the labels say themselves which is positive; else it is a guess."""

    @property
    def labels(self) -> tuple[str, str]:
        """The label taken as positive, and the other."""
        positive, negative = self.classes
        return positive, negative

    def named(self, positive: str = "") -> tuple[str, str]:
        """Return the labels, the positive one first: `positive`, or the one that is taken for it; GlpError when there is none such."""
        first, second = self.labels
        if positive and positive not in self.classes:
            raise GlpError(f"There is no label {positive!r}: the labels are {first!r} and {second!r}.")
        return (second, first) if positive == second else (first, second)

    def of(self, positive: str = "") -> tuple[list[str], list[str]]:
        """Return the positive and the negative texts, as `named` tells which are which."""
        first, second = self.named(positive)
        return self.classes[first], self.classes[second]

    def in_words(self, label: str) -> str:
        """Return a label with the number of its texts and the first of them."""
        texts = self.classes[label]
        example = texts[0] if len(texts[0]) <= 60 else texts[0][:59] + "…"
        count = "1 text" if len(texts) == 1 else f"{len(texts):,} texts"
        return f"{label!r}: {count}, such as {example!r}"


def read_labelled_texts(data: bytes, *, text: str = "text", label: str = "label") -> LabelledTexts:
    """Read the texts and labels of a table's bytes.

    Args:
        text: name of the column of texts; capitals and spaces around it do not count.
        label: name of the column of labels.
    Raises:
        GlpError: another encoding or format, a column that is missing, a row that does not fit its header (with its line), not exactly
            two labels, or a text that has both.
    """
    text, label = text.strip().lower(), label.strip().lower()
    classes: dict[str, dict[str, int]] = {}
    shown: dict[str, str] = {}
    for line, row in _rows(_decoded(data), (text, label)):
        words, name = _cell(row, text, line), _cell(row, label, line)
        if not words:
            continue
        shown.setdefault(_plain(name), name)
        classes.setdefault(_plain(name), {}).setdefault(words, line)
    if len(classes) != 2:
        names = ", ".join(repr(name) for name in list(shown.values())[:5])
        raise GlpError(
            f"The column {label!r} holds {len(classes)} different label{'s' * (len(classes) != 1)} ({names}), wanted two, for example 1 "
            "and 0."
        )
    _check_disjoint(*classes.values())
    positive, sure = _positive(*classes)
    order = sorted(classes, key=lambda name: name != positive)
    return LabelledTexts({shown[name]: list(classes[name]) for name in order}, sure)


def _decoded(data: bytes) -> str:
    encoding = "utf-16" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError as error:
        raise GlpError(
            f"The file is no text in UTF-8 or UTF-16 ({error.reason} at byte {error.start}). Save it as UTF-8."
        ) from error
    if "\0" in text:
        raise GlpError("The file holds NUL characters, so it is no table of texts. Save it as CSV in UTF-8.")
    return text


def _rows(text: str, columns: Sequence[str]) -> Iterator[Row]:
    start = text.lstrip()[:1]
    if start in ("[", "{"):
        return _json_rows(text, columns)
    return _csv_rows(text, columns)


def _csv_rows(text: str, columns: Sequence[str]) -> Iterator[Row]:
    csv.field_size_limit(LONGEST_CELL)
    header = re.split(r"\r\n|\n|\r", text, maxsplit=1)[0]
    names: list[str] = []
    for delimiter in DELIMITERS:
        names = [name.strip().lower() for name in next(csv.reader([header], delimiter=delimiter), [])]
        if set(columns) <= set(names):
            break
    else:
        found = ", ".join(repr(name[:40]) for name in next(csv.reader([header]), [])[:6])
        raise MissingColumn(
            f"The first line names {'the columns ' + found if found else 'no column'}; wanted {' and '.join(map(repr, columns))}, "
            "separated by commas, semicolons or tabs."
        )
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    try:
        next(reader)
        for cells in reader:
            if cells and len(cells) != len(names):
                raise GlpError(
                    f"Line {reader.line_num} has another number of cells ({len(cells)}) than the first line ({len(names)}). Put quotes "
                    f"around a text that holds {delimiter!r}."
                )
            if cells:
                yield reader.line_num, dict(zip(names, cells, strict=True))
    except csv.Error as error:
        raise GlpError(
            f"Line {reader.line_num} cannot be read as CSV: {error}. Put quotes around texts, and double those in them."
        ) from error


def _json_rows(text: str, columns: Sequence[str]) -> Iterator[Row]:
    for line, value in _json_values(text):
        if not isinstance(value, dict):
            raise GlpError(f"Line {line} holds no JSON object; wanted objects with {' and '.join(map(repr, columns))}.")
        row = {str(name).strip().lower(): cell for name, cell in value.items()}
        missing = [column for column in columns if column not in row]
        if missing:
            raise MissingColumn(f"Line {line} lacks {missing[0]!r}: it has {', '.join(map(repr, list(row)[:6])) or 'nothing'}.")
        yield line, row


def _json_values(text: str) -> Iterator[tuple[int, object]]:
    """Yield the objects of a JSON list, all told as line 1 on, or those of JSON lines with their lines."""
    try:
        if text.lstrip().startswith("["):
            yield from enumerate(parse_json(text), 1)
            return
    except (ValueError, RecursionError) as error:
        raise GlpError(f"The file is no readable JSON: {error}.") from error
    for line, words in enumerate(text.split("\n"), 1):
        if words.strip():
            try:
                value = parse_json(words)
            except (ValueError, RecursionError) as error:
                raise GlpError(f"Line {line} is no readable JSON: {error}.") from error
            yield line, value


def _cell(row: Mapping[str, object], column: str, line: int) -> str:
    value = row[column]
    if isinstance(value, bool):
        return str(value).lower()
    if not isinstance(value, str | int | float):
        raise GlpError(f"Line {line}: {column!r} holds {type(value).__name__}, wanted a text or a number.")
    return encodable(str(value)).strip()


def _plain(label: str) -> str:
    """Return a label as it is compared: 1 and 1.0 are one, and so are TRUE and true."""
    try:
        number = float(label)
    except ValueError:
        return label.casefold()
    return str(int(number)) if number.is_integer() else str(number)


def _positive(first: str, second: str) -> tuple[str, bool]:
    """Return which of two plain labels is the positive one, and whether they say so themselves."""
    for positive, negative in PAIRS:
        if {first, second} == {positive, negative}:
            return positive, True
    return first, False


def _check_disjoint(first: dict[str, int], second: dict[str, int]) -> None:
    both = [words for words in first if words in second]
    if both:
        more = f" and {len(both) - 1:,} more" if len(both) > 1 else ""
        lines = f"lines {first[both[0]]} and {second[both[0]]}"
        raise GlpError(f"Both labels are given to {both[0][:60]!r} ({lines}){more}. Take it out of one class.")


def read_column(data: bytes, names: Sequence[str]) -> list[str]:
    """Return the texts of the first of these columns that a table has, each once; GlpError when it has none of them."""
    text = _decoded(data)
    for name in names:
        rows = _rows(text, (name,))
        try:
            first = [_cell(row, name, line) for line, row in islice(rows, 1)]
        except MissingColumn:
            if name == names[-1]:
                raise
            continue
        cells = [*first, *(_cell(row, name, line) for line, row in rows)]
        return list(dict.fromkeys(cell for cell in cells if cell))
    return []
