"""Mean and covariance of activations that do not fit in memory together."""

from collections.abc import Callable, Iterable, Sequence

import torch
from torch import Tensor

from glp_core.devices import doubled
from glp_core.errors import GlpError

ROWS_AT_ONCE = 65_536
"""Of activations, whose copies in float64 take memory."""


class Moments:
    """Sums around the first part's mean, so that products in float32 lose nothing however far from 0 the activations are."""

    def __init__(self, shift: Tensor) -> None:
        self.shift, self.n = shift.float(), 0
        self.total = torch.zeros_like(doubled(shift))
        self.outer = self.total.new_zeros(len(shift), len(shift))

    @classmethod
    def of(cls, parts: Iterable[Tensor]) -> "Moments":
        """Return the moments of parts (n, d), all on one device; raise GlpError when there is none."""
        moments: Moments | None = None
        for part in parts:
            moments = moments or cls(part.float().mean(0))
            moments.add(part)
        if moments is None:
            raise GlpError("There are no activations yet: collect some.")
        return moments

    def add(self, part: Tensor) -> None:
        """Count more activations (n, d)."""
        for rows in part.split(ROWS_AT_ONCE):
            centred = rows.float() - self.shift
            self.total += doubled(centred).sum(0)
            self.outer += doubled(centred.T @ centred)
        self.n += len(part)

    def add_up(self, over: Callable[[Sequence[Tensor]], None]) -> None:
        """Let `over` replace the sums by those of several processes, whose shift is the same."""
        n = torch.tensor(float(self.n), dtype=torch.float64, device=self.total.device)
        over([self.total, self.outer, n])
        self.n = int(n)

    def statistics(self) -> dict[str, Tensor]:
        """Return `mean`, `var` (d) and `covariance` (d, d), float32, on the CPU."""
        offset = self.total / self.n
        covariance = self.outer / self.n - torch.outer(offset, offset)
        mean = (doubled(self.shift) + offset).float()
        return {"mean": mean.cpu(), "var": covariance.diagonal().float().cpu(), "covariance": covariance.float().cpu()}
