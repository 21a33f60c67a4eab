"""Imports go one way, pages -> dashboard -> glp_core; by reading the code, by importing it, and a test of this test."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
UI = {"streamlit", "plotly", "altair", "pydeck"}
FORBIDDEN = {
    "glp_core": UI | {"dashboard", "pages", "tests"},
    "dashboard": {"pages", "tests"},
    "pages": {"pages", "tests", "glp_core", "torch", "transformers", "safetensors"},
}
ALLOWED_IN_PAGES = {"streamlit", "dashboard"}
ONLY_SHOWS = {"print", "input", "breakpoint"}


def imported(source):
    """Return the top-level package of every import in a file, wherever in it the import stands."""
    names = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add("." if node.level else node.module.split(".")[0])
        elif isinstance(node, ast.Call) and ast.unparse(node.func) in (
            "__import__",
            "import_module",
            "importlib.import_module",
        ):
            first = node.args[0]
            if isinstance(first, ast.Constant):
                names.add(str(first.value).split(".")[0])
    return names


def breaches(layer, source):
    """Return what a file of that layer imports and must not."""
    found = imported(source) & FORBIDDEN[layer]
    if layer == "pages":
        found |= imported(source) - ALLOWED_IN_PAGES - set(sys.stdlib_module_names)
    return found


def files(layer):
    return sorted((ROOT / layer).rglob("*.py"))


@pytest.mark.parametrize("layer", FORBIDDEN)
def test_a_layer_imports_only_what_is_below_it(layer):
    assert files(layer)
    found = {str(path.relative_to(ROOT)): breaches(layer, path.read_text()) for path in files(layer)}
    assert not {path: names for path, names in found.items() if names}


@pytest.mark.parametrize(
    ("layer", "source", "caught"),
    [
        ("glp_core", "import streamlit as st", "streamlit"),
        ("glp_core", "def f():\n    from streamlit.runtime import x", "streamlit"),
        ("glp_core", "from dashboard import charts", "dashboard"),
        ("glp_core", "import importlib\nimportlib.import_module('streamlit.web')", "streamlit"),
        ("glp_core", "__import__('plotly')", "plotly"),
        ("dashboard", "import pages.steering", "pages"),
        ("pages", "import torch", "torch"),
        ("pages", "if 1:\n    import glp_core.flow", "glp_core"),
        ("pages", "import pandas", "pandas"),
        ("pages", "from . import other", "."),
    ],
)
def test_a_breach_would_be_caught(layer, source, caught):
    assert breaches(layer, source) == {caught}


def test_what_is_allowed_passes():
    assert not breaches("pages", "import html\nimport streamlit as st\nfrom dashboard import charts")
    assert not breaches("dashboard", "import streamlit\nimport pandas\nfrom glp_core import GlpError")
    assert not breaches("glp_core", "import torch\nfrom glp_core.errors import GlpError")


def modules(package):
    names = []
    for path in files(package):
        parts = path.relative_to(ROOT).with_suffix("").parts
        names.append(".".join(parts[:-1] if parts[-1] == "__init__" else parts))
    return names


def run(code):
    return subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True).stdout


def test_importing_the_whole_core_brings_no_user_interface_and_shows_nothing():
    lines = "\n".join(f"import {name}" for name in modules("glp_core"))
    loaded = run(f"{lines}\nimport sys\nprint(sorted({UI | {'dashboard', 'pages'}} & set(sys.modules)))")
    assert loaded == "[]\n"


def test_the_subprocess_would_see_a_user_interface():
    assert run("import streamlit, sys; print('streamlit' in sys.modules)") == "True\n"


def test_the_core_prints_nothing():
    for path in files("glp_core"):
        calls = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)]
        assert not ONLY_SHOWS & {ast.unparse(call.func) for call in calls}, path


def test_pages_and_dashboard_never_render_raw_html_of_their_own():
    for path in files("pages") + files("dashboard"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.keyword) and node.arg in ("unsafe_allow_html", "unsafe_allow_javascript"):
                assert ast.unparse(node.value) == "False", f"{path}:{node.value.lineno}"


def test_no_file_is_longer_than_a_reader_can_hold():
    for layer in FORBIDDEN:
        for path in files(layer):
            lines = path.read_text().count("\n")
            assert lines <= 350, f"{path.relative_to(ROOT)} has {lines} lines: split it"


def functions(path):
    return [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.FunctionDef)]


def test_a_function_fits_a_screen():
    for layer in FORBIDDEN:
        for path in files(layer):
            for function in functions(path):
                lines = function.end_lineno - function.lineno + 1
                assert lines <= 75, f"{path.relative_to(ROOT)}: {function.name} has {lines} lines"


def test_every_file_says_what_it_is():
    for layer in FORBIDDEN:
        for path in files(layer):
            if path.read_text().strip():
                assert ast.get_docstring(ast.parse(path.read_text())), path
