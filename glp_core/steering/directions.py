"""Directions: unit vectors in activation space that mean something, with how they were made and how well they tell classes apart.

A direction has a concept probe too: a logistic regression on a text's mean activation, which scores what a text is about.
"""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path

import torch
from torch import Tensor

from glp_core.checked.tensors import read_tensors
from glp_core.errors import GlpError
from glp_core.files import Json, write_tensors
from glp_core.llm.model import Llm
from glp_core.llm.site import Site
from glp_core.steering.direction_facts import AGAIN, LONGEST_WORDS, stored_direction

TENSORS = {"vector": "float d", "probe_weight": "number d", "probe_bias": "number 1"}


@dataclass(frozen=True, eq=False)
class Direction:
    """A direction of one layer's activations."""

    name: str
    """File name without .safetensors."""
    title: str
    """Name to show."""
    vector: Tensor
    """(d,), unit norm, float32; plus means more of the concept."""
    layer: int
    """LLM layer, block output."""
    median_norm: float
    """Median activation norm of the layer: the unit of strength."""
    auroc: float
    """Of the projection on the vector, on texts that it was not made from."""
    how: str
    """How it was made, in words."""
    n_train: int
    """Texts that it was made from."""
    n_test: int
    """Texts that auroc was measured on."""
    probe_weight: Tensor
    """(d,), of the concept probe, in activation space; nan where there is none."""
    probe_bias: float
    """Of the concept probe."""
    probe_auroc: float = float("nan")
    """Of the concept probe, on texts that it was not made from."""
    about: Json = field(default_factory=dict)
    """What else was kept of how it was made, as its origin knows it: source, method, classes with examples, auroc_ci, made_by."""

    def site(self, llm: Llm) -> Site:
        """Return the layer of `llm` that the direction was made for."""
        return Site(llm, self.layer, self.median_norm)

    @property
    def has_probe(self) -> bool:
        """Whether a text's concept can be read."""
        return math.isfinite(self.probe_bias)

    def concept(self, acts_mean: Tensor) -> Tensor:
        """Return for mean clean activations of texts (n, d) the probability that they show the concept, (n,)."""
        return torch.sigmoid(acts_mean.float() @ self.probe_weight.to(acts_mean.device) + self.probe_bias)

    def save(self, folder: Path) -> Path:
        """Write <folder>/<name>.safetensors with the facts in its metadata; return its path."""
        facts = {f.name: getattr(self, f.name) for f in fields(self) if f.name not in TENSORS}
        tensors = {"vector": self.vector, "probe_weight": self.probe_weight, "probe_bias": torch.tensor([self.probe_bias])}
        path = Path(folder) / f"{self.name}.safetensors"
        if max(len(self.title), len(self.how)) > LONGEST_WORDS:
            raise GlpError(
                f"{path.name}: its title or what is said of it is too long, wanted at most {LONGEST_WORDS:,} characters."
            )
        write_tensors(path, {name: t.float() for name, t in tensors.items()}, {"direction": json.dumps(facts)})
        return path

    @staticmethod
    def unmeasured(
        vector: Tensor, *, name: str, title: str, layer: int, median_norm: float, how: str, about: Json
    ) -> "Direction":
        """Return a direction from elsewhere than texts, of any length but 0; it has no probe: the concept of a text is unknown (nan)."""
        return Direction(
            name=name,
            title=title,
            vector=vector.float() / vector.float().norm(),
            layer=layer,
            median_norm=median_norm,
            auroc=math.nan,
            how=how,
            n_train=0,
            n_test=0,
            probe_weight=torch.full(vector.shape, math.nan),
            probe_bias=math.nan,
            about=about,
        )

    @staticmethod
    def load(path: Path) -> "Direction":
        """Read a direction; raise GlpError when the file is missing, damaged or none."""
        path = Path(path)
        if not path.is_file():
            raise GlpError(f"No direction at {path}.")
        tensors, _ = read_tensors(path, TENSORS, again=AGAIN, only=True)
        facts = stored_direction(path)
        probe = torch.cat([tensors["probe_weight"], tensors["probe_bias"]])
        if not (torch.isfinite(probe).all() or torch.isnan(probe).all()):  # nan: there is none
            raise GlpError(f"{path.name}: the probe holds values that are not finite. {AGAIN}")
        vector, weight, bias = (tensors[name].float() for name in TENSORS)
        return Direction(name=path.stem, vector=vector, probe_weight=weight, probe_bias=float(bias), **facts)


def stacked(parts: Sequence[tuple[Tensor, float]]) -> tuple[Tensor, float]:
    """Return several pushes as one: the unit vector (d,) of their sum, and its strength, 0 where they cancel out.

    Args:
        parts: unit vectors (d,), each with its strength.
    """
    total = torch.stack([strength * vector.float() for vector, strength in parts]).sum(0)
    strength = float(total.norm())
    return (total / strength, strength) if strength > 1e-6 else (parts[0][0].float(), 0.0)
