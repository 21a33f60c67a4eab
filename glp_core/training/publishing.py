"""Put a training run into a workspace: its log, where the pages look for it, and its final GLP as the workspace's own."""

from pathlib import Path

from glp_core.files import copy_file, read_json, write_json

LOGS = ("train.csv", "checks.csv", "evals.csv", "evals.json")
"""What a run writes beside its weights: its log, checks of its store, scores of its checkpoints and how they were measured."""
GLP_FILES = ("statistics.safetensors", "final.safetensors", "config.json")


def publish(folder: Path, target: Path) -> None:
    """Copy a run's configuration and logs into `target`, a folder of the workspace's runs; nothing before there is a log.

    What an earlier run of that name left and this one has not written goes.
    """
    if not (folder / "train.csv").is_file():
        return
    config = read_json(folder / "run.json")
    if (folder / "config.json").is_file():
        config |= read_json(folder / "config.json")
    write_json(target / "config.json", config)
    for name in LOGS:
        if (folder / name).is_file():
            copy_file(folder / name, target / name)
        else:
            (target / name).unlink(missing_ok=True)


def install(folder: Path, target: Path) -> None:
    """Copy a finished run's final GLP into `target`, the workspace's glp folder."""
    for name in GLP_FILES:
        copy_file(folder / name, target / name)
