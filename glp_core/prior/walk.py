"""The manifold walk: a push in small parts, each followed by a little noise and one denoising call, in latent space.

With latent z and push p in K parts, at noise level s:

    repeat K times:  z = z + p / K;  x = (1 - s) z + s eps_k;  z = x - s velocity(x, s)

The last line is the posterior mean E[z | x] under the prior. It is ours, not the paper's: the paper pushes once and projects once
(`GLP.project`). With a bound, a walk takes no part that would lead where few real activations lie: however long the push, it goes as
far as the prior knows the way. Knows latents and a velocity; knows nothing of networks or activations.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor

from glp_core.errors import GlpError
from glp_core.files import Json
from glp_core.prior import flow
from glp_core.prior.fast import EIGHT_BITS_BELOW
from glp_core.prior.reference import Reference
from glp_core.speed.packed import MOST_ROWS

FEW = MOST_ROWS // 2
"""Rows that a walk lets go one by one: with a bound, each is asked for twice at once."""


@dataclass(frozen=True)
class Bound:
    """Where a walk goes no further: at the denoising error of one noise level, under one fixed noise, that few real activations exceed."""

    share: float
    """Of real activations below the error, 0 to 1."""
    error: float
    """Mean over dimensions of (velocity - (eps - z))^2."""
    sigma: float = 0.5
    noise_seed: int = 0
    """Of the fixed noise (`flow.fixed_noise`)."""

    def __post_init__(self) -> None:
        flow.check_noise_level(self.sigma)
        if not 0 < self.share <= 1 or not 0 < self.error < math.inf or type(self.noise_seed) is not int:
            raise GlpError(
                f"A walk's bound is an error of {self.error} that a share of {self.share} of real activations stays below: wanted a "
                "number above 0, and a share above 0 and up to 1."
            )

    @classmethod
    def at(cls, reference: Reference, share: float) -> "Bound":
        """Return the bound below which that share of real activations lies, by a workspace's reference."""
        return cls(share, reference.error_at(share), reference.sigma, reference.noise_seed)


@dataclass(frozen=True)
class WalkSettings:
    """How a walk goes."""

    noise_level: float = 0.25
    """Of every part, 0 to 1."""
    pushes: int = 16
    """Parts of the push; with `part` the most that there may be."""
    hold: float = 0.0
    """After each denoising, the share of what is missing along the push that is put back; 1 holds the push exactly."""
    part: float = 0.0
    """Longest part, in latent units (at strength 1 a push is about sqrt(d) long); 0 for `pushes` parts at any strength."""
    fresh: bool = True
    """Draw noise anew for every part; else one draw serves all."""
    tilt: float = 0.0
    """How the noise level changes: from (1 - tilt) times itself at the first part to (1 + tilt) times at the last, -1 to 1."""
    enough: float = 1.0
    """Go no further once this share of the whole push is left along it; from 1 on the walk goes its whole way."""
    bound: Bound | None = None
    """Go no further than this, or than the activation lies that the walk begins at."""

    def __post_init__(self) -> None:
        flow.check_noise_level(self.noise_level)
        if type(self.pushes) is not int or self.pushes < 1:
            raise GlpError(f"A walk has {self.pushes!r} pushes, wanted a whole number of at least 1.")
        if not 0 <= self.hold <= 1:
            raise GlpError(f"A walk holds {self.hold} of its push, wanted a share from 0 to 1.")
        if not self.part >= 0 or not self.enough > 0:
            raise GlpError(f"A walk's parts are {self.part} long and {self.enough} is enough: wanted numbers above 0.")
        if not -1 <= self.tilt <= 1 or not self.noise_level * (1 + abs(self.tilt)) <= 1:
            raise GlpError(f"A walk's noise level {self.noise_level} with tilt {self.tilt} leaves the range from 0 to 1.")

    @classmethod
    def of(cls, values: Json) -> "WalkSettings":
        """Return the settings that `asdict` gave as values."""
        bound = values.get("bound")
        return cls(**values | {"bound": Bound(**bound) if bound else None})

    @classmethod
    def untuned(cls, measured: Json | None) -> "WalkSettings":
        """Return how walks go where nothing was tuned: with a bound where there is a reference (reports/reference.json)."""
        return cls() if measured is None else cls(0.1, 8, bound=Bound.at(Reference(measured), 0.95))

    def bounded_by(self, reference: Reference) -> "WalkSettings":
        """Return the same walk, its bound, if it has one, at the same share of the real activations of another reference."""
        return self if self.bound is None else replace(self, bound=Bound.at(reference, self.bound.share))

    @property
    def draws(self) -> int:
        """Noise vectors that one activation takes."""
        return self.pushes if self.fresh else 1

    def levels(self) -> list[float]:
        """Return the noise level of every part."""
        if not self.tilt or self.pushes == 1:
            return [self.noise_level] * self.pushes
        return [self.noise_level * (1 + self.tilt * (2 * k / (self.pushes - 1) - 1)) for k in range(self.pushes)]


@dataclass(frozen=True)
class WalkRule:
    """How walks go by the length of their push: what keeps a short push best does not hold a long one together."""

    short: WalkSettings
    """For pushes up to `border`."""
    long: WalkSettings
    """For longer ones."""
    border: float
    """Length in latent space, in sqrt(d): the length of a typical latent is 1."""

    def __post_init__(self) -> None:
        if not self.border >= 0:
            raise GlpError(f"A walk's border is {self.border}, wanted a number of at least 0.")

    @classmethod
    def of(cls, values: Json) -> "WalkRule":
        """Return the rule that `asdict` gave as values."""
        return cls(WalkSettings.of(values["short"]), WalkSettings.of(values["long"]), values["border"])

    def bounded_by(self, reference: Reference) -> "WalkRule":
        """Return the same rule, bounds at the same shares of the real activations of another reference."""
        return replace(self, short=self.short.bounded_by(reference), long=self.long.bounded_by(reference))

    @property
    def draws(self) -> int:
        """Noise vectors that one activation takes."""
        return max(self.short.draws, self.long.draws)

    def parts(self, push: Tensor) -> list[tuple[Tensor | None, WalkSettings]]:
        """Return which rows of latent pushes (n, d) go how: their places, each at least once, None for all; and their settings.

        Few rows of many are named again, so that they are not computed as few rows are: neighbours do not change a row's numbers.
        """
        long = (push.norm(dim=-1) > self.border * push.shape[-1] ** 0.5).cpu()
        if long.all() or not long.any():
            return [(None, self.long if long.any() else self.short)]
        least = min(len(push), EIGHT_BITS_BELOW)
        places = [(rows.nonzero()[:, 0], one) for rows, one in ((~long, self.short), (long, self.long))]
        return [(rows.repeat(-(-least // len(rows))).to(push.device), one) for rows, one in places]


def walk(
    velocities: flow.Velocities, z: Tensor, push: Tensor, noise: Tensor, settings: WalkSettings, fixed: Tensor | None = None
) -> Tensor:
    """Walk from latents z (n, d) along their whole pushes (n, d); rows do not influence one another.

    Args:
        noise: (draws, n, d), standard normal.
        fixed: (d,), the fixed noise of the bound, where the settings have one.
    Returns:
        (n, d).
    Raises:
        GlpError: the settings have a bound, and there is no fixed noise.
    """
    if settings.bound is not None and fixed is None:
        raise GlpError("A walk with a bound takes the bound's fixed noise too: flow.fixed_noise gives it.")
    length = push.norm(dim=-1, keepdim=True)
    way = _Way(z, push, push / length.clamp_min(1e-12), length, _parts(length, settings), torch.full_like(length, math.inf))
    levels, going = settings.levels(), torch.ones_like(length, dtype=torch.bool)
    whole = not settings.part and settings.enough >= 1 and settings.bound is None
    ended, places = z, None

    def pushed(z: Tensor, k: int) -> Tensor:
        return flow.add_noise(z + way.push / way.parts, noise[k if settings.fresh else 0], levels[k])

    x = pushed(z, 0)
    velocity, error = _ahead(velocities, [(x, levels[0])], z, settings.bound, fixed)
    if settings.bound is not None:
        way = way._replace(furthest=error.clamp_min(settings.bound.error))
    for k, level in enumerate(levels):
        if not whole:
            going = going & (way.parts > k) & (_share(z - way.start, way.along, way.length) < settings.enough)
            on = _that_go_on(going)
            if on is not None:
                ended, places = _put(ended, places, z), on if places is None else places[on]
                z, x, velocity, going, noise, way = z[on], x[on], velocity[on], going[on], noise[:, on], way.of(on)
            if not len(z):
                break
        after = x - level * velocity
        if settings.hold:
            target = way.length * (k + 1) / way.parts
            after = after + settings.hold * (target - ((after - way.start) * way.along).sum(-1, keepdim=True)) * way.along
        x = pushed(after, k + 1) if k + 1 < len(levels) else x
        velocity, error = _ahead(velocities, [(x, level) for level in levels[k + 1 : k + 2]], after, settings.bound, fixed)
        z = torch.where(going := going & (error <= way.furthest), after, z)
    return _put(ended, places, z)


class _Way(NamedTuple):
    """Where rows walk."""

    start: Tensor
    """(n, d)."""
    push: Tensor
    """(n, d)."""
    along: Tensor
    """Unit vectors (n, d)."""
    length: Tensor
    """Of the push (n, 1)."""
    parts: Tensor
    """(n, 1)."""
    furthest: Tensor
    """Error (n, 1) that no part may lead beyond."""

    def of(self, rows: Tensor) -> "_Way":
        return _Way(*(one[rows] for one in self))


def _that_go_on(going: Tensor) -> Tensor | None:
    """Return the places of those of few rows that go on (n, 1), filled up to whole blocks; None where all do.

    An accelerator would wait for the answer, and of many rows the kernels may change with their number.
    """
    if going.device.type != "cpu":
        return None
    rows = going[:, 0].nonzero()[:, 0]
    size = -(-len(rows) // EIGHT_BITS_BELOW) * EIGHT_BITS_BELOW
    if len(rows) and (len(going) > FEW or len(going) <= size):
        return None
    return rows.repeat(EIGHT_BITS_BELOW)[:size]


def _put(all_rows: Tensor, places: Tensor | None, rows: Tensor) -> Tensor:
    """Return all rows with these in their places, None for all."""
    return rows if places is None else all_rows.index_copy(0, places, rows)


def _ahead(
    velocities: flow.Velocities,
    part: Sequence[tuple[Tensor, float]],
    z: Tensor,
    bound: Bound | None,
    fixed: Tensor | None,
) -> tuple[Tensor, Tensor]:
    """Return the velocity of the next part, if there is one, and the denoising error (n, 1) of where it begins, z; without a bound 0.

    Both are asked for together: what a part's end says of its error may make the next part needless, but costs less beside it.
    """
    if bound is None or fixed is None:
        return velocities(part)[0] if part else z, z.new_zeros(len(z), 1)
    noised = flow.add_noise(z, fixed.expand_as(z), bound.sigma)
    *velocity, found = velocities([*part, (noised, bound.sigma)])
    return velocity[0] if velocity else z, (found - (fixed - z)).square().mean(-1, keepdim=True)


def _parts(length: Tensor, settings: WalkSettings) -> Tensor:
    """Return the number of parts (n, 1) of pushes of this length (n, 1)."""
    if not settings.part:
        return torch.full_like(length, settings.pushes)
    return (length / settings.part).ceil().clamp(1, settings.pushes)


def _share(moved: Tensor, along: Tensor, length: Tensor) -> Tensor:
    """Return the share of the push (n, 1) that was moved along it."""
    return (moved * along).sum(-1, keepdim=True) / length.clamp_min(1e-12)
