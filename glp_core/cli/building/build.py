"""Make a whole workspace of a model: plan, check what is missing, then run the stages that are not done yet.

Killed or stopped and started again, it goes on where it was. <workspace>/build.json says how far it is.
"""

import argparse
import shlex
import sys
from dataclasses import replace

from glp_core.building.about import ABOUT
from glp_core.building.prepare import Prepared, prepare
from glp_core.building.running import STOPPED, Build
from glp_core.building.sizes import EFFORTS
from glp_core.building.stages import STORE, Command
from glp_core.building.state import StageRecord, building
from glp_core.building.subject import Asked
from glp_core.cli.commands import parse
from glp_core.cli.console import (
    SECONDS_BETWEEN_LINES,
    add_workspace_arguments,
    device_of,
    duration,
    heard_by,
    stopping,
    write_line,
)
from glp_core.cli.data.collect import add_layers_argument, add_texts_arguments, llm_source, texts_of
from glp_core.errors import GlpError
from glp_core.memory import hand_back, told_full
from glp_core.workspace import Workspace
from glp_core.workspace_list import remember


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this command's arguments."""
    add_workspace_arguments(parser, demo=False)
    words = "'demo', a folder of transformers' save_pretrained, or hub-id@commit; not needed to go on"
    parser.add_argument("--llm", metavar="WHERE", help=words)
    words = "the block whose output is modelled, counted from 0 (default: the middle one, of those that --glp serves)"
    parser.add_argument("--layer", type=int, metavar="N", help=words)
    add_layers_argument(parser)
    add_texts_arguments(parser)
    words = "a GLP to take instead of training one: a folder, ours or released, or a hub id, with @commit to pin it"
    parser.add_argument("--glp", metavar="WHERE", help=words)
    words = "quick: few samples, soon looked at; full: samples near the demo's, its recipe in one training (default: as before, else quick)"
    parser.add_argument("--effort", choices=tuple(EFFORTS), help=words)
    words = f"only these stages, and what they need: {', '.join(ABOUT)} (tuning: of --effort full)"
    parser.add_argument("--only", metavar="STAGE[,STAGE]", help=words)
    parser.add_argument("--plan", action="store_true", help="say what would be done, and do nothing")


def run(args: argparse.Namespace) -> int:
    """Run the command."""
    folder = args.workspace
    with building(folder), stopping(at_once=True):
        asked = asked_of(args)
        only = only_of(args)
        prepared = prepare(folder, asked, device_of(args), effort=args.effort or "", only=only, tell=write_line)
        if not prepared.todo:
            write_line(f"Nothing to do: all that was asked for is in {folder}.")
            return 0
        show_plan(prepared)
        if args.plan:
            return 0
        remember(folder)
        return carry_out(prepared, args.device)


def only_of(args: argparse.Namespace) -> list[str]:
    """Return the stages that --only names, none for all; raise GlpError, before a model is loaded, when there is none of a name."""
    if args.only is None:
        return []
    names: list[str] = args.only.split(",")
    unknown = next((name for name in names if name not in ABOUT), None)
    if unknown is not None:
        raise GlpError(f"There is no stage {unknown!r}: --only takes {', '.join(ABOUT)}.")
    return names


def asked_of(args: argparse.Namespace) -> Asked:
    """Return what the arguments say about the model, its texts and its prior; raise GlpError when texts are not there."""
    given = {"--texts": args.texts, "--text-field": args.text_field}
    text_words = tuple(word for option, value in given.items() if value for word in (option, value))
    source = replace(llm_source(args.llm), layers_at=args.layers_at) if args.llm else None
    return Asked(args.llm, source, args.layer, texts_of(args), text_words, args.glp)


def show_plan(prepared: Prepared) -> None:
    """Show what is to be done, with its time and disk."""
    workspace, state = prepared.subject.workspace, prepared.state
    write_line(f"{workspace.folder}: {workspace.llm.label}, layer {workspace.layer}; {state.effort}, on {workspace.device}.")
    for number, stage in enumerate(prepared.todo, 1):
        record = state.of(stage.name)
        estimate = duration(record.estimate) if record else ""
        megabytes = prepared.disk[stage.name] / 1e6
        size = f"{megabytes:,.0f} MB" if megabytes >= 1 else ""
        write_line(f"{number:>3}  {stage.name:<11}{estimate:>9}{size:>11}  {stage.about.title} ({stage.about.page})")
    total, needed = sum(record.estimate for record in state.stages), sum(prepared.disk.values())
    write_line(f"About {duration(total)} on this machine, as busy as it is, and {needed / 1e9:.1f} GB of disk.")


def carry_out(prepared: Prepared, device: str | None) -> int:
    """Run the stages and return the command's exit status."""
    workspace = prepared.subject.workspace
    build = Build(workspace.folder, prepared.state, prepared.todo, Terminal(len(prepared.todo)))
    if not build.run(lambda command: _run_command(command, workspace, device, build)):
        write_line("Stopped. Start the same command again: it goes on from there.")
        return STOPPED
    failed = [record for record in prepared.state.stages if record.state == "failed"]
    if failed:
        names = ", ".join(record.name for record in failed)
        write_line(f"Failed: {names}. The same command tries again; all else is made.")
    write_line(f"Look at it with: GLP_EXPLORER_WORKSPACE={shlex.quote(str(workspace.folder))} make dashboard")
    return 1 if failed else 0


def _run_command(command: Command, workspace: Workspace, device: str | None, build: Build) -> int:
    """Run a stage's command in this process, with the memory that the one before has let go, also where that one failed."""
    hand_back()
    line = [str(workspace.store_folder) if word == STORE else word for word in command]
    line += ["--workspace", str(workspace.folder)]
    module, args = parse(line)
    if hasattr(args, "device"):  # of a command that computes
        args.device = device
    try:
        with heard_by(build):
            return module.run(args) or 0
    except RuntimeError as error:
        if words := told_full(error):
            raise GlpError(words) from error
        raise


class Terminal:
    """Shows a build on the terminal: one line a stage."""

    def __init__(self, stages: int) -> None:
        self.stages, self.number = stages, 0
        self.live, self.shown = sys.stderr.isatty(), 0.0

    def began(self, record: StageRecord) -> None:
        """Count a stage."""
        self.number += 1
        self.shown = 0.0

    def moved(self, record: StageRecord) -> None:
        """Show how far a stage is."""
        if record.seconds - self.shown < (0.3 if self.live else SECONDS_BETWEEN_LINES):
            return
        self.shown = record.seconds
        line = f"{self._head(record)} {record.percent:>3}%  {record.words}"
        write_line(f"\r{line[:120]}\033[K" if self.live else line, end="" if self.live else "\n")

    def ended(self, record: StageRecord) -> None:
        """Show that a stage is over."""
        ends = {"done": f"done in {duration(record.seconds)}  {record.words}", "failed": f"failed: {record.error}"}
        line = f"{self._head(record)} {ends.get(record.state, record.state)}"
        write_line(f"\r{line}\033[K" if self.live else line)

    def _head(self, record: StageRecord) -> str:
        return f"{self.number:>3} of {self.stages}  {record.name:<11}"
