"""What manifold distance is compared with: the errors of held-out real activations, by the share of them that lie nearer.

Read from reports/reference.json; needs no torch, so that a page can show the band of real tokens at once.
"""

import math
from bisect import bisect_right
from collections.abc import Sequence

from glp_core.errors import GlpError
from glp_core.files import Json

AGAIN = "make it again with `python -m glp_core evaluate`."


class Reference:
    """Quantiles of the denoising error on real activations, at one noise level and under one noise."""

    def __init__(self, stored: Json) -> None:
        """Read what `make_reference` returned; raise GlpError when it lacks something or is damaged."""
        try:
            self.sigma = float(stored["sigma"])
            self.noise_seed = int(stored["noise_seed"])
            quantiles = [(float(share), float(error)) for share, error in stored["quantiles"]]
            self.n = int(stored.get("n", 0))
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise GlpError(f"The reference lacks {error}: {AGAIN}") from error
        self._shares = [share for share, _ in quantiles]
        self._errors = [error for _, error in quantiles]
        if len(quantiles) < 2 or self._errors != sorted(self._errors) or not self._errors[0] > 0:
            raise GlpError(f"The reference's quantiles must rise from above 0: {AGAIN}")
        self.median_error = self.error_at(0.5)

    def distance_of(self, error: float) -> float:
        """Return the manifold distance of a denoising error: 1 is a typical real token's."""
        return math.sqrt(error / self.median_error)

    def distance_at(self, share: float) -> float:
        """Return the distance below which that share of real activations lies."""
        return self.distance_of(self.error_at(share))

    def share_nearer(self, distance: float) -> float:
        """Return the share of real activations that are nearer; nan for nan."""
        return _interpolate(distance**2 * self.median_error, self._errors, self._shares)

    def quantiles(self, n: int) -> list[float]:
        """Return n distances at evenly spread shares of real activations, from the nearest one to the farthest."""
        return [self.distance_at(place / (n - 1)) for place in range(n)]

    def band(self) -> tuple[float, float]:
        """Return the distances between which 90% of real activations lie."""
        return self.distance_at(0.05), self.distance_at(0.95)

    def error_at(self, share: float) -> float:
        """Return the denoising error below which that share of real activations lies."""
        return _interpolate(share, self._shares, self._errors)


def _interpolate(x: float, xs: Sequence[float], ys: Sequence[float]) -> float:
    """Return y at x on the line through sorted points, held constant beyond them; nan for nan."""
    if math.isnan(x):
        return math.nan
    i = bisect_right(xs, x)
    if i == 0:
        return ys[0]
    if i == len(xs):
        return ys[-1]
    width = xs[i] - xs[i - 1]
    return ys[i - 1] + (ys[i] - ys[i - 1]) * ((x - xs[i - 1]) / width if width else 0.0)
