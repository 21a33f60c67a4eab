"""What the Manifold page computes: a text's tokens measured, distances by strength, activations on a plane. Runs inside jobs.

Results come back as plain numbers and texts; nothing is drawn here.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from dashboard.service import layers, resources, workspace_facts
from dashboard.service.directions import neuron_directions
from dashboard.service.follow import Report
from dashboard.widgets import charts, url
from glp_core.errors import GlpError
from glp_core.files import Json
from glp_core.jobs.job import Cancelled
from glp_core.prior.reference import Reference
from glp_core.steering import strength_grid
from glp_core.steering.strength_grid import Cell, Spread

if TYPE_CHECKING:
    from torch import Tensor

    from glp_core.evaluation.measures import Measures

FILES = (
    *("workspace.json", "glp/final.safetensors", "bank/bank.safetensors"),
    *("reports/reference.json", "reports/measures.json", "reports/layers.json"),
)
"""What measures are made from."""
VIEWS = ("Text", "Strength", "Map", "Evidence")
QUESTIONS = ("Concept and fluency", "Where text breaks", "Detection", "Scorecard")
"""Of the Evidence view."""
CHOICE = 280
"""Pixels of what else can be chosen beside a question."""
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
    "displacement": "how far projection moves it (root mean square of the latent)",
    "mahalanobis": "Mahalanobis distance (root mean square, 1 = typical)",
    "neighbour": "distance to the nearest real one (root mean square of the latent)",
    "likelihood": "minus log-likelihood (nats a dimension)",
}
MOST_TOKENS = {"likelihood": 64}
MANY_TOKENS = 256
ARMS = {arm: charts.ARM_TITLES.get(arm, "random direction, same length") for arm in strength_grid.ARMS}
"""Arms of a strength sweep, with what the page calls them."""
MOST_PROMPTS = 100
TEXTS = {
    "News and a typo": "The central bank raised its interest rate by half a percent. Markets felt asleap after the teh announcement.",
    "Word salad": "river although seven blue quickly the the of maybe tooth planet nine because under sleep of of glass",
    "Code": "def mean(values):\n    total = 0\n    for v in values:\n        total += v\n    return total / len(values)\n",
    "Letters at random": "xq zzv kfjw pqm oeiru tty bnx ,,, ;; qwp zx",
}

PLANES = ("PCA", "UMAP")
STEPS = (1, 2, 4, 10, 20, 50)
"""Of generated activations on the map."""

PARAMS = {
    "view": url.choice("manifold_view", "View", VIEWS[0], VIEWS),
    "text": url.text("manifold_text", "Text", TEXTS["News and a typo"], 2000),
    "measure": url.choice("manifold_measure", "Measure", "denoising error", tuple(MEASURES)),
    "prompts": url.whole("manifold_prompts", "Prompts", 50, 2, MOST_PROMPTS),
    "own": url.text("manifold_own", "Your own prompts", "", 2000, empty=True),
    "strength": url.number("manifold_strength", "Strength", 1.0, -3, 3),
    "plane": url.choice("manifold_plane", "Plane", "PCA", PLANES),
    "steps": url.choice("manifold_steps", "Steps", 20, STEPS),
    "evidence": url.choice("manifold_evidence", "Evidence", QUESTIONS[0], QUESTIONS),
    "kind": url.text("manifold_kind", "Off-manifold activations", "", 100, empty=True),
    "with_text": url.switch("manifold_map_text", "Your text", False),
}
"""What the page's address holds beside the direction."""


class MeasuredText(NamedTuple):
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
    others: dict[str, list[float]]
    """Shares by the other measures that take no time, by name."""
    whole: int
    """Tokens of the whole text; `tokens` are the first of them."""


@dataclass(frozen=True)
class Sweep:
    """What the Strength view asks for."""

    workspace: str
    """Its folder."""
    written: tuple[float, ...]
    """When the files that it depends on were written."""
    direction: str
    prompts: tuple[str, ...]


KINDS = ("steered", "walked", "steered, then projected")
"""What the map shows of a direction: pushed activations, and the same brought back in two ways."""
OWN = "your text"


class MapPlane(NamedTuple):
    """Activations of several kinds on a plane."""

    real: np.ndarray
    contexts: list[str]
    """Each real token in its text."""
    others: dict[str, np.ndarray]
    texts: dict[str, list[str]]
    """The same of the others, by kind, where they come from a text."""
    axes: tuple[str, str]
    tests: dict[str, str]
    """What the two-sample tests say of a kind, in words."""
    cut: str
    """How much of one's own text lies on the plane, in words; empty where it is all."""


def measures() -> Measures:
    """Return the workspace's measures; GlpError says which command is missing. For jobs only."""

    def load() -> Measures:
        from glp_core.evaluation.measures import open_measures

        return open_measures(resources.workspace(), resources.meter())

    return resources.keep("measures", written(), load)


def reference(layer: int | None = None) -> Json:
    """Return the measures' quantiles on real activations, or an empty dictionary; at another layer, of the denoising error only."""
    elsewhere = layers.of(layer)
    if elsewhere is not None:
        there = Reference(elsewhere.reference)
        return {"error": {"n": there.n, "quantiles": there.quantiles(201)}}
    measured = (workspace_facts.report("measures") or {}).get("measures", {})
    distance = distance_reference()
    if distance is None or "error" not in measured:
        return measured
    return measured | {"error": {"n": distance.n, "quantiles": distance.quantiles(201)}}


def distance_reference() -> Reference | None:
    """Return how far real tokens are, or None before they were measured."""
    stored = workspace_facts.report("reference")
    return Reference(stored) if stored else None


def band() -> tuple[float, float] | None:
    """Return the distances between which 90% of real held-out tokens lie, or None before they were measured."""
    distance = distance_reference()
    return distance.band() if distance else None


def read_text(text: str, measure: str, layer: int | None, cancelled: Cancelled, report: Report) -> MeasuredText:
    """Measure a text's tokens at the workspace's layer, or at another that its prior serves."""
    import torch

    from glp_core.evaluation.measures import QUICK, percentiles

    site, known = resources.site(layer), reference(layer)
    measured, ours = known.get(measure), _measures_at(layer)
    if measured is None and layers.of(layer) is not None:
        raise GlpError(f"Layer {layer} is measured by the denoising error only: choose it, or layer {layers.own()}.")
    if measured is None:
        raise GlpError(f"The bank was not measured by {measure}. Measure it with `{workspace_facts.command('bank --keep')}`.")
    whole = site.llm.encode(text)
    ids = whole[: MOST_TOKENS.get(measure, MANY_TOKENS)]
    if len(ids) < 2:
        raise GlpError("The text has no tokens: write some words.")
    acts = site.activations([ids])[0].float().cpu()
    massive = site.is_massive(acts)
    ordinary = [i for i in range(1, len(ids)) if not massive[i]]
    if not ordinary:
        raise GlpError("Every token of this text is a massive activation, which is not measured. Try a longer text.")
    values, shares, errors = (torch.full((len(ids),), torch.nan) for _ in range(3))
    if measure == "likelihood":
        estimate = measures().likelihood(acts[ordinary], cancelled=cancelled, progress=report)
        values[ordinary], errors[ordinary] = -estimate.value, estimate.error
    else:
        values[ordinary] = ours(measure, acts[ordinary], cancelled)
    shares[ordinary] = torch.from_numpy(percentiles(values[ordinary], measured)).float()
    others = {}
    for name in QUICK:
        if name != measure and name in known:
            found_shares = torch.full((len(ids),), torch.nan)
            found_shares[ordinary] = torch.from_numpy(percentiles(ours(name, acts[ordinary], cancelled), known[name])).float()
            others[name] = found_shares.tolist()
    positions = [i for i in range(1, len(ids)) if massive[i]]
    n_real, quantiles = int(measured["n"]), list(measured["quantiles"])
    lists = (values.tolist(), shares.tolist(), errors.tolist())
    return MeasuredText(site.llm.pieces(ids), *lists, positions, quantiles, n_real, others, len(whole))


def _measures_at(layer: int | None) -> Callable[[str, Tensor, Cancelled], Tensor]:
    """Return what measures activations (n, d) by a measure's name, (n,)."""
    meter = resources.meter(layer) if layers.of(layer) is not None else None
    if meter is not None:
        return lambda name, acts, cancelled: meter.distance(acts)
    ours = measures()
    return lambda name, acts, cancelled: ours.of(name, acts, cancelled=cancelled)


def prompts(n: int) -> tuple[str, ...]:
    """Return the first n of the workspace's prefixes for steering, of the demo's where it has none."""
    texts = workspace_facts.read().prefixes()
    if len(texts) < 2:
        raise GlpError("The workspace's prefixes.json has one prompt only: write your own, one per line.")
    return tuple(texts[:n])


def sweep(request: Sweep, done: frozenset[Cell], cancelled: Cancelled) -> Generator[Spread]:
    """Push the last token of every prompt along the direction, with every strength and arm; yield cells that are not done yet."""
    from glp_core.steering import strength_sweep

    ours, workspace = measures(), resources.workspace()
    clean = strength_sweep.last_activations(resources.site(), request.prompts)
    vector = resources.direction(request.direction).vector
    ways = strength_sweep.projectors(ours.meter.glp, ours.covariance, workspace.walk())
    pushes = strength_sweep.Pushes(ours.meter, clean, vector, workspace.median_norm, ways)
    yield from strength_sweep.sweep(pushes, done=done, cancelled=cancelled)


def written(direction: str = "") -> tuple[float, ...]:
    """Return when the files that measures, and a direction, come from were written, so that results of older ones are not shown."""
    measured = workspace_facts.times(*FILES)
    if not direction:
        return measured
    file = neuron_directions.made_from(workspace_facts.folder(), direction)
    return (*measured, *workspace_facts.times("reports/walk_tuning.json"), workspace_facts.written(file))


def in_context(before: str, token: str, after: str) -> str:
    """Return a token marked in the text around it, for a hover."""
    return f"…{before}【{token}】{after}…"
