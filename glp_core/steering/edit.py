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
from glp_core.steering.retention import Retention, retention
from glp_core.steering.where import GENERATED, Condition, Where

BROKEN_PUSH = "The steered activations are not finite numbers: reduce the strength."
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
    where: Where = GENERATED
    """Which tokens' activations are edited."""

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
    distance_pushed: Tensor
    """Manifold distance after the push, before the projection."""
    retention: Retention
    """What the projection left of the push."""
    edited: Tensor
    """Whether there was an edit."""


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


class NoiseStreams:
    """Where the projection noise of one request's rows comes from; each stream goes on where its last draw ended."""

    def __init__(self) -> None:
        self._streams: dict[int, list[tuple[Projector, torch.Generator]]] = {}

    def of(self, projector: Projector, seed: int) -> torch.Generator:
        """Return the stream that rows of this projector and seed share."""
        streams = self._streams.setdefault(seed, [])
        found = next((generator for known, generator in streams if known == projector), None)
        if found is None:
            found = torch.Generator().manual_seed(seed + NOISE_STREAM)
            streams.append((projector, found))
        return found


class EditedRow(NamedTuple):
    """A row of a batch, as far as its edit is concerned."""

    arm: Arm
    seed: int
    noise: NoiseStreams
    """Of the request that the row belongs to."""
    meter: ManifoldMeter | None = None
    """Measures its distances, when given."""
    length: int = 1
    """Tokens of its prompt."""

    @property
    def span(self) -> tuple[int, int]:
        """Positions of the prompt that are edited; an empty span for none."""
        return self.arm.where.span or (0, 0)

    @property
    def edits_prompt(self) -> bool:
        """Whether any but the last token of its prompt is edited."""
        return self.arm.edits and self.span[0] < self.length - 1 and self.span[1] > 1


class SteeringEdit:
    """The edit of a batch of rows: `start` gives the edit of one forward, for `hooks.edit`."""

    def __init__(self, site: Site, rows: Sequence[EditedRow]) -> None:
        self.site, self.device = site, site.llm.device
        arms = [row.arm for row in rows]
        self.n = filled(len(arms))
        spare, device, nothing = self.n - len(arms), self.device, torch.zeros(site.llm.d_model)
        self.edits = torch.tensor([arm.edits for arm in arms] + [False] * spare, device=device)
        vectors = [nothing if arm.vector is None else arm.vector.float().cpu() for arm in arms]
        self.vectors = torch.stack([*vectors, *[nothing] * spare]).to(device)
        pushes = [0.0 if arm.vector is None else arm.strength * site.median_norm for arm in arms]
        self.pushes = torch.tensor([*pushes, *[0.0] * spare], dtype=torch.float64).float().to(device)[:, None]
        self.before_last = torch.tensor([row.length - 1 for row in rows] + [0] * spare, device=device)
        self.at_last = torch.tensor([_acts_at_last(row) for row in rows] + [False] * spare, device=device)
        self.later = torch.tensor([arm.where.generated for arm in arms] + [False] * spare, device=device)
        self.conditions = _by_condition(rows, device)
        self.groups = _by_projector(rows, device)
        self.meters, self.measured_at = _by_meter(rows, self.n, device)

    def start(self, lengths: Tensor) -> "OneEdit":
        """Return the edit of one forward; `lengths` (rows,) says how many tokens were read before: a text's first is never edited."""
        acts = torch.where(lengths == self.before_last, self.at_last, self.later)
        return OneEdit(self, self.edits & acts & (lengths > 0))

    def push(self, hidden: Tensor, free: Tensor) -> "Edited":
        """Push and project the last position of hidden (rows, tokens, d) in rows that are `free`."""
        clean = hidden[:, -1].float()
        massive = self.site.is_massive(clean)
        free = free & ~massive
        for condition, where in self.conditions:
            free[where] &= condition(clean[where])
        pushed = clean + self.pushes * self.vectors
        broken = ~torch.isfinite(pushed).all(-1)
        clean, pushed = (torch.where(broken[:, None], 0.0, acts) for acts in (clean, pushed))  # its neighbours go on
        final = self._project(pushed, clean)
        pushed, final = (torch.where(free[:, None], one, clean) for one in (pushed, final))
        return Edited(clean, pushed, final, massive, free, self._retention(clean, pushed, final, free), broken)

    def distances(self, edited: "Edited") -> Tensor:
        """Return the manifold distances before and after an edit, and between push and projection (3, rows).

        They are nan without a meter and for massive activations.
        """
        stages = torch.cat([edited.clean, edited.final, edited.pushed])
        massive = edited.massive.repeat(3).cpu()
        distances = torch.full((3 * self.n,), math.nan)
        for meter, places in self.meters:
            distances[places.cpu()] = meter.distance(stages[places]).cpu()
        return distances[self.measured_at].masked_fill(massive, math.nan).view(3, self.n)

    def _project(self, pushed: Tensor, clean: Tensor) -> Tensor:
        final = pushed.clone()
        for group in self.groups:
            noise = group.noise(pushed.shape[1], self.device)
            final[group.rows] = group.projector(pushed[group.rows], clean[group.rows], noise=noise).float()
        return final

    def _retention(self, clean: Tensor, pushed: Tensor, final: Tensor, free: Tensor) -> Retention:
        projected = torch.zeros_like(free)
        for group in self.groups:
            projected[group.rows] = True
        nothing = ~(projected & free & (self.pushes[:, 0] != 0))
        return Retention(
            *(one.masked_fill(nothing, math.nan) for one in retention(clean, pushed, final, self.site.median_norm))
        )


class Edited(NamedTuple):
    """What one forward's edit made of every row's last position."""

    clean: Tensor
    """(rows, d), what the layer gave out."""
    pushed: Tensor
    """(rows, d), after the push, before the projection."""
    final: Tensor
    """(rows, d), what goes on."""
    massive: Tensor
    """(rows,), whether the activation is an attention sink's, which is never edited."""
    free: Tensor
    """(rows,), whether it was edited."""
    retention: Retention
    """What the projection left of the push, nan where there was none of either."""
    broken: Tensor
    """(rows,), whether the pushed activation has other values than finite numbers."""


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
        before, after, pushed = self._edit.distances(self.edited)
        retention = Retention(*(one.cpu() for one in self.edited.retention))
        return EditEffect(before, after, pushed, retention, self.edited.free.cpu())


class _Group:
    """Rows that one projector serves in one call, each with noise from its own stream."""

    def __init__(self, projector: Projector, places: Sequence[int], rows: Sequence[EditedRow], device: torch.device) -> None:
        self.projector = projector
        self.rows = _filled_up(places, device)
        generators = [rows[place].noise.of(projector, rows[place].seed) for place in places]
        self._generators = list(dict.fromkeys(generators))
        numbers = {generator: number for number, generator in enumerate(self._generators)}
        self._stream = _filled_up([numbers[generator] for generator in generators], device)

    def noise(self, width: int, device: torch.device) -> Tensor | None:
        """Draw every row's next noise (draws, rows, d), or (rows, d) for one draw; rows of the same stream get the same."""
        draws = self.projector.draws
        if not draws:
            return None
        drawn = torch.stack([torch.randn(draws, width, generator=generator) for generator in self._generators], dim=1)
        noise = drawn.to(device)[:, self._stream]
        return noise[0] if draws == 1 else noise


def _acts_at_last(row: EditedRow) -> bool:
    """Say whether the edit of the prompt's last token is wanted: new text begins there, and a span may end there."""
    return row.arm.where.generated or row.arm.where.acts_at(row.length - 1)


def _by_condition(rows: Sequence[EditedRow], device: torch.device) -> list[tuple[Condition, Tensor]]:
    """Return each condition with its rows."""
    conditions = dict.fromkeys(row.arm.where.only for row in rows if row.arm.where.only is not None)
    return [(one, _filled_up([i for i, row in enumerate(rows) if row.arm.where.only is one], device)) for one in conditions]


def _by_projector(rows: Sequence[EditedRow], device: torch.device) -> list[_Group]:
    """Return each different projector with its rows."""
    found: list[tuple[Projector, list[int]]] = []
    for place, row in enumerate(rows):
        arm = row.arm
        if arm.projector is None or not arm.edits or arm.projector.name == "none":
            continue
        same = next((places for projector, places in found if projector == arm.projector), None)
        if same is None:
            found.append((arm.projector, [place]))
        else:
            same.append(place)
    return [_Group(projector, places, rows, device) for projector, places in found]


def _by_meter(rows: Sequence[EditedRow], n: int, device: torch.device) -> tuple[list[tuple[ManifoldMeter, Tensor]], Tensor]:
    """Return each meter with the places that it measures, and where the distance of every place is found (3 n,).

    Places count the rows' activations before their edits, then those after, then those between push and projection; what does not differ
    is measured once.
    """
    measured_at = torch.arange(3 * n)
    for place, row in enumerate(rows):
        if not row.arm.edits:
            measured_at[[n + place, 2 * n + place]] = place
        elif row.arm.projector is None or row.arm.projector.name == "none":
            measured_at[2 * n + place] = n + place
    meters: dict[ManifoldMeter, list[int]] = {}
    for place, row in enumerate(rows):
        if row.meter is not None:
            meters.setdefault(row.meter, []).extend(dict.fromkeys(measured_at[place::n].tolist()))
    return [(meter, _filled_up(places, device)) for meter, places in meters.items()], measured_at


def _filled_up(numbers: Sequence[int], device: torch.device) -> Tensor:
    """Return the numbers with the first one repeated behind them, up to a whole block."""
    return torch.tensor([*numbers, *[numbers[0]] * (filled(len(numbers)) - len(numbers))], device=device)
