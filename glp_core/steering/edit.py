"""The steering edit: add each row's direction to the last position of a layer's output, project it back, note what happened.

Knows activations, projectors and the distance meter; knows nothing of tokens or of the loop that it is called from.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from glp_core.data.store import is_massive
from glp_core.errors import GlpError
from glp_core.llm.decoding import filled
from glp_core.prior.distance import ManifoldMeter
from glp_core.prior.projection import Projector

NOISE_STREAM = 1_000_003
"""Added to a row's seed, so that its projection noise and its choice of tokens are drawn independently."""


@dataclass(frozen=True, eq=False)
class Arm:
    """One column of a comparison: what is done to the activations while its text is written.

    A vector at strength 0 changes nothing, projector or not. A projector without a vector projects the model's own activations.
    """

    name: str
    """Name to show."""
    vector: Tensor | None = None
    """Unit vector (d,), or none for no push."""
    strength: float = 0.0
    """In units of the layer's median activation norm; negative pushes away."""
    projector: Projector | None = None
    """How the edited activation is brought back, or none."""

    @property
    def edits(self) -> bool:
        """Whether this arm changes anything."""
        return self.strength != 0 if self.vector is not None else self.projector is not None


class Reading(NamedTuple):
    """What one edit did, a value for each row; nan where there is nothing to say."""

    distance_before: Tensor
    """Manifold distance of the activation that the layer gave out."""
    distance_after: Tensor
    """Manifold distance of the activation that went on."""
    kept_push: Tensor
    """Share of the push along the direction that the projection left."""


def check_arms(arms: Sequence[Arm], width: int, layer: int) -> None:
    """Raise GlpError for a strength that is no number, or a direction that does not fit the layer."""
    if not arms:
        raise GlpError("There is nothing to generate: give at least one arm.")
    for arm in arms:
        if not math.isfinite(arm.strength):
            raise GlpError(f"The strength of {arm.name!r} is {arm.strength}, wanted a number (1 = the layer's median norm).")
        if arm.vector is None:
            continue
        if arm.vector.shape != (width,):
            raise GlpError(
                f"The direction of {arm.name!r} has shape {tuple(arm.vector.shape)}, wanted ({width},), the width of layer {layer}. "
                "It was made for another model."
            )
        norm = float(arm.vector.float().norm())
        if not abs(norm - 1) < 0.01:
            raise GlpError(f"The direction of {arm.name!r} has norm {norm:.3g}, wanted a unit vector: divide it by its norm.")


class SteeringEdit:
    """The edit of one request, for `hooks.edit`; call `start` before each forward and `read` after it."""

    def __init__(
        self,
        arms: Sequence[Arm],
        seeds: Sequence[int],
        *,
        median_norm: float,
        meter: ManifoldMeter | None,
        device: torch.device,
        width: int,
    ) -> None:
        self.median_norm, self.meter, self.device = median_norm, meter, device
        self.n = filled(len(arms))
        self.edits = torch.tensor([arm.edits for arm in arms] + [False] * (self.n - len(arms)), device=device)
        self.vectors = torch.zeros(self.n, width, device=device)
        self.pushes = torch.zeros(self.n, 1, device=device)
        for row, arm in enumerate(arms):
            if arm.vector is not None:
                self.vectors[row] = arm.vector.to(device, torch.float32)
                self.pushes[row] = torch.tensor(arm.strength * median_norm, dtype=torch.float64)
        self.groups = _by_projector(arms)
        self.generators = [torch.Generator().manual_seed(seed + NOISE_STREAM) for seed in seeds]
        self.free = self.edits

    def start(self, first: Tensor) -> None:
        """Prepare one forward; `first` (rows,) marks rows whose position is a text's first token, which is never edited."""
        self.free = self.edits & ~first
        self._clean = self._final = None

    def __call__(self, hidden: Tensor) -> Tensor:
        """Edit the last position of hidden (rows, tokens, d)."""
        self._clean = clean = hidden[:, -1].float()
        self.massive = is_massive(clean, self.median_norm)
        free = (self.free & ~self.massive)[:, None]
        pushed = clean + self.pushes * self.vectors
        if not torch.isfinite(pushed).all():
            raise GlpError("The steered activations are not finite numbers: reduce the strength.")
        final = self._project(pushed, clean)
        self._kept = self._kept_push(clean, pushed, final, free[:, 0])
        self._final = torch.where(free, final, clean)
        last = torch.where(free, final.to(hidden.dtype), hidden[:, -1])
        return torch.cat([hidden[:, :-1], last[:, None]], dim=1)

    def read(self) -> Reading:
        """Return what the last forward's edit did; distances of massive activations are nan."""
        if self.meter is None:
            nothing = torch.full((self.n,), math.nan)
            return Reading(nothing, nothing, self._kept)
        distances = self.meter.distance(torch.cat([self._clean, self._final])).masked_fill(self.massive.repeat(2), math.nan)
        before, after = distances.cpu().chunk(2)
        return Reading(before, after, self._kept)

    def _project(self, pushed: Tensor, clean: Tensor) -> Tensor:
        if not self.groups:
            return pushed
        width = pushed.shape[1]
        noise = torch.stack([torch.randn(width, generator=generator) for generator in self.generators]).to(self.device)
        final = pushed.clone()
        for projector, rows in self.groups:
            where = torch.tensor(rows, device=self.device)
            final[where] = projector(pushed[where], clean[where], noise=noise[where]).float()
        return final

    def _kept_push(self, clean: Tensor, pushed: Tensor, final: Tensor, free: Tensor) -> Tensor:
        kept = ((final - clean) * self.vectors).sum(-1) / ((pushed - clean) * self.vectors).sum(-1)
        projected = torch.zeros_like(free)
        for _, rows in self.groups:
            projected[rows] = True
        return kept.masked_fill(~(projected & free & (self.pushes[:, 0] != 0)), math.nan).cpu()


def _by_projector(arms: Sequence[Arm]) -> list[tuple[Projector, list[int]]]:
    """Return each different projector with its rows, filled up by repeating the first, so that one call serves them all."""
    groups: list[tuple[Projector, list[int]]] = []
    for row, arm in enumerate(arms):
        if arm.projector is None or not arm.edits or arm.projector.name == "none":
            continue
        rows = next((rows for projector, rows in groups if projector == arm.projector), None)
        if rows is None:
            groups.append((arm.projector, [row]))
        else:
            rows.append(row)
    return [(projector, rows + rows[:1] * (filled(len(rows)) - len(rows))) for projector, rows in groups]
