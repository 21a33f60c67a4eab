"""The Manifold page's map: real, generated, steered and projected activations, and one's own text, on one plane. Runs inside jobs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np

from dashboard.manifold import measure
from dashboard.manifold.measure import Plane
from dashboard.service import resources
from dashboard.service.follow import Report
from dashboard.service.jobs import Cancelled

if TYPE_CHECKING:
    from torch import Tensor

Method = Literal["PCA", "UMAP"]
METHODS: tuple[Method, ...] = get_args(Method)
REAL, OTHERS = 1200, 300


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


def plane(request: MapRequest, cancelled: Cancelled, report: Report) -> Plane:
    """Lay out everything; the plane is that of the real activations alone."""
    import torch

    from glp_core.llm.site import is_massive
    from glp_core.neurons.planes import pca_plane, umap_plane

    ours, workspace = measure.measures(), resources.workspace()
    glp, bank = ours.meter.glp, ours.bank
    chosen = torch.linspace(0, len(bank) - 1, min(REAL, len(bank))).long()
    report(0, 3, "drawing activations")
    noise = torch.randn(OTHERS, glp.d_input, generator=torch.Generator().manual_seed(0))
    texts: dict[str, list[str]] = {}
    kinds = {f"generated, {request.steps} step{'s' * (request.steps > 1)}": glp.sample(noise, request.steps).cpu()}
    if request.direction:
        pushed = torch.linspace(1, len(bank) - 1, OTHERS).long()
        clean = bank.acts[pushed]
        push = request.strength * workspace.median_norm * resources.direction(request.direction).vector
        kinds["steered"] = clean + push
        kinds["steered, then projected"] = glp.project(clean + push, 0.5, 20, noise=noise[: len(clean)]).cpu()
        around = [measure.in_context(*bank.contexts[i]) for i in pushed.tolist()]
        texts |= {"steered": around, "steered, then projected": around}
    if request.text:
        kinds["your text"], texts["your text"] = _own(request.text)
    for name, acts in kinds.items():
        kept = ~is_massive(acts, workspace.median_norm)
        kinds[name] = acts[kept]
        if name in texts:
            texts[name] = [words for words, keep in zip(texts[name], kept.tolist(), strict=True) if keep]
    real = glp.normalize(bank.acts[chosen]).cpu().numpy()
    others = {name: glp.normalize(acts).cpu().numpy() for name, acts in kinds.items() if len(acts)}
    report(1, 3, "two-sample tests")
    tests = {name: _told(rows, real) for name, rows in others.items() if name != "your text"}
    contexts = [measure.in_context(*bank.contexts[i]) for i in chosen.tolist()]
    if request.method == "UMAP":
        laid = umap_plane(
            real, others, cancelled=cancelled, progress=lambda _done, _total, words: report(2, 3, f"UMAP: {words}")
        )
        return Plane(laid.real, contexts, laid.others, texts, ("UMAP 1", "UMAP 2"), tests)
    laid = pca_plane(real, others)
    share = laid.explained or (0.0, 0.0)
    axes = (f"PC 1 ({share[0]:.0%} of the variance)", f"PC 2 ({share[1]:.0%} of the variance)")
    return Plane(laid.real, contexts, laid.others, texts, axes, tests)


def _own(text: str) -> tuple[Tensor, list[str]]:
    """Return a text's activations (n, d) without its first token, and each token in its text."""
    from glp_core.data.bank import AROUND

    llm = resources.llm()
    ids = llm.encode(text, max_tokens=128)
    acts = llm.activations([ids], resources.workspace().layer)[0][1:].float().cpu()
    pieces = llm.pieces(ids)[1:]
    around = [
        measure.in_context("".join(pieces[max(0, i - AROUND) : i]), pieces[i], "".join(pieces[i + 1 : i + AROUND + 1]))
        for i in range(len(pieces))
    ]
    return acts, around


def _told(rows: np.ndarray, real: np.ndarray) -> str:
    from glp_core.evaluation.two_sample import FEWEST, logistic_test, neighbour_test

    if len(rows) < FEWEST:
        return "too few to test"
    nearest = neighbour_test(rows, real)
    shares = {"logistic": logistic_test(rows, real).share, "nearest neighbour": nearest.share}
    return (
        ", ".join(f"{name} {share.value:.2f} [{share.low:.2f}, {share.high:.2f}]" for name, share in shares.items())
        + f" ({nearest.first:.0%} of its own, {nearest.second:.0%} of the real ones)"
    )
