"""Every command that the product names, in an error, a docstring or a document, is one that the real parser takes.

Those that pages put together for the workspace that is shown are in dashboard/test_commands.py."""

import ast
import importlib.util
import re
import shlex
from pathlib import Path

import pytest
from torch.distributed import run as launch

from dashboard.system_parts import PARTS
from glp_core.cli.commands import COMMANDS, parse
from glp_core.reports import MADE_BY

ROOT = Path(__file__).resolve().parents[1]
NAMED = re.compile(r"\b(python -m (?:glp_core|dashboard|tests)[\w.]*|torchrun(?= -)|make(?= [a-z]+`))([^`\n|]*)")
STANDS_FOR = "1"
"""What a placeholder is read as: a number, a word and a path."""


def texts(path):
    """Return the texts of a file: all of a document, the strings of a module with their known constants filled in."""
    if path.suffix != ".py":
        return [path.read_text()]
    tree = ast.parse(path.read_text())
    constants = {
        target.id: node.value.value
        for node in tree.body
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    inside = {id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in ast.walk(node)} - {
        id(node) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr)
    }
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            found.append("".join(filled(part, constants) for part in node.values))
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in inside:
            found.append(node.value)
    return found


def filled(part, constants):
    if isinstance(part, ast.Constant):
        return part.value
    return constants.get(getattr(part.value, "id", None), STANDS_FOR)


def commands(text):
    """Return the commands that a text names, each up to the end of its code or line, placeholders filled in."""
    for match in NAMED.finditer(text):
        rest = re.split(r"\s{2,}#|\s-->", match[2])[0]
        yield re.sub(r"<[\w ]+>|\.\.\.|\b[A-Z]{2,}\b", STANDS_FOR, match[1] + rest).strip()


def named():
    files = [
        ROOT / "README.md",
        ROOT / "assets/demo/PROVENANCE.md",
        ROOT / "assets/demo/NUMBERS.md",
        *sorted(ROOT.glob("*/README.md")),
        ROOT / "assets/tour.ipynb",
    ]
    files += [path for top in ("glp_core", "dashboard", "pages") for path in sorted((ROOT / top).rglob("*.py"))]
    seen = {}
    for path in files:
        for text in texts(path):
            for command in commands(text):
                seen.setdefault(command, str(path.relative_to(ROOT)))
    return seen


def refusal(command):
    """Return why a command cannot be run as it stands, or None."""
    words = shlex.split(command)
    if words[0] == "make":
        targets = re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
        return None if words[1] in targets else f"the Makefile has no target {words[1]}"
    if words[0] == "torchrun":
        try:
            launched = launch.get_args_parser().parse_args(words[1:])
        except SystemExit as stop:
            return f"torchrun stops with {stop.code}"
        if not launched.module:
            return "torchrun would look for a file: -m is missing"
        words = ["python", "-m", launched.training_script, *launched.training_script_args]
    module, arguments = words[2], words[3:]
    if importlib.util.find_spec(module) is None:
        return f"there is no module {module}"
    if module == "dashboard.system_parts":
        return None if set(arguments) <= set(PARTS) else f"parts are {', '.join(PARTS)}"
    if module != "glp_core" or not arguments or arguments[0].startswith(STANDS_FOR):  # put together at run time
        return None
    try:
        parse(arguments)
    except SystemExit as stop:
        return f"the parser stops with {stop.code}" if stop.code else None
    return None


@pytest.mark.parametrize(("command", "where"), named().items())
def test_a_command_that_is_named_can_be_given(command, where, capsys):
    why = refusal(command)
    assert why is None, f"{where} names `{command}`: {why}. {capsys.readouterr().err}"


def test_the_commands_that_errors_of_reports_fill_in_are_there():
    assert {*MADE_BY.values(), "steer"} <= COMMANDS.keys()


def test_pages_errors_and_documents_are_all_looked_through():
    found = named()
    assert len(found) > 20
    assert {"README.md", "assets/demo/PROVENANCE.md"} <= set(found.values())
    assert any(where.startswith("dashboard") for where in found.values())


@pytest.mark.parametrize(
    ("text", "command"),
    [
        ("Make it with `python -m glp_core evalute`.", "python -m glp_core evalute"),
        ("python -m glp_core bank --forever", "python -m glp_core bank --forever"),
        ("`python -m glp_core collect --layer twelve`", "python -m glp_core collect --layer twelve"),
        ("`python -m glp_core.umap_process FOLDER`", "python -m glp_core.umap_process 1"),
        ("`make everything`", "make everything"),
        (
            "torchrun --nproc-per-node 2 -m -- glp_core train --n x  # on",
            "torchrun --nproc-per-node 2 -m -- glp_core train --n x",
        ),
        ("`torchrun --nproc-per-node 2 -m glp_core train --run x`", "torchrun --nproc-per-node 2 -m glp_core train --run x"),
        ("`torchrun --nproc-per-node 2 glp_core train`", "torchrun --nproc-per-node 2 glp_core train"),
        ("`python -m dashboard.system_parts firefox`", "python -m dashboard.system_parts firefox"),
    ],
)
def test_a_command_that_does_not_exist_would_be_caught(text, command, capsys):
    assert list(commands(text)) == [command]
    assert refusal(command)
