"""Commands that messages name are for the workspace that is worked on: pasted as they are, they never go to the demo by mistake."""

from argparse import Namespace

import pytest

from glp_core.__main__ import main
from glp_core.cli.commands import for_workspace
from glp_core.cli.console import say, working_on
from glp_core.workspace import DEMO
from tests.support import pages


@pytest.mark.parametrize(
    ("words", "completed"),
    [
        ("Make it with `python -m glp_core bank`.", "Make it with `python -m glp_core bank --workspace 'my ws'`."),
        (
            "`python -m glp_core direction t.csv --name N` or `python -m glp_core index`",
            "`python -m glp_core direction t.csv --name N --workspace 'my ws'` or `python -m glp_core index --workspace 'my ws'`",
        ),
        ("Run python -m glp_core tune-walk, then `x`.", "Run python -m glp_core tune-walk --workspace 'my ws', then `x`."),
        (
            "python -m glp_core bank\npython -m glp_core map",
            "python -m glp_core bank --workspace 'my ws'\npython -m glp_core map --workspace 'my ws'",
        ),
    ],
)
def test_a_command_in_a_message_names_the_workspace(words, completed):
    assert for_workspace(words, "my ws") == completed
    assert for_workspace(completed, "other") == completed


@pytest.mark.parametrize(
    "words",
    [
        "`python -m glp_core collect --help` says how",
        "`python -m glp_core blend a b`",
        "`python -m glp_core nothing`",
        "`python -m glp_core.neurons.umap_child FOLDER`",
        "python -m glp_core <command>",
        "`make bench`",
    ],
)
def test_what_needs_no_workspace_or_is_no_command_stays(words):
    assert for_workspace(words, "my") == words


def test_an_error_of_a_command_names_its_workspace_in_the_command_that_helps(tmp_path, capsys, monkeypatch):
    pages.make_workspace(tmp_path / "mine")
    monkeypatch.chdir(tmp_path)
    assert main(["pareto", "--workspace", "mine"]) == 1
    assert capsys.readouterr().err == (
        "There are no steering reports. Make them with `python -m glp_core steer --workspace mine`.\n"
    )


@pytest.mark.parametrize("args", [Namespace(), Namespace(workspace=DEMO)])
def test_lines_about_the_demo_stay(args, capsys):
    with working_on(args):
        say("`python -m glp_core sae` trains one.")
    assert capsys.readouterr().err == "`python -m glp_core sae` trains one.\n"
