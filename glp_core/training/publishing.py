"""Put a training run's log and a GLP into a workspace, and give a workspace's GLP away as a released folder, on the hub too."""

import re
from dataclasses import replace
from pathlib import Path

from glp_core.data.texts import hub
from glp_core.errors import GlpError
from glp_core.files import copy_file, read_object, replacing, together, write_json
from glp_core.prior.checkpoint import read_glp, read_statistics
from glp_core.prior.facts import GlpFacts, stored_facts
from glp_core.prior.released import write_released
from glp_core.training.kept_weights import check_ended

LOGS = ("train.csv", "checks.csv", "evals.csv", "evals.json")
"""What a run writes beside its weights: its log, checks of its store, scores of its checkpoints and how they were measured."""
GLP_FILES = ("statistics.safetensors", "final.safetensors", "config.json")

EXPORTED = ("final.safetensors", "rep_statistics.pt", "config.yaml", "README.md")


def publish(folder: Path, target: Path) -> None:
    """Copy a run's configuration and logs into `target`, a folder of the workspace's runs; nothing before there is a log.

    What an earlier run of that name left and this one has not written goes.
    """
    if not (folder / "train.csv").is_file():
        return
    config = read_object(folder / "run.json")
    if (folder / "config.json").is_file():
        config |= read_object(folder / "config.json")
    write_json(target / "config.json", config)
    for name in LOGS:
        if (folder / name).is_file():
            copy_file(folder / name, target / name)
        else:
            (target / name).unlink(missing_ok=True)


def install(folder: Path, target: Path) -> None:
    """Copy a finished run's final GLP into `target`, the workspace's glp folder; GlpError where its last step's weights are not there."""
    check_ended(folder)
    with together():
        for name in GLP_FILES:
            copy_file(folder / name, target / name)


def export(folder: Path, target: Path, *, llm: str = "") -> None:
    """Write the GLP in `folder` as a released folder, its weights in the dtype that they are stored in.

    Args:
        llm: hub id of the LLM that it was trained on, where it is known.
    Raises:
        GlpError: there is no GLP, or `target` holds something else.
    """
    if target.exists() and not (target / "config.yaml").is_file() and not _only_exported(target):
        raise GlpError(f"{target} holds something else: give a new folder, or one that an earlier export made.")
    facts, weights = GlpFacts.read(folder), read_glp(folder, dtype=None).network.state_dict()
    statistics = {name: value for name, value in read_statistics(folder).items() if name in ("mean", "var")}
    known = replace(facts, about=facts.about | {"llm": llm or facts.llm})
    with together():
        write_released(target, stored_facts(folder), weights, statistics, llm=known.llm, layers=known.layers)
        with replacing(target / "README.md") as scratch:
            scratch.write_text(model_card(known))


def _only_exported(target: Path) -> bool:
    """Say whether a folder holds nothing, or only what an export that was killed had written."""
    return target.is_dir() and all(path.name.removeprefix(".").startswith(EXPORTED) for path in target.iterdir())


def model_card(facts: GlpFacts) -> str:
    """Return a README for a released folder."""
    layers = ", ".join(map(str, facts.layers)) or "unknown"
    seen = f", {facts.activations_seen:,} activations" if facts.activations_seen else ""
    return (
        f"---\ntags: [generative-latent-prior]\n---\n# A generative latent prior of {facts.llm or 'an LLM'}\n\n"
        f"Activations: output of layer {layers}{seen}. Network: {facts.shape}, {facts.parameters:,} parameters.\n\n"
        '```python\nfrom glp_core import load_glp\n\nglp = load_glp("this/folder")  # or the hub id\n```\n'
    )


def push(folder: Path, hub_id: str, *, private: bool = False) -> str:
    """Upload a folder to the Hugging Face hub with the user's token; return id@commit.

    Raises:
        GlpError: no such id can be, nobody is logged in, or the hub refuses.
    """
    from huggingface_hub import HfApi

    if not re.fullmatch(r"[\w.-]+/[\w.-]+", hub_id):
        raise GlpError(f"{hub_id!r} is no hub id, wanted for example my-name/my-glp.")
    api = HfApi()
    try:
        api.create_repo(hub_id, private=private, exist_ok=True)
        commit = api.upload_folder(repo_id=hub_id, folder_path=folder, commit_message="A generative latent prior")
    except hub.failures(ValueError) as error:
        raise GlpError(
            f"Could not push to {hub_id}: {error}. Log in with `hf auth login`, or set HF_TOKEN; be online, with HF_HUB_OFFLINE=0. "
            f"The folder {folder} is whole."
        ) from error
    return f"{hub_id}@{commit.oid}"
