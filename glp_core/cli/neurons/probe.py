"""Probe all binary tasks with single neurons: choose the reading on validation rows, compare with three baselines on test rows."""

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from glp_core.cli.console import (
    add_numbers,
    add_workspace_arguments,
    check_counts,
    open_workspace,
    part_of,
    reporter,
    say,
    stopping,
)
from glp_core.cli.neurons.describe import describe_all
from glp_core.data.corpus import Task, tasks
from glp_core.data.probe_activations import Caps, ProbeActivations, collect_probe_activations, collect_probe_share, sampled_rows
from glp_core.errors import GlpError
from glp_core.files import replacing, together, write_tensors
from glp_core.llm.sources import cache_folder
from glp_core.neuron_index.neuron_data import PAPER, Reading
from glp_core.neuron_index.reader import NeuronIndex
from glp_core.neuron_index.reading import read_many
from glp_core.neurons.probing import (
    PRESELECTED,
    TITLES,
    Features,
    TaskResult,
    TaskRows,
    neuron_concepts,
    probe_task,
    summary,
    validation_auc,
)
from glp_core.prior.facts import GlpFacts
from glp_core.prior.glp import GLP
from glp_core.training.sae import Sae, load_sae
from glp_core.workspace import Workspace

READINGS = (PAPER, Reading(0.05), Reading(0.1), Reading(0.2), Reading(0.3), Reading(0.4), Reading(0.3, draws=8))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this command's arguments."""
    add_workspace_arguments(parser)
    parser.add_argument(
        "--activations", type=Path, metavar="FOLDER", help="where last-token activations are kept (default: the cache)"
    )
    words = "run the LLM over the Ith of N shares of the texts, and nothing else; then `probe` without it"
    parser.add_argument("--part", default="", metavar="I/N", help=words)
    parser.add_argument("--sae", type=Path, metavar="FILE", help="from `sae` (default: the cache folder)")
    add_numbers(parser, Caps(), train="rows a task", validation="rows a task", test="rows a task")
    parser.add_argument(
        "--most-calls", type=int, default=1, help="GLP calls that the chosen reading may take (default: %(default)s)"
    )


def run(args: argparse.Namespace) -> int:
    """Run the command."""
    check_counts(args, ("most_calls",), 1)
    workspace = open_workspace(args)
    caps = Caps(args.train, args.validation, args.test)
    if args.part:
        return _run_share(workspace, [sampled_rows(task, caps) for task in tasks()], caps, args)
    # first: where it is missing, minutes of reading would be for nothing
    sae, sae_facts = load_sae(
        args.sae or workspace.sae_path, layer=workspace.layer, width=GlpFacts.read(workspace.folder / "glp").d_input
    )
    every = tasks()
    frames = [sampled_rows(task, caps) for task in every]
    acts = _activations(workspace, frames, caps, args.activations)
    rows = [TaskRows.of(frame, acts.rows(frame["key"].tolist())) for frame in frames]
    glp = workspace.load_glp()
    sae = sae.to(workspace.device)
    compared = _compare_readings(glp, acts.layer, rows)
    reading = max((r for r in compared if r.draws <= args.most_calls), key=compared.__getitem__)
    say(f"Chosen on validation rows: {reading.title}.")
    sets = {
        "glp": _held(read_many(glp, acts.layer, reading)),
        "mlp": _held(acts.mlp),
        "layer": _held(acts.layer),
        "sae": _sae_features(sae, acts.layer),
    }
    if not acts.mlp.shape[1]:
        say("The layer has no MLP that all tokens share: its neurons are left out of the comparison.")
        del sets["mlp"]
    results = {name: _probe_all(name, features, every, rows) for name, features in sets.items()}
    report = summary(every, dict(zip([t.name for t in every], rows, strict=True)), results, d_mlp=glp.d_mlp)
    for row, frame in zip(report["rows"], frames, strict=True):
        row["examples"] = _examples(frame)
    report |= {
        "reading": reading.to_json(),
        "readings": [r.to_json() | {"title": r.title, "validation_auc": score} for r, score in compared.items()],
        "protocol": asdict(caps) | {"most_calls": args.most_calls, "preselected": PRESELECTED, "token": "last"},
        "titles": TITLES,
        "sae": sae_facts,
    }
    with together():
        _save_scores(workspace, every, rows, results["glp"])
        _save_concepts(workspace, sets["glp"], every, rows)
        workspace.save_report("probing", report)
    _name_tasks(workspace)
    means = ", ".join(f"{TITLES[name]} {value:.3f}" for name, value in report["mean_auc"].items())
    low, high = report["paired_difference_ci"]
    say(f"Mean test AUC over {len(every)} tasks: {means}.")
    say(f"GLP minus {TITLES[report['best_baseline']]}: {report['paired_difference']:+.4f} [{low:+.4f}, {high:+.4f}].")
    return 0


def _run_share(workspace: Workspace, frames: Sequence[pd.DataFrame], caps: Caps, args: argparse.Namespace) -> int:
    share, n_shares = part_of(args.part)
    site = workspace.site(workspace.load_llm())
    folder = args.activations or _default_folder(workspace)
    report, tokens = reporter("activations"), caps.max_tokens
    with stopping(at_once=True):
        collect_probe_share(site, pd.concat(frames), folder, share, n_shares, max_tokens=tokens, progress=report)
    say(f"Part {share} of {n_shares} is in {folder}; when all are, `python -m glp_core probe` goes on from them.")
    return 0


def _default_folder(workspace: Workspace) -> Path:
    return cache_folder() / "probing" / workspace.store_folder.name


def _activations(workspace: Workspace, frames: Sequence[pd.DataFrame], caps: Caps, folder: Path | None) -> ProbeActivations:
    """Return the rows' activations, running the LLM only when some are missing."""
    folder = folder or _default_folder(workspace)
    rows = pd.concat(frames)
    have = ProbeActivations(folder, f"{workspace.llm.label}, layer {workspace.layer}")
    if set(rows["key"]) <= have.row.keys():
        return have
    site = workspace.site(workspace.load_llm())
    with stopping(at_once=True):
        return collect_probe_activations(site, rows, folder, max_tokens=caps.max_tokens, progress=reporter("activations"))


def _held(values: Tensor, place: np.ndarray | None = None) -> Features:
    """Return features that are rows of `values`, where `place` says which row of it holds a row asked for."""
    return lambda rows: values[torch.from_numpy(rows if place is None else place[rows])].float().numpy()


def _sae_features(sae: Sae, acts: Tensor) -> Features:
    return lambda rows: sae.latents(acts[torch.from_numpy(rows)]).cpu().numpy()


def _name_tasks(workspace: Workspace) -> None:
    """Describe the neurons again, for their descriptions name tasks, where this prior's are indexed."""
    if not (workspace.neurons / "index.json").is_file():
        return
    try:
        if str(NeuronIndex.open(workspace.neurons).facts.get("glp")).startswith(workspace.glp_digest()):
            describe_all(workspace)
    except GlpError as error:
        say(f"Descriptions are not made again: {error}")


def _compare_readings(glp: GLP, acts: Tensor, rows: Sequence[TaskRows]) -> dict[Reading, float]:
    """Return every reading's mean validation AUC; test rows are not even read."""
    used = np.unique(np.concatenate([np.concatenate([r.train, r.validation]) for r in rows]))
    place = np.full(len(acts), -1)
    place[used] = np.arange(len(used))
    compared: dict[Reading, float] = {}
    report = reporter("readings")
    for i, reading in enumerate(READINGS):
        neurons = read_many(glp, acts[torch.from_numpy(used)], reading)
        compared[reading] = validation_auc(_held(neurons, place), rows)
        report(i + 1, len(READINGS), f"{reading.title}: {compared[reading]:.4f}")
    return compared


def _probe_all(name: str, features: Features, every: Sequence[Task], rows: Sequence[TaskRows]) -> dict[str, TaskResult]:
    report, results = reporter(f"probe {TITLES[name]}"), {}
    for i, (task, task_rows) in enumerate(zip(every, rows, strict=True)):
        results[task.name] = probe_task(features, task_rows)
        report(i + 1, len(every), "tasks")
    return results


def _examples(frame: pd.DataFrame, k: int = 2, longest: int = 160) -> dict[str, list[str]]:
    train = frame[frame["split"] == "train"]
    return {
        name: [text[:longest] for text in train.loc[train["label"] == label, "text"].head(k)]
        for name, label in (("positive", 1), ("negative", 0))
    }


def _save_scores(workspace: Workspace, every: Sequence[Task], rows: Sequence[TaskRows], results: dict[str, TaskResult]) -> None:
    parts = [
        pd.DataFrame(
            {"task": task.name, "value": results[task.name].test_values.astype(np.float32), "label": task_rows.test_labels}
        )
        for task, task_rows in zip(every, rows, strict=True)
    ]
    whole = pd.concat(parts, ignore_index=True).astype({"label": "int8", "task": "category"})
    with replacing(workspace.neurons / "task_scores.parquet") as scratch:
        whole.to_parquet(scratch, index=False)


def _save_concepts(workspace: Workspace, features: Features, every: Sequence[Task], rows: Sequence[TaskRows]) -> None:
    concepts = neuron_concepts(features, rows, progress=reporter("every neuron"))
    tensors = {
        "profile": torch.from_numpy(concepts.profile).half(),
        "test": torch.from_numpy(concepts.test).half(),
        "best_task": torch.from_numpy(concepts.best_task).to(torch.int16),
        "best_auc": torch.from_numpy(concepts.best_auc).float(),
    }
    facts = {"tasks": json.dumps([task.name for task in every]), "glp_digest": workspace.glp_digest()}
    write_tensors(workspace.neurons / "concepts.safetensors", tensors, facts)
