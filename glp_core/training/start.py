"""Weights that a training run goes on from: another GLP's, with its statistics, what is to be remembered of it, and blends with it."""

from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from glp_core.checked.tensors import read_tensors
from glp_core.errors import GlpError
from glp_core.files import Json, copy_file, file_digest, together, write_json, write_tensors
from glp_core.prior.checkpoint import glp_folder, read_glp, read_statistics
from glp_core.prior.facts import GlpFacts, stored_facts
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
    """Its mean, var (d) and, where stored for the layer, covariance; they stay, since the weights were trained with them."""
    layer: int
    """Of the LLM: what is taken of a GLP that serves several."""

    @classmethod
    def read(cls, where: str | Path, checkpoint: str = "final", *, layer: int = 0) -> "Start":
        """Read what identifies a GLP, of a folder or a hub id; raise GlpError when there is none or it does not serve the layer."""
        folder = glp_folder(where, checkpoint)
        normalizer = read_glp(folder, checkpoint).at(layer).normalizer
        about = GlpFacts.read(folder).about
        facts = {"sha256": file_digest(folder / f"{checkpoint}.safetensors"), "about": about}
        statistics = {"mean": normalizer.mean[0], "var": normalizer.var[0]}
        if about.get("layer") == layer and "covariance" in (stored := read_statistics(folder)):
            statistics["covariance"] = stored["covariance"]
        return cls(folder, checkpoint, facts, statistics, layer)

    @property
    def activations_seen(self) -> int:
        """How many activations the weights had seen, 0 where their folder does not say."""
        seen = self.facts["about"].get("activations_seen", 0)
        return seen if isinstance(seen, int) else 0

    def shaped(self, config: TrainConfig) -> TrainConfig:
        """Return the configuration with the GLP's own shape."""
        shape = self._read().config
        return replace(config, d_model=shape.d_model, d_mlp=shape.d_mlp, n_layers=shape.n_layers)

    def glp(self, config: TrainConfig) -> GLP:
        """Return the GLP in float32, ready to train; raise GlpError when the configuration has another shape."""
        glp = self._read()
        if (config.d_model, config.d_mlp, config.n_layers) != (glp.config.d_model, glp.config.d_mlp, glp.config.n_layers):
            raise GlpError(f"The configuration has another shape than the GLP in {self.folder}: {glp.config}.")
        return glp

    def weights(self) -> dict[str, Tensor]:
        """Return its weights by the network's own names, float32."""
        return self._read().network.state_dict()

    def _read(self) -> GLP:
        return read_glp(self.folder, self.checkpoint).at(self.layer)


def blend(further: Path, where: str | Path, share: float, out: Path) -> None:
    """Write the GLP `share` x further + (1 - share) x start, computed in float64 and stored in the dtype of `further`.

    Args:
        further: folder of a GLP that went on from another.
        where: folder or hub id of that other one.

    Most of what was learned and most of what was known (WiSE-FT: Wortsman et al. 2022, https://arxiv.org/abs/2109.01903).

    Raises:
        GlpError: a share outside [0, 1], or weights of another shape.
    """
    if not 0 <= share <= 1:
        raise GlpError(f"The share is {share}, wanted a number from 0 (all of the start) to 1 (all of the further training).")
    about = GlpFacts.read(further).about
    path = further / "final.safetensors"
    start = Start.read(where, layer=about.get("layer", 0))
    statistics = read_statistics(further)
    alike = all(statistics[name].shape == start.statistics[name].shape for name in ("mean", "var"))
    if not alike or not all(
        torch.allclose(statistics[name], start.statistics[name], rtol=1e-3, atol=1e-6) for name in ("mean", "var")
    ):
        raise GlpError(
            f"{further} and {where} normalise activations otherwise: a blend needs a GLP and one that went on from it."
        )
    new, old = read_tensors(path, {}).tensors, start.weights()
    if {name: tensor.shape for name, tensor in new.items()} != {name: tensor.shape for name, tensor in old.items()}:
        raise GlpError(f"{further} and {where} hold weights of other shapes: a blend needs two GLPs of one shape.")
    blended = {name: (share * new[name].double() + (1 - share) * old[name].double()).to(new[name].dtype) for name in new}
    facts = {"share": share, "further": file_digest(path), "start": start.facts["sha256"]}
    about = {name: value for name, value in about.items() if name != "validation_loss"}
    with together():
        write_tensors(out / "final.safetensors", blended)
        copy_file(further / "statistics.safetensors", out / "statistics.safetensors")
        write_json(out / "config.json", {"denoiser": stored_facts(further)["denoiser"], "about": about | {"blend": facts}})
