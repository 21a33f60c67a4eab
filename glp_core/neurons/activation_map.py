"""Put activations on a plane: PCA, or UMAP in a process of its own, fitted on real ones only; all others are transformed.

UMAP runs in a child process because two of them in one process can end it, and because a child can be stopped at once. Knows rows of
numbers; knows nothing of what they are.
"""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from glp_core.errors import GlpError

if TYPE_CHECKING:
    from sklearn.decomposition import PCA

Floats = NDArray[np.float32]
KEPT_COMPONENTS = 50
"""Principal components that UMAP sees: beyond them there is little but noise."""
LOOK = 0.2


def fit_pca(real: Floats, components: int = 2) -> "PCA":
    """Fit principal components to real rows (n, d), at most `components` of them."""
    from sklearn.decomposition import PCA

    if len(real) < 3:
        raise GlpError(f"Got {len(real)} real rows, wanted at least 3.")
    return PCA(min(components, *real.shape), svd_solver="full").fit(real)


def pca_map(real: Floats, others: Mapping[str, Floats]) -> tuple[Floats, dict[str, Floats], Floats]:
    """Return the plane of real rows, that of the others by name, and the share of variance of both axes."""
    pca = fit_pca(real)
    return pca.transform(real), {name: pca.transform(rows) for name, rows in others.items()}, pca.explained_variance_ratio_


def umap_map(
    real: Floats,
    others: Mapping[str, Floats],
    *,
    neighbours: int = 15,
    seed: int = 0,
    cancelled: Callable[[], bool] = lambda: False,
    tell: Callable[[float], None] = lambda _seconds: None,
) -> tuple[Floats, dict[str, Floats]]:
    """Return the UMAP plane of real rows (n, d) and where the others fall on it.

    Args:
        cancelled: asked several times a second; when true the child is ended and GlpError raised.
        tell: called with the seconds since the start.
    """
    if len(real) <= neighbours:
        raise GlpError(f"Got {len(real)} real rows, wanted more than {neighbours}.")
    pca = fit_pca(real, KEPT_COMPONENTS)
    with tempfile.TemporaryDirectory(prefix="glp-map-") as name:
        folder = Path(name)
        np.save(folder / "real.npy", pca.transform(real).astype(np.float32))
        stacked = [pca.transform(rows) for rows in others.values()]
        np.save(folder / "others.npy", np.concatenate(stacked or [pca.transform(real[:1])]).astype(np.float32))
        command = [sys.executable, "-m", "glp_core.neurons.activation_map", name, str(neighbours), str(seed)]
        root = Path(__file__).resolve().parents[2]
        log = folder / "log.txt"
        with log.open("w") as output:
            child = subprocess.Popen(
                command, stdout=output, stderr=output, cwd=root, env=os.environ | {"PYTHONPATH": str(root)}
            )
            started = time.monotonic()
            try:
                while child.poll() is None:
                    if cancelled():
                        raise GlpError("Stopped.")
                    tell(time.monotonic() - started)
                    time.sleep(LOOK)
            finally:
                if child.poll() is None:
                    child.kill()
                    child.wait()
        if child.returncode != 0 or not (folder / "real_map.npy").is_file():
            last = (log.read_text().strip().splitlines() or ["nothing"])[-1]
            raise GlpError(f"UMAP ended with status {child.returncode}: {last}")
        plane, rest = (np.load(folder / f"{part}_map.npy", allow_pickle=False) for part in ("real", "others"))
    ends = np.cumsum([len(rows) for rows in others.values()]).tolist()
    parts = np.split(rest, ends[:-1]) if others else []
    return plane, dict(zip(others, parts, strict=True))


def _child(folder: Path, neighbours: int, seed: int) -> None:
    """Fit on real.npy, transform others.npy; runs in the child."""
    from umap import UMAP

    reducer = UMAP(n_neighbors=neighbours, min_dist=0.1, n_epochs=200, random_state=seed, n_jobs=1)
    real = np.load(folder / "real.npy", allow_pickle=False)
    np.save(folder / "real_map.npy", reducer.fit_transform(real).astype(np.float32))
    others = np.load(folder / "others.npy", allow_pickle=False)
    np.save(folder / "others_map.npy", reducer.transform(others).astype(np.float32))


if __name__ == "__main__":
    _child(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
