"""Read and write GLP folders: the released ones (config.yaml, rep_statistics.pt) and our own (config.json, safetensors only).

Every file is checked before anything is allocated: kind, header size, names, shapes.
"""

import math
import re
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import torch
from torch import Tensor

from glp_core.checked.tensors import read_tensors
from glp_core.devices import device_at
from glp_core.errors import GlpError, in_short, way_in
from glp_core.files import Json, expanded, tensor_header, together, write_json, write_tensors
from glp_core.memory import check_room
from glp_core.prior.facts import bytes_needed, stored_facts
from glp_core.prior.flow import TwoCalls
from glp_core.prior.glp import GLP
from glp_core.prior.network import DenoiserConfig
from glp_core.prior.released import WRAPPERS, read_rep_statistics
from glp_core.progress import Tell, unheard

STATISTICS = {"mean": "number ...", "var": "number ...", "covariance?": "float d d"}
FLOATS = ("F64", "F32", "F16", "BF16")
RELEASED = {
    "generative-latent-prior/glp-llama8b-d6",
    "generative-latent-prior/glp-llama1b-d3",
    "generative-latent-prior/glp-llama1b-d6",
    "generative-latent-prior/glp-llama1b-d12",
    "generative-latent-prior/glp-llama1b-d24",
    "generative-latent-prior/glp-llama1b-d12-multi",
}


def load_glp(
    path_or_hub_id: str | Path,
    checkpoint: str = "final",
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
    *,
    revision: str | None = None,
    halves: bool = False,
    tell: Tell = unheard,
) -> GLP:
    """Load a GLP from a local folder or a hub id, laid out for fast inference.

    Args:
        checkpoint: file name without .safetensors, for example final or checkpoints/epoch_32.
        device: a torch device, or auto, cpu, cuda, cuda:N or mps.
        revision: pinned commit of a hub id.
        halves: keep float32 weights in 16 bits too: on a CPU walks, and projections of few calls, of few rows take half the time,
            with each weight within 2^-11.
        tell: told how much memory is needed and free, before any weight is read.
    Raises:
        GlpError: the folder, checkpoint or a file in it is missing, damaged or of another shape; the device is not there, or its memory
            does not suffice.
    """
    device = device_at(device)
    folder = glp_folder(path_or_hub_id, checkpoint, revision=revision)
    weights, on_cpu = folder / f"{checkpoint}.safetensors", device.type == "cpu"
    if needed := bytes_needed(weights, dtype.itemsize, on_cpu=on_cpu, halves=halves):  # else reading it says what is wrong
        tell(check_room("The GLP", needed, device))
    return read_glp(folder, checkpoint, dtype).to(device).prepare(halves=halves)


def read_glp(
    path_or_hub_id: str | Path,
    checkpoint: str = "final",
    dtype: torch.dtype | None = torch.float32,
    *,
    revision: str | None = None,
) -> GLP:
    """Read a GLP as `load_glp` does, on the CPU and not laid out for inference: to train it further, or as it is stored (None)."""
    folder = glp_folder(path_or_hub_id, checkpoint, revision=revision)
    config, statistics = read_config(folder), read_statistics(folder)
    weights = _checkpoint_file(folder, checkpoint)
    header = tensor_header(weights).tensors
    if config.n_layers > len(header):
        raise GlpError(
            f"{weights.name} has {len(header)} tensors, too few for n_layers {config.n_layers} of its configuration."
        )
    with torch.device("meta"):  # nothing is allocated until names and shapes are known to fit
        glp = GLP(config, statistics["mean"], statistics["var"])
    names = _checked_names(weights, header, glp.network.state_dict())
    glp.network.load_state_dict(_read_weights(weights, names, dtype), assign=True)
    layer, steps = _read_fitted_steps(folder, checkpoint)
    if layer is None:
        glp.fitted_steps = steps
    else:
        glp.fitted_at[layer] = steps
    return glp


def save_glp(glp: GLP, folder: Path, *, checkpoint: str = "final", about: Json, covariance: Tensor | None = None) -> None:
    """Write config.json, statistics.safetensors and `checkpoint`.safetensors; the folder alone loads again.

    Args:
        about: what the GLP was trained on (LLM, layer, activations), kept in config.json.
        covariance: (d, d) of the training activations, for the Gaussian prior.
    """
    statistics = {"mean": glp.normalizer.mean.squeeze(0), "var": glp.normalizer.var.squeeze(0)}
    if covariance is not None:
        statistics["covariance"] = covariance
    with together():
        write_json(folder / "config.json", {"denoiser": asdict(glp.config), "about": about})
        write_tensors(folder / "statistics.safetensors", statistics)
        write_tensors(folder / f"{checkpoint}.safetensors", glp.network.state_dict())


def save_fitted_steps(folder: Path, steps: Sequence[TwoCalls], checkpoint: str = "final", *, layer: int | None = None) -> None:
    """Store the numbers of the solver `fitted` in the folder's config.json, for the checkpoint that they were fitted to.

    Args:
        layer: the LLM layer, of a multi-layer GLP.
    """
    numbers = {"checkpoint": checkpoint, "layer": layer, "steps": [asdict(step) for step in steps]}
    write_json(folder / "config.json", stored_facts(folder) | {"fitted_steps": numbers})


def _read_fitted_steps(folder: Path, checkpoint: str) -> tuple[int | None, tuple[TwoCalls, ...]]:
    """Return the stored numbers and their LLM layer; none when they are missing or belong to another checkpoint."""
    stored = stored_facts(folder).get("fitted_steps")
    if not stored:
        return None, ()
    try:
        steps = tuple(TwoCalls(**step) for step in stored["steps"])
        numbers = [x for s in steps for x in (s.noise_level, s.share, s.grow, s.reach, s.scale, *s.weights)]
        if not all(math.isfinite(x) for x in numbers) or any(len(s.weights) != 2 for s in steps):
            raise ValueError("numbers that are not finite, or not two weights")
        layer = stored.get("layer")
        if layer is not None and type(layer) is not int:
            raise ValueError(f"the layer is {layer!r}")
        return layer, steps if stored["checkpoint"] == checkpoint else ()
    except (KeyError, TypeError, ValueError) as error:
        raise GlpError(
            f"fitted_steps in {folder / 'config.json'} are damaged: {error}. Make them again with `python -m glp_core solvers`."
        ) from error


def read_config(folder: Path) -> DenoiserConfig:
    """Return the network's shape from config.json (ours) or config.yaml (released)."""
    shape = stored_facts(folder).get("denoiser")
    fields = set(DenoiserConfig.__dataclass_fields__)
    if not isinstance(shape, dict) or not fields - {"multi_layer_n_layers"} <= set(shape):
        raise GlpError(f"The configuration in {folder} lacks the network's shape: wanted {', '.join(sorted(fields))}.")
    return DenoiserConfig(**{key: value for key, value in shape.items() if key in fields})


def read_statistics(folder: Path) -> dict[str, Tensor]:
    """Return mean, var and, where stored, covariance."""
    if (folder / "statistics.safetensors").is_file():
        statistics = read_tensors(folder / "statistics.safetensors", STATISTICS).tensors
    elif (folder / "rep_statistics.pt").is_file():
        statistics = read_rep_statistics(folder / "rep_statistics.pt")
    else:
        raise GlpError(f"No statistics.safetensors or rep_statistics.pt in {folder}.")
    if not all(isinstance(value := statistics.get(key), Tensor) and value.is_floating_point() for key in ("mean", "var")):
        raise GlpError(f"The statistics in {folder} must hold tensors mean and var.")
    return statistics


def _checked_names(path: Path, header: Json, parameters: dict[str, Tensor]) -> dict[str, str]:
    """Return the stored name of every parameter, after checking names, shapes and number formats against the configuration."""
    names = {re.sub(WRAPPERS, "", name): name for name in header}
    missing, extra = sorted(parameters.keys() - names.keys()), sorted(names.keys() - parameters.keys())
    if missing or extra:
        raise GlpError(f"{path.name} does not fit its configuration: missing {missing[:3]}, unknown {extra[:3]}.")
    for name, tensor in parameters.items():
        shape, kind = tuple(header[names[name]]["shape"]), header[names[name]]["dtype"]
        if shape != tuple(tensor.shape):
            raise GlpError(f"{path.name}: {name} has shape {shape}, its configuration wants {tuple(tensor.shape)}.")
        if kind not in FLOATS:
            raise GlpError(f"{path.name}: {name} has dtype {kind!r}, wanted one of {', '.join(FLOATS)}.")
    return names


def _read_weights(path: Path, names: dict[str, str], dtype: torch.dtype | None) -> dict[str, Tensor]:
    stored = read_tensors(path, dict.fromkeys(names.values(), "number ..."), only=True).tensors
    tensors = {}  # copied, so that the file may be replaced while the model lives
    for name, stored_name in names.items():
        tensors[name] = stored[stored_name].to(dtype or stored[stored_name].dtype, copy=True)
    for name, tensor in tensors.items():
        if not torch.isfinite(tensor).all():
            raise GlpError(
                f"{path.name}: {name} holds values that are not finite. The training run diverged, or the file is damaged."
            )
    return tensors


def glp_folder(where: str | Path, checkpoint: str = "final", *, revision: str | None = None) -> Path:
    """Return the local folder of a GLP: the one named, or that of a hub id (id@commit pins it), fetched where it is not here yet.

    Raises:
        GlpError: there is no such folder, or the hub cannot be reached.
    """
    folder = expanded(where)
    if folder.is_dir():
        return folder
    where = str(where)
    if not re.fullmatch(r"[\w.-]+/[\w.-]+(@[\w.-]+)?", where) or where.startswith((".", "/")):
        raise GlpError(f"No folder {where}. Give a GLP folder, or a hub id such as {sorted(RELEASED)[-1]}.")
    where, _, pinned = where.partition("@")
    revision = pinned or revision
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    files = ["config.yaml", "config.json", "rep_statistics.pt", "statistics.safetensors", f"{checkpoint}.safetensors"]
    try:
        return Path(snapshot_download(where, revision=revision, allow_patterns=files))
    except (LocalEntryNotFoundError, HfHubHTTPError, HFValidationError, OSError) as error:
        raise GlpError(
            f"Could not fetch {where} from the hub ({in_short(error)}). Download it once while online, or give a folder.{way_in(error)}"
        ) from error


def _checkpoint_file(folder: Path, checkpoint: str) -> Path:
    path = folder / f"{checkpoint}.safetensors"
    if not path.resolve().is_relative_to(folder.resolve()) and not path.is_symlink():
        raise GlpError(f"Checkpoint {checkpoint!r} lies outside {folder}.")
    if not path.is_file():
        have = sorted(
            str(p.relative_to(folder).with_suffix("")) for p in folder.rglob("*.safetensors") if p.stem != "statistics"
        )
        raise GlpError(f"No checkpoint {checkpoint!r} in {folder}: it has {', '.join(have) or 'none'}.")
    return path
