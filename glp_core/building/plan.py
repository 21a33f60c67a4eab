"""What a build has to do: the stages that are asked for and not made yet, and what these read that is not there."""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from glp_core.building.about import ABOUT
from glp_core.building.stages import STORE, Stage
from glp_core.building.state import FILE, BuildState
from glp_core.errors import GlpError
from glp_core.files import Json, read_object
from glp_core.workspace import DIGEST_LENGTH, Workspace

SAE = "@sae"


@dataclass(frozen=True)
class Plan:
    """What is to be done."""

    todo: list[Stage]
    """In an order in which each stage finds what it reads."""
    made: set[str]
    """Stages whose files are there already, and stay."""
    stale: set[str]
    """Stages whose files, where they are there, are of what others are about to make otherwise."""


def make_plan(stages: Sequence[Stage], workspace: Workspace, state: BuildState, only: Collection[str] = ()) -> Plan:
    """Return what a build is to do.

    Args:
        state: of the builds before, with the effort that is asked for now.
        only: the stages that are asked for; all when empty.
    Raises:
        GlpError: a stage that is not known.
    """
    check_names(only, stages)
    made = {stage.name for stage in stages if is_made(stage, workspace, state)}
    otherwise = {stage.name for stage in stages if stage.name not in made and _was_other(stage, state)}
    made -= _readers(otherwise, stages)
    new = not (workspace.folder / "workspace.json").is_file()
    asked = [stage for stage in stages if (stage.name in only if only else not stage.about.supply or new)]
    todo = _with_needs([stage for stage in asked if stage.name not in made], stages, made)
    if any(stage.name == "prior" for stage in todo):  # what was made with the prior before is stale then
        made -= {stage.name for stage in stages if stage.about.of_prior}
        todo = _with_needs([stage for stage in asked if stage.name not in made], stages, made)
    names = {stage.name for stage in todo}
    return Plan(todo, made - names, _readers(otherwise & names, stages))


def _was_other(stage: Stage, state: BuildState) -> bool:
    """Say whether a build before made a stage's files with other settings."""
    record = state.of(stage.name)
    return record is not None and bool(record.settings) and not stage.made_as(record.settings)


def _readers(changed: Collection[str], stages: Sequence[Stage]) -> set[str]:
    """Return the stages that read what the changed ones make, or what is made of that.

    The prior is left out: files say which one they were made with. Of the activations most stages take a number that their settings say,
    but the index takes all.
    """
    needs = {stage.name: {*stage.needs} - ({"prior"} if stage.name == "index" else {"prior", "collect"}) for stage in stages}
    found: set[str] = set()
    while more := {name for name, read in needs.items() if read & {*changed, *found}} - found:
        found |= more
    return found


def check_names(only: Iterable[str], stages: Sequence[Stage]) -> None:
    """Raise GlpError for the first name that is none of the stages'."""
    names = [stage.name for stage in stages]
    for name in only:
        if name in ABOUT and name not in names:
            raise GlpError(f"The stage {name!r} belongs to --effort full.")
        if name not in names:
            raise GlpError(f"There is no stage {name!r}; there are {', '.join(names)}.")


def _with_needs(wanted: Sequence[Stage], stages: Sequence[Stage], made: Collection[str]) -> list[Stage]:
    """Return the wanted stages, each after those that it reads from and that are not made."""
    by_name = {stage.name: stage for stage in stages}
    listed: dict[str, Stage] = {}

    def add(stage: Stage) -> None:
        for need in stage.needs:
            if need not in listed and need not in made:
                add(by_name[need])
        listed.setdefault(stage.name, stage)

    for stage in wanted:
        add(stage)
    return list(listed.values())


def is_made(stage: Stage, workspace: Workspace, state: BuildState) -> bool:
    """Say whether a stage's files are there, of this prior and of these settings.

    What somebody made with the commands is taken as it is, after a build failed to make it too; so is what a full build made when a quick
    one is asked for, and what the same effort made on a device of the other kind.
    """
    paths = [path_of(name, workspace) for name in stage.makes]
    if not all(path.is_file() for path in paths):
        return False
    if stage.about.of_prior and any(made_with(path) not in ("", workspace.glp_digest()) for path in paths):
        return False
    record = state.of(stage.name)
    if record is None:
        return True
    if record.stale and not _made_since(paths, workspace):
        return False
    if not record.settings:
        return record.state in ("missing", "done") or (record.state == "failed" and _made_since(paths, workspace))
    larger = record.effort == "full" and state.effort == "quick" and not stage.weights  # which have no size
    return stage.made_as(record.settings) or larger


def _made_since(paths: Sequence[Path], workspace: Workspace) -> bool:
    """Say whether one of the files was written after the last build: what that left there may be older files, or some of the new."""
    written = workspace.folder / FILE
    return not written.is_file() or any(path.stat().st_mtime > written.stat().st_mtime for path in paths)


def path_of(name: str, workspace: Workspace) -> Path:
    """Return where a file of a stage lies: in the workspace, or for @store and @sae in the cache folder."""
    if name.startswith(STORE):
        return workspace.store_folder / name.removeprefix(STORE + "/")
    return workspace.sae_path if name == SAE else workspace.folder / name


def made_with(path: Path) -> str:
    """Return the digest of the prior that a file says it was made with; empty where it says nothing."""
    if path.suffix != ".json":
        return ""
    stored = read_object(path)
    places: list[Json] = [place for place in (stored, stored.get("facts"), stored.get("made_from")) if isinstance(place, dict)]
    found = next((str(place[key]) for place in places for key in ("glp_digest", "glp") if isinstance(place.get(key), str)), "")
    return found[:DIGEST_LENGTH]
