"""Where the large files of a workspace lie: outside it, in the cache folder, under its name.

Names are titles that people give, and two models may have one: `free_name` numbers it where another model has it.
"""

import re
from collections.abc import Callable
from itertools import count
from pathlib import Path

from glp_core.llm.sources import cache_folder


def store_folder(name: str) -> Path:
    """Return the default folder of the activations of the workspace of this name."""
    return cache_folder() / "activations" / slug(name)


def sae_path(name: str) -> Path:
    """Return the default place of its sparse autoencoder."""
    return cache_folder() / "sae" / f"{slug(name)}.safetensors"


def training_folder(name: str) -> Path:
    """Return the default folder in which its runs are trained, with their states and checkpoints."""
    return cache_folder() / "training" / slug(name)


def slug(name: str) -> str:
    """Return a name as files have it: small letters and digits, joined by hyphens."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-") or "workspace"


def free_name(name: str, own: Callable[[Path], bool] = lambda folder: False) -> str:
    """Return the name, numbered where the cache has something of that name and not the caller's `own` activations."""
    names = (name if number == 1 else f"{name} {number}" for number in count(1))
    return next(one for one in names if own(store_folder(one)) or not _taken(one))


def _taken(name: str) -> bool:
    manifest = store_folder(name) / "manifest.json"  # without it the folder is what a kill left before there was anything in it
    return any(place.exists() for place in (manifest, sae_path(name), training_folder(name)))
