"""What a GLP's folder says about it, ours or a released one: shape, size and training, read from small files.

Needs no torch, so that a page has it at once.
"""

import math
from dataclasses import dataclass, field
from pathlib import Path

from glp_core.errors import GlpError
from glp_core.files import Json, read_object, tensor_header

FACTS_IN = "config.json", "config.yaml", "final.safetensors"
"""Files of a GLP's folder that its facts are read from."""
SIZES = ("d_input", "n_layers", "d_mlp")
LAID_OUT_BELOW = 200_000_000
"""Parameters up to which a CPU also keeps the weights laid out for few rows."""
LAID_OUT = ("in_proj.weight", "up_proj.weight", "gate_proj.weight", "down_proj.weight", "out_proj.weight")
"""Ends of the names of weights that are laid out; what conditions the network is computed once a noise level."""


def stored_facts(folder: Path) -> Json:
    """Return `denoiser`, the network's shape, `about`, its training, and what else config.json (ours) says; else config.yaml (released).

    Raises:
        GlpError: neither is there, or it is damaged.
    """
    if (folder / "config.json").is_file():
        return read_object(folder / "config.json")
    if not (folder / "config.yaml").is_file():
        raise GlpError(f"No config.json or config.yaml in {folder}: this is no GLP folder.")
    from glp_core.prior.released import read_released  # here, since most folders need no YAML

    return read_released(folder / "config.yaml")


@dataclass(frozen=True)
class GlpFacts:
    """A GLP's facts; 0 and empty where its folder does not say."""

    d_input: int = 0
    n_layers: int = 0
    d_mlp: int = 0
    about: Json = field(default_factory=dict)
    """How it was trained: the LLM and its layer or layers, activations seen, validation loss, run."""
    depth: int = 0
    """Layers of the LLM when one network serves several of them."""
    parameters: int = field(default=0, compare=False)
    """Of the final weights; 0 when they are missing or damaged (loading them says why)."""

    @staticmethod
    def read(folder: Path) -> "GlpFacts":
        """Read a GLP's folder; what is missing or damaged there is left out."""
        try:
            stored = stored_facts(folder)
        except GlpError:
            stored = {}
        denoiser, about = (part if isinstance(part := stored.get(key), dict) else {} for key in ("denoiser", "about"))
        sizes = {name: size for name in SIZES if type(size := denoiser.get(name)) is int and size > 0}
        return GlpFacts(
            **(sizes if len(sizes) == len(SIZES) else {}),
            about=about,
            depth=depth if type(depth := denoiser.get("multi_layer_n_layers")) is int and depth > 1 else 0,
            parameters=count_parameters(folder / "final.safetensors"),
        )

    @property
    def shape(self) -> str:
        """Blocks and neurons, in words."""
        return f"{self.n_layers} blocks × {self.d_mlp:,} neurons" if self.n_layers else "unknown shape"

    @property
    def layers(self) -> tuple[int, ...]:
        """The LLM layers whose activations it was trained on; none where its folder does not say."""
        several = self.about.get("layers", list(range(self.depth)))
        named = several if self.depth and isinstance(several, list) else [self.about.get("layer")]
        return tuple(layer for layer in named if type(layer) is int)

    @property
    def llm(self) -> str:
        """The LLM whose activations it was trained on, as its folder names it; empty where it does not."""
        name = self.about.get("llm")
        return name if isinstance(name, str) else ""

    @property
    def activations_seen(self) -> int | None:
        """How many activations it was trained on."""
        seen = self.about.get("activations_seen")
        return seen if isinstance(seen, int) else None

    @property
    def validation_loss(self) -> float | None:
        """At the end of its training."""
        loss = self.about.get("validation_loss")
        return loss if isinstance(loss, int | float) and math.isfinite(loss) else None


def count_parameters(path: Path) -> int:
    """Return how many numbers a safetensors file holds, 0 when it is missing or damaged."""
    return sum(_sizes(path).values())


def bytes_needed(path: Path, itemsize: int, *, on_cpu: bool, halves: bool = False) -> int:
    """Return the bytes that a GLP's weights in a safetensors file take when they are loaded, 0 when it is missing or damaged.

    A CPU keeps two copies of those that are laid out: in oneDNN's order, as large as themselves, by which rows do not depend on those
    beside them, and one of half their size: bfloat16 in eight bits, float32 in 16 bits where that is asked for.

    Args:
        itemsize: bytes of a number, as they are loaded.
        halves: as `load_glp` takes it.
    """
    sizes = _sizes(path)
    numbers = sum(sizes.values())
    if not on_cpu or numbers > LAID_OUT_BELOW:
        return numbers * itemsize
    laid_out = sum(size for name, size in sizes.items() if name.endswith(LAID_OUT))
    return numbers * itemsize + laid_out * (itemsize + (itemsize // 2 if halves or itemsize == 2 else 0))


def _sizes(path: Path) -> dict[str, int]:
    try:
        return {name: math.prod(entry["shape"]) for name, entry in tensor_header(path).tensors.items()}
    except (GlpError, OSError):
        return {}
