"""The Manifold page's map: real, generated, steered and brought-back activations, and one's own text, on one plane. Runs inside jobs."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np

from dashboard.manifold import measure
from dashboard.manifold.measure import KINDS, OWN, MapPlane
from dashboard.service import resources
from dashboard.service.follow import Report
from dashboard.widgets.numbers import cut_words
from glp_core.jobs.job import Cancelled

if TYPE_CHECKING:
    from torch import Tensor

    from glp_core.data.bank import Bank
    from glp_core.prior.glp import GLP

Method = Literal["PCA", "UMAP"]
METHODS: tuple[Method, ...] = get_args(Method)
REAL, OTHERS = 1200, 300
OWN_TOKENS = 128
UMAP_AXES = ("UMAP 1", "UMAP 2")


@dataclass(frozen=True)
class MapRequest:
    """What the Map view asks for."""

    method: Method
    steps: int
    """Of the generated activations."""
    direction: str
    """Of the steered ones; empty: none."""
    strength: float
    text: str
    """Own text; empty: none."""


@dataclass(frozen=True)
class MapPoints:
    """Activations that are not real ones."""

    acts: Tensor
    """(n, d)."""
    texts: list[str]
    """Each token in its text; empty where there is none."""
    cut: str = ""
    """How much of a longer text they are, in words."""


def plane(request: MapRequest, cancelled: Cancelled, report: Report) -> MapPlane:
    """Lay out everything; the plane is that of the real activations alone.

    What is pushed comes from one half of the real documents, what the two-sample tests compare with from the other.
    """
    import torch

    from glp_core.data.bank import spread

    measures = measure.measures()
    glp, bank = measures.meter.glp, measures.bank
    report(0, 3, "drawing activations")
    kinds = {name: _without_massive(kind) for name, kind in _kinds(request, glp, bank).items()}
    chosen = spread(torch.arange(len(bank)), REAL)
    real = glp.normalize(bank.acts[chosen]).cpu().numpy()
    others = {name: glp.normalize(kind.acts).cpu().numpy() for name, kind in kinds.items() if len(kind.acts)}
    report(1, 3, "two-sample tests")
    compared = bank.halves()[1]
    tests = {
        name: _test_words(rows, glp.normalize(bank.acts[spread(compared, len(rows))]).cpu().numpy())
        for name, rows in others.items()
        if name != OWN
    }
    real_places, other_places, axes = _placed(request.method, chosen, real, others, cancelled, report)
    contexts = [measure.in_context(*bank.contexts[i]) for i in chosen.tolist()]
    texts, cut = {name: kind.texts for name, kind in kinds.items() if kind.texts}, "".join(kind.cut for kind in kinds.values())
    return MapPlane(real_places, contexts, other_places, texts, axes, tests, cut)


def _kinds(request: MapRequest, glp: GLP, bank: Bank) -> dict[str, MapPoints]:
    """Return what the map shows beside real activations, by name."""
    import torch

    from glp_core.data.bank import spread

    noise = torch.randn(OTHERS, glp.d_input, generator=torch.Generator().manual_seed(0))
    name = f"generated, {request.steps} step{'s' * (request.steps > 1)}"
    kinds = {name: MapPoints(glp.sample(noise, request.steps).cpu(), [])}
    if request.direction:
        positions = spread(bank.halves()[0], OTHERS)
        clean, contexts = bank.acts[positions], [measure.in_context(*bank.contexts[i]) for i in positions.tolist()]
        push = request.strength * resources.workspace().median_norm * resources.direction(request.direction).vector
        projected = glp.project(clean + push, 0.5, 20, noise=noise[: len(clean)]).cpu()
        ways = (clean + push, _walked(glp, clean, push), projected)
        kinds |= {name: MapPoints(acts, contexts) for name, acts in zip(KINDS, ways, strict=True)}
    return kinds | ({OWN: _own(request.text)} if request.text else {})


def _walked(glp: GLP, clean: Tensor, push: Tensor) -> Tensor:
    """Return clean activations (n, d) pushed along the manifold, always with the same noise."""
    import torch

    from glp_core.prior.projection import make_projector

    walk = make_projector("walk", glp=glp, walk=resources.workspace().walk())
    return walk(clean + push, clean, torch.Generator().manual_seed(0)).cpu()


def _without_massive(kind: MapPoints) -> MapPoints:
    """Leave out attention sinks, which lie far off by nature."""
    from glp_core.llm.site import is_massive

    ordinary = ~is_massive(kind.acts, resources.workspace().median_norm)
    texts = [words for words, keep in zip(kind.texts, ordinary.tolist(), strict=True) if keep] if kind.texts else []
    return replace(kind, acts=kind.acts[ordinary], texts=texts)


def _placed(
    method: Method, chosen: Tensor, real: np.ndarray, others: dict[str, np.ndarray], cancelled: Cancelled, report: Report
) -> tuple[np.ndarray, dict[str, np.ndarray], tuple[str, str]]:
    """Return where the real rows and the others fall, and the names of the axes.

    UMAP takes the plane that was laid out with the bank, where there is one, because fitting it takes long.
    """
    from glp_core.neurons.planes import pca_plane, place_among, umap_plane

    if method == "PCA":
        layout = pca_plane(real, others)
        share = layout.explained or (0.0, 0.0)
        axes = (f"PC 1 ({share[0]:.0%} of the variance)", f"PC 2 ({share[1]:.0%} of the variance)")
        return layout.real, layout.others, axes
    measures = measure.measures()
    bank = measures.bank
    if bank.plane is not None:
        places = bank.plane.numpy()
        return places[chosen], place_among(places, measures.meter.glp.normalize(bank.acts).cpu().numpy(), others), UMAP_AXES
    layout = umap_plane(real, others, cancelled=cancelled, progress=lambda _done, _total, words: report(2, 3, f"UMAP: {words}"))
    return layout.real, layout.others, UMAP_AXES


def _own(text: str) -> MapPoints:
    """Return a text's tokens without its first one, each with the text around it."""
    from glp_core.data.bank import AROUND

    llm = resources.llm()
    whole = llm.encode(text)
    ids = whole[:OWN_TOKENS]
    acts = llm.activations([ids], resources.workspace().layer)[0][1:].float().cpu()
    pieces = llm.pieces(ids)[1:]
    contexts = [
        measure.in_context("".join(pieces[max(0, i - AROUND) : i]), pieces[i], "".join(pieces[i + 1 : i + AROUND + 1]))
        for i in range(len(pieces))
    ]
    return MapPoints(acts, contexts, cut_words(len(ids), len(whole)))


def _test_words(rows: np.ndarray, real: np.ndarray) -> str:
    from glp_core.evaluation.two_sample import FEWEST, logistic_test, neighbour_test

    if min(len(rows), len(real)) < FEWEST:
        return "too few to test"
    nearest = neighbour_test(rows, real)
    shares = {"logistic regression": logistic_test(rows, real).share, "nearest neighbour": nearest.share}
    numbers = ", ".join(f"{name} {share.value:.2f} [{share.low:.2f}, {share.high:.2f}]" for name, share in shares.items())
    return f"{numbers}, which recognises {nearest.first:.0%} of these and {nearest.second:.0%} of the real ones"
