"""Maps: made in a child process, the same for the same seed, neighbours kept together, stopped at once."""

import resource
import time
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from glp_core.errors import GlpError
from glp_core.files import write_json
from glp_core.neuron_index.reader import NeuronIndex
from glp_core.neurons.maps import features, save_maps
from glp_core.neurons.planes import EPOCHS, umap_plane
from glp_core.neurons.umap import UmapConfig, run_umap


@pytest.fixture(scope="module")
def clusters():
    """Three well-separated clusters of 20 points each (60, 8)."""
    rng = np.random.default_rng(0)
    centres = rng.standard_normal((3, 8)) * 6
    return (np.repeat(centres, 20, axis=0) + rng.standard_normal((60, 8)) * 0.3).astype(np.float32)


@pytest.fixture(scope="module")
def laid_out(clusters):
    """One real UMAP for all tests that look at one: the clusters' plane, the same rows placed on it again, what was told meanwhile."""
    steps = []
    plane = umap_plane(clusters, {"same": clusters}, neighbours=8, progress=lambda *step: steps.append(step))
    return SimpleNamespace(plane=plane, steps=steps)


def test_clusters_stay_together_and_progress_is_told(laid_out):
    layout = laid_out.plane.real
    assert layout.shape == (60, 2) and np.isfinite(layout).all()
    groups = layout.reshape(3, 20, 2)
    inside = np.linalg.norm(groups - groups.mean(1, keepdims=True), axis=2).max()
    centres = groups.mean(1)
    apart = min(np.linalg.norm(centres[i] - centres[j]) for i, j in ((0, 1), (0, 2), (1, 2)))
    assert apart > inside
    assert {total for _, total, _ in laid_out.steps} == {EPOCHS} and len(laid_out.steps) > 2


def test_umap_puts_training_rows_where_the_fit_put_them_and_can_be_stopped(clusters, laid_out):
    assert laid_out.plane.others["same"] == pytest.approx(laid_out.plane.real, abs=1e-4)
    assert any("placing the others" in words for _, _, words in laid_out.steps)
    with pytest.raises(GlpError, match="Stopped"):
        umap_plane(clusters, {}, neighbours=10, cancelled=lambda: True)
    with pytest.raises(GlpError, match="more points"):
        umap_plane(clusters[:5], {}, neighbours=10)


def test_what_one_child_compiled_the_next_one_finds(clusters, laid_out):
    before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime
    run_umap(clusters, UmapConfig(neighbours=8))
    assert resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime - before < 8, "compiling takes ten seconds and more"


def test_a_map_is_stopped_at_once_and_bad_input_refused(clusters):
    begun = time.monotonic()
    with pytest.raises(GlpError, match="Stopped"):
        run_umap(clusters, UmapConfig(), cancelled=lambda: True)
    assert time.monotonic() - begun < 20
    with pytest.raises(GlpError, match="more points"):
        run_umap(clusters[:12], UmapConfig(neighbours=15))
    with pytest.raises(GlpError, match="at least 2"):
        UmapConfig(neighbours=1)


def test_a_child_that_fails_says_why(clusters):
    broken = clusters.copy()
    broken[3, 3] = np.nan
    with pytest.raises(GlpError, match="UMAP failed: .*NaN"):
        run_umap(broken, UmapConfig(neighbours=8, epochs=10))


def test_features_are_write_directions_or_say_what_is_missing(tiny_glp, tmp_path):
    rows = features(tiny_glp, "writes", tmp_path)
    assert rows.shape == (128, 48)
    np.testing.assert_array_equal(rows[64 + 5], tiny_glp.network.layers[1].down_proj.weight[:, 5].numpy())
    with pytest.raises(GlpError, match="python -m glp_core probe"):
        features(tiny_glp, "concepts", tmp_path)
    with pytest.raises(GlpError, match="not known"):
        features(tiny_glp, "tea leaves", tmp_path)


POINTS = pd.DataFrame({"layer": [0, 1], "unit": [3, 4], "x": [0.5, 1.5], "y": [2.0, 3.0]})


def stored_in(folder):
    index = NeuronIndex.__new__(NeuronIndex)
    index.folder, index.facts = folder, {"n_layers": 2, "d_mlp": 5}
    return index


def test_stored_maps_read_back_by_kind(tmp_path):
    save_maps(tmp_path, {"writes": POINTS}, UmapConfig(seed=7), glp_digest="0123")
    index = stored_in(tmp_path)
    pd.testing.assert_frame_equal(index.map("writes"), POINTS, check_dtype=False)
    assert index.map("concepts") is None
    facts = index.map_facts("writes")
    assert facts["seed"] == 7 and facts["glp_digest"] == "0123" and set(facts["kinds"]) == {"writes"}


def test_a_map_of_one_kind_leaves_the_others_of_that_prior_with_their_parameters(tmp_path):
    other, index = POINTS.assign(x=9.0), stored_in(tmp_path)
    save_maps(tmp_path, {"concepts": POINTS, "writes": POINTS}, UmapConfig(seed=7), glp_digest="0123")
    save_maps(tmp_path, {"writes": other}, UmapConfig(seed=8, neighbours=20), glp_digest="0123")
    pd.testing.assert_frame_equal(index.map("concepts"), POINTS, check_dtype=False)
    pd.testing.assert_frame_equal(index.map("writes"), other, check_dtype=False)
    made = [(index.map_facts(kind)["seed"], index.map_facts(kind)["neighbours"]) for kind in ("concepts", "writes")]
    assert made == [(7, 15), (8, 20)]
    save_maps(tmp_path, {"writes": other}, UmapConfig(), glp_digest="4567")
    assert index.map("concepts") is None and set(index.map_facts("writes")["kinds"]) == {"writes"}, "an earlier prior's go"


def test_maps_of_an_earlier_version_are_read_and_kept(tmp_path):
    index = stored_in(tmp_path)
    save_maps(tmp_path, {"concepts": POINTS, "writes": POINTS}, UmapConfig(), glp_digest="0123")
    write_json(tmp_path / "maps.json", {"neighbours": 12, "seed": 5, "kinds": {"concepts": "c"}, "glp_digest": "0123"})
    assert index.map_facts("concepts")["neighbours"] == 12
    save_maps(tmp_path, {"writes": POINTS}, UmapConfig(seed=8), glp_digest="0123")
    assert index.map("concepts") is not None
    assert [index.map_facts(kind)["seed"] for kind in ("concepts", "writes")] == [5, 8]


def test_damaged_maps_are_replaced(tmp_path):
    save_maps(tmp_path, {"concepts": POINTS}, UmapConfig(), glp_digest="0123")
    (tmp_path / "maps.parquet").write_bytes(b"PAR1")
    save_maps(tmp_path, {"writes": POINTS}, UmapConfig(), glp_digest="0123")
    assert stored_in(tmp_path).map("writes") is not None and stored_in(tmp_path).map("concepts") is None
