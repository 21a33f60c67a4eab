"""The steering edit: add each row's direction to the last position of a layer's output, project it back, note what happened.

Knows activations, projectors and the distance meter; knows nothing of tokens or of the loop that it is called from.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from glp_core.errors import GlpError
from glp_core.llm.decoding import filled
from glp_core.llm.site import Site
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


class EditEffect(NamedTuple):
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
    """The edit of one request: `start` gives the edit of one forward, for `hooks.edit`."""

    def __init__(self, site: Site, arms: Sequence[Arm], seeds: Sequence[int], *, meter: ManifoldMeter | None) -> None:
        self.site, self.meter, self.device = site, meter, site.llm.device
        self.n = filled(len(arms))
        spare, device, nothing = self.n - len(arms), self.device, torch.zeros(site.llm.d_model)
        self.edits = torch.tensor([arm.edits for arm in arms] + [False] * spare, device=device)
        vectors = [nothing if arm.vector is None else arm.vector.float().cpu() for arm in arms]
        self.vectors = torch.stack([*vectors, *[nothing] * spare]).to(device)
        pushes = [0.0 if arm.vector is None else arm.strength * site.median_norm for arm in arms]
        self.pushes = torch.tensor([*pushes, *[0.0] * spare], dtype=torch.float64).float().to(device)[:, None]
        self.groups = _by_projector(arms, seeds, device)

    def start(self, first: Tensor) -> "OneEdit":
        """Return the edit of one forward; `first` (rows,) marks rows at a text's first token, which is never edited."""
        return OneEdit(self, self.edits & ~first)

    def push(self, hidden: Tensor, free: Tensor) -> "Edited":
        """Push and project the last position of hidden (rows, tokens, d) in rows that are `free`."""
        clean = hidden[:, -1].float()
        massive = self.site.is_massive(clean)
        free = free & ~massive
        pushed = clean + self.pushes * self.vectors
        if not torch.isfinite(pushed).all():
            raise GlpError("The steered activations are not finite numbers: reduce the strength.")
        final = self._project(pushed, clean)
        kept_push = self._kept_push(clean, pushed, final, free)
        return Edited(clean, torch.where(free[:, None], final, clean), massive, free, kept_push)

    def distances(self, edited: "Edited") -> tuple[Tensor, Tensor]:
        """Return the manifold distances before and after an edit (rows,); nan without a meter and for massive activations."""
        if self.meter is None:
            nothing = torch.full((self.n,), math.nan)
            return nothing, nothing
        distances = self.meter.distance(torch.cat([edited.clean, edited.final]))
        before, after = distances.masked_fill(edited.massive.repeat(2).to(distances.device), math.nan).chunk(2)
        return before, after

    def _project(self, pushed: Tensor, clean: Tensor) -> Tensor:
        final = pushed.clone()
        for group in self.groups:
            noise = group.noise(pushed.shape[1], self.device)
            final[group.rows] = group.projector(pushed[group.rows], clean[group.rows], noise=noise).float()
        return final

    def _kept_push(self, clean: Tensor, pushed: Tensor, final: Tensor, free: Tensor) -> Tensor:
        shares = ((final - clean) * self.vectors).sum(-1) / ((pushed - clean) * self.vectors).sum(-1)
        projected = torch.zeros_like(free)
        for group in self.groups:
            projected[group.rows] = True
        return shares.masked_fill(~(projected & free & (self.pushes[:, 0] != 0)), math.nan)


class Edited(NamedTuple):
    """What one forward's edit made of every row's last position."""

    clean: Tensor
    """(rows, d), what the layer gave out."""
    final: Tensor
    """(rows, d), what goes on."""
    massive: Tensor
    """(rows,), whether the activation is an attention sink's, which is never edited."""
    free: Tensor
    """(rows,), whether it was edited."""
    kept_push: Tensor
    """(rows,), share of the push that the projection left, or nan."""


class OneEdit:
    """The edit of one forward, for `hooks.edit`; it can be read once the layer has run."""

    def __init__(self, edit: SteeringEdit, free: Tensor) -> None:
        self._edit, self._free = edit, free
        self._edited: Edited | None = None

    def __call__(self, hidden: Tensor) -> Tensor:
        """Edit the last position of hidden (rows, tokens, d)."""
        self._edited = edited = self._edit.push(hidden, self._free)
        last = torch.where(edited.free[:, None], edited.final.to(hidden.dtype), hidden[:, -1])
        return torch.cat([hidden[:, :-1], last[:, None]], dim=1)

    @property
    def edited(self) -> Edited:
        """What the edit made, on the model's device."""
        if self._edited is None:
            raise RuntimeError("The layer has not run: there is no edit to read.")
        return self._edited

    def read(self) -> EditEffect:
        """Return what the edit did, on the CPU."""
        before, after = self._edit.distances(self.edited)
        return EditEffect(before.cpu(), after.cpu(), self.edited.kept_push.cpu())


class _Group:
    """Rows that one projector serves in one call, each with noise from its own seed."""

    def __init__(self, projector: Projector, rows: Sequence[int], seeds: Sequence[int], device: torch.device) -> None:
        self.projector = projector
        spare = filled(len(rows)) - len(rows)
        self.rows = torch.tensor([*rows, *[rows[0]] * spare], device=device)
        streams = {seed: number for number, seed in enumerate(dict.fromkeys(seeds))}
        self._generators = [torch.Generator().manual_seed(seed + NOISE_STREAM) for seed in streams]
        self._stream = torch.tensor([streams[seed] for seed in [*seeds, *[seeds[0]] * spare]], device=device)

    def noise(self, width: int, device: torch.device) -> Tensor | None:
        """Draw every row's next noise (draws, rows, d), or (rows, d) for one draw; rows of the same seed get the same."""
        draws = self.projector.draws
        if not draws:
            return None
        drawn = torch.stack([torch.randn(draws, width, generator=generator) for generator in self._generators], dim=1)
        noise = drawn.to(device)[:, self._stream]
        return noise[0] if draws == 1 else noise


def _by_projector(arms: Sequence[Arm], seeds: Sequence[int], device: torch.device) -> list[_Group]:
    """Return each different projector with its rows."""
    rows: list[tuple[Projector, list[int]]] = []
    for row, arm in enumerate(arms):
        if arm.projector is None or not arm.edits or arm.projector.name == "none":
            continue
        same = next((rows for projector, rows in rows if projector == arm.projector), None)
        if same is None:
            rows.append((arm.projector, [row]))
        else:
            same.append(row)
    return [_Group(projector, same, [seeds[row] for row in same], device) for projector, same in rows]
