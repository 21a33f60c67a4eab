"""The Lab's Sweep and Saved runs, on a tiny workspace of another model than the demo's: run, go on, open, compare, take along."""

import errno
import json
import math
import os
import time
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from dashboard.lab.sweeps import export, form, results, running, view
from dashboard.service import resources, workspace_facts
from dashboard.service.visitors import origin
from dashboard.widgets import url
from glp_core.errors import GlpError
from glp_core.prior.checkpoint import save_glp
from glp_core.steering.directions import Direction
from glp_core.steering.sweeps import engine
from glp_core.steering.sweeps.cells import Text, cells, count, key
from glp_core.steering.sweeps.config import Along, Scorer, SweepConfig
from glp_core.steering.sweeps.runs import Runs
from glp_core.steering.sweeps.store import SweepStore
from tests.support import pages, tiny

PROMPTS = ("The cat <b>sat</b>", "She said")
BAD = "<script>alert(1)</script>"


@pytest.fixture
def workspace(tmp_path, monkeypatch):
    folder = tmp_path / "workspace"
    made = pages.make_workspace(folder)
    pages.use_workspace(monkeypatch, folder)
    monkeypatch.setattr(origin, "on_this_machine_only", lambda: True)
    running.sweepings.clear()
    yield made
    for one in running.sweepings()._by_run.values():
        one.stop()
        one._thread.join(20)


def small(**changes):
    along = (Along("up", "upwards", (0.5, 1.0)),)
    return SweepConfig(**{"prompts": PROMPTS, "directions": along, "arms": ("raw", "walk", "opposite"), "tokens": 4} | changes)


def first_key(config):
    return key(config, next(cells(config)))


def ended(folder, run):
    deadline = time.monotonic() + 60
    while (sweeping := running.sweepings().of(folder, run)) is None or sweeping.live:
        assert time.monotonic() < deadline, "it does not end"
        time.sleep(0.02)
    return sweeping


def at_work(workspace, monkeypatch, run):
    """Go on with a run that works until it is stopped; return it."""

    def work(self):
        self._stop.wait(60)
        self._keep("stopped", "")

    monkeypatch.setattr(running.Sweeping, "_work", work)
    return running.sweepings().start(workspace.folder.resolve(), run)


def saved_as(workspace, run, **changes):
    """Keep a run again, with other settings and the same texts; return its name."""
    runs = Runs(workspace.sweeps)
    facts, config = runs.facts(run), replace(runs.config(run), **changes)
    other = runs.begin(config, count(config))
    runs.save(other, runs.texts(run), {})
    runs.tell(facts._replace(id=other))
    return other


def written(workspace, **changes):
    """Write a sweep as the page does; return its name."""
    run = running.begin(small(**changes))
    assert ended(workspace.folder.resolve(), run).facts.state == "done"
    return run


def test_the_form_runs_a_sweep_that_the_address_names_and_saves(workspace):
    at = pages.open_page("lab", lab_view="Sweep")
    at.text_input(key="lab_sweep_strengths").set_value("0.5, x")
    at.run()
    assert "no number" in at.error[0].value and at.button(key="lab_sweep_run").disabled
    at.text_input(key="lab_sweep_strengths").set_value("0.5, 1")
    at.number_input(key="lab_sweep_tokens").set_value(4)
    at.text_area(key="lab_sweep_prompts").set_value("\n".join(PROMPTS))
    at.button_group(key="lab_sweep_arms").set_value(["raw", "walk", "opposite"])
    at.run()
    assert any(f"{count(small())} texts" in caption.value for caption in at.caption), [one.value for one in at.caption]
    at.number_input(key="lab_sweep_tokens").set_value(3)  # and pressed before the page is drawn with it
    at.button(key="lab_sweep_run").click().run()
    run = "".join(at.query_params["lab_run"])
    ended(workspace.folder.resolve(), run)
    at.run()
    assert not at.exception and not at.error
    said = " ".join(one.value for one in at.markdown)
    assert "Controls" in said and "hypervolume" in said
    facts = Runs(workspace.sweeps).facts(run)
    assert facts.state == "done" and facts.done == facts.total == count(small())
    config = Runs(workspace.sweeps).config(run)
    assert config.tokens == 3
    assert config.made_with["glp"] == workspace.glp_digest() and config.directions[0].digest == workspace.direction_digest(
        config.directions[0].name
    )


@pytest.mark.parametrize(("run", "words"), [("../../etc", "no saved run"), ("not-there", "no saved run")])
def test_a_link_to_a_run_that_is_none_is_named(workspace, run, words):
    at = pages.open_page("lab", lab_view="Sweep", lab_run=run)
    shown = [one.value for one in (*at.error, *at.warning)]
    assert any(words in one.replace("\\", "") for one in shown), shown


def test_a_run_that_a_killed_server_left_goes_on_when_it_is_opened_and_a_stopped_one_does_not(workspace):
    stamped = running.stamp(small())
    runs = Runs(workspace.sweeps)
    run = runs.begin(stamped, count(stamped))
    runs.tell(runs.facts(run)._replace(state="stopped"))
    at = pages.open_page("lab", lab_view="Sweep", lab_run=run)
    assert running.sweepings().of(workspace.folder.resolve(), run) is None and "Stopped after 0 of" in at.warning[
        0
    ].value.replace("\\", "")
    runs.tell(runs.facts(run)._replace(state="running"))
    at.run()
    assert ended(workspace.folder.resolve(), run).facts.state == "done" and runs.facts(run).done == count(stamped)


def test_a_run_does_not_go_on_with_another_prior(workspace):
    stamped = running.stamp(small())
    runs = Runs(workspace.sweeps)
    run = runs.begin(stamped, count(stamped))
    before, glp = workspace.glp_digest(), tiny.tiny_glp()
    with torch.no_grad():
        next(glp.network.parameters()).mul_(1.5)
    save_glp(glp, workspace.folder / "glp", about={}, covariance=torch.eye(tiny.WIDTH))
    os.utime(workspace.folder / "glp" / "final.safetensors", (1, 1))  # another time, however fast this machine is
    at = pages.open_page("lab", lab_view="Sweep", lab_run=run)
    facts = ended(workspace.folder.resolve(), run).facts
    assert (facts.state, facts.done) == ("failed", 0) and f"the prior: made with {before}, here it is" in facts.error
    assert "Press Run for a new sweep" in facts.error and not SweepStore(workspace.sweeps).entries(first_key(stamped))
    at.run()
    assert "Press Run for a new sweep" in at.error[0].value.replace("\\", "") and not at.exception


def test_a_sweep_ends_when_its_direction_changes_on_its_way(workspace, monkeypatch):
    write = engine.write_batch

    def then_change(bench, config, store, batch, *, cancelled):
        write(bench, config, store, batch, cancelled=cancelled)
        pages.direction("up", "upwards", 2).save(workspace.folder / "directions")
        os.utime(workspace.folder / "directions" / "up.safetensors", (1, 1))

    monkeypatch.setattr(engine, "write_batch", then_change)
    run = running.begin(small())
    facts = ended(workspace.folder.resolve(), run).facts
    assert facts.state == "failed" and "the direction up is another one here" in facts.error
    assert 0 < facts.done < facts.total, "what the first batch wrote is kept, and no more is written"


def test_what_texts_are_made_with_follows_the_titles_of_directions(workspace):
    before = running.stamp(small())
    pages.direction("up", "higher up", 1).save(workspace.folder / "directions")
    os.utime(workspace.folder / "directions" / "up.safetensors", (1, 1))
    after = running.stamp(small())
    assert after.directions[0].title == "higher up" and after.directions[0].digest == before.directions[0].digest


def test_what_texts_are_made_with_follows_the_reference_that_bounds_an_untuned_walk(workspace):
    before, reference = running.stamp(small()), workspace.report("reference")
    workspace.report_path("reference").unlink()
    assert running.stamp(small()).made_with["walk"]["bound"] is None
    workspace.save_report("reference", reference)
    assert running.stamp(small()).made_with == before.made_with


def test_visitors_from_elsewhere_look_on(workspace, monkeypatch):
    run = written(workspace)
    monkeypatch.setattr(origin, "on_this_machine_only", lambda: False)
    at = pages.open_page("lab", lab_view="Sweep", lab_run=run)
    assert at.button(key="lab_sweep_run").disabled and any("hypervolume" in one.value for one in at.markdown)
    at = pages.open_page("lab", lab_view="Saved runs", lab_run=run)
    assert not [one for one in at.button if one.key == "lab_saved_delete"]
    sweeping = at_work(workspace, monkeypatch, run)
    at = pages.open_page("lab", lab_view="Sweep", lab_run=run)
    assert at.button(key="lab_sweep_stop").disabled
    view._stop(sweeping)
    assert not sweeping._stop.is_set(), "nor by a click that comes from a page drawn before"
    monkeypatch.setattr(origin, "on_this_machine_only", lambda: True)
    assert not at.run().button(key="lab_sweep_stop").disabled
    view._stop(sweeping)
    assert sweeping._stop.is_set()


def test_a_sweep_that_is_being_written_is_not_deleted_and_a_deleted_one_writes_nothing(workspace, monkeypatch):
    run, runs = written(workspace), Runs(workspace.sweeps)
    at = pages.open_page("lab", lab_view="Saved runs", lab_run=run)
    sweeping = at_work(workspace, monkeypatch, run)
    at.button(key="lab_saved_delete").click().run()
    assert "being written" in at.error[0].value and runs.has(run)
    runs.delete(run)  # by another process
    sweeping._tell("running")
    assert sweeping._stop.is_set()
    ended(workspace.folder.resolve(), run)
    assert not runs.path(run).exists()


def test_a_direction_without_a_probe_is_refused_before_anything_is_written(workspace):
    Direction.unmeasured(
        torch.ones(tiny.WIDTH), name="bare", title="bare one", layer=2, median_norm=5.0, how="by hand", about={}
    ).save(workspace.folder / "directions")
    config = small(directions=(Along("bare", "bare one", (0.5,)),))
    assert resources.warm_up().wait(30)
    for ask in (running.begin, form.cost):
        with pytest.raises(GlpError, match=r"bare one: no concept probe.*--measure TABLE"):
            ask(config)
    assert not Runs(workspace.sweeps).listed()
    by_words = small(directions=config.directions, scorer=Scorer("lexicon", ("the",)))
    assert form.cost(by_words)[0] == count(by_words)
    stamped = running.stamp(config)  # as it was begun before
    run = Runs(workspace.sweeps).begin(stamped, count(stamped))
    running.sweepings().start(workspace.folder.resolve(), run)
    assert ended(workspace.folder.resolve(), run).facts.state == "done"
    for place in ("Sweep", "Saved runs"):
        at = pages.open_page("lab", lab_view=place, lab_run=run)
        assert any("it has no concept probe" in one.value for one in at.warning), place
        assert not any("being written" in one.value for one in at.caption)


@pytest.mark.parametrize(("arm", "level"), [("walk", 0.2), ("glp", 0.3), ("raw", None)])
def test_steering_takes_a_recommended_setting(workspace, monkeypatch, arm, level):
    monkeypatch.setattr(url, "page_link", lambda page, values: values)
    values = results.steering_link(small(), "up", {"arm": arm, "noise_level": level, "strength": 0.7})
    at = pages.open_page("steering", **{name: str(value) for name, value in values.items()})
    assert not at.warning and not at.error
    assert at.slider(key="steering_strength").value == 0.7 and at.selectbox(key="steering_direction").value == "upwards"
    assert at.text_area(key="steering_prompt").value == PROMPTS[0]


@pytest.mark.filterwarnings("error::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_sweep_that_fills_the_disk_says_so_and_goes_on_when_there_is_room(workspace, monkeypatch):
    replace, kept = os.replace, []

    def full(scratch, path):
        if kept:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        kept.extend([path] if "cells" in str(path) else [])
        replace(scratch, path)

    monkeypatch.setattr(os, "replace", full)
    run = running.begin(small())
    stopped = ended(workspace.folder.resolve(), run).facts
    assert stopped.state == "failed" and "No space left on device" in stopped.error
    monkeypatch.setattr(os, "replace", replace)
    running.sweepings().start(workspace.folder.resolve(), run)
    assert ended(workspace.folder.resolve(), run).facts.state == "done"
    assert len(Runs(workspace.sweeps).texts(run)) == count(small())


def test_two_saved_runs_are_compared_and_one_is_deleted(workspace):
    first, second = written(workspace), written(workspace, tokens=5, title=BAD)
    at = pages.open_page("lab", lab_view="Saved runs", lab_run=first, lab_other=second)
    settings, curves = (one.value for one in at.dataframe[:2])
    assert list(settings["setting"]) == ["tokens"] and list(settings.iloc[0]) == ["tokens", "4", "5"] and set(curves["curve"]) == {
        "Raw steered", "Manifold walk", "Wrong sign"
    }  # fmt: skip
    assert len(at.get("plotly_chart")) == 2
    at.button(key="lab_saved_delete").click().run()
    assert [one.id for one in Runs(workspace.sweeps).listed()] == [second] and not at.exception


def test_two_runs_are_said_to_be_alike_only_where_nothing_that_decides_their_numbers_differs(workspace):
    first = written(workspace)
    alike = saved_as(workspace, first, title="the same again")
    at = pages.open_page("lab", lab_view="Saved runs", lab_run=first, lab_other=alike)
    assert any("settings are the same" in one.value for one in at.caption)
    config = Runs(workspace.sweeps).config(first)
    walk = config.made_with["walk"] | {"noise_level": 0.9}
    along = tuple(replace(one, digest="1234") for one in config.directions)
    other = saved_as(workspace, first, walk_pushes=3, directions=along, made_with=config.made_with | {"walk": walk})
    at = pages.open_page("lab", lab_view="Saved runs", lab_run=first, lab_other=other)
    assert not any("settings are the same" in one.value for one in at.caption)
    told = list(at.dataframe[0].value["setting"])
    assert told == ["walk pushes", "digest of upwards (up)", "the tuned walk, noise_level"]


def test_the_report_holds_all_texts_escaped_fetches_nothing_and_its_settings_run_again(workspace):
    run = written(workspace, prompts=(*PROMPTS, BAD), title=BAD)
    facts, shown = Runs(workspace.sweeps).facts(run), view.saved(run)
    page = export.as_html(facts, shown, "python -m glp_core sweep-steering --workspace '<b>'")
    assert "--workspace &#x27;&lt;b&gt;&#x27;" in page
    head, _, body = page.partition("</head>")
    assert "default-src 'none'" in head and BAD not in page and "&lt;script&gt;alert(1)" in body
    assert 'src="http' not in page.replace("'", '"').split("<body>")[1] and "<link" not in body
    texts = [text for cell, entries in shown.found.items() if cell.arm != "drawn" for text in entries]
    assert body.count('class="glp-prompt"') >= len(texts)
    again = form.read_upload("x.json", export.as_settings(shown).encode())
    assert again == shown.config
    files = {one.label: one.data for one in export.files(facts, shown)}
    lines = [json.loads(line) for line in files["JSON lines: texts"]().splitlines()]
    assert len(lines) == facts.total == len(export.as_table(shown))


@pytest.mark.parametrize(
    ("name", "data", "wanted"),
    [
        ("a.txt", b"one\n\n two  words \none\n", ["one", "two words"]),
        ("a.csv", b"text;label\na b;1\nc;0\n", ["a b", "c"]),
        ("a.csv", b"label,prompt,text\n1,\"a,b\",x\n", ["a,b"]),
        ("a.jsonl", b'{"prompt": "a"}\n{"prompt": "b"}\n', ["a", "b"]),
    ],
)  # fmt: skip
def test_prompts_are_read_from_files(name, data, wanted):
    assert form.read_upload(name, data) == wanted


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"words,label\na,1\n", "first line names the columns 'words'"),
        (b'{"format": "glp-explorer sweep 1"', "no JSON"),
        (b'{"format": "glp-explorer sweep 1", "prompts": []}', "directions"),
        (b"prompt\n\n", "no prompts"),
    ],
)
def test_files_that_are_none_are_named(data, words):
    with pytest.raises(GlpError, match=words):
        form.read_upload("a.csv", data)


def test_what_the_form_does_not_hold_of_an_uploaded_sweep_is_told(workspace, monkeypatch):
    along = (Along("up", "upwards", (0.5, 1.0)), Along("gone", "Gone", (0.5,)))
    config = small(directions=along, tokens=400, seeds=(3, 4), walk_levels=(0.1,), walk_pushes=4, prompts=("The  cat", "She"))
    wanted = [
        "no direction Gone here",
        "each direction's own strengths",
        "400 tokens, 256 at most",
        "seeds other than 0, 1 and so on",
    ]
    wanted += ["walks of 4 parts", "line breaks and double spaces in prompts"]
    assert form.not_held(config, {"up"}) == wanted and form.not_held(small(walk_pushes=4), {"up"}) == []
    data = json.dumps(config.to_json()).encode()
    state = {form.UPLOAD: SimpleNamespace(name="config.json", size=len(data), getvalue=lambda: data)}
    monkeypatch.setattr(form.st, "session_state", state)
    form._uploaded()
    assert state["lab_sweep_tokens"] == 256 and state[f"{form.UPLOAD}_left_out"][:2] == wanted[:2]
    monkeypatch.undo()
    pages.use_workspace(monkeypatch, workspace.folder)
    at = pages.open_page("lab", lab_view="Sweep")
    at.session_state[f"{form.UPLOAD}_left_out"] = wanted[:1]
    at.run()
    told = " ".join(one.value for one in at.warning)
    assert "no direction Gone here" in told and "sweep-steering config.json" in told.replace("\\", "")


def test_a_workspace_without_directions_says_how_to_make_one(workspace):
    for path in (workspace.folder / "directions").iterdir():
        path.unlink()
    at = pages.open_page("lab", lab_view="Sweep")
    assert not at.exception and workspace_facts.folder() == workspace.folder.resolve()


def test_a_text_that_nobody_judged_says_so(monkeypatch):
    monkeypatch.setattr(results, "concept_of", lambda *_: lambda *_: math.nan)
    monkeypatch.setattr(results, "question_name", lambda *_: "")
    entry = SimpleNamespace(text=" sat", log_probability=-1.5, repetition=0.1)
    shown = results.box(SimpleNamespace(config=None, judged={}), Text("The cat", 0), {Text("The cat", 0): entry}, "Raw")
    assert "not judged · log-probability -1.50 · 10% repeated" in shown
