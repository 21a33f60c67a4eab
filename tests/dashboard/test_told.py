"""What pages tell of files and commands: complete for the workspace that is shown, and without the server's paths where others look on."""

import html
import re
import shlex
import shutil

import pytest

from dashboard.service import resources, workspace_facts
from dashboard.service.visitors import origin
from dashboard.widgets import url
from glp_core.errors import GlpError
from glp_core.files import read_json, write_json
from glp_core.reports import MADE_BY
from tests.support import pages, run_fakes

COMMAND = re.compile(r"python -m glp_core [a-z][^`\"<\n]*")
VIEWS = [(page, {}) for page in sorted(url.PAGES)]
VIEWS += [("manifold", {"manifold_view": "Strength"}), ("manifold", {"manifold_view": "Map"}), ("lab", {"lab_view": "Sweep"})]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    made = pages.make_workspace(tmp_path / "my models" / "mine").folder
    pages.use_workspace(monkeypatch, made)
    return made


def nothing_made(folder, _monkeypatch):
    for part in ("directions", "reports"):
        shutil.rmtree(folder / part)


def damaged(folder, _monkeypatch):
    for part in ("neurons/index.json", "bank/bank.json", *(f"reports/{name}.json" for name in (*MADE_BY, "steering_up"))):
        (folder / part).parent.mkdir(exist_ok=True)
        (folder / part).write_text("{")
    for part in ("bank/bank.safetensors", "directions/bad.safetensors"):
        (folder / part).write_bytes(b"\x01\0\0\0\0\0\0\x001")
    run_fakes.write_run(folder / "runs", parameters=10**6)
    (folder / "runs" / "run1000000" / "train.csv").write_text("activations\n?\n")


def damaged_solver(folder, _monkeypatch):
    path = folder / "glp" / "config.json"
    write_json(path, read_json(path) | {"fitted_steps": 3})


def no_workspace(folder, _monkeypatch):
    (folder / "workspace.json").write_text("{")


def no_model(folder, monkeypatch):
    """The LLM's own folder, which lies elsewhere, is gone."""

    def gone(_folder):
        raise GlpError(f"There is no model in {folder.parents[1] / 'elsewhere' / 'llm'}.")

    monkeypatch.setattr(resources, "_llm", gone)


def shown(page, query):
    """Return all that a page sends to the browser, escapes undone."""

    def texts(node):
        yield str(getattr(node, "proto", ""))
        for child in getattr(node, "children", {}).values():
            yield from texts(child)

    return html.unescape("\n".join(texts(pages.open_page(page, **query)._tree)).replace("\\", ""))


@pytest.mark.parametrize("trouble", [nothing_made, damaged, damaged_solver, no_workspace, no_model])
def test_commands_are_complete_and_no_path_is_told_where_others_look_on(folder, monkeypatch, tmp_path, trouble):
    trouble(folder, monkeypatch)
    for here, name in ((True, str(folder)), (False, "mine")):
        monkeypatch.setattr(origin, "on_this_machine_only", lambda here=here: here)
        texts = {f"{page} {query}": shown(page, query) for page, query in VIEWS}
        commands = [(view, command) for view, text in texts.items() for command in COMMAND.findall(text)]
        assert commands
        for view, command in commands:
            words = shlex.split(command)
            assert "--workspace" in words and words[words.index("--workspace") + 1] == name, f"{view}: {command}"
        assert here or not [view for view, text in texts.items() if str(tmp_path) in text or "my models" in text]


def test_the_box_of_a_damaged_report_can_be_pasted(folder, local):
    damaged(folder, None)
    boxes = "".join(one.value.replace("\\", "") for one in pages.open_page("steering").warning)
    assert f"Make it again with `python -m glp_core strengths --workspace '{folder}'`." in boxes


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("No space left on device (HERE/runs/a b/train.csv).", "No space left on device (mine/runs/a b/train.csv)."),
        ("It is in HERE, see HERE2/x.", "It is in mine, see mine2/x."),
        ("Run `python -m glp_core bank --workspace 'HERE'`.", "Run `python -m glp_core bank --workspace 'mine'`."),
        ("There is no folder '/srv/other/llm'.", "There is no folder 'llm'."),
        ("org/model@1, 1/2, and/or, https://a.example/b/c, ~/x/y and ../x/y", None),
    ],
)
def test_paths_begin_at_the_workspace_where_others_look_on(folder, monkeypatch, words, told):
    monkeypatch.setattr(origin, "on_this_machine_only", lambda: False)
    assert workspace_facts.told(words.replace("HERE", str(folder))) == (words if told is None else told)


def test_the_demos_commands_and_ones_own_paths_stay_as_they_are(monkeypatch, local):
    words = "/srv/models/x.json is damaged. Make it again with `python -m glp_core bank`."
    monkeypatch.delenv(workspace_facts.FOLDER_VARIABLE, raising=False)
    assert workspace_facts.told(words) == words
