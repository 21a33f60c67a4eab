"""Every neuron's scores on every probing task, as `probe` stored them beside the index; read by slices."""

import json
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import safe_open

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

    def aucs(self, name: str) -> np.ndarray | None:
        """Return every neuron's test AUC (n_neurons,) on a task; below 0.5 it fires on the negative class. None when not probed."""
        return self._file.get_slice("test")[self.names.index(name)].astype(np.float32) if name in self.names else None

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
