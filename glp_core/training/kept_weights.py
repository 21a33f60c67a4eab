"""Which weights a training folder holds, by activations seen, and a small copy of the final ones for a workspace."""

import re
from pathlib import Path

import torch
from safetensors.torch import load_file

from glp_core.errors import GlpError
from glp_core.files import read_json, tensor_header, write_json, write_tensors
from glp_core.prior.checkpoint import read_statistics


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
        about = read_json(folder / "config.json").get("about", {})
        seen = about.get("activations_seen")
        before = about.get("went_on_from", {}).get("about", {}).get("activations_seen", 0)
        if isinstance(seen, int) and isinstance(before, int):
            checkpoints.setdefault(seen - before, "final")
    return dict(sorted(checkpoints.items()))


def keep_final(folder: Path, target: Path) -> None:
    """Copy a training folder's final GLP to `target` in bfloat16, without the covariance that the workspace has once already.

    Raises:
        GlpError: the run has not ended, or its weights are damaged.
    """
    if "final" not in kept_checkpoints(folder).values():
        raise GlpError(f"{folder} holds no final weights of its last step: let the run end first.")
    path = folder / "final.safetensors"
    tensor_header(path)
    weights = {name: tensor.to(torch.bfloat16) for name, tensor in load_file(path).items()}
    config, statistics = read_json(folder / "config.json"), read_statistics(folder)
    write_tensors(target / "statistics.safetensors", {name: statistics[name] for name in ("mean", "var")})
    write_tensors(target / "final.safetensors", weights)
    write_json(target / "config.json", {name: config[name] for name in ("denoiser", "about")})
