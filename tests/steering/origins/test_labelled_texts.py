"""Tables of labelled texts as people have them: every delimiter, encoding and label, and what is wrong said with its line."""

import io
import json
from argparse import Namespace

import pandas as pd
import pytest

from glp_core.cli.steering.direction import read_table
from glp_core.errors import GlpError
from glp_core.steering.origins.labelled_texts import read_column, read_labelled_texts

FRAME = pd.DataFrame({"Text ": ['good, "very"', "bad; sad", "line\nbreak", "tab\tbed"], " LABEL": [1, 0, 1, 0]})
GOOD, BAD = ['good, "very"', "line\nbreak"], ["bad; sad", "tab\tbed"]


def written(**how):
    stream = io.BytesIO()
    FRAME.to_csv(stream, index=False, **how)
    return stream.getvalue()


@pytest.mark.parametrize(
    "data",
    [
        *(written(sep=sep) for sep in (",", ";", "\t")),
        *(written(encoding=encoding) for encoding in ("utf-8-sig", "utf-16")),
        written(lineterminator="\r\n"),
        FRAME.to_json(orient="records").encode(),
        FRAME.to_json(orient="records", lines=True).encode(),
    ],
)
def test_a_table_is_read_in_whatever_form_pandas_writes_it(data):
    texts = read_labelled_texts(data)
    assert texts.labels == ("1", "0") and texts.sure
    assert texts.of() == (GOOD, BAD) and texts.of("0") == (BAD, GOOD)


@pytest.mark.parametrize(
    ("first", "second", "positive", "sure"),
    [
        ("has not", "has", "has", True),
        ("without", "with", "with", True),
        ("other", "concept", "concept", True),
        ("FALSE", "true", "true", True),
        ("-1", "1.0", "1.0", True),
        ("harmful", "harmless", "harmful", False),
        ("9", "10", "9", False),
        ("zebra", "apple", "zebra", False),
    ],
)
def test_the_positive_label_is_known_or_said_to_be_a_guess(first, second, positive, sure):
    texts = read_labelled_texts(f"text,label\na,{first}\nb,{second}\n".encode())
    assert (texts.labels[0], texts.sure) == (positive, sure)


def test_ones_with_and_without_a_point_are_one_label_and_repeated_texts_count_once():
    texts = read_labelled_texts(b"text,label\na,1\nb,1.0\n a ,1\nc,0\n,0\n")
    assert texts.of() == (["a", "b"], ["c"])


def test_a_line_of_json_ends_where_json_says():
    rows = [{"text": "one\u2028two\x85", "label": 1}, {"text": "three", "label": 0}]
    read = read_labelled_texts("\r\n".join(json.dumps(row, ensure_ascii=False) for row in rows).encode())
    assert read.of() == ([rows[0]["text"].strip()], ["three"])


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"text,label\nhi, there,1\nbye,0\n", r"Line 2 has another number of cells \(3\) than the first line \(2\).*quotes"),
        (b"text,label\na,1\nb\n", r"Line 3 .* cells \(1\)"),
        (b'text,label\n"open,1\nb,0\n', "cannot be read as CSV"),
        (b"a,b\n1,2\n", "columns 'a', 'b'; wanted 'text' and 'label'"),
        (b"", "names no column; wanted"),
        (b"text,label\nx,1\ny,2\nz,3\n", r"3 different labels \('1', '2', '3'\)"),
        (b"text,label\nhi,1\nhi ,0\n", r"Both labels are given to 'hi' \(lines 2 and 3\)\. Take"),
        (b"\xff\xfe\x00", "no text in UTF-8 or UTF-16"),
        (b"text,label\n\x80,1\n", "no text in UTF-8"),
        (b"text,label\n\x00,1\n", "NUL characters"),
        (b'{"text": "a", "label": 1}\n{"text": "b"}\n', "Line 2 lacks 'label': it has 'text'"),
        (b'{"text": "a", "label": 1}\n{"text": ', "Line 2 is no readable JSON"),
        (b'[{"text": ["a"], "label": 1}]', "'text' holds list, wanted a text"),
        (b"[" * 5000, "no readable JSON"),
        (b"[1, 2]", "holds no JSON object"),
    ],
)
def test_what_does_not_fit_is_said_with_its_line(data, words):
    with pytest.raises(GlpError, match=words):
        read_labelled_texts(data)


def test_the_command_asks_which_label_has_the_concept_where_the_labels_do_not_say(tmp_path):
    path = tmp_path / "x.jsonl"
    path.write_text("".join(json.dumps({"t": t, "l": label}) + "\n" for t, label in (("a", "harmful"), ("b", "harmless"))))

    def read(path, positive):
        return read_table(path, Namespace(text="t", label="l", positive=positive))

    with pytest.raises(GlpError, match="'harmful': 1 text, such as 'a'; 'harmless'.*--positive 'harmful'"):
        read(path, "")
    chosen = read(path, "harmless")
    assert (chosen.of("harmless"), chosen.named("harmless")) == ((["b"], ["a"]), ("harmless", "harmful"))
    with pytest.raises(GlpError, match="no label 'x'"):
        read(path, "x")
    with pytest.raises(GlpError, match="x.csv cannot be read: No such file"):
        read(tmp_path / "x.csv", "")


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"prompt,n\nThe cat,1\nA dog, or two,2\n", "Line 3 has another number of cells"),
        (b'{"prompt": "The cat"}\n{"prompt": ["A dog"]}\n', "Line 2: 'prompt' holds list"),
        (b'{"prompt": "The cat"}\n{"text": "A dog"}\n', "Line 2 lacks 'prompt'"),
        (b"body\nThe cat\n", "wanted 'text'"),
    ],
)
def test_of_a_column_that_is_there_the_row_that_is_wrong_is_named(data, words):
    with pytest.raises(GlpError, match=words):
        read_column(data, ("prompt", "text"))


def test_the_first_of_two_columns_that_a_table_has_is_read():
    assert read_column(b"text,prompt\nno,The cat\nno,A dog\nno,The cat\n", ("prompt", "text")) == ["The cat", "A dog"]
    assert read_column(b'[{"text": "The cat"}, {"text": ""}]', ("prompt", "text")) == ["The cat"]
    assert read_column(b"[]", ("prompt", "text")) == []
