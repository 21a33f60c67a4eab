"""Fit L(C) = E + A C^-alpha to losses and compute, say how sure that is, and read the law both ways.

Robust least squares in log space; intervals from a residual bootstrap. Knows numbers only: no runs, no files, no models.
"""

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from glp_core.errors import GlpError
from glp_core.evaluation import law_fit
from glp_core.evaluation.law_fit import Floats
from glp_core.stats import TAILS, Interval, percentiles

FEWEST_POINTS = 4
"""A curve with three parameters goes through any three points."""
NARROWEST = 3.0
"""Largest over smallest compute below which no exponent can be told."""
FAR = 10.0
"""Compute beyond this many times the measured range is extrapolation worth a warning."""


@dataclass(frozen=True)
class ScalingFit:
    """A fitted law with its bootstrap draws; compute is in FLOPs, or in whatever the points were given in."""

    compute: Floats
    """Of the fitted points (n,), ascending."""
    loss: Floats
    """Of the fitted points (n,)."""
    draws: Floats
    """E, log A and alpha: the fit, then one row per bootstrap draw (1 + draws, 3)."""

    @property
    def e(self) -> Interval:
        """The loss that no compute removes; draws may lie below 0, or a floor near 0 would pull alpha to one side."""
        return Interval(*(x if x > 1e-6 else 0.0 for x in _interval(self.draws[:, 0])))

    @property
    def a(self) -> Interval:
        """The factor of the power of compute."""
        with np.errstate(over="ignore"):
            return _interval(np.exp(self.draws[:, 1]))

    @property
    def alpha(self) -> Interval:
        """The exponent."""
        return _interval(self.draws[:, 2])

    @property
    def residuals(self) -> Floats:
        """Measured over fitted loss, minus 1 (n,)."""
        return self.loss / self.curve(self.compute).value - 1

    def curve(self, compute: ArrayLike) -> "Band":
        """Return the fitted loss and its 95% band at each compute (m,)."""
        log_c = np.log(np.asarray(compute, dtype=np.float64))
        losses = self.draws[:, :1] + np.exp(np.clip(self.draws[:, 1:2] - self.draws[:, 2:] * log_c, -700, 700))
        return Band(losses[0], *np.quantile(losses[1:], TAILS, axis=0))

    def loss_at(self, compute: float) -> Interval:
        """Predict the loss that a compute budget buys."""
        if not (math.isfinite(compute) and compute > 0):
            raise GlpError(f"Compute of {compute} makes no sense: wanted a number above 0.")
        band = self.curve([compute])
        return Interval(float(band.value[0]), float(band.low[0]), float(band.high[0]))

    def compute_for(self, loss: float) -> Interval:
        """Predict the compute that a loss takes; infinite where the loss lies at or below E.

        Raises:
            GlpError: the loss is not a positive number.
        """
        if not (math.isfinite(loss) and loss > 0):
            raise GlpError(f"A target loss of {loss} makes no sense: wanted a number above 0.")
        above = loss - self.draws[:, 0]
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            compute = np.exp((self.draws[:, 1] - np.log(above)) / self.draws[:, 2])
        compute[~(above > 0)] = np.inf
        return _interval(compute)

    def tenfold(self, compute: float) -> Interval:
        """Predict by how much ten times a compute lowers its loss."""
        falls = np.exp(self.draws[:, 1] - self.draws[:, 2] * math.log(compute)) * (1 - 10.0 ** -self.draws[:, 2])
        return _interval(falls)

    def far(self, compute: float) -> bool:
        """Say whether a compute lies more than 10 x outside the measured range."""
        return compute > FAR * self.compute[-1] or compute < self.compute[0] / FAR


class Band(NamedTuple):
    """A curve (m,) with the edges of its 95% band."""

    value: Floats
    low: Floats
    high: Floats


def fit_law(compute: ArrayLike, loss: ArrayLike, *, draws: int = 1000, seed: int = 0) -> ScalingFit:
    """Fit E, A and alpha to points (n,) by robust least squares in log space, from many starts.

    The interval comes from refitting curves redrawn from the fit and its residuals, which are widened for the three parameters
    that they were fitted with. It measures scatter around the law, not whether the law is the right one.

    Raises:
        GlpError: the points cannot carry such a law: too few, too narrow, flat, rising or too noisy.
    """
    x, y = _checked(compute, loss)
    centre = x.mean()
    theta = law_fit.best_fit(x - centre, y)
    fitted = law_fit.log_loss(theta[None], x - centre)[0]
    residuals = y - fitted
    _refuse_noise(y, residuals)
    spread = _widened(residuals)
    generator = np.random.default_rng(seed)
    redrawn = fitted + generator.choice(spread, (draws, len(x)))
    refits = law_fit.refit(theta, x - centre, redrawn)
    draws_and_fit = np.vstack([theta, refits])
    draws_and_fit[:, 1] += draws_and_fit[:, 2] * centre
    return ScalingFit(np.exp(x), np.exp(y), draws_and_fit)


def frontier(compute: ArrayLike, loss: ArrayLike) -> NDArray[np.bool_]:
    """Mark the points (n,) that no other beats: none has at most their compute and a lower loss."""
    c, y = np.asarray(compute, dtype=np.float64), np.asarray(loss, dtype=np.float64)
    order = np.lexsort((y, c))
    best = np.minimum.accumulate(np.concatenate([[np.inf], y[order][:-1]]))
    mask = np.zeros(len(c), dtype=bool)
    mask[order] = y[order] < best
    return mask


def _interval(values: Floats) -> Interval:
    """Take the first value with the interval of the others."""
    return Interval(float(values[0]), *percentiles(values[1:]))


def _checked(compute: ArrayLike, loss: ArrayLike) -> tuple[Floats, Floats]:
    """Return log compute and log loss, ascending, or say why they carry no law."""
    c, y = np.asarray(compute, dtype=np.float64), np.asarray(loss, dtype=np.float64)
    if c.shape != y.shape or c.ndim != 1:
        raise GlpError(f"Got {c.shape} values of compute and {y.shape} of loss, wanted one of each a point.")
    good = np.isfinite(c) & np.isfinite(y) & (c > 0) & (y > 0)
    c, y = c[good], y[good]
    if len(set(c)) < FEWEST_POINTS:
        raise GlpError(
            f"A law with three parameters needs at least {FEWEST_POINTS} points of different compute, got {len(set(c))}."
        )
    if c.max() / c.min() < NARROWEST:
        raise GlpError(f"Compute only spans a factor of {c.max() / c.min():.1f}; an exponent needs at least {NARROWEST:g}.")
    order = np.argsort(c, kind="stable")
    c, y = c[order], y[order]
    fall = stats.spearmanr(c, y).statistic if len(set(y)) > 1 else 0.0
    if y.max() / y.min() < 1.01:
        raise GlpError(
            f"The loss is flat: it changes by {100 * (y.max() / y.min() - 1):.2f}% over the points. No law can be read from it."
        )
    if fall > -0.5:
        raise GlpError(f"The loss does not fall with compute (rank correlation {fall:+.2f}). No law can be read from it.")
    return np.log(c), np.log(y)


def _refuse_noise(y: Floats, residuals: Floats) -> None:
    share = float(1 - np.var(residuals) / np.var(y))
    if share < 0.6:
        raise GlpError(
            f"The scatter hides the trend: a power law explains {100 * max(share, 0):.0f}% of the variance of log loss."
        )


def _widened(residuals: Floats) -> Floats:
    """Centre residuals and widen them for three fitted parameters and for a scale known from so few of them (Student's t)."""
    freedom = max(1, len(residuals) - 3)
    student = stats.t.ppf(0.975, freedom) / stats.norm.ppf(0.975)
    centred = residuals - residuals.mean()
    return centred * math.sqrt(len(residuals) / freedom) * student
