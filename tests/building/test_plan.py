"""What a build has to do: what is made stays, what another prior made or other sizes asked for is made anew, needs come first."""

import os
import time
from dataclasses import replace

import pytest
import torch

from glp_core.building import costs
from glp_core.building.about import ABOUT
from glp_core.building.costs import Rates, Work, disk, seconds
from glp_core.building.plan import make_plan, path_of
from glp_core.building.prepare import _record
from glp_core.building.sizes import EFFORTS, FULL, QUICK, on_other_device, sizes_of
from glp_core.building.stages import prior_width, stages
from glp_core.building.state import BuildState, StageRecord
from glp_core.building.subject import Subject
from glp_core.cli.commands import parse
from glp_core.errors import GlpError
from glp_core.files import write_json
from glp_core.llm.sources import LlmSource
from glp_core.workspace import Workspace
from tests.support.reference import write_released_folder


@pytest.mark.parametrize("kind", ["cuda", "mps"])
def test_an_accelerator_is_waited_for_before_its_time_is_taken(monkeypatch, kind):
    waited = []
    monkeypatch.setattr(getattr(torch, kind), "synchronize", lambda *_: waited.append(kind))
    costs._seconds(lambda: None, torch.device(kind))
    assert waited == [kind] * 2


@pytest.fixture
def subject(tmp_path, monkeypatch):
    monkeypatch.setenv("GLP_EXPLORER_CACHE", str(tmp_path / "cache"))
    workspace = Workspace(tmp_path / "my", "my", LlmSource("folder", "/llm", title="llm"), layer=3, median_norm=1.0)
    return Subject(workspace, "/llm", width=64, chat=True)


def make(stage, workspace, *, digest=None):
    """Write files as a stage does."""
    for name in stage.makes:
        path = path_of(name, workspace)
        if path.suffix == ".json" and stage.about.of_prior:
            write_json(path, {"facts": {"glp": digest or workspace.glp_digest()}})
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("{}")


@pytest.fixture
def all_made(subject):
    for stage in stages(subject, QUICK):
        make(stage, subject.workspace)
    return subject


def todo(subject, sizes=QUICK, state=None, only=()):
    state = state or BuildState(effort=sizes.name)
    return [stage.name for stage in make_plan(stages(subject, sizes), subject.workspace, state, only).todo]


@pytest.mark.parametrize("sizes", [QUICK, FULL])
def test_in_an_empty_folder_everything_is_made_each_stage_after_what_it_reads(subject, sizes):
    planned = todo(subject, sizes)
    assert set(planned) == {name for name in ABOUT if name != "tuning" or sizes.tuned}
    for stage in stages(subject, sizes):
        assert all(planned.index(need) < planned.index(stage.name) for need in stage.needs)


def test_the_index_comes_before_probing_when_it_is_to_be_quick_and_after_it_else(subject):
    quick, full = todo(subject, QUICK), todo(subject, FULL)
    assert quick.index("index") < quick.index("probing") and full.index("probing") < full.index("index")


def test_what_somebody_made_with_the_commands_is_not_made_again(all_made):
    assert todo(all_made) == []


def test_a_single_stage_brings_what_it_needs_and_nothing_else(subject):
    assert todo(subject, only=["map"]) == ["collect", "prior", "index", "sae", "probing", "map"]


def test_what_only_feeds_others_is_made_again_only_for_them(all_made):
    for stage in stages(all_made, QUICK):
        if stage.about.supply:
            path_of(stage.makes[-1], all_made.workspace).unlink()
    assert todo(all_made) == []
    (all_made.workspace.folder / "reports" / "evaluate.json").unlink()
    assert todo(all_made) == ["collect", "evaluate"]


def test_another_prior_makes_stale_what_was_made_with_the_one_before(all_made):
    (all_made.workspace.folder / "glp" / "final.safetensors").write_text("another")
    made = {stage.name for stage in stages(all_made, QUICK) if not stage.about.of_prior}
    assert set(todo(all_made)) == set(todo_names(all_made)) - made


def todo_names(subject):
    return [stage.name for stage in stages(subject, QUICK)]


def test_a_prior_that_is_made_anew_takes_all_that_depends_on_it_along(all_made):
    (all_made.workspace.folder / "glp" / "final.safetensors").unlink()
    planned = todo(all_made)
    assert planned[0] == "prior" and "directions" not in planned
    assert {"evaluate", "index", "scaling"} <= set(planned)


def recorded(subject, sizes, **changed):
    records = [
        StageRecord(stage.name, "", "", state="done", settings=stage.settings, effort=sizes.name)
        for stage in stages(subject, sizes)
    ]
    return BuildState(effort=changed.pop("effort", sizes.name), stages=records, **changed)


def test_other_sizes_make_a_stage_anew(all_made):
    assert todo(all_made, state=recorded(all_made, QUICK)) == []
    assert todo(all_made, replace(QUICK, bank=99), recorded(all_made, QUICK)) == ["bank", "detection"]


def given(subject, tmp_path):
    """The subject with a prior from elsewhere, and the state of a quick build that made all with it."""
    subject = replace(subject, glp=str(write_released_folder(tmp_path / "released", d_input=64, layers=(3,))))
    return subject, recorded(subject, QUICK, effort="full")


def test_a_full_prior_of_an_accelerator_is_not_trained_again_and_smaller_on_a_cpu(all_made):
    large, small = (sizes_of("full", accelerator=there) for there in (True, False))
    assert on_other_device(small) == large and on_other_device(large) == small
    for first, then in ((large, small), (small, large)):
        state = BuildState(effort="full")
        for stage in stages(all_made, first):
            make(stage, all_made.workspace)
            state.stages.append(StageRecord(stage.name, "", "", "done", settings=stage.settings, effort="full"))
        assert todo(all_made, then, state) == []
        state.of("prior").settings = ["train --run by-hand"]
        assert "prior" in todo(all_made, then, state)


def test_a_full_build_makes_index_and_map_anew_after_a_quick_one_with_the_same_prior(all_made, tmp_path):
    subject, state = given(all_made, tmp_path)
    full = [stage.name for stage in stages(subject, FULL)]
    assert set(todo(subject, FULL, state)) == {*full} - {"prior"}
    assert todo(subject, FULL, state, only=["index"])[-1] == "index"


def test_other_weights_in_the_same_folder_are_installed_and_all_with_them_made_anew(all_made, tmp_path):
    subject = replace(given(all_made, tmp_path)[0], weights="one")
    state = recorded(subject, QUICK)
    assert todo(subject, state=state) == []
    assert {"prior", "evaluate", "index", "scaling"} <= set(todo(replace(subject, weights="another"), state=state))
    full = recorded(subject, FULL, effort="quick")
    assert todo(replace(subject, weights="another"), state=full, only=["prior"]) == ["prior"]
    state.of("prior").settings.pop()  # as an earlier version left it
    assert todo(replace(subject, weights="another"), state=state) == []


def test_more_activations_make_the_index_anew_and_what_reads_it_even_after_a_kill(all_made):
    state, more = recorded(all_made, QUICK), replace(QUICK, activations=999)
    plan = make_plan(stages(all_made, more), all_made.workspace, state, ["directions", "index"])
    assert [stage.name for stage in plan.todo] == ["collect", "index"] and plan.stale == {"index", "map"}
    state.stages = [_record(stage, plan, state, 0.0) for stage in stages(all_made, more)]
    state.of("collect").settings = stages(all_made, more)[0].settings
    state.save(all_made.workspace.folder)
    state = BuildState.read(all_made.workspace.folder)
    assert todo(all_made, more, state) == ["index", "map"]
    later(path_of("neurons/index.json", all_made.workspace))  # somebody made it
    plan = make_plan(stages(all_made, more), all_made.workspace, state)
    assert [stage.name for stage in plan.todo] == ["map"]
    assert not _record(stages(all_made, more)[4], plan, state, 0.0).stale


def later(path):
    """Let a file be as one that is written after all others."""
    os.utime(path, (time.time() + 60,) * 2)


def test_what_somebody_made_after_a_build_failed_is_taken_and_what_it_left_is_not(all_made):
    state = recorded(all_made, QUICK)
    state.of("bank").state, state.of("bank").settings = "failed", []
    state.save(all_made.workspace.folder)
    assert todo(all_made, state=state) == ["bank"]
    later(all_made.workspace.folder / "reports" / "measures.json")
    assert todo(all_made, state=state) == []
    make(next(stage for stage in stages(all_made, QUICK) if stage.name == "bank"), all_made.workspace, digest="another")
    later(all_made.workspace.folder / "reports" / "measures.json")
    assert todo(all_made, state=state) == ["bank"]


def test_what_a_full_build_made_is_enough_for_a_quick_one(all_made):
    assert todo(all_made, state=recorded(all_made, FULL, effort="quick")) == []
    assert "bank" in todo(all_made, FULL, recorded(all_made, QUICK, effort="full"))


def test_a_stage_that_was_killed_at_work_is_made_anew_though_its_files_are_there(all_made):
    state = recorded(all_made, QUICK)
    state.of("bank").state, state.of("bank").settings = "stopped", []
    assert todo(all_made, state=state) == ["bank"]


@pytest.mark.parametrize(
    ("name", "words"), [("cake", "no stage 'cake'; there are collect, prior"), ("tuning", "'tuning' belongs to --effort full")]
)
def test_a_stage_that_is_not_there_is_named(subject, name, words):
    with pytest.raises(GlpError, match=words):
        todo(subject, only=[name])


@pytest.mark.parametrize("sizes", EFFORTS.values(), ids=EFFORTS)
@pytest.mark.parametrize("chat", [True, False])
def test_every_stage_is_made_by_commands_that_the_parser_takes(subject, sizes, chat):
    for stage in stages(replace(subject, chat=chat), sizes):
        for command in stage.commands:
            _, args = parse([*command, *(stage.first if command is stage.commands[0] else ())])
            assert args.command == command[0]


def trained(subject, sizes):
    return [command for stage in stages(subject, sizes) for command in stage.commands if command[0] == "train"]


@pytest.mark.parametrize("sizes", EFFORTS.values(), ids=EFFORTS)
def test_a_prior_that_is_given_takes_no_training_and_the_law_has_as_many_runs_without_it(subject, sizes, tmp_path):
    released = write_released_folder(tmp_path / "released", d_input=64, layers=(3,))
    given = replace(subject, glp=str(released))
    assert len(trained(given, sizes)) == len(trained(subject, sizes)) == len(set(trained(given, sizes)))
    prior = next(stage for stage in stages(given, sizes) if stage.name == "prior")
    assert seconds(prior, given, sizes, Rates(1, 1, 1, 1)) == Work().fixed
    assert disk(prior, given, sizes) == (released / "final.safetensors").stat().st_size


@pytest.mark.parametrize("name", ["collect", "probing", "bank"])
def test_activations_in_float32_take_twice_the_disk(subject, name):
    halves, whole = (replace(subject, workspace=replace(subject.workspace, dtype=dtype)) for dtype in ("bfloat16", "float32"))
    [stage] = [stage for stage in stages(subject, FULL) if stage.name == name]
    fixed = 500 * FULL.blocks * 2 * prior_width(subject, FULL) if name == "probing" else 0
    assert disk(stage, whole, FULL) - fixed == 2 * (disk(stage, halves, FULL) - fixed)


def test_personas_need_a_model_that_can_chat(subject):
    names = [
        next(s for s in stages(replace(subject, chat=chat), FULL) if s.name == "directions").makes for chat in (True, False)
    ]
    assert "directions/pirate.safetensors" in names[0] and "directions/pirate.safetensors" not in names[1]
