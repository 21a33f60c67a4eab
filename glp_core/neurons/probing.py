"""The benchmark of 1-D probing (paper, meta-neurons): on each task, one neuron chosen on validation rows and measured on test rows.

The same protocol for the GLP's neurons and for the baselines: layer output, raw MLP neurons, latents of a sparse autoencoder.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pandas as pd

from glp_core.checked.tables import read_table
from glp_core.data.corpus import Task
from glp_core.errors import GlpError
from glp_core.files import Json
from glp_core.neurons.probes import fit_logistic, standardised_difference
from glp_core.progress import Progress, quiet
from glp_core.stats import auc, auc_interval, bootstrap_mean

if TYPE_CHECKING:
    from glp_core.workspace import Workspace

__all__ = ["Features", "TaskResult", "TaskScores", "probe_task", "summary", "task_scores", "neuron_concepts"]

PRESELECTED = 512
"""Features kept by their class-mean difference on training rows (paper)."""
DRAWS = 10_000
"""Of the bootstraps over tasks."""
NAMES = ("glp", "mlp", "layer", "sae")
TITLES = {"glp": "GLP meta-neurons", "mlp": "raw MLP neurons", "layer": "raw layer output", "sae": "SAE latents"}

Features = Callable[[np.ndarray], np.ndarray]
"""Takes rows of the stored activations (n,), returns features (n, m)."""


@dataclass(frozen=True)
class TaskResult:
    """The feature that was chosen for a task, and how well it does."""

    feature: int
    """Number of the feature."""
    sign: int
    """1 when it is higher on positive rows, else -1."""
    validation_auc: float
    """The probe's, on the rows that the feature was chosen on."""
    test_auc: float
    """The probe's, on test rows; looked at once."""
    test_values: np.ndarray
    """The feature on the test rows."""


class TaskRows(NamedTuple):
    """One task's rows: places among the stored activations, and labels, by split."""

    train: np.ndarray
    train_labels: np.ndarray
    validation: np.ndarray
    validation_labels: np.ndarray
    test: np.ndarray
    test_labels: np.ndarray

    @staticmethod
    def of(rows: pd.DataFrame, places: np.ndarray) -> "TaskRows":
        """Split a task's rows (split, label) with their `places`."""
        columns = []
        for split in ("train", "validation", "test"):
            rows_of_split = (rows["split"] == split).to_numpy()
            columns += [places[rows_of_split], rows["label"].to_numpy()[rows_of_split]]
            if len(set(columns[-1])) < 2:
                raise GlpError(f"A task has {split} rows of one class only: raise the caps.")
        return TaskRows(*columns)


def probe_task(features: Features, rows: TaskRows) -> TaskResult:
    """Preselect and fit one probe a feature on training rows, choose on validation rows, measure on test rows."""
    candidates, signs, turned = _candidates(features, rows)
    validation = auc(turned, rows.validation_labels)
    best = int(validation.argmax())
    values = features(rows.test)[:, candidates[best]]
    score = float(auc((values * signs[best])[:, None], rows.test_labels)[0])
    return TaskResult(int(candidates[best]), int(signs[best]), float(validation[best]), score, values)


def validation_auc(features: Features, tasks: Sequence[TaskRows]) -> float:
    """Return what readings are compared by, the mean over tasks of the AUC of a feature that is chosen on one half of the
    validation rows and measured on the other, both ways; no test row is looked at.

    The best of many features on all rows would favour readings whose features merely differ more by chance.
    """
    return float(np.mean([_crossed_auc(_candidates(features, rows)[2], rows.validation_labels) for rows in tasks]))


def _crossed_auc(turned: np.ndarray, labels: np.ndarray) -> float:
    half = np.empty(len(labels), int)
    for label in (0, 1):
        places = np.flatnonzero(labels == label)
        half[places] = np.arange(len(places)) % 2
    one, two = (auc(turned[half == h], labels[half == h]) for h in (0, 1))
    return float(two[one.argmax()] + one[two.argmax()]) / 2


def _candidates(features: Features, rows: TaskRows) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the preselected features, the signs of their probes' slopes, and their validation values turned by these signs.

    A 1-D logistic is monotone, so its AUC is that of the feature, turned by the sign of its slope.
    """
    train = features(rows.train)
    difference = np.abs(standardised_difference(train, rows.train_labels))
    candidates = np.argsort(-difference, kind="stable")[:PRESELECTED]
    signs = np.where(fit_logistic(train[:, candidates], rows.train_labels).slope >= 0, 1, -1)
    return candidates, signs, features(rows.validation)[:, candidates] * signs


def summary(
    tasks: Sequence[Task], rows: Mapping[str, TaskRows], results: Mapping[str, Mapping[str, TaskResult]], *, d_mlp: int
) -> Json:
    """Return the report: means with 95% bootstrap intervals over tasks, and one row a task.

    Args:
        results: by feature set ("glp", "mlp", "layer", "sae"), then by task name.
        d_mlp: neurons a block of the GLP, to turn numbers into (layer, neuron).
    """
    names = [name for name in NAMES if name in results]
    scores = {name: np.array([results[name][task.name].test_auc for task in tasks]) for name in names}
    means = {name: float(values.mean()) for name, values in scores.items()}
    best = max((name for name in names if name != "glp"), key=means.__getitem__)
    difference = scores["glp"] - scores[best]
    return {
        "n_tasks": len(tasks),
        "mean_auc": means,
        "ci": {name: bootstrap_mean(values, draws=DRAWS).ci for name, values in scores.items()},
        "best_baseline": best,
        "paired_difference": float(difference.mean()),
        "paired_difference_ci": bootstrap_mean(difference, draws=DRAWS).ci,
        "tasks_won": int((difference > 0).sum()),
        "rows": [_report_row(task, rows[task.name], {n: results[n][task.name] for n in names}, d_mlp) for task in tasks],
    }


def _report_row(task: Task, rows: TaskRows, found: Mapping[str, TaskResult], d_mlp: int) -> Json:
    positive = int(rows.test_labels.sum())
    row: Json = {
        "task": task.name,
        "title": task.title,
        "asks": task.asks,
        "n_train": len(rows.train),
        "n_validation": len(rows.validation),
        "n_test": len(rows.test),
        "positive_share": positive / len(rows.test),
    }
    for name, result in found.items():
        row[name] = {
            "auc": result.test_auc,
            "ci": auc_interval(result.test_auc, positive, len(rows.test) - positive).ci,
            "validation_auc": result.validation_auc,
            "index": result.feature,
            "sign": result.sign,
        }
    row["glp"] |= dict(zip(("layer", "unit"), divmod(found["glp"].feature, d_mlp), strict=True))
    return row


class NeuronConcepts(NamedTuple):
    """Every neuron on every task."""

    profile: np.ndarray
    """Standardised class-mean differences on training rows (tasks, neurons)."""
    validation: np.ndarray
    """AUC on validation rows (tasks, neurons), below 0.5 when the neuron fires on the negative class."""
    test: np.ndarray
    """AUC on test rows (tasks, neurons)."""
    best_task: np.ndarray
    """Number of the task with the most extreme validation AUC (neurons,)."""
    best_auc: np.ndarray
    """Its test AUC, turned to the side that validation rows chose (neurons,)."""


def neuron_concepts(features: Features, tasks: Sequence[TaskRows], *, progress: Progress = quiet) -> NeuronConcepts:
    """Score every neuron on every task."""
    profile, validation, test = [], [], []
    for i, rows in enumerate(tasks):
        profile.append(standardised_difference(features(rows.train), rows.train_labels))
        validation.append(auc(features(rows.validation), rows.validation_labels))
        test.append(auc(features(rows.test), rows.test_labels))
        progress(i + 1, len(tasks), "tasks: every neuron")
    chosen = np.stack(validation)
    best = np.abs(chosen - 0.5).argmax(0)
    neurons = np.arange(chosen.shape[1])
    measured = np.stack(test)[best, neurons]
    turned = np.where(chosen[best, neurons] >= 0.5, measured, 1 - measured)
    return NeuronConcepts(np.stack(profile), chosen, np.stack(test), best, turned)


class TaskScores(NamedTuple):
    """The best neuron of a task on its test rows."""

    values: np.ndarray
    labels: np.ndarray


def task_scores(workspace: "Workspace", name: str) -> TaskScores:
    """Return the stored values and labels of a task's best neuron; raise GlpError when it was not probed."""
    path = workspace.neurons / "task_scores.parquet"
    if not path.is_file():
        raise GlpError(f"No probing scores in {workspace.neurons}. Make them with `python -m glp_core probe`.")
    columns = {"task": "text", "value": "number", "label": "whole"}
    scores = read_table(path, columns, where=[("task", "==", name)])
    if not len(scores):
        raise GlpError(f"Task {name!r} was not probed.")
    if set(scores["label"]) != {0, 1}:
        raise GlpError(
            f"{path} is damaged: the labels of {name} are not 0 and 1. Make it again with `python -m glp_core probe`."
        )
    return TaskScores(scores["value"].to_numpy(np.float32), scores["label"].to_numpy(np.int8))
