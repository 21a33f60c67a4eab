"""The Meta-neurons and Concepts pages through the app's entry, over a made-up index: what they show, say and keep in the URL."""

import csv
import inspect
import io
from operator import itemgetter
from types import SimpleNamespace
from urllib.parse import parse_qs, urlsplit

import numpy as np
import pytest
from streamlit.testing.v1 import AppTest

from dashboard.concepts import own_view
from dashboard.neurons import shared
from dashboard.service import follow, machine, neurons, resources, results, workspace_facts
from glp_core.errors import GlpError
from glp_core.jobs.runner import JobRunner
from glp_core.neurons.search import ConceptNeurons, FoundNeuron
from glp_core.stats import Interval
from tests.support import neuron_fakes, pages

TIMEOUT = 60


@pytest.fixture
def fakes(monkeypatch, tmp_path):
    """Pages over the made-up index; no model is loaded."""
    index = neuron_fakes.FakeIndex()
    monkeypatch.setattr(neurons, "index", lambda: index)
    monkeypatch.setattr(neurons, "read", lambda text: neuron_fakes.read_text(neurons.TEXT.check(text)))
    monkeypatch.setattr(neurons, "measure_noise", neuron_fakes.noise_axis)
    monkeypatch.setattr(neurons, "prior_of", lambda _index: None)
    monkeypatch.setattr(workspace_facts, "report", lambda name: neuron_fakes.probing_report() if name == "probing" else None)
    runner = JobRunner()
    monkeypatch.setattr(resources, "runner", lambda: runner)
    idle = SimpleNamespace(live=False, state="failed", error=GlpError("no models in this test"), events=[])
    monkeypatch.setattr(resources, "warm_up", lambda: idle)
    monkeypatch.setattr(
        resources,
        "workspace",
        lambda: SimpleNamespace(folder=tmp_path, neurons=tmp_path, layer=1, median_norm=1.0, glp_digest=lambda: ""),
    )
    monkeypatch.setattr(machine, "number_type", lambda: "float32")
    monkeypatch.setattr(machine, "device_title", lambda: "CPU")
    monkeypatch.setattr(resources, "llm", lambda: None)
    monkeypatch.setattr(resources, "site", lambda: None)
    monkeypatch.setattr(resources, "glp", lambda: None)
    return index


def open_page(name="neurons", **query):
    return pages.open_page(name, **query)


def words(at):
    """Return everything that a page says in text, HTML and components."""
    said = [
        element.value
        for kind in ("title", "header", "markdown", "caption", "info", "warning", "error")
        for element in at.get(kind)
    ]
    said += [element.proto.body for element in at.get("html")]
    said += [str(element.proto) for element in at.get("bidi_component")]
    return "\n".join(str(part) for part in said)


def test_a_text_is_there_at_once_with_its_strongest_neuron_previewed(fakes):
    at = open_page()
    assert "Meta-neurons" in at.title[0].value
    assert at.text_area(key="neurons_text").value == neurons.TEXT.default
    said = words(at)
    assert "<strong>L0 / 0</strong>" in said  # neuron 0 is the strongest by construction
    assert "automatic" in said


def test_choosing_tokens_ranks_the_neurons_by_them(fakes):
    at = open_page(picked="4")
    assert "<strong>L0 / 4</strong>" in words(at)  # neuron 4 fires on token 4
    assert "1 of" in words(at)


def test_neurons_that_fire_everywhere_are_hidden_until_asked_for(fakes):
    at = open_page(picked="9")
    assert "<strong>L0 / 9</strong>" not in words(at)
    at.toggle(key="neurons_hide").set_value(False).run()
    assert "<strong>L0 / 9</strong>" in words(at)


def test_a_link_opens_one_neuron_with_both_of_its_ends(fakes):
    at = open_page(layer="1", unit="3")
    said = words(at)
    assert at.header[0].value == "L1 / 3"
    assert "+2.00" in said and "+8.00" in said and "−7.00" in said
    assert "kurtosis 41.0" in said
    assert "An approximation" in said


@pytest.mark.parametrize(("url", "view"), [({}, "text"), ({"view": "map"}, "map"), ({"layer": "0", "unit": "1"}, "unit")])
def test_choosing_a_neuron_keeps_the_view(monkeypatch, url, view):
    monkeypatch.setattr(shared.st, "query_params", url)
    shared.choose_neuron("1/4")
    assert url == {"view": view, "layer": "1", "unit": "4"}


def test_buttons_move_to_the_next_neuron_and_around_the_end(fakes):
    at = open_page(layer="0", unit="29")
    at.button(key="neuron_next").click().run()
    assert at.header[0].value == "L1 / 0"
    assert at.query_params["unit"] == "0" and at.query_params["layer"] == "1"
    link = "Chosen of all neurons for: baseball athlete, test AUC 0.90"
    assert link in [one.proto.label for one in at.get("page_link")], "the task that Concepts and the story name this neuron for"
    at.button(key="neuron_previous").click().run()
    assert at.header[0].value == "L0 / 29"


def test_a_neuron_that_does_not_exist_is_said_and_another_is_shown(fakes):
    at = open_page(layer="7", unit="3000")
    assert any("no neuron" in warning.value.replace("\\", "") for warning in at.warning)
    assert at.header[0].value.startswith("L")


@pytest.mark.parametrize(
    ("page", "query", "label"),
    [
        ("neurons", {"view": "junk"}, "View is 'junk'"),
        ("neurons", {"view": "map", "map_colour": "plaid"}, "Colour is 'plaid'"),
        ("neurons", {"view": "unit", "unit_log": "perhaps"}, "log y is 'perhaps'"),
        ("neurons", {"view": "map", "map_neighbours": "1e999"}, "Neighbours is '1e999'"),
        ("concepts", {"concepts_part": "nan"}, "Part is 'nan'"),
        ("concepts", {"task": "9_tea_leaves"}, "Task is '9_tea_leaves'"),
        ("concepts", {"concepts_show": "pie"}, "Show as is 'pie'"),
    ],
)
def test_what_does_not_fit_in_a_link_is_named_and_the_default_is_used(fakes, page, query, label):
    at = open_page(page, **query)
    said = "".join(warning.value for warning in at.warning).replace("\\", "")
    assert not at.exception and label in said and "is used instead" in said


def test_no_layer_chosen_is_no_fault_of_the_link_and_one_that_is_not_there_is(fakes):
    at = open_page("neurons")
    at.button_group(key="neurons_layers").set_value([]).run()
    said = "".join(one.value for one in (*at.warning, *at.info))
    assert "In the link" not in said and "choose at least one layer" in said
    at = open_page("neurons", neurons_layers=["L0", "L9"])
    assert "Layers is 'L9'" in "".join(one.value for one in at.warning).replace("\\", "")
    assert at.button_group(key="neurons_layers").value == ["L0", "L1"]


def test_a_shared_link_holds_all_values_of_a_parameter():
    def page():
        import streamlit as st

        from dashboard.widgets import url

        st.write(url.page_link("neurons", url.query()))

    at = AppTest.from_function(page)
    at.query_params.update({"neurons_layers": ["L0", "L2"], "view": "text"})
    assert parse_qs(urlsplit(at.run().markdown[0].value).query) == {"neurons_layers": ["L0", "L2"], "view": ["text"]}


def test_hostile_texts_are_shown_as_text(fakes):
    at = open_page(layer="1", unit="3", unit_context="whole text")
    bodies = "".join(element.proto.body for element in at.get("html"))
    assert "&lt;img src=x onerror=alert(1)&gt;" in bodies
    assert "<img" not in bodies and "&lt;/style&gt;" in bodies
    assert "\u202e" not in bodies and "\x00" not in bodies


def test_a_text_beyond_the_limit_is_refused_with_the_numbers(fakes):
    at = open_page(layer="1", unit="3")
    at.text_area(key="neurons_text").set_value("x" * 5_000_000).run()
    assert not at.exception
    assert "5,000,000" in "".join(error.value for error in at.error).replace("\\", "")


def test_the_noise_axis_shows_the_spread_at_four_levels(fakes):
    at = open_page(layer="1", unit="3")
    at.toggle(key="unit_noise").set_value(True).run()
    assert not at.exception
    assert sum("mean of 8 seeds" in caption.value for caption in at.caption) == 4


def test_starred_neurons_are_in_the_url_and_come_back_from_it(fakes):
    at = open_page(layer="1", unit="3")
    at.button(key="neuron_star").click().run()
    assert at.query_params["stars"] == "1/3"
    fresh = open_page(view="lists", stars="1/3,0/4")
    assert "2 starred, each" in words(fresh)
    fresh.text_input(key="lists_neurons").set_value("0/1, nonsense").run()
    assert "is not a neuron" in "".join(error.value for error in fresh.error).replace("\\", "")
    assert fresh.text_input(key="lists_neurons").value == "0/1, nonsense", "what was typed can be corrected"


def test_an_empty_list_offers_the_most_interesting_neurons(fakes):
    at = open_page(view="lists")
    assert "No neuron is starred yet" in at.info[0].value
    next(button for button in at.button if button.label == "Star the ten most interesting neurons").click().run()
    assert not at.exception
    assert at.query_params["stars"].startswith("1/29,1/28") and "10 starred" in words(at)


def test_the_map_dims_what_a_search_misses(fakes):
    at = open_page(view="map")
    assert "60 neurons" in words(at)
    at.text_input(key="map_search").set_value("word33").run()
    assert "1 of 60 neurons match" in words(at)
    rows = next(str(part.proto) for part in at.get("bidi_component") if "Neurons found" in str(part.proto))
    assert "1/3" in rows  # a match can be opened without a mouse


def test_without_an_index_the_page_says_which_command_makes_one(fakes, monkeypatch):
    def missing():
        raise GlpError("No index.")

    monkeypatch.setattr(neurons, "index", missing)
    at = open_page()
    assert at.code[0].value == "python -m glp_core index"


def test_tasks_can_be_searched_and_chosen(fakes):
    at = open_page("concepts")
    assert "ahead of the best baseline" in at.markdown[0].value.replace("\\", "")
    at.selectbox(key="concepts_task_box").select("1_positive_sentiment").run()
    assert not at.exception
    assert "L1/1" in words(at) and at.query_params["task"] == "1_positive_sentiment"
    at.text_input(key="concepts_search").set_value("no such thing").run()
    assert "No task matches" in "".join(warning.value for warning in at.warning).replace("\\", "")
    assert not at.selectbox and "No task matches the search" in words(at)
    at.text_input(key="concepts_search").set_value("python").run()
    assert at.selectbox(key="concepts_task_box").value == "2_python_code"  # the found task, though the link names another


def test_a_concept_of_ones_own_is_searched_and_too_few_texts_are_refused(fakes, monkeypatch):
    from glp_core.neurons import search

    real = inspect.signature(search.find_neurons)

    def find_neurons(*given, **options):
        positive, negative = itemgetter("positive", "negative")(real.bind(*given, **options).arguments)
        labels = np.repeat([1, 0], [len(positive), len(negative)])
        found = [FoundNeuron(1, i, 0.9 - i / 10, 1 - 2 * i, 0.01, 5, labels * 1.0) for i in range(2)]
        return ConceptNeurons(
            found, Interval(0.85, 0.7, 0.95), 0.01, len(positive), len(negative), 1000, labels, [*positive, *negative]
        )

    monkeypatch.setattr(search, "find_neurons", find_neurons)
    results.small_results.clear()
    at = open_page("concepts", concepts_part="Your own concept")
    assert "Press Find neurons" in at.info[0].value and not at.get("download_button")
    at.button(key="concepts_find").click().run()
    assert not at.exception
    assert "AUC 0.85 (" in words(at) and "12 positive and 12 negative" in words(at)
    offered = [one.proto.label for one in at.get("download_button")]
    assert offered == ["Neurons found, CSV", "Their values on every text, CSV"]
    for number in range(results.KEPT_RESULTS):
        results.results().put(number, "somebody else's", number)
    assert "AUC 0.85 (" in words(open_page("concepts", concepts_part="Your own concept")), "found once, it is there"
    at.text_area(key="concepts_positive").set_value("only one").run()
    assert "wanted 5 to 500" in "".join(error.value for error in at.error).replace("\\", "")


def test_waiting_hands_on_the_result_and_the_error(fakes):
    def script():
        import streamlit as st

        from dashboard.service import follow
        from glp_core.errors import GlpError

        def refuse(cancelled, report):
            report(1, 2, "half")
            raise GlpError("too hot")

        st.write(follow.compute("adding", lambda cancelled, report: "sum"))
        try:
            follow.compute("refusing", refuse)
        except GlpError as error:
            st.write(str(error))

    at = AppTest.from_function(script, default_timeout=TIMEOUT).run()
    assert not at.exception
    assert [element.value for element in at.markdown] == ["sum", "too hot"]
    assert follow.PATIENCE > 0


def test_a_comparison_says_at_once_which_neuron_is_kept_and_what_to_do(fakes):
    at = open_page()
    at.button(key="neurons_compare").click().run()
    kept = at.query_params["compare"]
    assert any(f"L{kept} is kept: now choose another neuron" in one.value.replace("\\", "") for one in at.caption)
    at.query_params |= {"view": "text", "layer": "0", "unit": "0" if kept != "0/0" else "1"}
    at.run()
    assert not any("is kept" in one.value for one in at.caption)
    at.button(key="neurons_end_compare").click().run()
    assert "compare" not in at.query_params and not at.exception


def test_stars_tokens_and_comparisons_that_are_not_there_are_named_and_leave_the_address(fakes):
    at = open_page(view="map", stars="1/3,9/9", map_seed="x", map_legend="1")
    said = "\n".join(warning.value for warning in at.warning).replace("\\", "")
    for words in (
        "There is no neuron 9/9: it is not on the list.",
        "Seed is 'x'",
        "'map_legend' is nothing that this page knows",
    ):
        assert words in said
    assert at.query_params["stars"] == "1/3" and not {"map_seed", "map_legend"} & set(at.query_params)
    at = open_page(picked="4,9999", compare="7/7")
    said = "\n".join(warning.value for warning in at.warning).replace("\\", "")
    assert "The text has no token 9999" in said and "There is no neuron 7/7" in said and not at.exception
    assert not {"picked", "compare"} & set(at.query_params)


def test_what_was_found_of_a_concept_is_what_is_downloaded():
    labels, texts = np.array([1, 0]), ["=yes", "no"]
    found = [FoundNeuron(1, i, 0.9 - i / 10, 1 - 2 * i, 0.01, 5, labels * (1.0 + i)) for i in range(2)]
    concept = ConceptNeurons(found, Interval(0.85, 0.7, 0.95), 0.01, 1, 1, 1000, labels, texts)
    best, values = (file.data for file in own_view.files(concept))
    best, values = ([*csv.reader(io.StringIO(table))] for table in (best, values))
    assert best == [
        ["neuron", "AUC on all texts", "sign", "p", "best in folds"],
        ["1/0", "0.9", "1", "0.01", "5"],
        ["1/1", "0.8", "-1", "0.01", "5"],
    ]
    assert values == [["text", "label", "1/0", "1/1"], ["'=yes", "1", "1.0", "2.0"], ["no", "0", "0.0", "0.0"]]


def test_a_neuron_names_the_task_it_was_chosen_for_of_all_neurons_and_its_own_best(fakes):
    labels = [
        one.proto.label for one in open_page(view="unit", layer="1", unit="0").get("page_link") if "AUC" in one.proto.label
    ]
    assert [label.split(":")[0] for label in labels] == ["Chosen of all neurons for", "Its own best task"]


def test_a_map_that_was_laid_out_anew_is_in_its_link(fakes, monkeypatch):
    asked = []

    def compute_map(_glp, kind, _folder, config, **_options):
        asked.append((kind, config.neighbours, config.seed))
        return fakes.map(kind)

    monkeypatch.setattr("glp_core.neurons.maps.compute_map", compute_map)
    results.small_results.clear()
    at = open_page(view="map", map_anew="true", map_seed="3", map_neighbours="9")
    assert not at.exception and asked == [("concepts", 9, 3)] and "UMAP of now: neighbours 9" in words(at)
    assert at.query_params["map_anew"] == "true"
    at.button(key="map_stored").click().run()
    assert "UMAP of now" not in words(at) and "map_anew" not in at.query_params and len(asked) == 1
    at.button(key="map_compute").click().run()
    assert "UMAP of now" in words(at) and at.query_params["map_anew"] == "true" and len(asked) == 1
