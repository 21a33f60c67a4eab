"""The Lab page through the app's entry, with a tiny real model: a direction made, its evidence, kept, renamed, deleted and brought back."""

from urllib.parse import parse_qs, urlsplit

import numpy as np
import pytest
import torch

from dashboard.lab import evidence
from dashboard.lab.evidence import scores_figure
from dashboard.service import results
from dashboard.service.visitors import origin
from glp_core.llm.site import Site
from glp_core.stats import Interval
from glp_core.steering.origins.evidence import Evidence
from glp_core.steering.origins.foreign import write_control_vector
from glp_core.steering.origins.from_texts import direction_of_texts
from tests.support import pages

CATS = [f"the cat sat on mat {i}" for i in range(20)]
FILMS = [f"rain fell on the film {i}" for i in range(20)]
TABLE = "text,label\n" + "".join(f"{cat},animal\n{film},cinema\n" for cat, film in zip(CATS, FILMS, strict=True))


@pytest.fixture(autouse=True)
def fresh(monkeypatch):
    monkeypatch.setattr(origin, "on_this_machine_only", lambda: True)
    results.small_results.clear()


def said(at):
    kinds = ("markdown", "caption", "info", "success", "warning", "error")
    return "\n".join(str(element.value) for kind in kinds for element in at.get(kind)).replace("\\", "")


def test_the_lab_lists_the_directions_with_their_evidence(workspace, llm):
    table = pages.open_page("lab").dataframe[0].value
    assert list(table["Direction"]) == ["positive sentiment", "upwards"]
    assert list(table["AUROC"]) == [0.7, 0.6] and list(table["How it was made"]) == ["drawn, positive", "drawn, up"]


def test_a_table_becomes_a_direction_with_evidence_which_is_kept_and_steered_along(workspace, llm):
    at = pages.open_page("lab")
    at.file_uploader[0].set_value(("my texts.csv", TABLE.encode(), "text/csv")).run()
    assert "a guess" in at.radio[0].label
    assert "'animal': 20 texts, such as 'the cat sat on mat 0'" in at.radio[0].options[0].replace("\\", "")
    at.radio[0].set_value("cinema").run()
    at.button("lab_make").click().run()
    assert (
        not at.exception
        and "It tells the texts apart" in said(at)
        and "on 40 texts, each left out of what it tests" in said(at)
    )
    assert "Plus means 'cinema': 20 texts, such as 'rain fell" in said(at)
    at.text_input(key="lab_title").set_value("Upwards").run()
    at.button("lab_keep").click().run()
    assert "There is a direction 'Upwards' already" in said(at)
    at.text_input(key="lab_title").set_value("Cinema & rain").run()
    at.button("lab_keep").click().run()
    assert not at.exception and "Kept as Cinema & rain" in said(at)
    stored = workspace.direction("cinema-rain")
    wanted = direction_of_texts(Site(llm, 2, 5.0), FILMS, CATS).direction
    torch.testing.assert_close(stored.vector, wanted.vector, atol=1e-4, rtol=1e-3)
    assert stored.about["file"] == "my texts.csv" and stored.about["made_by"]["date"]
    steering = pages.open_page("steering", steering_direction="Cinema & rain")
    assert steering.selectbox(key="steering_direction").value == "Cinema & rain"
    assert any("AUROC 1.00, 95% interval" in caption.value for caption in steering.caption)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ("text,label\nhi, there,1\nbye,0\n", "Line 2 has another number of cells"),
        ("words,label\na,1\n", "The first line names the columns 'words', 'label'"),
        ("text,label\na,1\nb,2\nc,3\n", "3 different labels"),
        ("text,label\na,1\nb,0\n", "Got 1 positive texts, wanted 5 to 2,000"),
        ("text,label\na,1\na,0\n", "Both labels are given to 'a'"),
    ],
)
def test_a_bad_table_is_told_what_is_wrong_and_makes_nothing(workspace, llm, data, words):
    at = pages.open_page("lab")
    at.file_uploader[0].set_value(("x.csv", data.encode(), "text/csv")).run()
    assert words in said(at) and at.button("lab_make").disabled and not at.exception


def test_swapping_the_boxes_turns_the_direction_round(workspace, llm):
    at = pages.open_page(
        "lab", lab_positive="\n".join(CATS[:6]), lab_negative="\n".join(FILMS[:6]), lab_method="Logistic probe"
    )
    at.button("lab_make").click().run()
    assert "6 texts a side are few" in said(at)
    at.button("lab_swap").click().run()
    assert at.text_area(key="lab_positive").value.startswith("rain fell")
    at.button("lab_make").click().run()
    assert "Plus means 'with the concept': 6 texts, such as 'rain fell" in said(at)


def test_instructions_become_a_direction(workspace, llm):
    questions = "\n".join(f"What of the {word}?" for word in ("cat", "rain", "film", "mind"))
    at = pages.open_page("lab", lab_from="instructions", lab_questions=questions, lab_tokens="4")
    assert "8 answers in all" in said(at)
    at.button("lab_make").click().run()
    assert not at.exception and "Plus means 'You are a cheerful optimist" in said(at)
    short = pages.open_page("lab", lab_from="instructions", lab_questions="One?")
    assert "Got 1 questions, wanted 4 to 100" in said(short) and short.button("lab_make").disabled


def test_a_neuron_becomes_a_direction_and_an_unknown_one_is_named(workspace, llm):
    at = pages.open_page("lab", lab_from="meta-neuron", lab_neuron="1/7")
    at.button("lab_make").click().run()
    assert "Not measured on texts" in said(at) and not at.exception
    at.text_input(key="lab_neuron").set_value("9/9").run()
    at.button("lab_make").click().run()
    assert "There is no neuron 9/9" in said(at)


def test_a_vector_from_a_file_is_measured_on_texts(workspace, llm, tmp_path):
    made = direction_of_texts(Site(llm, 2, 5.0), CATS, FILMS, pooling="mean").direction
    write_control_vector(made, tmp_path / "x.gguf", model_type="llama")
    texts = {"lab_positive": "\n".join(CATS), "lab_negative": "\n".join(FILMS)}
    at = pages.open_page("lab", lab_from="file", lab_measure="true", lab_pooling="mean", **texts)
    at.file_uploader[0].set_value(("../joy <b>.gguf", (tmp_path / "x.gguf").read_bytes(), "application/octet-stream")).run()
    at.button("lab_make").click().run()
    assert not at.exception and "It tells the texts apart" in said(at)
    at.file_uploader[0].set_value(("evil.pt", b"\x80\x04cos\nsystem\n(S'true'\ntR.", "application/octet-stream")).run()
    at.button("lab_make").click().run()
    assert "Files that would run code are not read" in said(at)


def test_a_direction_is_renamed_deleted_and_brought_back(workspace, llm):
    at = pages.open_page("lab")
    at.selectbox(key="lab_chosen").set_value("upwards").run()
    at.text_input(key="lab_rename_up").set_value("Up & away")  # and pressed before the page is drawn with it
    at.button("lab_rename").click().run()
    assert list(at.dataframe[0].value["Direction"]) == ["positive sentiment", "Up & away"]
    at.button("lab_delete").click().run()
    assert list(at.dataframe[0].value["Direction"]) == ["positive sentiment"] and "Up & away is deleted" in said(at)
    at.button("lab_undo").click().run()
    assert list(at.dataframe[0].value["Direction"]) == ["positive sentiment", "Up & away"] and "Up & away is back" in said(at)


def test_the_direction_that_is_chosen_is_deleted_though_the_page_is_not_drawn_with_it_yet(workspace, llm):
    at = pages.open_page("lab")
    assert at.selectbox(key="lab_chosen").value == "positive sentiment"
    at.selectbox(key="lab_chosen").set_value("upwards")
    at.button("lab_delete").click().run()
    assert list(at.dataframe[0].value["Direction"]) == ["positive sentiment"]


@pytest.mark.parametrize("button", ["lab_delete", "lab_rename"])
def test_a_direction_that_another_session_took_away_is_told(workspace, llm, button):
    at = pages.open_page("lab")
    at.selectbox(key="lab_chosen").set_value("upwards").run()
    (workspace.folder / "directions" / "up.safetensors").unlink()
    at.button(button).click().run()
    assert not at.exception and "There is no direction 'upwards' any more" in said(at).replace("\\", "")
    assert list(at.dataframe[0].value["Direction"]) == ["positive sentiment"]


def test_where_others_look_on_nothing_is_written(workspace, llm, monkeypatch):
    monkeypatch.setattr(origin, "on_this_machine_only", lambda: False)
    at = pages.open_page("lab", lab_from="meta-neuron", lab_neuron="1/7")
    at.button("lab_make").click().run()
    assert at.button("lab_keep").disabled and at.button("lab_delete").disabled
    assert workspace.direction_names() == ["positive", "up"]


def test_a_workspace_without_directions_makes_its_first_on_steering(workspace, llm):
    for path in (workspace.folder / "directions").glob("*"):
        path.unlink()
    at = pages.open_page("steering")
    at.button("lab_make").click().run()
    at.text_input(key="lab_title").set_value("Cooking").run()
    at.button("lab_keep").click().run()
    assert not at.exception and at.selectbox(key="steering_direction").value == "Cooking"


def test_a_verdict_names_chance_and_a_direction_that_points_the_other_way(monkeypatch):
    shown = []
    for kind in ("success", "warning"):
        monkeypatch.setattr(evidence.st, kind, lambda words, icon, kind=kind: shown.append(f"{kind}: {words}"))
    labels, nothing = np.repeat([1, 0], 8), np.zeros(16)
    for area in (Interval(0.9, 0.7, 0.97), Interval(0.6, 0.4, 0.8), Interval(0.1, 0.02, 0.3)):
        evidence.verdict(Evidence(nothing, labels, labels, area))
    assert shown[0].startswith("success: **It tells the texts apart.** AUROC 0.90, 95% interval 0.70 to 0.97, on 16 texts")
    assert "No better than chance" in shown[1] and "8 texts a side are few" in shown[1]
    assert "points the other way" in shown[2]


def test_every_score_carries_its_own_text_escaped():
    """The second positive text had no activation: numbers tell which text a score is of."""
    found = Evidence(np.array([1.0, 3.0, -1.0]), np.array([1, 1, 0]), np.array([0, 2, 0]), Interval(1, 0.5, 1))
    figure = scores_figure(found, (["a <b>", "lost", "c"], ["d"]))
    assert [list(trace.text) for trace in figure.data] == [["a &lt;b&gt;", "c"], ["d"]]
    assert [list(trace.x) for trace in figure.data] == [[1.0, 3.0], [-1.0]]


def test_links_of_the_lab_are_checked(workspace, llm):
    at = pages.open_page("lab", lab_from="x", lab_method="magic", lab_tokens="1e9", lab_neuron="x" * 50, lab_latent="-1")
    warned = "\n".join(str(one.value) for one in at.warning).replace("\\", "")
    wanted = ("Made from is 'x'", "Method is 'magic'", "an answer is '1e9'", "neuron has 50 characters", "Latent is '-1'")
    assert not [words for words in wanted if words not in warned]


def test_the_link_to_share_holds_what_the_address_holds(workspace, llm):
    asked = {"lab_from": "instructions", "lab_system": "You are a pirate.", "lab_opposite": "You are a judge."}
    shared = next(one.value for one in pages.open_page("lab", **asked).code if "lab?" in one.value)
    held = parse_qs(urlsplit(shared).query)
    assert {key: held.get(key) for key in asked} == {key: [words] for key, words in asked.items()}
