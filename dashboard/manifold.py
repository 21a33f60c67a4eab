"""What the Manifold page computes: a text's tokens measured, distances by strength, activations on a plane. Runs inside jobs.

Results come back as plain numbers and texts; nothing is drawn here.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import streamlit as st

from dashboard import about, resources, state
from dashboard.jobs import Cancelled
from dashboard.waiting import Report
from glp_core.errors import GlpError
from glp_core.files import read_json

if TYPE_CHECKING:
    from glp_core.measures import Measures

VIEWS = ("Text", "Strength", "Map")
MEASURES = {
    "denoising error": "error",
    "displacement": "displacement",
    "Mahalanobis": "mahalanobis",
    "nearest neighbour": "neighbour",
    "log-likelihood": "likelihood",
}
"""What a page calls a measure, to its name in glp_core.measures."""
UNITS = {
    "error": "manifold distance (1 = a typical real token)",
    "displacement": "how far projection moves it (root mean square latent)",
    "mahalanobis": "Mahalanobis distance (root mean square, 1 = typical)",
    "neighbour": "distance to the nearest real one (root mean square latent)",
    "likelihood": "minus log-likelihood (nats a dimension)",
}
MOST_TOKENS = {"likelihood": 64}
MANY_TOKENS = 256
STRENGTHS = (0.0, 0.25, 0.5, 0.75, 1.0, 1.25, 1.5, 2.0)
ARMS = {
    "raw": "raw push",
    "glp": "GLP-projected",
    "norm": "norm restored",
    "gaussian": "Gaussian-projected",
    "random": "random direction, same length",
}
MOST_PROMPTS = 100
TEXTS = {
    "News and a typo": "The central bank raised its interest rate by half a percent. Markets felt asleap after the teh announcement.",
    "Word salad": "river although seven blue quickly the the of maybe tooth planet nine because under sleep of of glass",
    "Code": "def mean(values):\n    total = 0\n    for v in values:\n        total += v\n    return total / len(values)\n",
    "Letters at random": "xq zzv kfjw pqm oeiru tty bnx ,,, ;; qwp zx",
}

PARAMS = {
    "view": state.choice("manifold_view", "View", VIEWS[0], VIEWS),
    "text": state.text("manifold_text", "Text", TEXTS["News and a typo"], 2000),
    "measure": state.choice("manifold_measure", "Measure", "denoising error", tuple(MEASURES)),
    "prompts": state.whole("manifold_prompts", "Prompts", 50, 2, MOST_PROMPTS),
    "strength": state.number("manifold_strength", "Strength", 1.0, -3, 3),
    "steps": state.whole("manifold_steps", "Steps", 20, 1, 50),
}


class TextReading(NamedTuple):
    """A text's tokens, measured."""

    tokens: list[str]
    values: list[float]
    """One a token; nan for the first token and for massive activations."""
    shares: list[float]
    """Share of real activations that are less far off, nan likewise."""
    errors: list[float]
    """Standard error of the value where it is an estimate, else nan."""
    massive: list[int]
    """Positions of massive activations."""
    quantiles: list[float]
    """201 quantiles of the measure over real activations."""
    n_real: int


class Spread(NamedTuple):
    """One arm's distances at one strength over the prompts."""

    arm: str
    strength: float
    quantiles: list[float]
    """5, 25, 50, 75 and 95%."""
    lower: float
    """Share of prompts that are nearer than their raw push, nan for the raw push itself."""


@dataclass(frozen=True)
class Sweep:
    """What the Strength view asks for."""

    direction: str
    prompts: tuple[str, ...]


class Plane(NamedTuple):
    """Activations of several kinds on a plane."""

    real: np.ndarray
    contexts: list[str]
    """Text around each real token."""
    others: dict[str, np.ndarray]
    axes: tuple[str, str]
    tests: dict[str, str]
    """What the two-sample tests say of a kind, in words."""


@st.cache_resource(show_spinner=False, max_entries=2)
def _measures(folder: Path) -> Measures:
    from glp_core.bank import Bank
    from glp_core.measures import Measures

    meter = resources.meter()
    if meter is None:
        raise GlpError("Distances have no reference yet. Make it with `python -m glp_core evaluate`.")
    return Measures(meter, resources.workspace().covariance(), Bank.load(folder / "bank"))


def measures() -> Measures:
    """Return the workspace's measures; GlpError says which command is missing. For jobs only."""
    return _measures(about.folder())


def reference() -> dict:
    """Return the measures' quantiles on real activations, or an empty dictionary."""
    found = about.report("measures") or {}
    return found.get("measures", {})


def stale() -> bool:
    """Say whether the quantiles were measured with another GLP than the one that is shown."""
    report = about.report("measures")
    path = about.folder() / "glp" / "config.json"
    return bool(report) and path.is_file() and read_json(path).get("about", {}) != report.get("glp")


def read_text(text: str, measure: str, cancelled: Cancelled, report: Report) -> TextReading:
    """Measure a text's tokens."""
    import torch

    from glp_core.activations import is_massive
    from glp_core.measures import percentiles

    ours, workspace, llm = measures(), resources.workspace(), resources.llm()
    found = reference().get(measure)
    ids = llm.encode(text, max_tokens=MOST_TOKENS.get(measure, MANY_TOKENS))
    if len(ids) < 2:
        raise GlpError("The text has no tokens: write some words.")
    acts = llm.activations([ids], workspace.layer)[0].float().cpu()
    massive = is_massive(acts, workspace.median_norm)
    kept = [i for i in range(1, len(ids)) if not massive[i]]
    values, shares, errors = (torch.full((len(ids),), torch.nan) for _ in range(3))
    if measure == "likelihood":
        estimate = ours.likelihood(acts[kept], cancelled=cancelled, progress=report)
        values[kept], errors[kept] = -estimate.value, estimate.error
    else:
        values[kept] = ours.of(measure, acts[kept], cancelled=cancelled)
    shares[kept] = torch.from_numpy(percentiles(values[kept], found)).float()
    positions = [i for i in range(1, len(ids)) if massive[i]]
    n_real, quantiles = int(found["n"]), list(found["quantiles"])
    return TextReading(llm.pieces(ids), values.tolist(), shares.tolist(), errors.tolist(), positions, quantiles, n_real)


def prompts(n: int) -> tuple[str, ...]:
    """Return the first n of the workspace's prefixes for steering."""
    path = about.folder() / "prefixes.json"
    found = read_json(path) if path.is_file() else []
    if not isinstance(found, list) or len(found) < 2:
        raise GlpError("The workspace has no prefixes.json with prompts: write your own, one a line.")
    return tuple(str(text) for text in found[:n])


def sweep(request: Sweep, cancelled: Cancelled) -> Iterator[Spread]:
    """Push the last token of every prompt along the direction, with every strength and arm; yield distances as they come."""
    import torch

    from glp_core.detection import random_directions
    from glp_core.projection import make_projector

    ours, workspace = measures(), resources.workspace()
    glp = ours.meter.glp
    clean = last_activations(request.prompts)
    vector = resources.direction(request.direction).vector.float()
    random = torch.stack(random_directions(len(clean), clean.shape[1]))
    kinds = ("glp", "norm", "gaussian")
    projectors = {kind: make_projector(kind, glp=glp, covariance=ours.covariance) for kind in kinds}
    noise = torch.randn(clean.shape, generator=torch.Generator().manual_seed(0))
    for strength in STRENGTHS:
        push = strength * workspace.median_norm * vector
        raw = clean + push
        base = ours.meter.distance(raw)
        for arm in ARMS:
            if cancelled():
                return
            if arm == "raw":
                found = base
            elif arm == "random":
                found = ours.meter.distance(clean + strength * workspace.median_norm * random)
            else:
                found = ours.meter.distance(projectors[arm](raw, clean, None, noise=noise))
            marks = torch.tensor([0.05, 0.25, 0.5, 0.75, 0.95])
            lower = float((found < base).float().mean()) if arm != "raw" else float("nan")
            yield Spread(arm, strength, torch.quantile(found, marks).tolist(), lower)


def last_activations(texts: Sequence[str]):  # noqa: ANN201 - a tensor; pages import this module before torch
    """Return each text's last-token activation (n, d), massive ones left out."""
    import torch

    from glp_core.activations import is_massive

    llm, workspace = resources.llm(), resources.workspace()
    rows = [llm.encode(text, max_tokens=64) for text in texts]
    rows = [row for row in rows if len(row) > 1]
    if len(rows) < 2:
        raise GlpError("Fewer than two prompts have words: write at least two lines.")
    parts = [acts[-1:] for i in range(0, len(rows), 32) for acts in llm.activations(rows[i : i + 32], workspace.layer)]
    acts = torch.cat(parts).float().cpu()
    return acts[~is_massive(acts, workspace.median_norm)]
