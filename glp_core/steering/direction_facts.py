"""What a direction's file says about it, read from its header without torch."""

import json
import math
from dataclasses import dataclass
from pathlib import Path

from glp_core.errors import GlpError
from glp_core.files import tensor_header


@dataclass(frozen=True)
class DirectionFacts:
    """A stored direction."""

    name: str
    """File name without .safetensors."""
    title: str
    auroc: float
    how: str

    @staticmethod
    def read(path: Path) -> "DirectionFacts":
        """Read one file; raise GlpError when it is damaged or no direction."""
        try:
            facts = json.loads(tensor_header(path).metadata["direction"])
            auroc = float(facts["auroc"])
            title, how = facts["title"], facts["how"]
        except (OSError, KeyError, TypeError, ValueError, OverflowError, RecursionError) as error:
            raise GlpError(f"{path.name} is no direction: {error}.") from error
        if not isinstance(title, str) or not isinstance(how, str) or not (math.isnan(auroc) or 0 <= auroc <= 1):
            raise GlpError(f"{path.name} is no direction: its title, its AUROC or how it was made is garbled.")
        return DirectionFacts(path.stem, title, auroc, how)


def stored_directions(folder: Path) -> list[DirectionFacts]:
    """Return a folder's directions, sorted by title; damaged files are left out here and reported when they are used."""
    directions = []
    for path in folder.glob("*.safetensors"):
        try:
            directions.append(DirectionFacts.read(path))
        except GlpError:
            continue
    return sorted(directions, key=lambda direction: direction.title.lower())
