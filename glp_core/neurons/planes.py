"""Put activations on a plane: PCA or UMAP, fitted on real ones only; all others are placed on it afterwards.

Knows rows of numbers; knows nothing of what they are.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from glp_core.errors import GlpError
from glp_core.jobs.pause import pause
from glp_core.neurons.umap import Floats, UmapConfig, run_umap
from glp_core.progress import Progress, quiet

KEPT_COMPONENTS = 50
"""Principal components that UMAP sees: beyond them there is little but noise."""
EPOCHS = 200


@dataclass(frozen=True)
class Plane:
    """Where rows fall."""

    real: Floats
    """(n, 2)."""
    others: dict[str, Floats]
    """By name, (m, 2) each."""
    explained: tuple[float, float] | None = None
    """Share of the variance of both axes; None for UMAP."""


def pca_plane(real: Floats, others: Mapping[str, Floats]) -> Plane:
    """Return the plane of the real rows' (n, d) first two principal components."""
    projected, rest, explained = _principal_components(real, others, 2)
    return Plane(projected, rest, (float(explained[0]), float(explained[1])))


def umap_plane(
    real: Floats,
    others: Mapping[str, Floats],
    *,
    neighbours: int = 15,
    seed: int = 0,
    progress: Progress = quiet,
    cancelled: Callable[[], bool] = lambda: False,
) -> Plane:
    """Return the UMAP plane of real rows (n, d), and where the others fall on it; runs in a process of its own.

    Args:
        cancelled: asked several times a second; when true the process is ended and GlpError raised.
    """
    rows, rest, _ = _principal_components(real, others, KEPT_COMPONENTS)
    config = UmapConfig(neighbours, metric="euclidean", seed=seed, epochs=EPOCHS)
    stacked = np.concatenate([*rest.values()]) if rest else None
    layout = run_umap(rows, config, others=stacked, progress=progress, cancelled=cancelled)
    ends = np.cumsum([len(part) for part in rest.values()]).tolist()
    parts = np.split(layout.others, ends[:-1]) if rest else []
    return Plane(layout.rows, dict(zip(rest, parts, strict=True)))


def place_among(layout: Floats, real: Floats, others: Mapping[str, Floats], *, neighbours: int = 15) -> dict[str, Floats]:
    """Return where other rows (m, d) fall on a plane that was laid out before: among their nearest real rows (n, d).

    Nearer ones pull more; a row that is a real one falls on its place in `layout` (n, 2).
    """
    from sklearn.neighbors import NearestNeighbors

    rows, rest, _ = _principal_components(real, others, KEPT_COMPONENTS)
    finder = NearestNeighbors(n_neighbors=min(neighbours, len(rows))).fit(rows)
    placed = {}
    for name, part in rest.items():
        pause()
        distances, nearest = finder.kneighbors(part)
        weights = 1 / np.maximum(distances, 1e-9 * (1 + distances.max(initial=0))) ** 2
        weights /= weights.sum(1, keepdims=True)
        placed[name] = (weights[:, :, None] * layout[nearest]).sum(1).astype(np.float32)
    return placed


def _principal_components(
    real: Floats, others: Mapping[str, Floats], count: int
) -> tuple[Floats, dict[str, Floats], NDArray[np.float64]]:
    """Return the coordinates of the real rows, those of the others, and the share of variance of each component."""
    from sklearn.decomposition import PCA

    if len(real) < 3:
        raise GlpError(f"Got {len(real)} real rows, wanted at least 3.")
    pause()
    pca = PCA(min(count, *real.shape), svd_solver="full").fit(real)
    placed = {name: pca.transform(rows).astype(np.float32) for name, rows in others.items()}
    return pca.transform(real).astype(np.float32), placed, pca.explained_variance_ratio_
