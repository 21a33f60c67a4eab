"""The Manifold page through the app's entry, with a tiny real model and a bank of its activations; the map; damaged and missing parts."""

import json
import math
import os
import threading
from base64 import b64decode
from dataclasses import asdict, replace

import numpy as np
import pytest
import torch
from streamlit.testing.v1 import AppTest

from dashboard.manifold import controls, frontier, map_plane, measure, strength_view, zones
from dashboard.manifold import figures as manifold_figures
from dashboard.service import resources, results
from dashboard.widgets.numbers import share_words
from glp_core.data.bank import Bank
from glp_core.errors import GlpError
from glp_core.evaluation.measures import Measures, reference
from glp_core.neurons import planes
from glp_core.prior.distance import ManifoldMeter, make_reference
from glp_core.steering import strength_sweep
from glp_core.steering.direction_facts import report_name
from glp_core.steering.strength_grid import ARMS, STRENGTHS
from glp_core.steering.trials.pareto import pareto
from tests.support import pages, steering_reports


@pytest.fixture
def bare(tmp_path, monkeypatch):
    """A workspace without a bank, with a tiny model in the place of the wheel's."""
    workspace = pages.make_workspace(tmp_path / "workspace")
    llm = pages.use_workspace(monkeypatch, workspace.folder)
    results.results.clear()
    return workspace, llm


@pytest.fixture
def workspace(bare):
    """A workspace with a bank of the tiny model's activations, and what the commands measure on it."""
    workspace, llm = bare
    words = ["the", "cat", "sat", "on", "a", "mat", "and", "the", "rain", "fell", "on", "every", "house", "in", "town"]
    rng = np.random.default_rng(0)
    rows = [llm.encode(" ".join(rng.choice(words, 12))) for _ in range(30)]
    acts = torch.cat([part[1:] for part in llm.activations(rows, workspace.layer)]).float()
    documents = torch.cat([torch.full((len(row) - 1,), i) for i, row in enumerate(rows)])
    contexts = [("a <b>", f"t{i}", "c") for i in range(len(acts))]
    bank = Bank(acts.half().float(), documents, contexts, {"llm": "tiny"})
    bank.save(workspace.folder / "bank")
    glp = workspace.load_glp()
    workspace.save_report("reference", make_reference(glp, acts))
    measures = Measures(ManifoldMeter(glp, workspace.report("reference")), workspace.covariance(), bank)
    about = {"activations_seen": 2_000_000}
    workspace.save_report("measures", {"measures": reference(measures, n=100), "glp": about})
    (workspace.folder / "prefixes.json").write_text(json.dumps([f"the cat and {i}" for i in range(20)]))
    return workspace


def open_page(**query):
    return pages.open_page("manifold", **query)


def said(at):
    kinds = ("markdown", "caption", "info", "warning", "error")
    return "\n".join(str(element.value) for kind in kinds for element in at.get(kind)).replace("\\", "")


def figures(at):
    return [json.loads(element.proto.spec) for element in at.get("plotly_chart")]


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("manifold_prompts", "inf", "Prompts is 'inf', wanted a number from 2 to 100"),
        ("manifold_prompts", "1e999", "Prompts is '1e999', wanted a number"),
        ("manifold_prompts", "9" * 400, "Prompts is '999"),
        ("manifold_prompts", "2.5", "Prompts is '2.5', wanted a whole number"),
        ("manifold_text", "x" * 2500, "Text has 2,500 characters, wanted at most 2,000"),
        ("manifold_text", "", "Text is empty"),
        ("manifold_view", "junk", "View is 'junk', wanted one of: Text, Strength"),
        ("manifold_plane", "x", "Plane is 'x', wanted one of: PCA, UMAP"),
        ("manifold_steps", "3", "Steps is '3', wanted one of: 1, 2, 4"),
        ("manifold_map_text", "perhaps", "Your text is 'perhaps', wanted true or false"),
        ("manifold_direction", "unit:9999/999999", "Direction is 'unit:9999/999999', wanted one of"),
    ],
)
def test_a_link_that_does_not_fit_is_named_and_address_and_widget_have_the_default(bare, key, value, words):
    at = open_page(**{key: value})
    notices = "\n".join(warning.value for warning in at.warning).replace("\\", "")
    assert f"In the link: {words}" in notices and "is used instead" in notices
    assert key not in at.query_params


def test_an_overlong_text_of_a_link_is_not_in_the_box(workspace):
    at = open_page(manifold_text="x" * 2500)
    assert at.text_area(key=controls.TEXT_BOX).value == measure.TEXTS["News and a typo"]
    at.text_area(key=controls.TEXT_BOX).set_value("y" * 2500).run()
    assert "wanted at most 2,000" in said(at) and "manifold_text" not in at.query_params
    at.text_area(key=controls.TEXT_BOX).set_value("the cat sat").run()
    assert at.query_params["manifold_text"] == "the cat sat" and not at.error


def test_without_a_bank_the_page_names_the_command(bare):
    at = open_page()
    assert "A bank of real activations to compare with is not there yet" in said(at)
    assert f"python -m glp_core bank --workspace {bare[0].folder.name}" in [code.value for code in at.get("code")]


def test_a_bank_that_is_measured_again_measures_the_text_again(workspace):
    address = {"manifold_measure": "nearest neighbour", "manifold_text": "the cat sat on a mat"}
    before = open_page(**address).get("dataframe")[0].value["percentile"].dropna()
    report = workspace.report("measures")
    quantiles = report["measures"]["neighbour"]["quantiles"]
    report["measures"]["neighbour"]["quantiles"] = [1e6 + value for value in quantiles]
    workspace.save_report("measures", report)
    after = open_page(**address).get("dataframe")[0].value["percentile"].dropna()
    assert before.max() > 0 and after.max() == 0


def test_points_along_a_direction_are_those_of_its_file(workspace):
    before = measure.written("up")
    assert before == measure.written("up") != measure.written("positive")
    os.utime(workspace.folder / "directions" / "up.safetensors", (1, 1))
    assert measure.written("up") != before and measure.written("") == before[: len(measure.written(""))]


def reference_size(workspace):
    """How many real activations manifold distance is compared with, on every page."""
    return workspace.report("reference")["n"]


def test_a_text_is_measured_and_coloured_and_the_first_token_is_not(workspace):
    at = open_page(manifold_text="the cat <script> sat")
    strip = next(html.value for html in at.get("html") if "glp-strip" in html.value)
    assert "<script>" not in strip
    assert "the first token is never scored" in strip
    assert "of real activations" in strip
    assert "farther off than 95% of real ones" in said(at)
    assert figures(at)[0]["data"][0]["name"] == f"{reference_size(workspace):,} real activations"


def test_the_log_likelihood_shows_its_standard_error(workspace):
    at = open_page(manifold_measure="log-likelihood", manifold_text="the cat sat")
    strip = next(html.value for html in at.get("html") if "glp-strip" in html.value)
    assert "±" in strip


def test_a_sweep_runs_to_its_end_and_says_what_projection_did(workspace):
    at = open_page(manifold_view="Strength", manifold_prompts="8")
    assert "Press Run" in said(at)
    assert at.button(key="manifold_stop").disabled and not at.button(key="manifold_run").disabled
    at.button(key="manifold_run").click().run()
    assert "8 prompts" in said(at)
    assert at.button(key="manifold_run").label == "Measured" and at.button(key="manifold_run").disabled
    assert "All 48 points are there" in at.button(key="manifold_run").help and at.button(key="manifold_stop").disabled
    names = [trace.get("name") for trace in figures(at)[0]["data"] if trace.get("showlegend") is not False]
    assert names == list(measure.ARMS.values())
    assert "No zones" in said(at)
    assert f"python -m glp_core zones --workspace {workspace.folder.name}" in said(at)


def test_a_sweep_is_drawn_while_its_place_in_the_queue_changes(workspace):
    gates = [threading.Event(), threading.Event()]

    def held(gate):
        yield gate.wait(20)

    others = [
        resources.runner().submit(f"visitor {i}", lambda _cancelled, gate=gate: held(gate), alive=lambda: True)
        for i, gate in enumerate(gates)
    ]
    at = open_page(manifold_view="Strength", manifold_own="the cat sat\nthe rain fell in town")
    waits = [threading.Timer(seconds, gate.set) for seconds, gate in zip((0.5, 1.0), gates, strict=True)]
    for wait in waits:
        wait.start()
    at.button(key="manifold_run").click().run()
    assert all(other.state == "done" for other in others)
    assert not at.exception
    assert at.button(key="manifold_run").label == "Measured"


def test_a_running_sweep_can_be_stopped_and_not_be_started():
    def script():
        from dashboard.manifold import strength_view

        strength_view._buttons(3, live=True)

    at = AppTest.from_function(script).run()
    assert at.button(key="manifold_run").disabled and "Stop ends it" in at.button(key="manifold_run").help
    assert not at.button(key="manifold_stop").disabled


def test_what_was_measured_is_there_in_a_new_session(workspace):
    query = {"manifold_view": "Strength", "manifold_prompts": "4", "manifold_own": "the cat sat\nthe rain fell"}
    at = open_page(**query)
    at.button(key="manifold_run").click().run()
    again = open_page(**query)
    assert figures(again)[0]["data"][1]["y"] == figures(at)[0]["data"][1]["y"]
    assert again.button(key="manifold_run").label == "Measured" and "on **" in said(again)


def test_own_prompts_are_used_and_all_cells_come(workspace):
    at = open_page(manifold_view="Strength")
    at.text_area(key=controls.OWN_BOX).set_value("the cat sat\n\nthe rain fell\na house").run()
    at.button(key="manifold_run").click().run()
    run = at.session_state[strength_view.RUN]
    assert run.request.prompts == ("the cat sat", "the rain fell", "a house")
    assert run.job.state == "done"
    assert len(run.job.events) == len(STRENGTHS) * len(ARMS)
    assert at.button(key="manifold_run").disabled


def test_a_stopped_sweep_goes_on_without_measuring_anything_twice(workspace, monkeypatch):
    measured, whole = [], strength_sweep.Pushes.spread

    def spread(self, arm, at_strength, raw):
        measured.append((arm, at_strength))
        return whole(self, arm, at_strength, raw)

    monkeypatch.setattr(strength_sweep.Pushes, "spread", spread)
    original = strength_sweep.sweep

    def sweep(pushes, *, done, cancelled):
        return original(pushes, done=done, cancelled=lambda: cancelled() or (not done and len(measured) >= 7))

    monkeypatch.setattr(strength_sweep, "sweep", sweep)
    at = open_page(manifold_view="Strength", manifold_prompts="4")
    at.button(key="manifold_run").click().run()
    assert len(measured) == 7
    assert "Stopped after 7 of 48 points" in said(at)
    assert at.button(key="manifold_run").label == "Go on"
    at.button(key="manifold_run").click().run()
    assert sorted(measured) == sorted((arm, x) for arm in ARMS for x in STRENGTHS)
    assert "Stopped" not in said(at)


def test_at_strength_zero_nothing_but_projection_moves_anything(workspace):
    request = measure.Sweep("", (), "up", ("the cat sat", "the rain fell", "a mat"))
    spreads = list(measure.sweep(request, frozenset(), lambda: False))
    at_zero = {spread.arm: spread.quantiles[2] for spread in spreads if spread.strength == 0}
    assert at_zero["raw"] == pytest.approx(at_zero["norm"], rel=1e-4)
    assert at_zero["raw"] == pytest.approx(at_zero["random"], rel=1e-4)
    assert math.isnan(next(spread for spread in spreads if spread.arm == "raw").lower)
    assert list(measure.sweep(request, frozenset(), lambda: True)) == []
    rest = list(measure.sweep(request, frozenset(spread[:2] for spread in spreads[:-3]), lambda: False))
    assert [spread[:2] for spread in rest] == [spread[:2] for spread in spreads[-3:]]
    assert [spread.quantiles for spread in rest] == [spread.quantiles for spread in spreads[-3:]]


def zones_report(drifting=1.5, broken=2.5):
    borders = {"drifting": drifting, "broken": broken}
    return {
        "borders": {name: {"value": value, "ci": [1.0, None]} for name, value in borders.items()}
        | {"share_broken": {"drifting": 0.25, "broken": 0.75}},
        "auroc": {"value": 0.91, "ci": [0.85, 0.95]},
        "bins": [{"distance": 1.0, "broken": 0.1, "n": 10}, {"distance": 3.0, "broken": 0.9, "n": 10}],
        "limits": {"log_probability": -3.2, "repetition": 0.4},
        "n_texts": 20,
        "n_broken": 10,
        "projection": [
            {"direction": "up", "title": "upwards", "strength": x, "lower_percentile": share, "nearer": 1.0, "n": 8}
            | {"percentile_raw": 1.0, "percentile_glp": 0.7}
            for x, share in ((0.5, 0.2), (1.0, 0.97), (2.0, 0.6))
        ],
    }


def test_zones_are_drawn_and_said_from_their_report(workspace):
    workspace.save_report("zones", zones_report())
    at = open_page(manifold_view="Evidence", manifold_evidence="Where text breaks")
    assert "at worst on **60%** of 8" in said(at)
    assert "on 95% or more of the prompts in **1 of 2**" in said(at)
    at = open_page(manifold_view="Strength", manifold_prompts="4")
    at.button(key="manifold_run").click().run()
    shapes = figures(at)[0]["layout"]["shapes"]
    assert [(shape["y0"], shape["y1"]) for shape in shapes[:2]] == [(0.0, 1.5), (1.5, 2.5)]
    assert shapes[2]["y0"] == 2.5
    assert "drifting from 1.50 [1.00, no bound]" in said(at)


def test_the_curve_that_the_zones_come_from_is_a_quarter_and_three_quarters_at_their_borders():
    assert zones.fitted(np.array([1.5, 2.5]), 1.5, 2.5) == pytest.approx([0.25, 0.75])
    drawn = {len(trace.x) for trace in zones.broken(zones_report()).data}
    assert 100 in drawn and 100 not in {len(trace.x) for trace in zones.broken(zones_report(broken=None)).data}


def test_a_zone_that_was_not_found_is_not_drawn():
    assert manifold_figures.zone_edges(None) is None
    assert manifold_figures.zone_edges(zones_report(broken=None)) == [1.5]
    assert manifold_figures.zone_edges(zones_report(drifting=None)) == []
    assert "beyond the distances that were seen" in strength_view.zone_words(zones_report(broken=None))[0]


def test_matching_by_concept_reads_the_raw_pushes_between_their_strengths_and_says_where_there_is_none():
    def row(arm, x, concept, chance, repeated):
        return {"arm": arm, "strength": x, "concept": concept, "log_probability": chance, "repeated_bigrams": repeated}

    rows = [
        row("raw", 1, 0.6, -2, 0.1),
        row("raw", 2, 0.8, -3, 0.49),
        row("glp", 1, 0.7, -2.5, 0.2),
        row("glp", 2, 0.95, -4, 0.3),
    ]
    plain = row("unsteered", 0, 0.5, -1, 0.2)
    assert frontier.at_concept(rows, "raw", "repeated_bigrams", 0.7) == pytest.approx(0.295)
    assert frontier.at_concept([*rows, plain], "raw", "log_probability", 0.55) == pytest.approx(-1.5)
    assert frontier.at_concept(rows, "raw", "log_probability", 0.9) is None
    pairs = frontier.matched([*rows, plain], "glp", "log_probability")
    assert pairs[-1] == (pytest.approx(0.8), pytest.approx(-3.1), pytest.approx(-3.0))
    assert pairs[0][0] == pytest.approx(0.515) and len(pairs) == frontier.SCORES
    words = frontier.matched_words([*rows, plain], "glp", "Projected, noise level 0.5")
    assert "Projected, noise level 0.5" in words and "(at 0.80: -3.10 against -3.00)" in words
    assert "less repetitive at 10 of 20" in words
    assert "raw 0.80, this 0.95" in words
    assert "no concept score" in frontier.matched_words(rows, "glp", "x")


def test_pareto_says_for_a_direction_whether_the_walk_wins_and_where_it_does_not(workspace):
    workspace.save_report(
        "pareto", pareto({"good": steering_reports.report(0.0, "Good"), "bad": steering_reports.report(-0.35, "Bad <b>")})
    )
    at = open_page(manifold_view="Evidence", manifold_along="Bad <b>")
    assert "| raw steering | over all strengths | 1 ahead, 1 behind |" in said(at) and "other prefixes |" not in said(at)
    assert "against raw steering behind over all strengths" in said(at)
    at.selectbox(key="manifold_along").set_value("Good").run()
    assert "against raw steering ahead over all strengths" in said(at)
    lines, bars = figures(at)[:2]
    assert [line["name"] for line in lines["data"]] == ["Raw steered", "Manifold walk", "Paper's projection", "Prompted"]
    assert bars["data"][0]["y"][-1] == "Manifold walk"  # the largest is on top
    rows = at.dataframe[0].value
    assert rows["walk vs raw"].tolist() == ["ahead", "behind"] and rows["direction"].tolist() == ["Good", "Bad <b>"]
    confirmed = {"against": "raw steering", "where": "at each best", "directions": "2 ahead", "mean": "+0.1 [+0.0, +0.2]"}
    workspace.save_report("bests", {"verdicts": [confirmed], "prefixes": ["a"] * 7})
    assert "| raw steering | at each best; 7 other prefixes | 2 ahead | +0.1" in said(at.run())


def test_what_a_push_costs_on_neutral_text_stands_beside_what_it_gains(workspace):
    measured = {name: steering_reports.report(0.0, name) for name in ("Here", "There")}
    workspace.save_report("pareto", pareto({name.lower(): report for name, report in measured.items()}))
    costs = [
        {"arm": arm, "strength": push, "loss_rise": rise * push, "loss_rise_ci": [rise * push - 0.1, rise * push + 0.2], "n": 9}
        for arm, rise in (("raw", 3.0), ("walk", 1.0))
        for push in (0.5, 1.0, 2.0)
    ]
    workspace.save_report("steering_here", measured["Here"] | {"elsewhere": costs})
    at = open_page(manifold_view="Evidence", manifold_along="Here")
    by_strength, by_gain = figures(at)[2:4]
    assert [(line["name"], line["x"], line["y"]) for line in by_strength["data"]] == [
        ("Raw steered", [0.5, 1.0, 2.0], [1.5, 3.0, 6.0]),
        ("Manifold walk", [0.5, 1.0, 2.0], [0.5, 1.0, 2.0]),
    ]
    gained = [point["gain"] for point in workspace.report("pareto")["directions"]["here"]["arms"]["raw"]["points"]]
    assert by_gain["data"][0]["x"] == gained and by_gain["data"][0]["y"] == [1.5, 3.0]  # no gain was measured at 2
    assert by_strength["data"][0]["error_y"]["array"] == pytest.approx([0.2] * 3)
    assert "9 held-out texts" in said(at)
    at.selectbox(key="manifold_along").set_value("There").run()
    assert "on other text" not in said(at) and len(figures(at)) == 2


@pytest.mark.parametrize("now", [True, False])
def test_what_was_measured_along_an_earlier_direction_says_so_and_is_joined_with_nothing_newer(workspace, now):
    name = workspace.direction_names()[0]
    measured = steering_reports.report(0.0, name)
    measured["settings"]["digest"] = workspace.direction_digest(name) if now else "another"
    workspace.save_report("pareto", pareto({name: measured}))
    cost = {"arm": "raw", "strength": 1.0, "loss_rise": 1.0, "loss_rise_ci": [0.9, 1.1], "n": 9}
    newer = {"settings": measured["settings"] | {"digest": workspace.direction_digest(name)}, "elsewhere": [cost]}
    workspace.save_report(report_name(name), measured | newer)
    at = open_page(manifold_view="Evidence", manifold_along=name)
    assert ("Measured along an earlier direction of this name" in said(at)) != now
    assert ("9 held-out texts" in said(at)) == now


def test_the_map_shows_each_kind_and_tests_it(workspace):
    at = open_page(manifold_view="Map", manifold_steps="4")
    names = [trace["name"] for trace in figures(at)[0]["data"]]
    assert names[0].startswith("real, held out")
    assert any(name.startswith("generated, 4 steps") for name in names)
    assert any(name.startswith("steered, then projected") for name in names)
    assert "logistic" in said(at) and "nearest neighbour" in said(at)
    assert figures(at)[0]["data"][0]["text"][0] == "…a &lt;b&gt;【t0】c…"
    steered = next(trace for trace in figures(at)[0]["data"] if trace["name"].startswith("steered ("))
    assert len(steered["text"]) == map_plane.OTHERS and all("【" in words for words in steered["text"])


def test_the_map_in_umap_is_the_plane_that_lies_with_the_bank(workspace, monkeypatch):
    bank = Bank.load(workspace.folder / "bank")
    places = torch.randn(len(bank), 2, generator=torch.Generator().manual_seed(4))
    replace(bank, plane=places).save(workspace.folder / "bank")
    monkeypatch.setattr(planes, "umap_plane", lambda *_, **__: 1 / 0)  # it is not laid out anew
    drawn = figures(open_page(manifold_view="Map", manifold_plane="UMAP", manifold_steps="4"))[0]
    chosen = np.linspace(0, len(bank) - 1, min(map_plane.REAL, len(bank))).astype(int)
    for axis in (0, 1):
        packed = drawn["data"][0]["xy"[axis]]
        found = np.frombuffer(b64decode(packed["bdata"]), packed["dtype"])
        np.testing.assert_array_equal(found, places[chosen, axis])
    assert drawn["layout"]["xaxis"]["title"]["text"] == "UMAP 1"


def test_own_text_lies_on_the_map_with_each_token_in_its_context(workspace):
    request = map_plane.MapRequest("PCA", 1, "", 1.0, "the cat sat on")
    found = map_plane.plane(request, lambda: False, lambda *_: None)
    assert len(found.others["your text"]) == len(found.texts["your text"])
    assert "".join(words[words.index("【") + 1 : words.index("】")] for words in found.texts["your text"]) == "the cat sat on"


def test_a_reference_of_another_glp_is_told(workspace):
    assert "another prior" not in said(open_page())
    path = workspace.report_path("measures")
    path.write_text(json.dumps(json.loads(path.read_text()) | {"glp_digest": "0" * 16}))
    assert "Made with another prior than the workspace has now: reports/measures.json." in said(open_page())


def test_a_bank_that_does_not_fit_is_shown_as_a_message(workspace):
    (workspace.folder / "bank" / "bank.json").write_text('{"contexts": []}')
    resources.runner()
    assert "do not belong together" in said(open_page(manifold_text="another text"))


def test_reports_become_tables_with_intervals_and_roc_curves(workspace):
    rows = [
        {"kind": kind, "measure": "error", "auroc": value, "ci": [value, value], "n": 5, "roc": [0, value, 1]}
        for kind, value in (("a", 0.5), ("b", 0.9))
    ]
    workspace.save_report("detection", {"rows": rows, "n_real": 5, "rates": [0, 0.5, 1]})
    test = {"accuracy": 0.61, "ci": [0.58, 0.64], "n": 100, "drawn": 0.7, "real": 0.5}
    found = {"value": 12.34, "ci": [10.0, 14.0], "n": 50}
    row = {"method": "GLP", "way": "drawn", "frechet": found, "delta_lm": None, "logistic": test, "neighbour": test}
    facts = {"n": 50, "tested": 50, "base_loss": 3.0, "documents": 4, "tokens": 8, "pca_components": 7, "sae": None}
    workspace.save_report("scorecard", {"rows": [row], "mean_ablation": found, "intervals": "95%"} | facts)
    ratios = {part: {"value": value, "ci": [0.9, 1.2]} for part, value in (("all", 1.0), ("answer", 1.04))}
    told = {"ratios": ratios, "text_error": 2.0, "conversations": 11, "sigma": 0.3}
    workspace.save_report("conversations", told)
    at = open_page(manifold_view="Evidence", manifold_evidence="Scorecard")
    assert "all tokens 1.00 [0.90, 1.20], answers 1.04 [0.90, 1.20]" in said(at) and "11 held-out conversations" in said(at)
    (table,) = [frame.value.to_csv() for frame in at.dataframe]
    assert "0.61 [0.58, 0.64]" in table and "12 [10, 14]" in table
    assert "wins it by construction" in said(at) and "0.0513" in said(at) and "glp_core sae --workspace" in said(at)
    at = open_page(manifold_view="Evidence", manifold_evidence="Detection")
    assert "0.90 [0.90, 0.90]" in at.dataframe[0].value.to_csv()
    at.selectbox(key="manifold_kind").set_value("b").run()
    assert figures(at)[-1]["data"][0]["y"] == [0, 0.9, 1]
    assert figures(at)[-1]["data"][0]["name"] == "denoising error, 0.90"
    link = {"manifold_view": "Evidence", "manifold_evidence": "Detection"}
    at = open_page(**link, manifold_kind="b")
    assert at.selectbox(key="manifold_kind").value == "b" and figures(at)[-1]["data"][0]["y"] == [0, 0.9, 1]
    assert "manifold_kind=b" in next(code.value for code in at.get("code") if "manifold?" in code.value)
    at = open_page(**link, manifold_kind="z")
    assert (
        "Off-manifold activations are 'z', wanted one of: a, b." in said(at) and at.selectbox(key="manifold_kind").value == "a"
    )


def test_ninety_percent_of_real_tokens_are_the_same_ones_on_every_page(workspace, monkeypatch):
    band = measure.band()
    quantiles = measure.reference()["error"]["quantiles"]
    assert band == resources.meter().band() == pytest.approx((quantiles[10], quantiles[190]))
    stored = workspace.report("measures")["measures"]["error"]
    monkeypatch.setattr(measure.workspace_facts, "report", lambda name: None if name == "reference" else workspace.report(name))
    assert measure.band() is None and measure.reference()["error"] == stored, "what was measured before there was one reference"


def test_the_maps_walk_goes_as_the_workspace_chose(workspace, monkeypatch):
    from glp_core.prior import projection
    from glp_core.prior.walk import WalkSettings

    asked, make = [], projection.make_projector
    monkeypatch.setattr(projection, "make_projector", lambda name, **how: asked.append(how.get("walk")) or make(name, **how))
    chosen = asdict(WalkSettings(0.1, 2))
    workspace.save_report("walk_tuning", {"chosen": {"short": chosen, "long": chosen | {"pushes": 3}, "border": 1.0}})
    map_plane.plane(map_plane.MapRequest("PCA", 1, workspace.direction_names()[0], 1.0, ""), lambda: False, lambda *_: None)
    assert asked == [workspace.walk()] and asked[0].short.pushes == 2


def test_what_was_wrong_with_other_prompts_is_not_said_of_these(workspace):
    at = open_page(manifold_view="Strength", manifold_prompts="4")
    at.text_area(key=controls.OWN_BOX).set_value("one prompt alone").run()
    at.button(key="manifold_run").click().run()
    assert "Fewer than two prompts have words" in said(at)
    at.text_area(key=controls.OWN_BOX).set_value("").run()
    assert "Fewer than two prompts" not in said(at) and not at.button(key="manifold_run").disabled
    at.text_area(key=controls.OWN_BOX).set_value("one prompt alone").run()
    assert "Fewer than two prompts have words" in said(at)


def test_a_text_that_is_read_in_part_says_so(workspace, monkeypatch):
    text = " ".join(["the cat sat on the mat"] * 30)
    whole = len(resources.llm().encode(text))
    monkeypatch.setattr(measure, "MANY_TOKENS", 12)
    assert f"Only the first 12 of the text's {whole:,} tokens are read." in said(open_page(manifold_text=text))
    assert "Only the first" not in said(open_page(manifold_text="the cat sat on"))
    found = map_plane.plane(map_plane.MapRequest("PCA", 1, "", 1.0, text), lambda: False, lambda *_: None)
    assert found.cut == f"Only the first {map_plane.OWN_TOKENS} of the text's {whole:,} tokens are read."


def test_a_share_of_real_activations_is_never_rounded_to_all_of_them():
    assert [share_words(share) for share in (0.5, 0.994, 0.996, 0.9999, 1.0)] == ["50%", "99%"] + ["more than 99%"] * 2 + [
        "100%"
    ]


def test_prompts_that_end_with_an_attention_sink_do_not_count(workspace, monkeypatch):
    read = strength_sweep.last_activations
    monkeypatch.setattr(strength_sweep, "last_activations", lambda site, texts: read(site, texts)[1:])
    at = open_page(manifold_view="Strength", manifold_own="the cat sat\nthe rain fell\na film of the mind")
    at.button(key="manifold_run").click().run()
    assert "Left out: 1 of 3 prompts, which end with an attention sink." in said(at)
    assert "of 2 prompts" in said(at) or "all 2 prompts" in said(at)


def test_prompts_that_end_with_attention_sinks_are_told_before_anything_is_pushed(workspace):
    site = replace(resources.site(), median_norm=1e-6)
    with pytest.raises(GlpError, match="Of 2 prompts 2 end with an attention sink"):
        strength_sweep.last_activations(site, ["the cat sat", "the rain fell"])
