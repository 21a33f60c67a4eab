"""What a direction's file says about it, read from its header without torch."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from glp_core.checked.shapes import Limits, Maybe, check
from glp_core.checked.tensors import metadata_json
from glp_core.errors import GlpError
from glp_core.files import Json, tensor_header

Method = Literal["diffmean", "pca", "probe"]
METHODS: dict[Method, str] = {
    "diffmean": "DiffMean",
    "pca": "First principal component of paired differences",
    "probe": "Logistic probe",
}
"""What fits a direction to two classes, in words."""
LONGEST_WORDS = 2_000
AGAIN = "Make it with `python -m glp_core direction texts.csv --name NAME`."
_TEXTS, _SHARE = Limits(int, 0, 10**12), Limits(float, 0, 1)
SHAPE = {
    "title": str,
    "layer": Limits(int, 0, 10_000),
    "median_norm": Limits(float, 1e-30, 1e30),
    "auroc": Limits(float, 0, 1, nan=True),
    "how": str,
    "n_train": _TEXTS,
    "n_test": _TEXTS,
    "probe_auroc": Limits(float, 0, 1, nan=True),
    "about?": {"auroc_ci?": Maybe((_SHARE, _SHARE))},
}
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
        facts = stored_direction(path)
        ends = facts["about"].get("auroc_ci")
        interval = None if ends is None else (float(ends[0]), float(ends[1]))
        return DirectionFacts(path.stem, facts["title"], facts["auroc"], facts["how"], interval, facts["about"])


def stored_direction(path: Path) -> Json:
    """Return all that a direction's file says about it, as SHAPE has it; raise GlpError when it is damaged or no direction."""
    stored = metadata_json(tensor_header(path), "direction", path, again=AGAIN)
    facts = check(stored, SHAPE, f"{path.name} is no direction")
    if not 0 < len(facts["title"].strip()) <= LONGEST_WORDS or len(facts["how"]) > LONGEST_WORDS:
        raise GlpError(f"{path.name} is no direction: it has no title, or more than {LONGEST_WORDS:,} characters of one.")
    low, high = facts.get("about", {}).get("auroc_ci") or (0, 1)
    if low > high:
        raise GlpError(f"{path.name} is no direction: the interval of its AUROC is {low} to {high}.")
    return {"about": {}} | {key: facts[key] for key in (name.removesuffix("?") for name in SHAPE) if key in facts}


def stored_directions(folder: Path, left_out: list[str] | None = None) -> list[DirectionFacts]:
    """Return a folder's directions, sorted by title; damaged files are left out.

    Args:
        left_out: takes what is wrong with those.
    """
    directions, problems = [], [] if left_out is None else left_out
    for path in sorted(folder.glob("*.safetensors")):
        try:
            directions.append(DirectionFacts.read(path))
        except GlpError as error:
            problems.append(f"A direction is left out: {error}")
    return sorted(directions, key=lambda direction: direction.title.lower())


def is_of(kept: Json, digest: str) -> bool:
    """Say whether what was measured along a direction is of the one with this digest, and not of an earlier one of its name.

    Args:
        kept: what a report keeps of the direction; without a `digest` it was made before one was kept, and counts.
    """
    return kept.get("digest", "") in ("", digest)


def report_name(direction: str) -> str:
    """Return the name of a direction's report, which no other has; that of positive sentiment is the one it always had."""
    named = {"positive-sentiment": "steering_sentiment", "sentiment": "steering-sentiment"}
    return named.get(direction, f"steering_{direction.replace('-', '_')}")
