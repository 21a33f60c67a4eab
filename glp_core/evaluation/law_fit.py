"""The arithmetic of fitting log loss = log(E + exp(b - alpha x)) to points: starts, the best fit, and many redrawn curves at once.

Knows numbers only; scaling_law.py says what they mean.
"""

import math

import numpy as np
from numpy.typing import NDArray
from scipy import optimize

from glp_core.errors import GlpError

Floats = NDArray[np.float64]

STEEPEST, SHALLOWEST = 3.0, 0.005
"""Range of alpha that is searched."""
SCALE = 0.02
"""Relative deviation from which a point's pull is bounded (soft L1)."""


def log_loss(theta: Floats, x: Floats) -> Floats:
    """Return log(E + exp(b - alpha x)) (k, n) for rows (E, b, alpha) of theta and log compute x (n,)."""
    return np.log(theta[:, :1] + np.exp(np.clip(theta[:, 1:2] - theta[:, 2:] * x, -700, 700)))


def _jacobian(theta: Floats, x: Floats) -> tuple[Floats, Floats]:
    """Return log losses (k, n) and their derivatives by E, b and alpha (k, n, 3)."""
    power = np.exp(np.clip(theta[:, 1:2] - theta[:, 2:] * x, -700, 700))
    total = theta[:, :1] + power
    share = power / total
    return np.log(total), np.stack([1 / total, share, -share * x], axis=-1)


def _starts(x: Floats, y: Floats) -> Floats:
    """Return (E, b, alpha) for a ladder of exponents, E and b by weighted linear least squares for each."""
    rows = []
    loss, weight = np.exp(y), np.exp(-y)
    for alpha in np.geomspace(SHALLOWEST, STEEPEST, 24):
        design = np.stack([weight, weight * np.exp(-alpha * x)], axis=-1)
        (e, b), _ = optimize.nnls(design, weight * loss)
        if b > 0:
            rows.append((min(e, 0.999 * loss.min()), math.log(b), alpha))
    return np.asarray(rows)


def best_fit(x: Floats, y: Floats) -> Floats:
    """Run scipy's robust least squares from the most promising starts and keep the best end.

    Raises:
        GlpError: no start falls with compute.
    """
    bounds = ([0, -np.inf, SHALLOWEST], [math.exp(y.min()), np.inf, STEEPEST])
    edge = 1e-9 * np.array([math.exp(y.min()), 1, 1])
    starts = _starts(x, y)
    if not len(starts):
        raise GlpError("No law is fitted: the losses do not fall with compute. Leave out runs that diverged.")
    costs = np.square(log_loss(starts, x) - y).sum(1)
    ends = [
        optimize.least_squares(
            lambda t: log_loss(t[None], x)[0] - y,
            start,
            jac=lambda t: _jacobian(t[None], x)[1][0],
            bounds=bounds,
            loss="soft_l1",
            f_scale=SCALE,
            x_scale="jac",
        )
        for start in np.clip(starts[np.argsort(costs)[:5]], np.array(bounds[0]) + edge, np.array(bounds[1]) - edge)
    ]
    return min(ends, key=lambda end: end.cost).x


def refit(theta: Floats, x: Floats, redrawn: Floats) -> Floats:
    """Fit every redrawn curve (k, n) at once, starting from the fit: Levenberg-Marquardt with the same robust weights.

    E may go below 0 here: with it held at 0, intervals cover the truth too rarely when E is near 0 (85 instead of 95 of 100).
    """
    k = len(redrawn)
    now, damping = np.tile(theta, (k, 1)), np.full(k, 1e-3)
    low = np.array([-np.inf, -np.inf, SHALLOWEST])
    high = np.stack([np.exp(redrawn.min(1)), np.full(k, np.inf), np.full(k, STEEPEST)], axis=-1)
    cost = _cost(now, x, redrawn)
    idle = 0
    for _ in range(60):
        value, slopes = _jacobian(now, x)
        residual = redrawn - value
        weight = 1 / np.sqrt(1 + (residual / SCALE) ** 2)
        gradient = np.einsum("kni,kn->ki", slopes, weight * residual)
        hessian = np.einsum("kni,kn,knj->kij", slopes, weight, slopes)
        diagonal = np.einsum("kii->ki", hessian)
        damped = hessian + np.eye(3) * (damping[:, None] * diagonal + 1e-12)[:, None]
        step = np.linalg.solve(damped, gradient[..., None])[..., 0]
        tried = np.clip(now + step, low, high)
        after = _cost(tried, x, redrawn)
        better = after < cost * (1 - 1e-9)
        idle = 0 if better.any() else idle + 1
        if idle == 4:
            break
        now[better], cost = tried[better], np.where(better, after, cost)
        damping = np.clip(np.where(better, damping / 5, damping * 4), 1e-9, 1e9)
    return now


def _cost(theta: Floats, x: Floats, y: Floats) -> Floats:
    """Return the soft L1 cost of each row (k,); nan, so never better, where E drags the law below 0."""
    with np.errstate(invalid="ignore", divide="ignore"):
        residual = (y - log_loss(theta, x)) / SCALE
    return (np.sqrt(1 + residual**2) - 1).sum(1)
