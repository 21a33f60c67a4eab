"""What was added beside the index: every neuron's scores on every probing task, read by slices, and its description."""

from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import safe_open

from glp_core.checked.shapes import Limits, Many, Maybe, check
from glp_core.checked.tensors import check_tensors, metadata_json
from glp_core.errors import GlpError
from glp_core.files import LARGEST_JSON, Json, read_object
from glp_core.neuron_index.neuron_data import SideEvidence

MOST_EXTREME = 10
TELLING_SHARE = 0.01
"""Of all neurons: a task says something of those that tell it apart best; many more do well at one that differs in topic too."""
LONGEST_DESCRIPTION = 4_000
"""Bytes of a neuron, with its evidence; the demo's take 511."""
AGAIN = "Make it again with `python -m glp_core probe`."
TASKS = {"profile?": "number tasks n", "test": "number tasks n", "best_task": "whole n", "best_auc": "number n"}
_COUNT, _SHARE = Limits(int, 0, 10**12), Maybe(Limits(float, 0, 1))
_SIDE = Maybe({"words": str, "keys": Many(str), "precision": _SHARE, "recall": _SHARE, "named": _COUNT, "firing": _COUNT})
DESCRIPTIONS = {"units?": Many((str, str)), "sides?": Maybe(Many((_SIDE, _SIDE)))}


class NeuronTasks:
    """The scores in an index folder; empty when `probe` was not run."""

    def __init__(self, folder: Path | None, n_neurons: int, glp: str = "") -> None:
        """Open those of a folder, none where it has none; raise GlpError where they are damaged, or not of the GLP of that digest."""
        self.names: list[str] = []
        """The tasks."""
        path = folder and folder / "concepts.safetensors"
        if not path or not path.is_file():
            return
        header = check_tensors(path, TASKS, sizes={"n": n_neurons}, again=AGAIN)
        if not glp.startswith(header.metadata.get("glp_digest", "")[: len(glp)]):  # digests may be cut
            raise GlpError(f"{path.name} holds scores of another prior's neurons than the index's. {AGAIN}")
        self._file: Any = safe_open(path, "np")
        self.names = check(metadata_json(header, "tasks", path, again=AGAIN), Many(str, 1), f"{path.name}: tasks")
        chosen = self._file.get_tensor("best_task")
        if len(self.names) != header.tensors["test"]["shape"][0] or not 0 <= chosen.min() <= chosen.max() < len(self.names):
            raise GlpError(f"{path.name} is damaged: it holds scores of other tasks than it names. {AGAIN}")

    def best(self, index: int) -> tuple[str | None, float | None]:
        """Return a neuron's best task, chosen on validation rows, and its test AUC."""
        if not self.names:
            return None, None
        task = int(self._file.get_slice("best_task")[index])
        return self.names[task], float(self._file.get_slice("best_auc")[index])

    def best_sign(self, index: int) -> int:
        """Return 1 where a neuron is higher on the positive texts of its best task, -1 where it is lower; 1 without scores."""
        if not self.names:
            return 1
        test, task = self._file.get_slice("test"), int(self._file.get_slice("best_task")[index])
        return int(_signs(test[task, index], self._file.get_slice("best_auc")[index]))

    def telling(self, index: int) -> bool:
        """Say whether a neuron's best task says something of it: few others tell the task apart as well."""
        return bool(self._telling[index]) if self.names else True

    @cached_property
    def _telling(self) -> np.ndarray:
        """Whether each neuron is among the share TELLING_SHARE of all that tell its best task apart best (n,)."""
        test, best = self._file.get_tensor("test").astype(np.float32), self._file.get_tensor("best_task")
        either = np.maximum(test, 1 - test)
        own = either[best, np.arange(len(best))]
        as_good = np.empty(len(best), int)
        for task in np.unique(best):
            of_task = best == task
            as_good[of_task] = len(best) - np.searchsorted(np.sort(either[task]), own[of_task])
        return as_good <= max(1, TELLING_SHARE * len(best))

    def most_extreme(self, index: int) -> list[tuple[str, float]]:
        """Return the tasks with the most extreme test AUCs of a neuron."""
        if not self.names:
            return []
        aucs = self._file.get_slice("test")[:, index].astype(np.float32)
        return [(self.names[i], float(aucs[i])) for i in np.argsort(-np.abs(aucs - 0.5))[:MOST_EXTREME]]

    def columns(self) -> dict[str, np.ndarray | float | None]:
        """Return best_task, best_auc, best_sign and best_tells of all neurons, for the table."""
        if not self.names:
            return {"best_task": None, "best_auc": np.nan, "best_sign": 1, "best_tells": True}
        chosen, areas = self._file.get_tensor("best_task"), self._file.get_tensor("best_auc")
        of_chosen = self._file.get_tensor("test")[chosen, np.arange(len(chosen))]
        named = np.array(self.names, dtype=object)[chosen]
        signs = _signs(of_chosen, areas)
        return {"best_task": named, "best_auc": areas, "best_sign": signs, "best_tells": self._telling}


def _signs(test: np.ndarray, turned: np.ndarray) -> np.ndarray:
    """Return 1 where a test AUC was kept as it is, and -1 where it was turned, 1 - AUC, to the side that validation rows chose."""
    return np.where(np.abs(test - turned) <= np.abs(1 - test - turned), 1, -1)


class Descriptions:
    """The descriptions in an index folder; empty when there are none, without evidence in those of older versions."""

    def __init__(self, folder: Path | None, n_neurons: int) -> None:
        """Read those of a folder, empty ones where it has none; raise GlpError where they are damaged."""
        path = folder and folder / "descriptions.json"
        largest = max(LARGEST_JSON, LONGEST_DESCRIPTION * n_neurons)
        stored: Json = read_object(path, largest=largest) if path and path.is_file() else {}
        check(stored, DESCRIPTIONS, f"{path} is damaged")
        if any(len(stored[part]) != n_neurons for part in ("units", "sides") if stored.get(part)):
            raise GlpError(f"{path} is damaged: it is not of {n_neurons:,} neurons. Run `python -m glp_core describe` again.")
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
