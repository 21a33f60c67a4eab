"""The documents: code in them runs, links in them lead somewhere, the README stays short."""

import re
import sys
import types
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from tests.support import pages
from tests.test_layers import RANKS

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


@pytest.fixture
def documented_page(monkeypatch, tmp_path):
    """The page of dashboard/README.md: its view as a module, and the script."""
    document = ROOT / "dashboard/README.md"
    [(_, code)] = blocks(document, "python")
    package, view = types.ModuleType("dashboard.norms"), types.ModuleType("dashboard.norms.view")
    exec(compile(code, str(document), "exec"), vars(view))
    package.view = view
    monkeypatch.setitem(sys.modules, "dashboard.norms", package)
    monkeypatch.setitem(sys.modules, "dashboard.norms.view", view)
    llm = pages.use_workspace(monkeypatch, pages.make_workspace(tmp_path / "workspace").folder)
    [(_, script)] = blocks(document, "python page")
    return llm, script


def test_the_page_that_the_dashboards_document_adds_is_drawn(documented_page):
    llm, script = documented_page
    at = AppTest.from_string(script, default_timeout=pages.SECONDS).run()
    assert not at.exception, at.exception
    strip = at.get("html")[-1].value
    assert at.title[0].value == "Norms"
    assert strip.count("<span") == len(llm.encode("Rain fell on the roof all night."))
    at.text_area[0].set_value(" ").run()
    assert "Text is empty" in at.error[0].value.replace("\\", "")


@pytest.mark.parametrize("path", DOCUMENTS, ids=names)
def test_links_between_documents_lead_somewhere(path):
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", path.read_text()):
        assert target.startswith("http") or (path.parent / target).exists(), target


@pytest.mark.parametrize("path", DOCUMENTS, ids=names)
def test_files_that_a_document_names_are_there(path):
    text = path.read_text()
    homes = (ROOT, path.parent, ROOT / "assets/demo")
    for name in re.findall(r"(?:`|pytest )([\w./-]+/[\w.-]*\.?(?:py|md|json)?)(?=[`\s,])", text):
        if not name.startswith(("norms/", "/")) and "/norms" not in name:  # the page that is only an example, and addresses
            assert any((home / name).exists() for home in homes), name


@pytest.mark.parametrize("path", DOCUMENTS, ids=names)
def test_names_that_a_document_looks_for_in_a_file_are_in_it(path):
    for name, word in re.findall(r"`([\w./]+\.py)`, `(\w+)`", path.read_text()):
        [place] = [home / name for home in (ROOT, path.parent) if (home / name).is_file()]
        assert re.search(rf"\b{word}\b", place.read_text()), f"{name} has no {word}"


def test_the_ranks_of_rooms_are_as_the_document_says():
    [line] = re.findall(r"^    (errors .*?)\n\n", (ROOT / "glp_core/README.md").read_text(), re.MULTILINE | re.DOTALL)
    assert [set(re.findall(r"\w+", rank)) for rank in line.split("<")] == list(RANKS["glp_core"][:-1])


def test_the_readme_can_be_read_in_one_go():
    assert len((ROOT / "README.md").read_bytes()) <= 8 * 1024


def test_code_that_fails_would_be_caught(tmp_path):
    path = tmp_path / "README.md"
    path.write_text("text\n```python\nfrom glp_core import nothing\n```\n```\nnot python\n```\n")
    [(line, code)] = blocks(path, "python")
    assert line == 2
    with pytest.raises(ImportError):
        exec(code, {})
