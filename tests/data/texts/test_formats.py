"""Files of texts: every format gives the same texts, from any place on, and what is broken is named with its line."""

import csv
import gzip
import io
import json
import tracemalloc

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from glp_core import GlpError
from glp_core.data.texts import formats
from glp_core.data.texts.files import LONGEST_LINE, TextFile, suffixes
from glp_core.data.texts.formats import columns_of, rows_of
from glp_core.data.texts.source import OwnTexts

TEXTS = [
    "A plain text.",
    'With "quotes", commas; and\ttabs.',
    "Two\nlines of one text.",
    "Ünïcode 🙂 – and a long dash.",
    "The last one.",
]


def zstd(data):
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, "zstd") as stream:
        stream.write(data)
    return sink.getvalue().to_pybytes()


def as_jsonl(texts):
    return "".join(json.dumps({"id": i, "text": text}) + "\n" for i, text in enumerate(texts)).encode()


def as_csv(texts):
    file = io.StringIO(newline="")
    csv.writer(file).writerows([["id", "text"], *enumerate(texts)])
    return file.getvalue().encode()


def as_parquet(texts, rows=2):
    sink = io.BytesIO()
    pq.write_table(pa.table({"id": range(len(texts)), "text": texts}), sink, row_group_size=rows)
    return sink.getvalue()


def as_txt(texts):
    return "\n\n".join(texts).encode() + b"\n"


FILES = {
    "a.jsonl": as_jsonl(TEXTS),
    "a.jsonl.gz": gzip.compress(as_jsonl(TEXTS)),
    "a.JSONL.zst": zstd(as_jsonl(TEXTS)),
    "a.csv": as_csv(TEXTS),
    "a.csv.zst": zstd(as_csv(TEXTS)),
    "bom.csv": b"\xef\xbb\xbf" + as_csv(TEXTS).replace(b",text", b", text "),
    "a.parquet": as_parquet(TEXTS),
    "a.txt": as_txt(TEXTS),
    "crlf.txt.gz": gzip.compress(as_txt(TEXTS).replace(b"\n\n", b"\r\n \r\n")),
}


@pytest.fixture
def put(tmp_path):
    """Write a file and return it as one of texts."""

    def write(name, data):
        (tmp_path / name).write_bytes(data)
        return OwnTexts(str(tmp_path / name)).files()[0]

    return write


def read(file, place=0):
    return list(rows_of(file, "text", place))


@pytest.mark.parametrize("name", FILES)
def test_every_format_gives_the_same_texts_from_any_place_on(put, name):
    file = put(name, FILES[name])
    rows = read(file)
    assert [text for _, text in rows] == TEXTS
    for number, (place, _) in enumerate(rows, 1):
        assert read(file, place) == rows[number:]


def test_columns_are_named_with_whether_they_hold_texts(put):
    for name in ("a.jsonl", "a.csv", "bom.csv", "a.parquet"):
        assert columns_of(put(name, FILES[name])) == {"id": False, "text": True}, name
    assert columns_of(put("a.txt", FILES["a.txt"])) == {}


def test_plain_text_without_empty_lines_has_a_text_a_line(put):
    assert [text for _, text in read(put("a.txt", b"one\ntwo\r\nthree\n\n\n"))] == ["one", "two", "three"]


def test_a_long_paragraph_is_several_texts(put, monkeypatch):
    monkeypatch.setattr(formats, "LONGEST_PARAGRAPH", 100)
    file = put("a.txt", b"short\n\n" + b"word word word word\n" * 20)
    rows = read(file)
    assert len(rows) == 5 and all(len(text) < 130 for _, text in rows)
    assert read(file, rows[2][0]) == rows[3:]


def test_a_semicolon_or_a_tab_may_stand_between_cells(put):
    for mark in (";", "\t"):
        assert [text for _, text in read(put("a.csv", f"id{mark}text\n1{mark}a, b\n".encode()))] == ["a, b"]


def test_an_empty_cell_or_null_is_no_text(put):
    assert [text for _, text in read(put("a.jsonl", b'{"text": null}\n\n{"text": ""}\n'))] == [None, ""]
    assert [text for _, text in read(put("a.parquet", as_parquet(["a", None, "b"])))] == ["a", None, "b"]


BROKEN = {
    "no object": ("a.jsonl", b'{"text": "a"}\n["a"]\n', "line 2: a JSON list"),
    "no JSON": ("a.jsonl", b'{"text": "a"}\n\n{"text": "b\n', "line 3: no JSON"),
    "no JSON, compressed": ("a.jsonl.gz", gzip.compress(b'{"text": "a"}\n{"text"\n'), "line 2: no JSON"),
    "deep JSON": ("a.jsonl", b'{"text": "a"}\n' + b"[" * 100_000, "line 2: no JSON"),
    "no column": ("a.jsonl", b'{"text": "a"}\n{"txt": "b"}\n', "line 2: no 'text', only 'txt'"),
    "a number": ("a.jsonl", b'{"text": 7}\n', "line 1: 'text' is 7, wanted a text"),
    "cells": ("a.csv", b'text,n\n"two\nlines",1\nhi, there,1\n', "line 4: 3 cells, wanted 2: a text with ','"),
    "quotes": ("a.csv", b'text,n\na,1\n"never closed,2\nb,3\n', "line 3: no row of a CSV"),
    "csv column": ("a.csv", b"txt,n\na,1\n", "no column 'text': it has 'txt', 'n'"),
    "latin-1": ("a.csv", "text\ngut\nnaïve\n".encode("latin-1"), "line 3: not UTF-8"),
    "binary": ("a.txt", b"\x89PNG\r\n\x1a\n\x00\x00", "line 1: not UTF-8"),
    "UTF-16": ("a.txt", "héllo".encode("utf-16-le"), "line 1: a NUL byte"),
    "no zstd": ("a.jsonl.zst", b"not compressed at all", "cannot be read on: ZSTD"),
    "no gzip": ("a.jsonl.gz", b"not compressed at all", "cannot be read on: Not a gzipped file"),
    "cut gzip": ("a.jsonl.gz", gzip.compress(as_jsonl(TEXTS))[:-20], "cannot be read on: Compressed file ended"),
    "cut zstd": ("a.jsonl.zst", zstd(as_jsonl(TEXTS))[:-20], "cannot be read on: Truncated"),
    "no parquet": ("a.parquet", b"PAR1 but not really", "no whole Parquet file"),
    "damaged parquet": ("a.parquet", as_parquet(TEXTS).replace(b"The last one", b"\xff" * 12), "cannot be decoded|row|whole"),
    "parquet column": ("a.parquet", as_parquet([1, 2]), "'text' holds int64, wanted texts"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_what_is_broken_is_named_with_its_file_and_line(put, tmp_path, name):
    file, data, words = BROKEN[name]
    with pytest.raises(GlpError, match=words) as refused:
        read(put(file, data))
    assert str(tmp_path / file) in str(refused.value)


def test_one_endless_line_is_refused_before_it_fills_the_memory(put):
    with pytest.raises(GlpError, match="line of more than 16,777,216 bytes"):
        read(put("a.jsonl", b"[" + b" " * LONGEST_LINE))


def test_a_large_row_group_is_read_in_pieces(put):
    """40 MB of text in one row group."""
    text = "".join(chr(33 + i * i % 90) for i in range(2000))
    file = put("a.parquet", as_parquet([f"{i} {text}" for i in range(20_000)], rows=20_000))
    before = pa.total_allocated_bytes()
    peak = 0
    tracemalloc.start()
    for n, _ in enumerate(rows_of(file, "text"), 1):
        if n % 1000 == 0:
            peak = max(peak, pa.total_allocated_bytes() - before + tracemalloc.get_traced_memory()[1])
    tracemalloc.stop()
    assert n == 20_000 and peak < 15e6


def test_suffixes_are_read_with_their_compression():
    assert suffixes("folder.v2/a.b.JSONL.Gz") == (".jsonl", ".gz")
    assert suffixes("a.parquet") == (".parquet", "") and suffixes("README") == ("", "") and suffixes("gz") == ("", "")


def test_a_file_that_is_gone_is_named(put, tmp_path):
    file = put("a.jsonl", FILES["a.jsonl"])
    (tmp_path / "a.jsonl").unlink()
    with pytest.raises(GlpError, match="a.jsonl is no longer there"):
        read(file)
    assert isinstance(file, TextFile)
