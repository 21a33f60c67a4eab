"""Read training runs from their logs, ours or anybody's, and say clearly what is wrong with one that cannot be read.

A run is a folder with `train.csv` (at least the columns activations, flops and validation_loss; validation_loss is empty between
kept checkpoints; learning_rate, train_loss, step and seconds are used when there) and a configuration, `config.json` or
`run.json`: an object whose `train` holds activations (planned) and, for the name shown, d_model, d_mlp, n_layers. `evals.csv` is
optional: activations, and one column a score (frechet, real_real, delta_lm, probing, steering). `evals.json`, optional, says
how each score was measured. A run that went on from given weights (`start` in its configuration) counts in its logs only what it
did itself; read here, what the weights had seen before is added. Knows nothing of models.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd

from glp_core.checked.shapes import Limits, Maybe, check
from glp_core.errors import GlpError
from glp_core.evaluation.scaling_law import frontier
from glp_core.files import Json, read_object

FitPoints = Literal["frontier", "all"]
"""Which checkpoints the law is fitted to."""

NEEDED = ("activations", "flops", "validation_loss")
OPTIONAL = ("step", "train_loss", "learning_rate", "seconds")
SCORES = ("frechet", "real_real", "delta_lm", "probing", "steering")
LARGEST_FILE = 20_000_000
LONGEST_HEADER = 10_000
LARGEST = 1e100
"""Of any number in a log: products of a few stay finite."""
MOST_RUNS = 50
FALLEN = 0.5
"""Share of its peak below which the learning rate has fallen."""
MOST_ACTIVATIONS = 1e18
_PLANNED = Maybe(Limits(float, 0, MOST_ACTIVATIONS))
CONFIG = {"train?": {"activations?": _PLANNED, "batch?": _PLANNED}}
FRESH = 900.0
"""Seconds since the log was last written within which an unfinished run counts as running."""


@dataclass(frozen=True)
class Run:
    """One run's log."""

    name: str
    """The folder's name."""
    folder: Path
    shape: str
    """Width, hidden neurons and blocks in words; empty when the configuration has none."""
    planned: int | None
    """Activations that the run is to see."""
    log: pd.DataFrame
    """Every row of train.csv, numbers only, ascending activations."""
    checkpoints: pd.DataFrame
    """Rows with a validation loss: activations, flops, validation_loss, warming, old_end, the other columns, and scores where
    evaluated. `old_end`: the run had ended there, its learning rate fallen, and was then made longer."""
    age: float
    """Seconds since the log was last written."""
    measured: dict[str, Json]
    """By score, the settings that it was measured with; empty where unknown."""

    @property
    def parameters(self) -> float:
        """N of FLOPs = 6 N D."""
        last = self.log.iloc[-1]
        return float(last["flops"] / last["activations"] / 6)

    @property
    def finished(self) -> bool:
        """Whether it has seen what it was to see, up to one logging step."""
        if self.planned is None:
            return True
        return float(self.log["activations"].iloc[-1]) >= 0.995 * self.planned

    @property
    def running(self) -> bool:
        """Whether it is unfinished and its log is fresh."""
        return not self.finished and self.age < FRESH

    @property
    def flops_per_second(self) -> float:
        """Measured speed, the median over the log's steps: pauses, other work beside it and clocks set back count little.

        nan when the log holds no seconds.
        """
        if "seconds" not in self.log:
            return float("nan")
        steps = self.log[["flops", "seconds"]].dropna()
        steps = pd.concat([pd.DataFrame({"flops": [0.0], "seconds": [0.0]}), steps]).diff().iloc[1:]
        steps = steps[(steps["seconds"] > 0) & (steps["flops"] > 0)]
        return float((steps["flops"] / steps["seconds"]).median()) if len(steps) else float("nan")


def read_run(folder: Path) -> Run:
    """Read one run.

    Raises:
        GlpError: a file is missing, too large, no table of numbers, or lacks a column.
    """
    path = folder / "train.csv"
    if not path.is_file():
        raise GlpError(f"No train.csv in {folder}: a run is a folder with train.csv and config.json (or run.json).")
    log = _table(path, NEEDED, OPTIONAL)
    if not (log[["activations", "flops"]] > 0).all().all():
        raise GlpError(f"{path}: activations and flops must be above 0 in every row.")
    log = log.drop_duplicates("activations", keep="last").sort_values("activations", ignore_index=True)
    config = _config(folder)
    checkpoints = log[log["validation_loss"].notna()].reset_index(drop=True)
    if checkpoints.empty or not (checkpoints["validation_loss"] > 0).all():
        raise GlpError(f"{path}: no row has a validation_loss above 0, so there is nothing to draw.")
    checkpoints = checkpoints.assign(warming=_warming(checkpoints, log), old_end=_old_ends(checkpoints, log))
    scores = _scores(folder)
    if scores is not None:
        checkpoints = checkpoints.merge(scores, on="activations", how="left")
    log, checkpoints = (_with_start(table, _seen_before(config)) for table in (log, checkpoints))
    train = config.get("train", {})
    planned = train.get("activations")
    planned = float(planned) if isinstance(planned, int | float) and planned > 0 else None
    if planned and isinstance(train.get("batch"), int) and 0 < train["batch"] <= planned:
        planned = planned // train["batch"] * train["batch"]
    planned = planned + _seen_before(config) if planned else None
    planned = int(planned) if planned else None
    return Run(folder.name, folder, _shape(train), planned, log, checkpoints, log_age(folder), _measured(folder))


def log_age(folder: Path) -> float:
    """Return the seconds since a run's log was last written."""
    return max(0.0, time.time() - (folder / "train.csv").stat().st_mtime)


def read_runs(folder: Path, left_out: list[str] | None = None, read: Callable[[Path], Run] = read_run) -> list[Run]:
    """Read every run in a folder (or the one that it is), largest last.

    Args:
        left_out: takes what is wrong with runs that cannot be read; None: the first such run is an error.
        read: what reads one.
    Raises:
        GlpError: no such folder, no run in it, too many, or one that cannot be read.
    """
    if not folder.is_dir():
        raise GlpError(f"There is no folder {folder}.")
    if (folder / "train.csv").is_file():
        return [read(folder)]
    folders = sorted(path.parent for path in folder.glob("*/train.csv"))
    if not folders:
        raise GlpError(f"No run in {folder}: wanted <run>/train.csv and <run>/config.json (or run.json).")
    if len(folders) > MOST_RUNS:
        raise GlpError(f"{folder} holds {len(folders)} runs, wanted at most {MOST_RUNS}: choose a smaller folder.")
    runs = []
    for one in folders:
        try:
            runs.append(read(one))
        except GlpError as error:
            if left_out is None:
                raise
            left_out.append(f"A run is left out: {error}")
    return sorted(runs, key=lambda run: (run.parameters, run.name))


def speed(runs: Sequence[Run]) -> float | None:
    """Return the measured FLOPs a second of the largest run that logged seconds, None without one."""
    rates = [run.flops_per_second for run in sorted(runs, key=lambda run: run.parameters) if run.flops_per_second > 0]
    return rates[-1] if rates else None


def points(runs: Sequence[Run]) -> pd.DataFrame:
    """Return all checkpoints of the runs as one table with `run` and `parameters`."""
    parts = [run.checkpoints.assign(run=run.name, parameters=run.parameters) for run in runs]
    return (
        pd.concat(parts, ignore_index=True)
        if parts
        else pd.DataFrame(columns=["run", "parameters", *NEEDED, "warming", "old_end"])
    )


def alike(runs: Sequence[Run], score: str) -> list[Run]:
    """Return the runs whose score was measured as most of those that tell it were; those that do not tell it count with them."""
    told = [run.measured[score] for run in runs if score in run.measured]
    most = max(told, key=told.count, default=None)
    return [run for run in runs if run.measured.get(score, most) == most]


def fit_points(runs: Sequence[Run], which: FitPoints) -> pd.DataFrame:
    """Return the checkpoints that a law is fitted to, by compute: past warm-up, all or only those that no other beats."""
    table = points(runs)
    table = table[~table["warming"].astype(bool)]
    if which == "frontier" and len(table):
        table = table[frontier(table["flops"], table["validation_loss"])]
    return table.sort_values("flops", ignore_index=True, kind="stable")


def _warming(checkpoints: pd.DataFrame, log: pd.DataFrame) -> "pd.Series[bool]":
    """Mark checkpoints from before the learning rate had reached its peak: there the schedule, not compute, sets the loss."""
    if "learning_rate" not in log or log["learning_rate"].isna().all():
        return pd.Series(False, index=checkpoints.index)
    rate = log["learning_rate"]
    peak = log["activations"][rate >= 0.99 * rate.max()].iloc[0]
    return checkpoints["activations"] < peak


def _seen_before(config: Json) -> float:
    """Return how many activations the weights had seen that the run went on from, 0 for a run from random weights."""
    start = config.get("start")
    about = start.get("about") if isinstance(start, dict) else None
    seen = about.get("activations_seen", 0) if isinstance(about, dict) else 0
    return float(seen) if isinstance(seen, int | float) and 0 < seen < MOST_ACTIVATIONS else 0.0


def _with_start(table: pd.DataFrame, seen: float) -> pd.DataFrame:
    """Count what the weights had seen before the run among its activations and its arithmetic."""
    per_activation = table["flops"] / table["activations"]
    return table.assign(activations=table["activations"] + seen, flops=table["flops"] + seen * per_activation)


def _old_ends(checkpoints: pd.DataFrame, log: pd.DataFrame) -> "pd.Series[bool]":
    """Mark checkpoints at which the learning rate had fallen and after which it rose again."""
    if "learning_rate" not in log:
        return pd.Series(False, index=checkpoints.index)
    rate = log["learning_rate"]
    later = [rate[log["activations"] > seen].max() for seen in checkpoints["activations"]]
    now = checkpoints["learning_rate"]
    return ~_warming(checkpoints, log) & (now < FALLEN * rate.max()) & (pd.Series(later, index=checkpoints.index) > 2 * now)


def _measured(folder: Path) -> dict[str, Json]:
    """Return what evals.json says; a person's own run need not have one, and a damaged one says nothing."""
    try:
        settings = read_object(folder / "evals.json")
    except (GlpError, OSError):
        return {}
    return {name: settings[name] for name in SCORES if isinstance(settings.get(name), dict)}


def _scores(folder: Path) -> pd.DataFrame | None:
    path = folder / "evals.csv"
    return read_scores(path).drop_duplicates("activations", keep="last") if path.is_file() else None


def read_scores(path: Path) -> pd.DataFrame:
    """Return an evals.csv: activations, and the scores that it has; nan where one was not measured.

    Raises:
        GlpError: it is too large, no table of numbers, or lacks the column.
    """
    return _table(path, ("activations",), SCORES)


def _table(path: Path, needed: tuple[str, ...], optional: tuple[str, ...]) -> pd.DataFrame:
    if path.stat().st_size > LARGEST_FILE:
        raise GlpError(f"{path} has {path.stat().st_size:,} bytes, wanted at most {LARGEST_FILE:,}: is it a training log?")
    with path.open("rb") as file:
        if len(file.readline(LONGEST_HEADER + 1)) > LONGEST_HEADER:
            raise GlpError(f"{path} has a first line of more than {LONGEST_HEADER:,} bytes: is it a training log?")
    try:
        table = pd.read_csv(path, dtype=str)
    except (ValueError, OSError) as error:  # pandas raises several kinds of ValueError for text that is no table
        raise GlpError(f"{path} is not a table of comma-separated values ({type(error).__name__}).") from error
    if not isinstance(table.index, pd.RangeIndex):
        raise GlpError(f"{path} has more cells in its rows than columns in its first line.")
    missing = [name for name in needed if name not in table]
    if missing:
        raise GlpError(f"{path} lacks the column(s) {', '.join(missing)}; wanted {', '.join(needed)}.")
    if table.empty:
        raise GlpError(f"{path} has no rows yet. Wait until the run has logged its first step.")
    columns = table[[*needed, *(name for name in optional if name in table)]]
    numbers = columns.apply(pd.to_numeric, errors="coerce")
    for name in columns:
        wrong = numbers[name].isna() & columns[name].notna() | ~(numbers[name].fillna(0).abs() < LARGEST)
        if wrong.any() or (name in needed and name != "validation_loss" and numbers[name].isna().any()):
            line = int((wrong | numbers[name].isna()).idxmax()) + 2
            raise GlpError(f"{path}, line {line}: {name} is not a finite number.")
    return numbers.astype(np.float64)


def _config(folder: Path) -> Json:
    """Return run.json, or config.json; a GLP's own config.json, which tells no plan, is read last."""
    for name in ("run.json", "config.json"):
        path = folder / name
        if path.is_file():
            config = read_object(path)
            return check(config, CONFIG, f"{path} holds no configuration")
    raise GlpError(f"No config.json (or run.json) in {folder}: the run's configuration says what was planned.")


def _shape(train: Json) -> str:
    width, hidden, depth = (train.get(name) for name in ("d_model", "d_mlp", "n_layers"))
    return f"{depth} blocks, {width} wide, {hidden} neurons" if all(isinstance(x, int) for x in (width, hidden, depth)) else ""
