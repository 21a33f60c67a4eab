"""Sweeps that were begun, in a folder each: settings, how far it is, and at its end every text with its numbers and what was found.

    runs/<id>/config.json   a configuration that can be run again
    runs/<id>/state.json    running, stopped, done or failed; a run that a kill ended still says running
    runs/<id>/texts.jsonl   a line for each text
    runs/<id>/report.json   curves, hypervolumes, differences

A run is whole without the cells that it was written to. Plain files: torch is not needed to read them.
"""

import json
import math
import re
import shutil
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal, NamedTuple

from glp_core.checked.shapes import Limits, Maybe, check
from glp_core.errors import GlpError
from glp_core.files import Json, parse_json, read_object, replacing, write_json
from glp_core.steering.sweeps.cells import Cell, Text, digest
from glp_core.steering.sweeps.config import SweepConfig
from glp_core.steering.sweeps.scores import Found, Marks, concept_of, question_name
from glp_core.steering.sweeps.store import NUMBERS, Entry

State = Literal["running", "stopped", "done", "failed"]
STATES: tuple[State, ...] = ("running", "stopped", "done", "failed")
ID = re.compile(r"[a-z0-9-]{1,80}", re.ASCII)
FACTS = {"seconds": Limits(float, 0, 1e12), **dict.fromkeys(("done", "total"), Limits(int, 0, 10**12))}
_MARK = Limits(float, 0, 2)
LINE = {
    **dict.fromkeys(("direction", "arm", "prompt", "text"), str),
    "strength": Limits(float, -100, 100),
    "noise_level": Maybe(Limits(float, 0, 1)),
    **dict.fromkeys(("seed", "tokens"), Limits(int, 0, 2**63 - 1)),
    **{f"{name}?": Maybe(float) for name in NUMBERS},
    "marks?": Maybe({"concept": _MARK, "fluency": _MARK}),
}
"""A line of texts.jsonl."""
LARGEST_TEXTS = 400_000_000
"""Bytes of a run's texts."""
COLUMNS = ("direction", "arm", "strength", "noise_level", "seed", "prompt", "text", "score", *NUMBERS, "marks")
"""What a line of texts.jsonl holds; score is the concept by the sweep's scorer."""


class RunFacts(NamedTuple):
    """What a run says of itself."""

    id: str
    title: str
    state: State
    begun: str
    """Date and time, UTC."""
    done: int
    """Texts."""
    total: int
    seconds: float
    """That it was written in, all goes together."""
    error: str = ""


class Runs:
    """The runs of a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "runs"

    def path(self, run: str) -> Path:
        """Return the folder of a run; raise GlpError for a name that is none."""
        if not ID.fullmatch(run):
            raise GlpError(f"{run[:80]!r} is no name of a run: wanted small letters, digits and dashes.")
        return self.folder / run

    def begin(self, config: SweepConfig, total: int) -> str:
        """Keep a new run, and return its name; one of exactly this configuration that is there is gone on with."""
        words = re.sub(r"[^a-z0-9]+", "-", (config.title or config.directions[0].name).lower()).strip("-")[:48]
        run = f"{words or 'sweep'}-{digest(json.dumps(config.to_json(), sort_keys=True))[:8]}"
        if not self.has(run):
            write_json(self.path(run) / "config.json", config.to_json())
        if not (self.path(run) / "state.json").is_file():
            self.tell(RunFacts(run, config.title, "running", datetime.now(UTC).strftime("%Y-%m-%d %H:%M"), 0, total, 0.0))
        return run

    def has(self, run: str) -> bool:
        """Say whether a run was begun here and is not deleted."""
        return (self.path(run) / "config.json").is_file()

    def tell(self, facts: RunFacts) -> None:
        """Keep how far a run is."""
        write_json(self.path(facts.id) / "state.json", facts._asdict())

    def facts(self, run: str) -> RunFacts:
        """Return how far a run is; GlpError when it is not there, or damaged."""
        try:
            value = check(read_object(self.path(run) / "state.json"), FACTS, "state.json")
            state = value["state"]
            if state not in STATES:
                raise ValueError(f"state {state!r}")
            title, begun, error = (str(value[name])[:500] for name in ("title", "begun", "error"))
            done, total = (int(value[name]) for name in ("done", "total"))
            return RunFacts(run, title, state, begun, done, total, float(value["seconds"]), error)
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            if isinstance(error, GlpError):
                raise GlpError(f"There is no run {run} in this workspace, or it is damaged: {error}") from error
            raise GlpError(f"The run {run} is damaged: {error!r}. Delete it, or begin it again.") from error

    def config(self, run: str) -> SweepConfig:
        """Return a run's configuration."""
        return SweepConfig.from_json(read_object(self.path(run) / "config.json"))

    def listed(self) -> list[RunFacts]:
        """Return all runs that can be read, the newest first."""
        there = []
        for path in self.folder.glob("*/state.json"):
            try:
                there.append(self.facts(path.parent.name))
            except GlpError:
                continue
        return sorted(there, key=lambda facts: (facts.begun, facts.id), reverse=True)

    def save(self, run: str, texts: Iterable[Json], report: Json) -> None:
        """Keep a run's texts and what was found."""
        write_texts(self.path(run) / "texts.jsonl", texts)
        write_json(self.path(run) / "report.json", report)

    def texts(self, run: str) -> list[Json]:
        """Return a run's texts; none before it has ended."""
        path = self.path(run) / "texts.jsonl"
        return read_texts(path) if path.is_file() else []

    def delete(self, run: str) -> None:
        """Remove a run; the texts that its cells hold stay, for other sweeps."""
        shutil.rmtree(self.path(run), ignore_errors=True)


def rows(config: SweepConfig, found: Found, judged: Mapping[str, Marks]) -> Iterator[Json]:
    """Yield a line for every text, null for numbers that are none."""
    score = concept_of(config, judged)
    for cell, entries in found.items():
        for text, entry in entries.items():
            marks = judged.get(question_name(text, entry))
            yield {
                **cell._asdict(),
                "seed": text.seed,
                "prompt": text.prompt,
                "text": entry.text,
                "score": _plain(score(text, entry)),
                **{name: _plain(getattr(entry, name)) for name in NUMBERS},
                "tokens": entry.tokens,
                "marks": marks._asdict() if marks else None,
            }


def write_texts(path: Path, lines: Iterable[Json]) -> None:
    """Write lines of texts."""
    with replacing(path) as scratch, scratch.open("w", encoding="utf-8") as file:
        file.writelines(as_line(line) for line in lines)


def as_line(line: Json) -> str:
    """Return a text's line of JSON."""
    return json.dumps(line, ensure_ascii=False, allow_nan=False) + "\n"


def read_texts(path: Path) -> list[Json]:
    """Read lines of texts; a line that is cut off or no text's is left out.

    Raises:
        GlpError: the file is not there or too large.
    """
    if not path.is_file() or path.stat().st_size > LARGEST_TEXTS:
        raise GlpError(f"{path} is not there, or larger than {LARGEST_TEXTS:,} bytes.")
    listed = []
    for line in path.read_text(encoding="utf-8", errors="replace").split("\n"):
        try:
            value = check(parse_json(line), LINE, "a line")
            Entry.from_json(value), Cell(*(value[name] for name in Cell._fields)), Text(value["prompt"], value["seed"])
        except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
            continue
        listed.append(value)
    return listed


def found_in(lines: Iterable[Json]) -> tuple[dict[Cell, dict[Text, Entry]], dict[str, Marks]]:
    """Return the texts by cell, and their marks, of lines that `rows` gave."""
    found: dict[Cell, dict[Text, Entry]] = {}
    judged: dict[str, Marks] = {}
    for line in lines:
        cell = Cell(line["direction"], line["arm"], line["strength"], line["noise_level"])
        text, entry = Text(line["prompt"], line["seed"]), Entry.from_json(line)
        found.setdefault(cell, {})[text] = entry
        if line.get("marks"):
            judged[question_name(text, entry)] = Marks(float(line["marks"]["concept"]), float(line["marks"]["fluency"]))
    return found, judged


def same_texts(ours: Iterable[Json], theirs: Iterable[Json]) -> tuple[int, int]:
    """Return how many texts of two runs stand for the same cell, prompt and seed, and how many of them are the same."""
    names = ("direction", "arm", "strength", "noise_level", "seed", "prompt")
    first, second = ({tuple(line[name] for name in names): line["text"] for line in lines} for lines in (ours, theirs))
    shared = first.keys() & second.keys()
    return len(shared), sum(first[name] == second[name] for name in shared)


def _plain(value: float) -> float | None:
    return value if math.isfinite(value) else None
