"""Planes of activations: principal components against a singular value decomposition, rows placed among known ones."""

import numpy as np
import pytest

from glp_core.errors import GlpError
from glp_core.neurons.planes import pca_plane, place_among


def test_the_plane_is_that_of_the_largest_singular_values_and_the_same_for_all_rows():
    rows = np.random.default_rng(0).normal(size=(60, 8)).astype(np.float32) * np.arange(1, 9)
    plane = pca_plane(rows, {"same": rows[:10]})
    _, singular, axes = np.linalg.svd(rows - rows.mean(0), full_matrices=False)
    assert np.abs(plane.real) == pytest.approx(np.abs((rows - rows.mean(0)) @ axes[:2].T), abs=1e-3)
    assert plane.explained == pytest.approx(singular[:2] ** 2 / np.square(singular).sum(), rel=1e-4)
    assert plane.others["same"] == pytest.approx(plane.real[:10], abs=1e-4)
    with pytest.raises(GlpError, match="at least 3"):
        pca_plane(rows[:2], {})


def test_rows_are_placed_on_a_stored_plane_where_they_are_known_and_near_their_like_where_not():
    rng = np.random.default_rng(0)
    near, far = rng.normal(size=(40, 6)), rng.normal(size=(40, 6)) + 20
    rows = np.concatenate([near, far]).astype(np.float32)
    layout = np.concatenate([rng.normal(size=(40, 2)), rng.normal(size=(40, 2)) + 100]).astype(np.float32)
    new = (rng.normal(size=(5, 6)) + 20).astype(np.float32)
    placed = place_among(layout, rows, {"same": rows, "new": new})
    assert placed["same"] == pytest.approx(layout, abs=1e-3)
    assert placed["new"].shape == (5, 2)
    assert (placed["new"] >= layout[40:].min(0)).all() and (placed["new"] <= layout[40:].max(0)).all()
