"""The Overview through the app's entry: one story in five clicks, and neurons that a person can read."""

from types import SimpleNamespace
from urllib.parse import parse_qs

import pytest
from streamlit.testing.v1 import AppTest

from dashboard.overview import ways
from dashboard.service import machine, neurons, resources, workspace_facts
from glp_core.errors import GlpError
from glp_core.neuron_index.neuron_data import ReadableSide, SideEvidence
from tests.support import pages


@pytest.fixture
def workspace(tmp_path, monkeypatch):
    workspace = pages.make_workspace(tmp_path / "workspace")
    pages.use_workspace(monkeypatch, workspace.folder)
    return workspace


def links(at):
    """Return every link of the page: label, page and query."""
    protos = [one.proto for one in at.get("page_link")]
    return [(one.label, one.page, parse_qs(one.query_string)) for one in protos]


def open_overview():
    at = AppTest.from_file(pages.ENTRY, default_timeout=pages.SECONDS).run()
    assert not at.exception, at.exception
    return at


def probed(task, auc, layer, unit):
    """Return a task's row of a probing report."""
    best = {"auc": auc, "ci": [0.5, 1.0], "validation_auc": auc, "sign": 1, "layer": layer, "unit": unit}
    counts = dict.fromkeys(("n_train", "n_validation", "n_test"), 8) | {"positive_share": 0.5}
    return {"task": task, "asks": "Is it?", "glp": best, "examples": {"positive": [], "negative": []}} | counts


def test_the_story_has_five_steps_whose_links_open_the_pages_in_their_state(workspace):
    rows = [probed("5_athlete", 0.99, 0, 1), probed("92_glue_sst2", 0.7, 1, 9), probed("113_movie_sent", 0.8, 1, 7)]
    means = {"mean_auc": {"glp": 0.9, "mlp": 0.8}, "ci": {"glp": [0.8, 1.0], "mlp": [0.7, 0.9]}, "best_baseline": "mlp"}
    differences = {"paired_difference": 0.1, "paired_difference_ci": [0.0, 0.2]}
    workspace.save_report("probing", {"rows": rows, "n_tasks": 2} | means | differences)
    assert ways.story()[2].query == {"view": "unit", "layer": "0", "unit": "1"}, "no story was measured: the best"
    press = {"prompt": "A", "direction": "positive-sentiment", "strength": 1.0, "seed": 7}
    workspace.save_report("first_press", press | {"settings": {"tokens": 64, "temperature": 0.0}})
    steps = [link for link in links(open_overview()) if link[0][2:3].isdigit()]
    assert [label[2] for label, _, _ in steps] == list("12345")
    assert [page for _, page, _ in steps] == ["steering", "steering", "neurons", "manifold", "scaling"]
    assert steps[1][2] == {}  # no second example was found
    assert steps[2][2] == {"view": ["unit"], "layer": ["1"], "unit": ["7"]}
    assert steps[3][2] == {"manifold_view": ["Strength"]}


def test_the_second_step_is_the_second_example_that_was_found_to_break_the_raw_text_alone(workspace, monkeypatch):
    monkeypatch.setattr(workspace_facts, "directions", lambda: [SimpleNamespace(name="joy", title="Joy")])
    columns = {"raw": {"repetition": 0.9}, "walk": {"repetition": 0.2}}
    second = {"prompt": "A & b", "direction": "joy", "strength": 1.2, "seed": 7, "columns": columns}
    first = {"prompt": "A", "direction": "joy", "strength": 1.0, "seed": 7, "settings": {"tokens": 64, "temperature": 0.0}}
    workspace.save_report("first_press", first | {"second": second})
    step = ways.story()[1]
    expected = {"prompt": "A & b", "direction": "Joy", "strength": "1.2", "seed": "7", "tokens": "64", "live": "true"}
    assert step.query == {f"steering_{key}": value for key, value in expected.items()}
    assert "falls apart (90% of its tokens repeated)" in step.words and "holds (20%)" in step.words
    for other in (None, second | {"direction": "gone"}, {"strength": []}):
        workspace.save_report("first_press", first | {"second": other})
        assert ways.story()[1].query == {}


def test_without_a_probing_report_the_story_leads_to_the_list_of_neurons(workspace):
    step = ways.story()[2]
    assert (step.page, step.query) == ("neurons", {})


def test_readable_neurons_are_listed_before_the_models_are_there_with_how_true_their_descriptions_are(workspace, monkeypatch):
    evidence = SideEvidence("fires on <b>tea</b>", ["tea"], 0.9, 0.5, 40, 80)
    index = SimpleNamespace(most_readable=lambda _n: [ReadableSide(1, 3, "low", evidence)])
    monkeypatch.setattr(resources, "warm_up", lambda: SimpleNamespace(live=True, state="running", error=None, events=[]))
    monkeypatch.setattr(neurons, "index", lambda: index)
    at = open_overview()
    label, page, query = links(at)[-1]
    assert "L1/3" in label and "\\<b\\>tea" in label and page == "neurons"
    assert query == {"view": ["unit"], "layer": ["1"], "unit": ["3"]}
    assert "turns strongly negative" in label and at.caption[-1].value == "right 90% of 40 tokens · found 50% of 80"


def test_without_an_index_no_readable_neurons_are_promised(workspace, monkeypatch):
    def missing():
        raise GlpError("none")

    monkeypatch.setattr(neurons, "index", missing)
    assert not any("Readable" in header.value for header in open_overview().header)


@pytest.mark.parametrize("words", ["shared: other programs take 40% of its 2 cores", ""])
def test_the_sidebar_says_so_while_the_machine_is_shared(workspace, monkeypatch, words):
    monkeypatch.setattr(machine, "words", lambda: words)
    assert resources.warm_up().wait(30)
    [shown] = [one.value for one in open_overview().sidebar.get("html") if "Device" in one.value]
    assert ("Machine" in shown) == bool(words) and words in shown
