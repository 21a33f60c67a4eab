"""What a direction's file says about it, read from its header without torch."""

import json
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from glp_core.errors import GlpError
from glp_core.files import Json, tensor_header

Method = Literal["diffmean", "pca", "probe"]
METHODS: dict[Method, str] = {
    "diffmean": "DiffMean",
    "pca": "First principal component of paired differences",
    "probe": "Logistic probe",
}
"""What fits a direction to two classes, in words."""
OF_NEURON = "Where the meta-neuron pushes the denoised activation, carried linearly through the GLP's output."
"""What a meta-neuron's direction is."""


@dataclass(frozen=True)
class DirectionFacts:
    """A stored direction."""

    name: str
    """File name without .safetensors."""
    title: str
    auroc: float
    """On texts that it was not made from; nan where it was measured on none."""
    how: str
    interval: tuple[float, float] | None = None
    """95% interval of auroc, where it is kept."""
    about: Json = field(default_factory=dict)
    """What else is kept of its origin, as the file has it: check what is taken from it."""

    @staticmethod
    def read(path: Path) -> "DirectionFacts":
        """Read one file; raise GlpError when it is damaged or no direction."""
        try:
            facts = json.loads(tensor_header(path).metadata["direction"])
            auroc = float(facts["auroc"])
            title, how, about = facts["title"], facts["how"], facts.get("about", {})
            interval = None if about.get("auroc_ci") is None else _interval(*about["auroc_ci"])
        except (OSError, KeyError, TypeError, ValueError, AttributeError, OverflowError, RecursionError) as error:
            raise GlpError(f"{path.name} is no direction: {error}.") from error
        if not isinstance(title, str) or not isinstance(how, str) or not (math.isnan(auroc) or 0 <= auroc <= 1):
            raise GlpError(f"{path.name} is no direction: its title, its AUROC or how it was made is garbled.")
        return DirectionFacts(path.stem, title, auroc, how, interval, about)


def _interval(low: float, high: float) -> tuple[float, float]:
    if not 0 <= low <= high <= 1:
        raise ValueError(f"the interval of its AUROC is {low!r} to {high!r}")
    return float(low), float(high)


def stored_directions(folder: Path) -> list[DirectionFacts]:
    """Return a folder's directions, sorted by title; damaged files are left out here and reported when they are used."""
    directions = []
    for path in folder.glob("*.safetensors"):
        try:
            directions.append(DirectionFacts.read(path))
        except GlpError:
            continue
    return sorted(directions, key=lambda direction: direction.title.lower())
