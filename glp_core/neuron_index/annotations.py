"""What was added beside the index: every neuron's scores on every probing task, read by slices, and its description."""

import json
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import safe_open

from glp_core.files import Json, read_json
from glp_core.neuron_index.neuron_data import SideEvidence

MOST_EXTREME = 10


class NeuronTasks:
    """The scores in an index folder; empty when `probe` was not run."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "concepts.safetensors"

    @cached_property
    def _file(self) -> Any:
        return safe_open(self._path, "np") if self._path.is_file() else None

    @cached_property
    def names(self) -> list[str]:
        """The tasks."""
        return [] if self._file is None else json.loads(self._file.metadata()["tasks"])

    def best(self, index: int) -> tuple[str | None, float | None]:
        """Return a neuron's best task, chosen on validation rows, and its test AUC."""
        if not self.names:
            return None, None
        task = int(self._file.get_slice("best_task")[index])
        return self.names[task], float(self._file.get_slice("best_auc")[index])

    def most_extreme(self, index: int) -> list[tuple[str, float]]:
        """Return the tasks with the most extreme test AUCs of a neuron."""
        if not self.names:
            return []
        aucs = self._file.get_slice("test")[:, index].astype(np.float32)
        return [(self.names[i], float(aucs[i])) for i in np.argsort(-np.abs(aucs - 0.5))[:MOST_EXTREME]]

    def columns(self) -> dict[str, np.ndarray | float | None]:
        """Return best_task and best_auc of all neurons, for the table."""
        if not self.names:
            return {"best_task": None, "best_auc": np.nan}
        named = np.array(self.names, dtype=object)[self._file.get_tensor("best_task")]
        return {"best_task": named, "best_auc": self._file.get_tensor("best_auc")}


class Descriptions:
    """The descriptions in an index folder; empty when there are none, without evidence in those of older versions."""

    def __init__(self, folder: Path, n_neurons: int) -> None:
        path = folder / "descriptions.json"
        stored: Json = read_json(path) if path.is_file() else {}
        self._words: list[list[str]] = stored.get("units") or [["", ""]] * n_neurons
        self._sides: list[list[Json | None]] = stored.get("sides") or [[None, None]] * n_neurons

    def words(self, index: int) -> tuple[str, str]:
        """Return a neuron's description and who made it."""
        words, by = self._words[index]
        return words, by

    def sides(self, index: int) -> tuple[SideEvidence | None, SideEvidence | None]:
        """Return what its highest and its lowest tokens have in common."""
        high, low = (None if side is None else SideEvidence.from_json(side) for side in self._sides[index])
        return high, low

    def columns(self) -> dict[str, list[str] | list[float] | list[list[str]]]:
        """Return description, described_by and readability, that of the more readable side, of all neurons, for the table."""
        sides = [self.sides(index) for index in range(len(self._sides))]
        return {
            "description": [words for words, _ in self._words],
            "described_by": [by for _, by in self._words],
            "readability": [max((side.readability for side in pair if side), default=0.0) for pair in sides],
            "keys": [[key for side in pair if side for key in side.keys] for pair in sides],
        }
