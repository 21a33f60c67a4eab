"""Blend a GLP's weights with those that it went on from: most of what was learned, most of what was known (WiSE-FT).

Between weights of one training path the loss on the old data is as good as convex, so that a blend keeps more of the old than the end
does (Wortsman et al., Robust fine-tuning of zero-shot models, 2022, https://arxiv.org/abs/2109.01903).
"""

import shutil
from pathlib import Path

from safetensors.torch import load_file

from glp_core.errors import GlpError
from glp_core.files import file_digest, read_json, replacing, tensor_header, write_json, write_tensors


def blend(further: Path, start: Path, share: float, out: Path) -> None:
    """Write the GLP `share` x further + (1 - share) x start, computed in float64 and stored in the dtype of `further`.

    Raises:
        GlpError: a share outside [0, 1], or weights of another shape.
    """
    if not 0 <= share <= 1:
        raise GlpError(f"The share is {share}, wanted a number from 0 (all of the start) to 1 (all of the further training).")
    folders = {"further": further, "start": start}
    paths = {name: folder / "final.safetensors" for name, folder in folders.items()}
    for path in paths.values():
        tensor_header(path)
    new, old = (load_file(path) for path in paths.values())
    if {name: tensor.shape for name, tensor in new.items()} != {name: tensor.shape for name, tensor in old.items()}:
        raise GlpError(f"{further} and {start} hold weights of other shapes: a blend needs two GLPs of one shape.")
    blended = {name: (share * new[name].double() + (1 - share) * old[name].double()).to(new[name].dtype) for name in new}
    config = read_json(further / "config.json")
    facts = {"share": share} | {name: file_digest(path) for name, path in paths.items()}
    about = {name: value for name, value in config.get("about", {}).items() if name != "validation_loss"}
    write_tensors(out / "final.safetensors", blended)
    with replacing(out / "statistics.safetensors") as scratch:
        shutil.copyfile(further / "statistics.safetensors", scratch)
    write_json(out / "config.json", {"denoiser": config["denoiser"], "about": about | {"blend": facts}})
