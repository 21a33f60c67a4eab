"""Weights that a training run goes on from: another GLP's, with its statistics, what is to be remembered of it, and blends with it."""

import shutil
from dataclasses import dataclass, replace
from pathlib import Path

from safetensors.torch import load_file
from torch import Tensor

from glp_core.errors import GlpError
from glp_core.files import Json, file_digest, read_json, replacing, tensor_header, write_json, write_tensors
from glp_core.prior.checkpoint import read_glp, read_statistics
from glp_core.prior.glp import GLP
from glp_core.training.plan import TrainConfig


@dataclass(frozen=True)
class Start:
    """A GLP to go on from."""

    folder: Path
    checkpoint: str
    facts: Json
    """Digest of the weights and what their folder says about them: what identifies the run that goes on."""
    statistics: dict[str, Tensor]
    """Its mean, var and, where stored, covariance; they stay, since the weights were trained with them."""

    @classmethod
    def read(cls, folder: Path, checkpoint: str = "final") -> "Start":
        """Read what identifies a GLP; raise GlpError when there is none or it serves many layers."""
        glp = read_glp(folder, checkpoint)
        if glp.config.multi_layer_n_layers:
            raise GlpError(
                f"{folder} serves {glp.config.multi_layer_n_layers} layers, wanted a GLP of one layer to go on from."
            )
        path = folder / "config.json"
        about = read_json(path).get("about", {}) if path.is_file() else {}
        facts = {"sha256": file_digest(folder / f"{checkpoint}.safetensors"), "about": about}
        return cls(folder, checkpoint, facts, read_statistics(folder))

    @property
    def activations_seen(self) -> int:
        """How many activations the weights had seen, 0 where their folder does not say."""
        seen = self.facts["about"].get("activations_seen", 0)
        return seen if isinstance(seen, int) else 0

    def shaped(self, config: TrainConfig) -> TrainConfig:
        """Return the configuration with the GLP's own shape."""
        shape = read_glp(self.folder, self.checkpoint).config
        return replace(config, d_model=shape.d_model, d_mlp=shape.d_mlp, n_layers=shape.n_layers)

    def glp(self, config: TrainConfig) -> GLP:
        """Return the GLP in float32, ready to train; raise GlpError when the configuration has another shape."""
        glp = read_glp(self.folder, self.checkpoint)
        if (config.d_model, config.d_mlp, config.n_layers) != (glp.config.d_model, glp.config.d_mlp, glp.config.n_layers):
            raise GlpError(f"The configuration has another shape than the GLP in {self.folder}: {glp.config}.")
        return glp


def blend(further: Path, start: Path, share: float, out: Path) -> None:
    """Write the GLP `share` x further + (1 - share) x start, computed in float64 and stored in the dtype of `further`.

    Most of what was learned and most of what was known (WiSE-FT: Wortsman et al. 2022, https://arxiv.org/abs/2109.01903).

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
