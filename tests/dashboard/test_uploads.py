"""What an upload says of its size before it is made is what its reader takes."""

import ast
from pathlib import Path

import pytest

from tests.support import pages

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize(
    ("page", "query", "name"),
    [
        ("lab", {}, "texts.csv"),
        ("lab", {"lab_from": "file"}, "vector.gguf"),
        ("lab", {"lab_view": "Sweep"}, "prompts.txt"),
        ("scaling", {}, "train.csv"),
    ],
)
def test_a_file_is_refused_for_its_size_just_above_what_its_upload_says(workspace, llm, page, query, name):
    at = pages.open_page(page, **query)
    [upload] = at.file_uploader
    most = upload.proto.max_upload_size_mb << 20
    told = f"wanted at most {most:,} ("
    upload.set_value((name, bytes(most + 1), "text/plain")).run()
    assert any(told in error.value.replace("\\", "") for error in at.error) and not at.exception
    [upload] = at.file_uploader
    upload.set_value((name, bytes(most), "text/plain")).run()
    assert not any(told in error.value.replace("\\", "") for error in at.error) and not at.exception


def test_every_upload_of_the_dashboard_says_its_own_size():
    scripts = [text for path in (ROOT / "dashboard").rglob("*.py") if "file_uploader" in (text := path.read_text())]
    calls = [
        node
        for text in scripts
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "file_uploader"
    ]
    assert len(calls) >= 4 and all("max_upload_size" in [one.arg for one in call.keywords] for call in calls)
