"""A training run's folder: its configuration (run.json), its log (train.csv) and the state that it goes on from.

Knows files, not training: whatever was being written when a run was killed is made again.
"""

import csv
import math
from collections.abc import Sequence
from pathlib import Path

from torch import Tensor

from glp_core.checked.shapes import check
from glp_core.checked.tensors import read_tensors
from glp_core.errors import GlpError
from glp_core.files import Json, read_object, replacing, write_json, write_tensors, writing

AGAIN = "Remove it: the run begins anew."
STATE = {"step": "whole", "seconds": "number", "losses?": "number n", "resident?": "whole"}
COLUMNS = ("step", "activations", "flops", "train_loss", "validation_loss", "learning_rate", "seconds")
CHECKS = ("step", "activations", "text", "user", "answer", "template", "p50", "p90", "p99", "p999", "max")
"""Held-out losses by what a token is part of, and quantiles of the neurons' absolute values on held-out text."""


class RunFolder:
    """The files of one run."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def configuration(self, identity: Json) -> Json | None:
        """Return the kept configuration, None in a new folder; only how many activations it is to see may differ from `identity`.

        Raises:
            GlpError: the folder holds another run.
        """
        if not (self.path / "run.json").is_file():
            return None
        path = self.path / "run.json"
        stored: Json = check(read_object(path), {"train": {}, "dtype": str}, f"{path} is damaged")
        same = {"train": stored["train"] | {"activations": identity["train"]["activations"]}, "dtype": stored["dtype"]}
        same |= {key: stored[key] for key in ("start", "supply") if key in stored}
        if "supply" in stored and "source" in (wanted := identity.get("supply", {})):
            same["supply"] = {"source": wanted["source"]} | stored["supply"]  # an earlier version's run does not say
        if same != identity:
            raise GlpError(f"{self.path} holds a run with another configuration. Choose another --run, or remove that folder.")
        return stored

    def write_configuration(self, configuration: Json) -> None:
        """Write run.json, also where the run is killed before its first row."""
        write_json(self.path / "run.json", configuration)

    def state(self) -> dict[str, Tensor] | None:
        """Return the saved state, None where there is none; raise GlpError when it is damaged."""
        path = self.path / "state.safetensors"
        return read_tensors(path, STATE, again=AGAIN).tensors if path.is_file() else None

    def save_state(self, tensors: dict[str, Tensor]) -> None:
        """Replace the saved state."""
        write_tensors(self.path / "state.safetensors", tensors)

    def supply(self, rank: int, step: int) -> dict[str, Tensor] | None:
        """Return a process's place in its supply after a step, None where none was saved."""
        path = self._supply(rank, step)
        return read_tensors(path, {}, again=AGAIN).tensors if path.is_file() else None

    def save_supply(self, rank: int, step: int, tensors: dict[str, Tensor]) -> None:
        """Write a process's place in its supply; it counts once the state of the same step is saved."""
        write_tensors(self._supply(rank, step), tensors)

    def drop_supplies_but(self, step: int) -> None:
        """Remove the places of other steps."""
        for path in self.path.glob("supply-*-step-*.safetensors"):
            if not path.stem.endswith(f"-step-{step}"):
                path.unlink(missing_ok=True)

    def _supply(self, rank: int, step: int) -> Path:
        return self.path / f"supply-{rank}-step-{step}.safetensors"

    def log(
        self, *, step: int, activations: int, flops: int, loss: float, validation: float | None, rate: float, seconds: float
    ) -> None:
        """Append a row to train.csv."""
        valid = "" if validation is None else f"{validation:.5f}"
        self._append("train.csv", COLUMNS, [step, activations, flops, f"{loss:.5f}", valid, f"{rate:.3e}", f"{seconds:.1f}"])

    def log_check(self, *, step: int, activations: int, values: dict[str, float]) -> None:
        """Append a row to checks.csv; what a run does not measure stays empty."""
        row = [step, activations, *(f"{values[name]:.5g}" if name in values else "" for name in CHECKS[2:])]
        self._append("checks.csv", CHECKS, row)

    def _append(self, name: str, columns: Sequence[str], row: Sequence[object]) -> None:
        path = self.path / name
        new = not path.is_file() or path.stat().st_size == 0
        with writing(path), path.open("a", newline="") as file:
            writer = csv.writer(file)
            writer.writerows([columns, row] if new else [row])

    def drop_rows_after(self, step: int) -> None:
        """Leave out rows of the logs that were written after the state was saved, or only in part; they are made again."""
        for name, columns in (("train.csv", COLUMNS), ("checks.csv", CHECKS)):
            path = self.path / name
            if not path.is_file():
                continue
            whole = [line for line in path.read_text(errors="replace").splitlines(keepends=True) if line.endswith("\n")]
            rows = [row for row in whole[1:] if row.count(",") == len(columns) - 1 and _step_of(row) <= step]
            with replacing(path) as scratch:
                scratch.write_text("".join(whole[:1] + rows))


def _step_of(row: str) -> float:
    """Return the step of a row; infinity for one that is damaged."""
    first = row.split(",", 1)[0]
    return int(first) if first.isdecimal() and len(first) < 16 else math.inf
