"""What a strength means along one direction: how many deviations of real activations, and how far beyond them it goes.

The same push is many more deviations along a quiet direction than along a loud one. Knows a bank of real activations and a vector;
no model is needed.
"""

from bisect import bisect_left
from dataclasses import dataclass
from statistics import median

from torch import Tensor

from glp_core.data.bank import Bank
from glp_core.errors import GlpError
from glp_core.llm.site import is_massive


@dataclass(frozen=True)
class PushScale:
    """Real activations along one direction."""

    values: tuple[float, ...]
    """Their components along the direction, rising."""
    deviation: float
    """Their standard deviation."""
    median_norm: float
    """The unit of strength."""

    @staticmethod
    def of(bank: Bank, vector: Tensor, median_norm: float) -> "PushScale":
        """Measure a bank's activations, massive ones left out, along a unit vector (d,).

        Raises:
            GlpError: the vector is of another width, or the activations do not differ along it.
        """
        if vector.shape != bank.acts.shape[1:]:
            raise GlpError(f"The direction has {len(vector)} dimensions, the bank's activations {bank.acts.shape[1]}.")
        along = bank.acts[~is_massive(bank.acts, median_norm)] @ vector.float()
        if len(along) < 2 or not along.std() > 0:
            raise GlpError("The bank's activations do not differ along the direction.")
        return PushScale(tuple(along.sort().values.tolist()), float(along.std()), median_norm)

    def deviations(self, strength: float) -> float:
        """Return a push of this strength in standard deviations of real activations along the direction, with its sign."""
        return strength * self.median_norm / self.deviation

    def strength(self, deviations: float) -> float:
        """Return the strength of a push of so many standard deviations."""
        return deviations * self.deviation / self.median_norm

    def percentile(self, strength: float) -> float:
        """Return the share of real tokens, 0 to 1, that lie below the median token pushed so."""
        reached = median(self.values) + strength * self.median_norm
        return bisect_left(self.values, reached) / len(self.values)
