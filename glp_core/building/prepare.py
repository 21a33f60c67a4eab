"""Everything that a build needs to know before it works: the model, what is to be done, how long it takes, and that nothing is missing."""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from glp_core.building import costs
from glp_core.building.costs import Rates
from glp_core.building.plan import Plan, make_plan
from glp_core.building.prior import check_prior, prior_digest
from glp_core.building.sizes import Sizes, sizes_of
from glp_core.building.stages import Stage, stages
from glp_core.building.state import BuildState, StageRecord
from glp_core.building.subject import Asked, Subject, find_workspace, read_subject
from glp_core.data.readings import MOST_TOKENS
from glp_core.data.store import TOKENS_PER_DOCUMENT
from glp_core.errors import GlpError
from glp_core.files import expanded, read_object
from glp_core.places import free_name
from glp_core.workspace import Workspace


@dataclass(frozen=True)
class Prepared:
    """A build that may begin."""

    subject: Subject
    state: BuildState
    """With the plan in it; not yet on disk."""
    todo: list[Stage]
    """In their order."""
    disk: dict[str, int]
    """Bytes that each of them adds."""


def prepare(
    folder: Path,
    asked: Asked,
    device: str,
    *,
    effort: str = "",
    only: Sequence[str] = (),
    tell: Callable[[str], None] = lambda words: None,
) -> Prepared:
    """Find out what a build in `folder` is to do, and check what it needs.

    Args:
        effort: quick or full; empty for that of the build before, else quick.
        only: names of stages; all when empty.
        tell: hears what takes some seconds, and what is notable of the LLM.
    Raises:
        GlpError: something is missing, which is said before any work is done.
    """
    state = BuildState.read(folder)
    workspace = find_workspace(folder, asked, device, state.name or free_name(folder.resolve().name))
    state.effort = effort or state.effort or "quick"
    sizes = _as_collected(sizes_of(state.effort, accelerator=device != "cpu"), workspace)
    state.glp = _absolute(asked.glp) if asked.glp else state.glp
    subject, rates = _known(workspace, asked, state, sizes, tell)
    sizes = replace(sizes, longest=min(sizes.longest, subject.context))
    if subject.glp:
        check_prior(subject.glp, subject.width, subject.workspace.layer)
        subject = replace(subject, weights=prior_digest(subject.glp))
    every = stages(subject, sizes)
    plan = make_plan(every, subject.workspace, state, only)
    if sizes.longest > MOST_TOKENS and any(stage.name == "collect" for stage in plan.todo):
        raise GlpError(
            f"{workspace.store_folder} was begun with texts of {sizes.longest:,} tokens, wanted at most {MOST_TOKENS:,}: positions are "
            "stored in 16 bits. Delete it, and the build collects anew."
        )
    state.name, state.pid = subject.workspace.name, os.getpid()
    state.model = {"width": subject.width, "chat": subject.chat, "context": subject.context}
    state.rates = rates.to_json() | {"device": device, "effort": state.effort}
    state.stages = [_record(stage, plan, state, costs.seconds(stage, subject, sizes, rates)) for stage in every]
    disk = {stage.name: costs.disk(stage, subject, sizes) for stage in plan.todo}
    costs.check_disk(disk, folder, installed=bool(subject.glp))
    return Prepared(subject, state, plan.todo, disk)


def _known(
    workspace: Workspace, asked: Asked, state: BuildState, sizes: Sizes, tell: Callable[[str], None]
) -> tuple[Subject, Rates]:
    """Return the subject and the machine's rates: as a build before found them, else found now with the LLM."""
    there = (workspace.folder / "workspace.json").is_file()
    measured = {"device": workspace.device, "effort": state.effort}  # what the prior's size and its speed depend on
    if there and state.model and measured.items() <= state.rates.items():
        rates = {name: value for name, value in state.rates.items() if name not in measured}
        known = {"context": state.model["context"]} if "context" in state.model else {}
        return Subject(workspace, "", state.model["width"], state.model["chat"], glp=state.glp, **known), Rates(**rates)
    tell(f"Loading {workspace.llm.label} and measuring this machine …")
    subject, llm = read_subject(workspace, replace(asked, glp=state.glp), tell)
    return subject, costs.measure(llm, subject, sizes)


def _as_collected(sizes: Sizes, workspace: Workspace) -> Sizes:
    """Return the sizes with texts cut where those that are collected already were: a store goes on as it began."""
    path = workspace.store_folder / "manifest.json"
    longest = read_object(path).get("tokens_per_document", TOKENS_PER_DOCUMENT) if path.is_file() else sizes.longest
    return replace(sizes, longest=longest)


def _absolute(where: str) -> str:
    """Return a prior's folder as it is found from anywhere; a hub id as it is."""
    folder = expanded(where)
    return str(folder.resolve()) if folder.is_dir() else where


def _record(stage: Stage, plan: Plan, state: BuildState, seconds: float) -> StageRecord:
    """Return what is known of a stage, and whether it is planned."""
    record = state.of(stage.name) or StageRecord(stage.name, stage.about.title, stage.about.page)
    planned = stage in plan.todo
    record.stale = stage.name not in plan.made and (record.stale or stage.name in plan.stale)
    record.estimate = round(seconds, 1) if planned else 0.0
    if planned:
        record.state, record.percent, record.words, record.error = "planned", 0, "", ""
    else:
        record.state = "done" if stage.name in plan.made else "missing"
        record.percent = 100 if record.state == "done" else 0
    return record
