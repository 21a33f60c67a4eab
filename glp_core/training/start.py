"""Weights that a training run goes on from: another GLP's, with its statistics, and what is to be remembered of it."""

from dataclasses import dataclass, replace
from pathlib import Path

from torch import Tensor

from glp_core.errors import GlpError
from glp_core.files import Json, file_digest, read_json
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
