"""Where the large files of a workspace lie: outside it, in the cache folder, under its name.

Names are titles that people give, and two models may have one: `free_name` numbers it where another model's activations have it.
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
    """Return the name, numbered where the cache has activations of that name which are not the caller's `own`."""
    names = (name if number == 1 else f"{name} {number}" for number in count(1))
    return next(one for one in names if not (folder := store_folder(one)).exists() or own(folder))
