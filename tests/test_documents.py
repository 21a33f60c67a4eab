"""The documents: code in them runs, links in them lead somewhere, the README stays short."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
DOCUMENTS = [ROOT / "README.md", *sorted(ROOT.glob("*/README.md")), ROOT / "assets/demo/NUMBERS.md"]


def blocks(path, language):
    """Return a document's code blocks in a language, with the line that each begins on."""
    text = path.read_text()
    found = re.finditer(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    return [(text[: match.start()].count("\n") + 1, match[1]) for match in found]


def names(path):
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("path", DOCUMENTS, ids=names)
def test_code_in_a_document_runs_from_top_to_bottom(path, monkeypatch):
    monkeypatch.chdir(ROOT)
    space = {"__name__": "document"}
    for line, code in blocks(path, "python"):
        # blank lines first, so that an error names the document's own line
        exec(compile("\n" * line + code, str(path), "exec"), space)


@pytest.mark.parametrize("path", DOCUMENTS, ids=names)
def test_links_between_documents_lead_somewhere(path):
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", path.read_text()):
        assert target.startswith("http") or (path.parent / target).exists(), target


def test_the_readme_can_be_read_in_one_go():
    assert len((ROOT / "README.md").read_bytes()) <= 8 * 1024


def test_code_that_fails_would_be_caught(tmp_path):
    path = tmp_path / "README.md"
    path.write_text("text\n```python\nfrom glp_core import nothing\n```\n```\nnot python\n```\n")
    [(line, code)] = blocks(path, "python")
    assert line == 2
    with pytest.raises(ImportError):
        exec(code, {})
