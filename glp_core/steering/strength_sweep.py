"""What a push of growing strength does to an activation's manifold distance, with and without projection.

A cell is one arm at one strength over all prompts; cells are independent, so a sweep can be stopped and gone on with. Knows activations
and the distance meter; knows tokens only as far as it takes each prompt's last one.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from glp_core.errors import GlpError
from glp_core.files import Json
from glp_core.llm.site import Site
from glp_core.prior.distance import ManifoldMeter
from glp_core.prior.glp import GLP
from glp_core.prior.projection import Kind, Projector, make_projector
from glp_core.prior.walk import WalkRule, WalkSettings
from glp_core.steering.strength_grid import ARMS, PROMPT_TOKENS, STRENGTHS, Cell, Spread

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)


@dataclass(frozen=True, eq=False)
class Pushes:
    """Clean activations that are pushed along one direction."""

    meter: ManifoldMeter
    clean: Tensor
    """(n, d)."""
    vector: Tensor
    """Unit vector (d,)."""
    median_norm: float
    projectors: Mapping[str, Projector]
    """walk, glp, norm and gaussian, as many as are asked for."""

    def noise(self, draws: int) -> Tensor:
        """Return the noise of a projection (n, d), or (draws, n, d) for several, the same for all cells."""
        shape = self.clean.shape if draws < 2 else (draws, *self.clean.shape)
        return torch.randn(shape, generator=torch.Generator().manual_seed(0))

    @cached_property
    def random(self) -> Tensor:
        """A random unit vector for each activation (n, d)."""
        drawn = torch.randn(self.clean.shape, generator=torch.Generator().manual_seed(1))
        return drawn / drawn.norm(dim=1, keepdim=True)

    def distances(self, arm: str, strength: float) -> Tensor:
        """Return the manifold distance of every activation (n,) after the push and what the arm does to it."""
        length = strength * self.median_norm
        if arm == "random":
            return self.meter.distance(self.clean + length * self.random)
        pushed = self.clean + length * self.vector.float()
        if arm == "raw":
            return self.meter.distance(pushed)
        projector = self.projectors[arm]
        return self.meter.distance(projector(pushed, self.clean, None, noise=self.noise(projector.draws)))

    def spread(self, arm: str, strength: float, raw: Tensor) -> Spread:
        """Measure one cell; `raw` are the raw push's distances at the strength."""
        distances = raw if arm == "raw" else self.distances(arm, strength)
        lower = math.nan if arm == "raw" else float((distances < raw).float().mean())
        return Spread(arm, strength, torch.quantile(distances, torch.tensor(QUANTILES)).tolist(), lower, len(distances))


def projectors(glp: GLP, covariance: Tensor, walk: WalkRule | WalkSettings | None = None) -> dict[str, Projector]:
    """Return the ways to bring a push back that a sweep compares: a walk, by default the default one, and noise level 0.5 for the rest."""
    kinds: tuple[Kind, ...] = ("walk", "glp", "norm", "gaussian")
    return {kind: make_projector(kind, glp=glp, covariance=covariance, walk=walk) for kind in kinds}


def sweep(pushes: Pushes, *, done: AbstractSet[Cell] = frozenset(), cancelled: Callable[[], bool]) -> Iterator[Spread]:
    """Yield every cell that is not `done`, one after another, until all are there or `cancelled`."""
    for strength in STRENGTHS:
        arms = [arm for arm in ARMS if (arm, strength) not in done]
        raw = None
        for arm in arms:
            if cancelled():
                return
            if raw is None:
                raw = pushes.distances("raw", strength)
            yield pushes.spread(arm, strength, raw)


def last_activations(site: Site, texts: Sequence[str]) -> Tensor:
    """Return each text's last-token activation (n, d), massive ones left out.

    Raises:
        GlpError: fewer than two texts have words and end with a token that is no attention sink.
    """
    rows = [row for row in (site.llm.encode(text, max_tokens=PROMPT_TOKENS) for text in texts) if len(row) > 1]
    if len(rows) < 2:
        raise GlpError("Fewer than two prompts have words: write at least two lines.")
    acts = torch.cat([acts[-1:] for acts in site.read(rows)])
    ordinary = acts[~site.is_massive(acts)]
    if len(ordinary) < 2:
        raise GlpError(
            f"Of {len(rows)} prompts {len(rows) - len(ordinary)} end with an attention sink, which is never pushed: end them with a word."
        )
    return ordinary


def lowered(pushes: Pushes, strengths: Sequence[float]) -> list[Json]:
    """Return how often projection with the GLP brings the pushed activation nearer, at each strength.

    `lower_percentile` counts prompts whose percentile among real activations falls; it cannot where both lie beyond all real ones.
    """
    rows = []
    for strength in strengths:
        raw, projected = (pushes.distances(arm, strength) for arm in ("raw", "glp"))
        before, after = pushes.meter.percentile(raw), pushes.meter.percentile(projected)
        rows.append(
            {
                "strength": strength,
                "lower_percentile": float((after < before).float().mean()),
                "nearer": float((projected < raw).float().mean()),
                "percentile_raw": float(before.median()),
                "percentile_glp": float(after.median()),
                "n": len(raw),
            }
        )
    return rows
