"""The texts of one file, one after another from any place on: JSON Lines, CSV, plain text and Parquet; never a whole file in memory.

A place is what a file is read on from: decompressed bytes, in Parquet rows. Knows files and columns; knows nothing of documents.
"""

import csv
import json
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice, zip_longest
from typing import TYPE_CHECKING, Any, BinaryIO

from glp_core.data.texts.files import LONGEST_LINE, TextFile
from glp_core.errors import GlpError

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq

Rows = Iterator[tuple[int, str | None]]
"""The place after each text, and the text; None where a row has none."""
PARQUET_ROWS = 256
"""Decoded at once."""
LONGEST_PARAGRAPH = 20_000
"""Bytes of plain text; a longer one is cut in several texts."""
FIRST_LOOK = 1 << 20
"""Bytes that say whether plain text has empty lines between its texts."""
EMPTY_LINE = re.compile(rb"\S[ \t\r]*\n[ \t\r]*\n\s*\S")
DELIMITERS = ",;\t"
MOST_NAMES, LONGEST_NAME = 10, 40
"""Of columns in a message."""


def rows_of(file: TextFile, field: str, place: int = 0) -> Rows:
    """Yield the texts of a file from `place` on.

    Raises:
        GlpError: the file is damaged, is of another format than its name says, or lacks the column `field`.
    """
    return FORMATS[file.kind](file, field, place)


def columns_of(file: TextFile) -> dict[str, bool]:
    """Return the names of a file's columns, and whether each holds texts, from its first row; plain text has none."""
    if file.kind == ".txt":
        return {}
    if file.kind == ".parquet":
        with file.opened() as stream:
            return {column.name: _is_text(column.type) for column in _parquet(file, stream).schema_arrow}
    if file.kind == ".csv":
        names, delimiter, place = _header(file)
        with file.opened(place) as stream:
            first = next(_CsvRows(file, stream, place, delimiter), [])
        return {name: not _is_number(value) for name, value in zip_longest(names, first[: len(names)], fillvalue="")}
    with file.opened() as stream:
        line = next((line for line in file.lines(stream) if line.strip()), None)
    return {} if line is None else {name: isinstance(value, str) for name, value in _record(file, 0, line).items()}


def _json_rows(file: TextFile, field: str, place: int) -> Rows:
    with file.opened(place) as stream:
        for line in file.lines(stream):
            if line.strip():
                yield place + len(line), _value(file, place, _record(file, place, line), field)
            place += len(line)


def _record(file: TextFile, place: int, line: bytes) -> dict[str, Any]:
    try:
        record = json.loads(line.decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise file.error(place, f"no JSON ({error})") from error
    if not isinstance(record, dict):
        raise file.error(place, f"a JSON {type(record).__name__}, wanted an object a line")
    return record


def _value(file: TextFile, place: int, record: dict[str, Any], field: str) -> str | None:
    if field not in record:
        raise file.error(place, f"no {field!r}, only {listed(record) or 'nothing'}")
    value = record[field]
    if value is not None and not isinstance(value, str):
        raise file.error(place, f"{field!r} is {json.dumps(value)[:40]}, wanted a text")
    return value


def _csv_rows(file: TextFile, field: str, place: int) -> Rows:
    names, delimiter, start = _header(file)
    if field not in names:
        raise _lacks(file, field, names)
    column, place = names.index(field), max(place, start)
    with file.opened(place) as stream:
        rows = _CsvRows(file, stream, place, delimiter)
        for row in rows:
            if row and len(row) != len(names):
                words = f"{len(row)} cells, wanted {len(names)}: a text with {delimiter!r} in it must be in quotes"
                raise file.error(place, words)
            place = rows.place
            if row:
                yield place, row[column]


def _header(file: TextFile) -> tuple[list[str], str, int]:
    """Return a CSV's columns, what stands between its cells, and the place of its first row."""
    with file.opened() as stream:
        line = next(file.lines(stream), b"").decode("utf-8", "replace")
    delimiter = max(DELIMITERS, key=line.count)
    with file.opened() as stream:
        rows = _CsvRows(file, stream, 0, delimiter)
        return [name.strip() for name in next(rows, [])], delimiter, rows.place


class _CsvRows:
    """The rows of a CSV, and the place after the last one that was taken: a row may have several lines."""

    def __init__(self, file: TextFile, stream: BinaryIO, place: int, delimiter: str) -> None:
        csv.field_size_limit(LONGEST_LINE)
        self.file, self.place = file, place
        self._rows = csv.reader(self._lines(stream), delimiter=delimiter, strict=True)

    def __iter__(self) -> "_CsvRows":
        return self

    def __next__(self) -> list[str]:
        start = self.place
        try:
            return next(self._rows)
        except csv.Error as error:
            raise self.file.error(start, f"no row of a CSV ({error})") from error

    def _lines(self, stream: BinaryIO) -> Iterator[str]:
        for line in self.file.lines(stream):
            text = _decoded(self.file, self.place, line)
            self.place += len(line)
            yield text


def _decoded(file: TextFile, place: int, line: bytes) -> str:
    if b"\0" in line:
        raise file.error(place, "a NUL byte: this is no text, or not in UTF-8")
    try:
        return line.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise file.error(place, f"not UTF-8 ({error.reason})") from error


def _plain_rows(file: TextFile, field: str, place: int) -> Rows:
    """Yield paragraphs where the file has empty lines, else lines."""
    with file.opened() as stream:
        paragraphs = EMPTY_LINE.search(stream.read(FIRST_LOOK)) is not None
    with file.opened(place) as stream:
        held: list[str] = []
        start = place
        for line in file.lines(stream):
            text = _decoded(file, place, line)
            place += len(line)
            if text.strip():
                held.append(text)
            if held and (not paragraphs or not text.strip() or place - start > LONGEST_PARAGRAPH):
                yield place, "".join(held).strip()
                held = []
            start = start if held else place
        if held:
            yield place, "".join(held).strip()


def _parquet_rows(file: TextFile, field: str, place: int) -> Rows:
    with file.opened() as stream:
        table = _parquet(file, stream)
        if field not in table.schema_arrow.names:
            raise _lacks(file, field, table.schema_arrow.names)
        if not _is_text(table.schema_arrow.field(field).type):
            raise GlpError(f"{file.path}: the column {field!r} holds {table.schema_arrow.field(field).type}, wanted texts.")
        first = 0
        for group in range(table.num_row_groups):
            after = first + table.metadata.row_group(group).num_rows
            if place < after:
                yield from _group_rows(file, table, group, field, range(first, after), place)
            first = after


def _group_rows(file: TextFile, table: "pq.ParquetFile", group: int, field: str, rows: range, place: int) -> Rows:
    """Yield the texts of a row group, whose rows have the numbers `rows`, from `place` on."""
    first = rows.start
    try:
        for batch in table.iter_batches(PARQUET_ROWS, row_groups=[group], columns=[field], use_threads=False):
            skipped = min(max(0, place - first), len(batch))
            yield from enumerate(batch.column(0).slice(skipped).to_pylist(), first + skipped + 1)
            first += len(batch)
    except (OSError, ValueError) as error:
        raise file.error(first, f"cannot be decoded ({error})", unit="row") from error


def _parquet(file: TextFile, stream: BinaryIO) -> "pq.ParquetFile":
    """Open a Parquet file so that a row group is read in small pieces."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return pq.ParquetFile(stream, buffer_size=FIRST_LOOK, pre_buffer=False)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise GlpError(f"{file.path} is no whole Parquet file: {error}. Copy it again.") from error


def _is_text(kind: "pa.DataType") -> bool:
    import pyarrow as pa

    value = kind.value_type if pa.types.is_dictionary(kind) else kind
    return bool(pa.types.is_string(value) or pa.types.is_large_string(value) or pa.types.is_string_view(value))


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _lacks(file: TextFile, field: str, names: Sequence[str]) -> GlpError:
    return GlpError(f"{file.path} has no column {field!r}: it has {listed(names) or 'none'}.")


def listed(names: Iterable[str]) -> str:
    """Return names for a message: the first of them, none of them long."""
    first = [repr(name[:LONGEST_NAME]) for name in islice(names, MOST_NAMES + 1)]
    return ", ".join([*first[:MOST_NAMES], "…"] if len(first) > MOST_NAMES else first)


FORMATS: dict[str, Callable[[TextFile, str, int], Rows]] = {
    ".jsonl": _json_rows,
    ".csv": _csv_rows,
    ".txt": _plain_rows,
    ".parquet": _parquet_rows,
}
COMPRESSED = (".jsonl", ".csv", ".txt")
"""Of these also with .gz or .zst behind; Parquet compresses by itself."""
