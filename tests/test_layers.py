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


# rooms: who may import whom

RANKS = {
    "glp_core": (
        {"errors"},
        {"files", "jobs", "memory", "progress", "stats", "devices", "speed", "threads", "chat_server"},
        {"checked"},
        {"llm", "prior"},
        {"data", "places", "reports"},
        {"steering", "training", "neuron_index"},
        {"workspace", "workspace_list"},
        {"neurons", "serving"},
        {"evaluation"},
        {"building"},
        {"cli"},
        {"__init__", "__main__"},
    ),
    "dashboard": (
        {"__init__", "system_parts"},
        {"widgets"},
        {"service"},
        {"steering", "neurons", "concepts", "manifold", "scaling", "overview", "lab", "sidebar"},
        {"app"},
        {"server"},
        {"launch"},
    ),
}
"""Rooms and files, lowest first; those of one rank do not import one another."""
MOST_FILES = 14
"""In a folder: what one look takes in."""


def room(path):
    """Return the room of a file given relative to the repository: its folder or, at the top of a layer, its own name."""
    return path.with_suffix("").parts[1]


def imported_modules(source):
    """Return the dotted name of everything that a file imports, wherever in it the import stands."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith("import_module"):
            yield from (arg.value for arg in node.args if isinstance(arg, ast.Constant))


def upward(path, source):
    """Return the rooms that a file imports from its own layer and that are not below its own."""
    layer, own = path.parts[0], room(path)
    ranks = {name: i for i, names in enumerate(RANKS[layer]) for name in names}
    parts = (name.split(".") for name in imported_modules(source))
    others = {name[1] if len(name) > 1 and name[1] in ranks else "__init__" for name in parts if name[0] == layer}
    return {other for other in others - {own} if ranks[other] >= ranks[own]}


@pytest.mark.parametrize("layer", RANKS)
def test_every_room_has_a_rank(layer):
    assert {room(path.relative_to(ROOT)) for path in files(layer)} == set().union(*RANKS[layer])


@pytest.mark.parametrize("layer", RANKS)
def test_a_room_imports_only_rooms_below_it(layer):
    paths = {path.relative_to(ROOT): path.read_text() for path in files(layer)}
    caught = {str(path): upward(path, source) for path, source in paths.items()}
    assert not {path: rooms for path, rooms in caught.items() if rooms}


@pytest.mark.parametrize(
    ("path", "source", "rooms"),
    [
        ("glp_core/llm/hooks.py", "from glp_core.prior.glp import GLP", {"prior"}),
        ("glp_core/prior/glp.py", "def f():\n    import glp_core.workspace", {"workspace"}),
        ("glp_core/stats.py", "from glp_core.files import read_json", {"files"}),
        ("glp_core/training/plan.py", "from glp_core import workspace", {"workspace"}),
        ("glp_core/training/plan.py", "from glp_core import load_glp", {"__init__"}),
        ("glp_core/cli/console.py", "import_module('glp_core.__main__')", {"__main__"}),
        ("dashboard/widgets/svg.py", "from dashboard.service import jobs", {"service"}),
        ("dashboard/steering/panel.py", "from dashboard.neurons import shared", {"neurons"}),
        ("dashboard/steering/panel.py", "from dashboard.service import jobs\nfrom dashboard.steering import run", set()),
        ("glp_core/cli/data/bank.py", "from glp_core.errors import GlpError\nimport torch", set()),
    ],
)
def test_an_import_upward_would_be_caught(path, source, rooms):
    assert upward(Path(path), source) == rooms


def test_no_folder_holds_more_files_than_one_look_takes_in():
    folders = {path.parent for layer in FORBIDDEN for path in files(layer)}
    assert not {str(folder): n for folder in folders if (n := len(list(folder.glob("*.py")))) > MOST_FILES}


# the slim core

BLOCKED = """
import sys
class Block:
    def find_spec(self, name, path=None, target=None):
        parts = name.split(".")
        if parts[0] == "glp_core" and len(parts) > 1 and parts[1] not in ALLOWED:
            raise ImportError(f"{name} is above the slim core")
sys.meta_path.insert(0, Block())
"""
SLIM = {"llm", "prior", "errors", "jobs", "files", "checked", "memory", "progress", "stats", "devices", "speed"}


def slim(code):
    return f"ALLOWED = {SLIM!r}{BLOCKED}\n{code}"


def test_the_slim_core_needs_nothing_above_it():
    names = [name for name in modules("glp_core") if name.startswith(("glp_core.llm", "glp_core.prior"))]
    lines = "\n".join(f"import {name}" for name in names)
    above = "{n for n in sys.modules if n.startswith('glp_core.') and n.split('.')[1] not in ALLOWED}"
    assert len(names) > 10 and run(slim(f"{lines}\nprint({above} or 'slim')")) == "slim\n"


def test_what_is_above_the_slim_core_is_blocked_there():
    code = "try:\n    import glp_core.workspace\nexcept ImportError as error:\n    print(error)"
    assert run(slim(code)) == "glp_core.workspace is above the slim core\n"
