"""Write and measure a sweep that a configuration describes, or go on with it: texts, scores and what they say of each arm."""

import argparse
from pathlib import Path

from glp_core.cli.console import add_workspace_arguments, open_workspace, reporter, say, stopping
from glp_core.errors import GlpError
from glp_core.files import Json, read_json, write_json
from glp_core.prior.distance import ManifoldMeter
from glp_core.steering.sweeps.analysis import analyse
from glp_core.steering.sweeps.config import SweepConfig, differences
from glp_core.steering.sweeps.config import stamped as stamped_with
from glp_core.steering.sweeps.engine import Bench
from glp_core.steering.sweeps.engine import run as go
from glp_core.steering.sweeps.runs import read_texts, rows, same_texts, write_texts
from glp_core.steering.sweeps.scores import ENDPOINT_VARIABLE, KEY_VARIABLE, Judge, Marks, check_readable, key_for
from glp_core.steering.sweeps.store import SweepStore, written
from glp_core.steering.sweeps.words import sentences, unfound
from glp_core.workspace import Workspace


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this command's arguments."""
    about = "a sweep's configuration as the Lab page exports it; a server that scores gets the key in "
    about += f"${KEY_VARIABLE} where ${ENDPOINT_VARIABLE} names that server"
    parser.add_argument("config", type=Path, metavar="CONFIG", help=about)
    add_workspace_arguments(parser)
    about = "write config.json, texts.jsonl and report.json there (default: beside CONFIG, in a folder of its name)"
    parser.add_argument("--out", type=Path, metavar="FOLDER", help=about)
    parser.add_argument("--again", action="store_true", help="write every text anew, also those that the workspace has kept")
    about = "say how many texts are those of this texts.jsonl, letter by letter"
    parser.add_argument("--compare", type=Path, metavar="FILE", help=about)


def run(args: argparse.Namespace) -> int:
    """Run the command."""
    workspace, config = open_workspace(args), SweepConfig.from_json(read_json(args.config))
    theirs = read_texts(args.compare) if args.compare else []
    out = args.out or args.config.with_suffix("")
    if out.is_file():
        raise GlpError(f"{out} is a file, wanted a folder for the texts: name one with --out.")
    if config.scorer.kind == "server":
        key_for(config.scorer)  # a key that is for another server is said now, not after the texts are written
    here, config = stamped(workspace, config)
    for words in here:
        say(f"Not what the sweep was made with: {words}. Texts may differ.")
    check_readable(config, {one.name: workspace.direction(one.name).has_probe for one in config.directions})
    store = SweepStore(out if args.again else workspace.sweeps)
    bench, progress = bench_of(workspace, config), reporter("sweep")
    with stopping(at_once=False) as stop:
        for tick in go(bench, config, store, cancelled=stop):
            progress(tick.done, tick.total, "texts")
        found, judged = store.found(config), dict[str, Marks]()
        if config.scorer.kind == "server":
            judge, marked = Judge(store.folder, config.scorer), reporter("marks")
            judge.ask(found, cancelled=stop, told=lambda done, todo: marked(done, todo, "texts"))
            judged = judge.marks()
    lines, report = list(rows(config, found, judged)), analyse(config, found, judged)
    _write(out, config, lines, report)
    say(f"{written(found):,} texts are in {out}")
    for title, said in sentences(config, report):
        say(f"{title}: {said}")
    for words in unfound(config, found, judged, report):
        say(words)
    if theirs:
        shared, same = same_texts(lines, theirs)
        say(f"{same:,} of {shared:,} texts are the same, letter by letter, as in {args.compare}")
    if stop.asked:
        say("Stopped before its end. The same command goes on.")
        return 130
    return 0


def stamped(workspace: Workspace, config: SweepConfig) -> tuple[list[str], SweepConfig]:
    """Return what is not here what a configuration was made with, in words, and the configuration as it will be run."""
    names = [one.name for one in config.directions]
    there = workspace.direction_names()
    digests = {name: workspace.direction_digest(name) for name in names if name in there}
    titles = {name: workspace.direction(name).title for name in digests}
    made_with = workspace.made_with()
    return differences(config, made_with, digests, titles), stamped_with(config, made_with, digests, titles)


def bench_of(workspace: Workspace, config: SweepConfig) -> Bench:
    """Load what a sweep is written with."""
    directions = {one.name: workspace.direction(one.name) for one in config.directions}
    llm, glp, reference = workspace.load_llm(), workspace.load_glp(), workspace.report("reference")
    meter = ManifoldMeter(glp, reference) if reference else None
    return Bench(llm, glp, directions, workspace.covariance, workspace.walk(), meter)


def _write(out: Path, config: SweepConfig, lines: list[Json], report: Json) -> None:
    """Write a run's files."""
    write_json(out / "config.json", config.to_json())
    write_json(out / "report.json", report)
    write_texts(out / "texts.jsonl", lines)
