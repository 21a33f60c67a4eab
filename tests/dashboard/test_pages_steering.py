"""Steering and Overview through the app's entry, with a tiny real model: what a person does, and what links may hold."""

import html
import json
import os
import pickle
import re
import shlex
import struct
import threading
import time
from dataclasses import replace
from types import SimpleNamespace
from urllib.parse import parse_qs, urlsplit

import pytest
import torch
from safetensors.torch import load_file, save_file
from streamlit.testing.v1 import AppTest

from dashboard.service import follow, resources, workspace_facts
from dashboard.steering import controls, examples, export, request, results
from dashboard.steering import run as steering_run
from dashboard.steering.comparison import CleanReading, Column, Comparison
from dashboard.steering.request import Request
from dashboard.widgets import neuron_links
from glp_core.cli.commands import parse
from glp_core.errors import GlpError
from glp_core.jobs.runner import JobRunner
from glp_core.llm.site import Site
from glp_core.prior.checkpoint import save_glp
from glp_core.prior.projection import make_projector
from glp_core.prior.reference import Reference
from glp_core.prior.walk import Bound, WalkSettings
from glp_core.steering.generation import Arm, Sampling, Step, clean_reading, generate
from glp_core.steering.shared_batch import READ_AT_ONCE
from tests.support import pages, tiny
from tests.support.steering_page import board, open_page, run

NAN = float("nan")


def test_the_page_opens_with_an_example_one_click_from_running(llm):
    at = open_page()
    assert at.text_area(key="steering_prompt").value == examples.EXAMPLES[0].prompt
    assert at.selectbox(key="steering_direction").value == "positive sentiment"
    assert "example is filled in: press Run" in at.info[0].value
    assert "example" not in open_page(steering_prompt="My own words").info[0].value
    assert not at.error and not at.warning
    assert at.button(key="steering_stop").disabled


def test_run_writes_the_texts_that_the_core_writes(llm, workspace):
    query = {"steering_walk_noise": "0.3", "steering_pushes": "8", "steering_hold": "0.5", "steering_extra": request.PAPERS}
    query |= {
        "steering_bound": "0.9",
        "steering_tokens": "12",
        "steering_direction": "upwards",
        "steering_strength": "0.8",
        "steering_prompt": "The cat",
    }
    at = run(open_page(**query))
    assert not at.exception and not at.error
    direction = workspace.direction("up")
    glp = resources.glp()
    arms = [
        Arm("unsteered"),
        Arm("raw", direction.vector, 0.8, make_projector("none")),
        Arm(
            "walk",
            direction.vector,
            0.8,
            make_projector(
                "walk", glp=glp, walk=WalkSettings(0.3, 8, hold=0.5, bound=Bound.at(resources.meter().reference, 0.9))
            ),
        ),
        Arm("glp", direction.vector, 0.8, make_projector("glp", glp=glp, noise_level=0.5, steps=4, solver="ab2")),
    ]
    expected = {arm.name: "" for arm in arms}
    for step in generate(Site(llm, 2, 5.0), llm.encode("The cat"), arms, Sampling(12)):
        expected[step.arm] += step.text
    shown = board(at)
    assert list(shown) == ["unsteered", "raw", "walk", "glp"]
    assert {arm: text.replace("␣", " ") for arm, text in shown.items()} == {
        arm: re.sub(r"<[^>]+>", "", html.unescape(drawn(text))).replace("␣", " ") for arm, text in expected.items()
    }
    assert len(set(expected.values())) == 4
    assert at.get("plotly_chart")


def drawn(text):
    from dashboard.widgets import frame

    return "".join(frame.token_html(piece) for piece in [text])


def test_every_column_has_its_numbers(llm):
    at = run(open_page(steering_tokens="8", steering_extra="Gaussian prior"))
    shown_html = next(one.value for one in at.get("html") if 'data-run="done"' in one.value)
    assert shown_html.count('class="glp-card"') == 4 and "Gaussian prior" in shown_html
    assert len(re.findall(r"-?\d+\.\d\d nats/token", shown_html)) == 4
    assert len(re.findall(r"<dt>concept</dt><dd>[01]\.\d\d</dd>", shown_html)) == 4
    assert len(re.findall(r"<dt>kept push</dt><dd>-?\d+%</dd>", shown_html)) >= 1


def test_results_stay_when_a_control_changes_and_say_which_settings_are_theirs(llm, monkeypatch):
    linked = []
    monkeypatch.setattr(results, "files", lambda _run, _colour, link: linked.append(parse_qs(urlsplit(link).query)) or [])
    at = run(open_page(steering_tokens="6"))
    before, told = board(at), [one.value for one in at.caption if "last run" in one.value]
    assert before and not told
    at.slider(key="steering_strength").set_value(-2.0).run()
    assert board(at) == before and not at.exception
    told = next(one.value for one in at.caption if "last run" in one.value)
    assert "1 × median norm" in told and "2 ×" not in told and "Changed since: strength. Press Run" in told
    assert linked[-1]["steering_strength"] == ["1.0"] and linked[-1]["steering_direction"] == ["positive sentiment"]
    at.slider(key="steering_strength").set_value(1.0).run()
    assert not [one for one in at.caption if "last run" in one.value]


def test_a_run_whose_direction_was_made_anew_says_so(llm, workspace):
    at = run(open_page(steering_tokens="6", steering_direction="upwards"))
    before = board(at)
    files = list((workspace.folder / "directions").glob("*.safetensors"))
    for path in files:
        os.utime(path, (1, 1))
    at.run()
    assert files and board(at) == before and not at.exception
    assert any("Changed since: a direction or the prior, made anew" in one.value for one in at.caption)


def test_an_example_fills_in_the_prompt_and_what_goes_with_it(llm):
    at = open_page()
    chat = next(example for example in examples.EXAMPLES if example.mode == "chat")
    at.selectbox(key="steering_example").set_value(chat.title).run()
    assert at.text_area(key="steering_prompt").value == chat.prompt
    assert at.slider(key="steering_strength").value == chat.strength
    assert at.selectbox(key="steering_direction").value == "positive sentiment"  # this workspace has no such direction


def test_live_runs_again_when_a_control_that_matters_changes(llm):
    at = open_page(steering_tokens="6", steering_live="true")
    first = board(at)
    assert first
    at.slider(key="steering_strength").set_value(-3.0).run()
    second = board(at)
    assert second["unsteered"] == first["unsteered"] and second["raw"] != first["raw"]


TUNING = {
    "chosen": {
        "short": {"noise_level": 0.1, "pushes": 4, "hold": 0.5},
        "long": {"noise_level": 0.25, "pushes": 16, "hold": 0.0, "tilt": -0.6},
        "border": 0.9,
    },
    "lengths": {"up": 1.5, "positive": 1.2},
}


def test_a_tuned_workspace_walks_by_its_rule_until_own_numbers_are_asked_for(llm, workspace):
    workspace.save_report("walk_tuning", TUNING)
    query = {"steering_tokens": "8", "steering_direction": "upwards", "steering_prompt": "The cat", "steering_strength": "0.8"}
    direction, glp, texts = workspace.direction("up"), resources.glp(), {}
    for name, settings in (("tuned", workspace.walk()), ("own", WalkSettings(0.3, 8, 0.5))):
        arms = [Arm("walk", direction.vector, 0.8, make_projector("walk", glp=glp, walk=settings))]
        text = "".join(s.text for s in generate(Site(llm, 2, 5.0), llm.encode("The cat"), arms, Sampling(8)))
        texts[name] = re.sub(r"<[^>]+>", "", html.unescape(drawn(text)))
    at = run(open_page(**query))
    assert not at.exception and board(at)["walk"] == texts["tuned"]
    assert at.selectbox(key="steering_walk").value == request.TUNED
    assert not [one for one in at.number_input if one.key == "steering_pushes"]
    own = {"steering_walk_noise": "0.3", "steering_pushes": "8", "steering_hold": "0.5"}
    at = run(open_page(**query, **own))  # a link of before there was a choice
    assert at.selectbox(key="steering_walk").value == request.OWN_NUMBERS
    assert board(at)["walk"] == texts["own"]


def test_the_words_of_a_tuned_walk_are_those_of_its_pushs_length(llm, workspace):
    workspace.save_report("walk_tuning", TUNING)
    rule = examples.walk_rule()
    assert rule.at("up", 0.3).words == "4 pushes at noise level 0.1, 50% held"
    assert rule.at("up", -1.0).words == "16 pushes at noise level 0.4 falling to 0.1, 0% held"
    assert rule.at("unit:1/2", 1.0) is None
    workspace.save_report("walk_tuning", {"chosen": {"short": 3}, "lengths": {}})
    assert examples.walk_rule() is None
    with pytest.raises(GlpError, match="tune-walk"):
        workspace.walk()


def test_the_page_begins_with_the_walk_of_the_core():
    first = {name: param.default for name, param in request.params([]).items()}
    assert WalkSettings() == WalkSettings(noise_level=first["walk_noise"], pushes=first["pushes"], hold=first["hold"])


@pytest.mark.parametrize("measured", [True, False], ids=["with a reference", "without one"])
def test_where_nothing_was_tuned_pages_and_commands_walk_alike(llm, workspace, measured):
    if not measured:
        workspace.report_path("reference").unlink()
    walk = workspace.walk()
    assert (walk.bound is not None) == measured
    first = {name: param.default for name, param in request.params([]).items()}
    share = walk.bound.share if walk.bound else 0.0
    assert [first[name] for name in ("walk_noise", "pushes", "hold", "bound")] == [
        walk.noise_level,
        walk.pushes,
        walk.hold,
        share,
    ]
    if walk.bound:
        assert walk.bound.error == pytest.approx(Reference(workspace.report("reference")).error_at(0.95))
    query = {"steering_tokens": "6", "steering_direction": "upwards", "steering_prompt": "The cat", "steering_strength": "2.0"}
    at = run(open_page(**query))
    assert not at.exception and not at.error
    arms = [Arm("walk", workspace.direction("up").vector, 2.0, make_projector("walk", glp=resources.glp(), walk=walk))]
    text = "".join(s.text for s in generate(Site(llm, 2, 5.0), llm.encode("The cat"), arms, Sampling(6)))
    assert board(at)["walk"] == re.sub(r"<[^>]+>", "", html.unescape(drawn(text)))


def test_another_mode_takes_an_example_of_its_own_and_leaves_what_a_person_wrote(llm):
    at = open_page()
    at.segmented_control(key="steering_mode").set_value("chat").run()
    assert at.text_area(key="steering_prompt").value == examples.for_mode("chat").prompt
    at.text_area(key="steering_prompt").set_value("My own words").run()
    at.segmented_control(key="steering_mode").set_value("continue").run()
    assert at.text_area(key="steering_prompt").value == "My own words"


def test_live_shortens_the_texts_once(llm):
    at = open_page(steering_tokens="64")
    at.toggle(key="steering_live").set_value(True).run()
    assert at.number_input(key="steering_tokens").value == controls.LIVE_TOKENS and board(at)
    assert open_page(steering_tokens="30", steering_live="true").number_input(key="steering_tokens").value == 30


def test_the_line_under_the_board_is_that_of_the_drawn_columns(llm):
    at = run(open_page(steering_tokens="16"))
    shown_html = next(one.value for one in at.get("html") if "glp-verdict" in one.value)
    repeated = re.findall(
        r"<dt>repetition</dt><dd>(\d+%) of tokens", next(one.value for one in at.get("html") if "data-run" in one.value)
    )
    raw, walk, plain = (repeated[i] for i in (1, 2, 0))
    assert f"Raw repeats {raw} of its tokens, the walk {walk}, unsteered {plain}." in shown_html


def test_an_empty_prompt_is_told_and_nothing_is_lost(llm):
    at = run(open_page(steering_tokens="6"))
    before = board(at)
    at.text_area(key="steering_prompt").set_value("  ")
    run(at)
    assert "Prompt is empty" in at.error[0].value and board(at) == before


def test_a_prompt_of_100000_characters_is_refused_and_kept(llm):
    at = open_page()
    at.text_area(key="steering_prompt").set_value("word " * 20_000)
    run(at)
    assert "100,000 characters" in re.sub(r"\\(.)", r"\1", at.error[0].value)
    assert len(at.text_area(key="steering_prompt").value) == 100_000


def test_a_browser_that_sends_what_no_widget_offers_is_refused(llm):
    directions = workspace_facts.directions()
    listed = request.params(directions)
    values = {name: param.default for name, param in listed.items()}
    assert request.checked(values, listed, directions).direction == "positive"
    for name, bad in (
        ("strength", NAN),
        ("direction", "../../etc/passwd"),
        ("max_tokens", 10**9),
        ("solver", "eval"),
        ("seed", None),
    ):
        with pytest.raises(GlpError, match="wanted"):
            request.checked(values | {name: bad}, listed, directions)


def test_an_error_of_the_core_is_shown_in_a_box(llm, monkeypatch):
    def broken(_folder, _name):
        raise GlpError("positive.safetensors is damaged. Copy it again.")

    monkeypatch.setattr(resources, "_direction", broken)
    at = run(open_page())
    assert "is damaged" in re.sub(r"\\(.)", r"\1", at.error[0].value)


def with_a_wrong_shape(path):
    return {name: tensor.clone() for name, tensor in load_file(path).items()} | {"ln.weight": torch.ones(3)}


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda path: path.write_bytes(path.read_bytes()[:-100]), "is cut off"),
        (lambda path: path.unlink(), "No checkpoint 'final'"),
        (lambda path: path.write_bytes(pickle.dumps({"in_proj.weight": [1.0]}, protocol=4)), "is a pickle"),
        (lambda path: path.write_bytes(struct.pack("<Q", 1 << 30) + path.read_bytes()[8:]), "header of 1,073,741,824 bytes"),
        (lambda path: save_file({"in_proj.weight": torch.ones(3)}, path), "too few for n_layers"),
        (lambda path: save_file(with_a_wrong_shape(path), path), "ln.weight has shape (3,)"),
    ],
)
def test_a_damaged_checkpoint_is_told_on_the_page_and_works_again_once_it_is_whole(llm, workspace, damage, words):
    path = workspace.folder / "glp" / "final.safetensors"
    whole = path.read_bytes()
    damage(path)
    at = run(open_page(steering_tokens="4"))
    assert not at.exception and words in re.sub(r"\\(.)", r"\1", at.error[-1].value)
    open_page("overview")
    path.write_bytes(whole)
    assert board(run(at))


def test_a_prior_of_another_model_is_told(llm, workspace):
    save_glp(tiny.tiny_glp(tiny.WIDTH + 8), workspace.folder / "glp", about={})
    at = run(open_page(steering_tokens="4"))
    assert not at.exception and "is it the GLP of this LLM?" in re.sub(r"\\(.)", r"\1", at.error[-1].value)


def test_activations_that_are_not_numbers_are_told(llm):
    at = open_page(steering_tokens="4")
    with torch.no_grad():
        llm.model.model.layers[0].mlp.down_proj.weight.fill_(NAN)
    run(at)
    assert not at.exception and "not finite numbers" in re.sub(r"\\(.)", r"\1", at.error[-1].value)
    assert at.text_area(key="steering_prompt").value == examples.EXAMPLES[0].prompt


def test_a_run_that_waits_says_its_place(llm, monkeypatch):
    runner, gate = JobRunner(), threading.Event()

    def work(_cancelled):
        yield gate.wait(10)

    monkeypatch.setattr(resources, "runner", lambda: runner)
    monkeypatch.setattr(resources, "warm_up", lambda: SimpleNamespace(live=False))
    jobs = [runner.submit(f"session {i}", work, grace=None) for i in range(3)]
    while not jobs[0].events and jobs[0].state == "waiting":
        time.sleep(0.01)
    words = [follow.waiting_words(job) for job in jobs]
    gate.set()
    assert words[0] == "Starting …"
    assert words[1].startswith("Number 1 in the queue") and words[2].startswith("Number 2 in the queue")


def test_a_bug_is_not_swallowed(llm, monkeypatch):
    monkeypatch.setattr(resources, "_direction", lambda _folder, _name: 1 / 0)
    at = open_page()
    run(at)
    assert len(at.exception) == 1  # its text goes to the log, not to the visitor


def test_a_full_queue_is_told(llm, monkeypatch):
    def full(_work, **_how):
        raise GlpError("12 requests are waiting, and no more are taken. Try again in a minute.")

    monkeypatch.setattr(resources, "submit", full)
    at = run(open_page())
    assert "12 requests are waiting" in at.error[0].value


def test_without_directions_the_page_says_how_to_make_one_and_offers_no_run(llm, workspace):
    for path in (workspace.folder / "directions").iterdir():
        path.unlink()
    at = open_page()
    assert "steering_start" not in [button.key for button in at.button]
    commands = [one.value for one in at.code]
    assert commands == [f"python -m glp_core directions --workspace {workspace.folder.name}"]
    for command in commands:
        parse(shlex.split(command)[3:])


def test_the_texts_can_be_copied(llm):
    at = run(open_page(steering_tokens="6"))
    copied = next(one.proto.json for one in at.get("bidi_component") if "Manifold walk:" in one.proto.json)
    assert "Prompt: " + examples.EXAMPLES[0].prompt in copied and "kept" in copied


def test_a_neuron_that_is_low_on_a_concept_opens_with_a_push_away_from_it(monkeypatch):
    links = []
    monkeypatch.setattr(neuron_links.st, "page_link", lambda _page, **look: links.append(look["query_params"]))
    for sign in (-1, 1):
        neuron_links.neuron_links(1, 3, lambda sign=sign: neuron_links.Push(0.3 * sign, 4.2 * sign))
    assert [link["steering_strength"] for link in links if "steering_strength" in link] == ["-0.3", "0.3"]


def test_the_overview_tells_the_workspaces_facts_and_what_is_missing(llm):
    at = open_page("overview")
    text = " ".join(one.value for one in at.get("html"))
    assert "Tiny &lt;b&gt;LLM&lt;/b&gt;" in text and "2.0 M activations" in text
    assert "not measured: run python -m glp_core evaluate" in text
    assert "data:image/svg+xml" in text


def test_the_overview_shows_what_the_reports_say(llm, workspace):
    delta = {"glp": 0.2, "gaussian_mean": 0.77, "mean_ablation": 5.7}
    report = {"validation_loss": 1.0123, "gaussian_loss": 1.42, "delta_lm": delta}
    sizes = {"validation": {"activations": 16384}, "delta_lm": delta | {"documents": 128, "tokens": 64}}
    for more, said in (({}, False), (sizes, True)):
        workspace.save_report("evaluate", report | more)
        text = " ".join(one.value for one in open_page("overview").get("html"))
        assert "1.012 (Gaussian prior 1.420)" in text and "by 0.200 nats" in text
        assert ("on 16,384 held-out activations" in text) == ("on 128 held-out texts of 64 tokens" in text) == said


def test_the_unsteered_text_is_read_as_the_others_are():
    llm = tiny.make_tiny_llm()
    home, ids = Site(llm, 1, 4.0), llm.encode("The cat")
    vector = torch.randn(tiny.WIDTH, generator=torch.Generator().manual_seed(0))
    arms = [Arm("unsteered"), Arm("raw", vector / vector.norm(), 2.0)]
    written = {arm.name: [] for arm in arms}
    for step in generate(home, ids, arms, Sampling(8)):
        written[step.arm].append(step)
    wanted, means = clean_reading(home, ids, [[step.token for step in steps] for steps in written.values()])
    for listed in (list(written.values()), [written["raw"], written["raw"]]):
        read, got = steering_run._read(home, ids, listed)
        rows = [0, 1] if listed[0] is written["unsteered"] else [1, 1]
        assert all(one == pytest.approx(wanted[row], abs=1e-4) for one, row in zip(read, rows, strict=True))
        torch.testing.assert_close(got, means[rows], atol=1e-4, rtol=1e-4)
    (one, other), _ = steering_run._read(home, ids, [written["raw"]] * 2)
    assert one == pytest.approx(other, abs=1e-5), "a text that is the same has the same numbers"


def test_a_long_prompt_is_read_back_in_parts_until_it_is_cancelled(llm):
    site, stopped = Site(llm, 1, 1e9), []
    ids = [llm.first_id, *[3] * 4 * READ_AT_ONCE]
    parts = steering_run._read_again(site, ids, lambda: bool(stopped))
    assert next(parts) == [] and next(parts) == []
    stopped.append(True)
    assert list(parts) == [], "no further part is read"
    assert list(steering_run._read_again(site, ids[:9], lambda: False)) == [], "a short one is not read apart"


def test_a_folder_that_is_no_workspace_is_told(monkeypatch, tmp_path):
    monkeypatch.setenv(workspace_facts.FOLDER_VARIABLE, str(tmp_path))
    at = AppTest.from_file(pages.ENTRY, default_timeout=pages.SECONDS).run()
    assert any("No workspace.json" in re.sub(r"\\(.)", r"\1", error.value) for error in at.error)


HOSTILE = ["<script>alert(1)</script>", '"><img src=x onerror=alert(1)>', "\u202e\x00", "</style>"]


@pytest.fixture
def hostile():
    asked = Request(HOSTILE[0], "continue", "up", HOSTILE[1], 1.0, "walk", 0.25, 16, 0.0, 0.5, "euler", 20, 8, 0.0, 0, "none")
    tokens = [Step(i, "raw", i, text, -1.0, 1.0, NAN if i == 2 else 2.0, NAN, 0.02, False) for i, text in enumerate(HOSTILE)]
    return Comparison(asked, {"raw": Column("raw", tokens, CleanReading("raw", [-1.0] * 4, NAN))}, (0.8, 1.2), 3)


def test_the_exported_page_stands_alone_and_escapes_everything(hostile):
    page = export.as_html(hostile, "distance", {"LLM": HOSTILE[3]}, "http://127.0.0.1/?a=<b>")
    for words in ("<script", "<img", "\u202e", "\x00"):
        assert words not in page
    assert page.count("</style>") == 1
    assert html.escape(HOSTILE[0]) in page and "⟨U+202E⟩␀" in page


def test_a_copied_text_shows_the_line_breaks_that_it_broke_into(hostile):
    ends = [Step(9, "raw", 9, "\n\n", -1.0, 1.0, 2.0, NAN, 0.02, False)] * 2
    hostile.columns["raw"].tokens.extend(ends)
    assert export.as_text(hostile).rstrip().endswith("↵↵↵↵")


def test_the_exported_json_holds_every_number_and_no_nan(hostile):
    exported = json.loads(export.as_json(hostile, {"LLM": "x"}), parse_constant=lambda name: pytest.fail(name))
    column = exported["columns"][0]
    assert column["text"] == "".join(HOSTILE) and column["concept"] is None
    assert [token["distance"] for token in column["tokens"]] == [2.0, 2.0, None, 2.0]
    assert exported["request"]["strength"] == 1.0 and column["distance"] == 2.0
    assert exported["request"]["pushes"] == 16 and exported["request"]["walk_went"].startswith("16 pushes")


def test_the_exported_json_of_a_tuned_walk_has_none_of_the_numbers_that_it_did_not_take(hostile, monkeypatch):
    monkeypatch.setattr(
        examples, "walk_rule", lambda: examples.TunedWalk(examples.Walk(0.1, 8, 0.5), examples.Walk(), 9.0, {"up": 1.0})
    )
    tuned = replace(hostile, request=replace(hostile.request, walk=request.TUNED))
    asked = json.loads(export.as_json(tuned, {}))["request"]
    assert (
        asked["walk_went"].startswith("8 pushes at noise level 0.1") and asked["pushes"] is None and asked["walk_noise"] is None
    )
