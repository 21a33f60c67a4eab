"""Which weights a training folder holds, by activations seen, and a small copy of the final ones for a workspace."""

import re
from pathlib import Path

import torch

from glp_core.checked.shapes import check
from glp_core.checked.tensors import read_tensors
from glp_core.errors import GlpError
from glp_core.files import Json, together, write_json, write_tensors
from glp_core.prior.checkpoint import read_statistics
from glp_core.prior.facts import stored_facts

ABOUT: Json = {"about?": {"went_on_from?": {"about?": {}}}}


def kept_checkpoints(folder: Path) -> dict[int, str]:
    """Return the checkpoints in a training folder, by activations seen in that run, ascending.

    Of a run that ended and then was made longer, the old final weights are left out until the new end is reached: config.json
    has moved on to a later checkpoint, and says no more what they had seen.
    """
    checkpoints = {}
    for path in (folder / "checkpoints").glob("activations_*.safetensors"):
        number = re.fullmatch(r"activations_(\d+)", path.stem)
        if number:
            checkpoints[int(number[1])] = f"checkpoints/{path.stem}"
    if (folder / "final.safetensors").is_file():
        about = check(stored_facts(folder), ABOUT, f"{folder / 'config.json'} is damaged").get("about", {})
        seen = about.get("activations_seen")
        before = about.get("went_on_from", {}).get("about", {}).get("activations_seen", 0)
        if isinstance(seen, int) and isinstance(before, int):
            checkpoints.setdefault(seen - before, "final")
    return dict(sorted(checkpoints.items()))


def check_ended(folder: Path) -> None:
    """Raise GlpError where a training folder has no final weights of its last step."""
    if "final" not in kept_checkpoints(folder).values():
        raise GlpError(f"{folder} holds no final weights of its last step: let the run end first.")


def keep_final(folder: Path, target: Path) -> None:
    """Copy a training folder's final GLP to `target` in bfloat16, without the covariance that the workspace has once already.

    Raises:
        GlpError: the run has not ended, or its weights are damaged.
    """
    check_ended(folder)
    path = folder / "final.safetensors"
    weights = {name: tensor.to(torch.bfloat16) for name, tensor in read_tensors(path, {}).tensors.items()}
    config = check(stored_facts(folder), {"denoiser": {}, "about": {}}, f"{folder / 'config.json'} is damaged")
    statistics = read_statistics(folder)
    with together():
        write_tensors(target / "statistics.safetensors", {name: statistics[name] for name in ("mean", "var")})
        write_tensors(target / "final.safetensors", weights)
        write_json(target / "config.json", {name: config[name] for name in ("denoiser", "about")})
