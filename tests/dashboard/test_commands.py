"""Every command that the dashboard tells a person to type: read by the real parser, and complete for the workspace that is shown."""

import ast
import re
import shlex

import pytest

from dashboard.service import workspace_facts
from dashboard.service.workspace_facts import ROOT
from glp_core.cli.commands import parse

FILES = [path for layer in ("dashboard", "pages") for path in sorted((ROOT / layer).rglob("*.py"))]


def texts(path):
    """Return every string that a file writes, and the words that it passes to `command`."""
    tree = ast.parse(path.read_text())
    constants = {
        target.id: node.value.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant)
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("command")]
    words = [filled(node.args[0], constants) for node in calls]
    return words, [node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)]


def filled(words, constants):
    """Return words as text: a constant by its name, 1 for what is put in at run time."""
    if isinstance(words, ast.Constant):
        return words.value
    if isinstance(words, ast.Name):
        return constants[words.id]
    return "".join(one.value if isinstance(one, ast.Constant) else "1" for one in words.values)


COMMANDS = sorted({words for path in FILES for words in texts(path)[0]})


@pytest.mark.parametrize("words", COMMANDS)
def test_a_command_of_the_pages_is_one_that_the_parser_knows(words, monkeypatch, tmp_path):
    monkeypatch.setenv(workspace_facts.FOLDER_VARIABLE, str(tmp_path / "my workspace"))
    line = shlex.split(workspace_facts.command(words))
    assert line[:3] == ["python", "-m", "glp_core"]
    _, arguments = parse(line[3:])
    assert arguments.workspace == (tmp_path / "my workspace").resolve()


def test_commands_for_the_demo_are_short(monkeypatch):
    monkeypatch.delenv(workspace_facts.FOLDER_VARIABLE, raising=False)
    assert workspace_facts.command("bank --keep") == "python -m glp_core bank --keep"


def test_no_page_writes_a_command_by_hand():
    named = re.compile(r"python -m glp_core \w")
    for path in FILES:
        docstrings = {
            ast.get_docstring(node, clean=False)
            for node in ast.walk(ast.parse(path.read_text()))
            if hasattr(node, "body")
            and isinstance(node.body, list)
            and isinstance(node, ast.Module | ast.FunctionDef | ast.ClassDef)
        }
        written = [text for text in texts(path)[1] if named.search(text) and text not in docstrings]
        assert not written, f"{path}: {written}: use workspace_facts.command"


def test_the_pages_name_some_commands():
    assert {"bank", "index", "probe", "zones"} <= set(COMMANDS)
