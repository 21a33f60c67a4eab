"""One real UMAP for all tests that look at one: it takes half a minute, most of it compiling."""

from types import SimpleNamespace

import numpy as np
import pytest

from glp_core.neurons.planes import umap_plane


@pytest.fixture(scope="session")
def clusters():
    """Three well-separated clusters of 20 points each (60, 8)."""
    rng = np.random.default_rng(0)
    centres = rng.standard_normal((3, 8)) * 6
    return (np.repeat(centres, 20, axis=0) + rng.standard_normal((60, 8)) * 0.3).astype(np.float32)


@pytest.fixture(scope="session")
def laid_out(clusters):
    """The clusters' plane, the same rows placed on it again, and what was told meanwhile."""
    steps = []
    plane = umap_plane(clusters, {"same": clusters}, neighbours=8, progress=lambda *step: steps.append(step))
    return SimpleNamespace(plane=plane, steps=steps)
