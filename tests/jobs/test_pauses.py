"""Long page work lets others have the device between its pieces, and its results do not change by that."""

import sys
from collections import Counter
from contextvars import copy_context

import numpy as np
import pytest
import torch
from scipy.stats import rankdata

from glp_core.data.bank import Bank
from glp_core.evaluation.measures import Measures
from glp_core.evaluation.two_sample import logistic_test, neighbour_test
from glp_core.jobs.pause import pauses
from glp_core.llm.site import Site
from glp_core.neuron_index.neuron_data import Reading
from glp_core.neuron_index.reading import noise_axis
from glp_core.neurons import search, umap
from glp_core.neurons.over_text import read_text
from glp_core.neurons.planes import pca_plane, place_among
from glp_core.prior.distance import ManifoldMeter, make_reference
from glp_core.prior.likelihood import log_likelihood, velocity_of
from glp_core.steering.strength_sweep import Pushes, projectors
from tests.support import tiny

BLOCKS = 2
"""Of the tiny prior."""


def paused(work):
    """Return what work returns in a queue, and how often each function paused meanwhile."""
    context, names = copy_context(), Counter()

    def note():
        names[sys._getframe(2).f_code.co_name] += 1

    pauses(context, note)
    return context.run(work), names


@pytest.fixture(scope="module")
def acts():
    return torch.randn(40, tiny.WIDTH, generator=torch.Generator().manual_seed(3))


@pytest.fixture(scope="module")
def meter(tiny_glp, acts):
    return ManifoldMeter(tiny_glp, make_reference(tiny_glp, acts))


def test_reading_a_text_pauses_before_every_block_of_both_models(tiny_llm, tiny_glp):
    site = Site(tiny_llm, 2, 5.0)

    def work():
        return read_text(site, tiny_glp, tiny.TEXTS[0], Reading(draws=3)).values

    values, names = paused(work)
    assert names["_pause_before"] == 3, "blocks 0 to 2"
    assert names["_hidden"] == 3 * BLOCKS and names["read_in_parts"] == 1
    np.testing.assert_array_equal(values, work())


def test_many_texts_are_read_in_parts_between_pauses(tiny_llm):
    site, rows = Site(tiny_llm, 2, 5.0), [tiny_llm.encode(text) for text in tiny.TEXTS * 20]
    read, names = paused(lambda: site.read(rows))
    assert names["read"] > sum(map(len, rows)) // 256
    for one, other in zip(read, site.read(rows), strict=True):
        torch.testing.assert_close(one, other)


def test_every_network_call_of_the_prior_pauses(tiny_glp, acts):
    noise = torch.randn(acts.shape, generator=torch.Generator().manual_seed(0))
    for work, calls in (
        (lambda: tiny_glp.sample(noise, 20), 20),
        (lambda: tiny_glp.project(acts, 0.5, 20, noise=noise), 10),
        (lambda: tiny_glp.walk(acts, acts, pushes=16, noise=noise.expand(16, -1, -1)), 16),
        (lambda: tiny_glp.denoising_error(acts, 0.5, noise=noise), 1),
    ):
        result, names = paused(work)
        assert names == {"_hidden": calls * BLOCKS}
        assert torch.equal(result, work())


def test_a_noise_axis_pauses_at_every_draw(tiny_glp, acts):
    _, names = paused(lambda: noise_axis(tiny_glp, acts, 1, 5, seeds=3))
    assert names["noise_axis"] == 4 * 3 and names["_hidden"] == 4 * 4 * BLOCKS


def test_a_log_likelihood_pauses_at_every_derivative(tiny_glp, acts):
    z = acts[:4]
    _, names = paused(lambda: log_likelihood(velocity_of(tiny_glp), z, intervals=3, probes=2))
    assert names["_with_divergence"] == 3 * (1 + 2)


@pytest.mark.parametrize("measure", ["error", "displacement", "mahalanobis", "neighbour"])
def test_a_measure_of_a_text_pauses_first(meter, acts, measure):
    bank = Bank(acts, torch.arange(len(acts)), [("", "", "")] * len(acts), {})
    _, names = paused(lambda: Measures(meter, torch.eye(tiny.WIDTH), bank).of(measure, acts))
    assert names["of"] == 1
    assert names["_hidden"] == BLOCKS * {"error": 1, "displacement": 10}.get(measure, 0)


def test_a_cell_of_a_strength_sweep_pauses(meter, tiny_glp, acts):
    vector = torch.eye(tiny.WIDTH)[0]
    pushes = Pushes(meter, acts, vector, 5.0, projectors(tiny_glp, torch.eye(tiny.WIDTH)))
    for arm, calls in (("walk", 16), ("glp", 10), ("raw", 0), ("random", 0)):
        assert paused(lambda arm=arm: pushes.distances(arm, 1.0))[1] == {"_hidden": (calls + 1) * BLOCKS}


def test_a_search_for_neurons_pauses_between_pieces_and_finds_the_same(monkeypatch):
    rng = np.random.default_rng(0)
    neurons = rng.integers(0, 9, (20, 30)).astype(np.float32)  # with ties
    labels = np.repeat([1, 0], 10)

    def work():
        return search.rank_neurons(neurons, labels, [""] * 20, 15, k=3, folds=5, permutations=200, seed=1)

    whole, names = paused(work)
    assert names["_pooled"] == search.BOOTSTRAP and names["_best_by_chance"] == 2 and names["_held_out"] == 5
    monkeypatch.setattr(search, "RANKED_AT_ONCE", 7 * len(neurons))
    parts, names = paused(work)
    assert names["_ranks"] == 5 + 5 * 4, "of all 20 texts seven neurons at a time, of 16 texts eight"
    assert (parts.cross_validated, parts.p_value) == (whole.cross_validated, whole.p_value)
    assert [(one.neuron, one.auc, one.p_value) for one in parts.neurons] == [
        (one.neuron, one.auc, one.p_value) for one in whole.neurons
    ]
    np.testing.assert_array_equal(search._ranks(neurons), rankdata(neurons, axis=0))


def test_laying_out_a_plane_pauses_before_each_test_and_the_components(acts):
    rows = acts.numpy()
    assert paused(lambda: logistic_test(rows, rows + 1))[1] == {"_pooled": 1}
    assert paused(lambda: neighbour_test(rows, rows + 1))[1] == {"_pooled": 1}
    assert paused(lambda: pca_plane(rows, {}))[1] == {"_principal_components": 1}
    placed = paused(lambda: place_among(rows[:, :2], rows, {"one": rows[:3], "other": rows[3:]}))[1]
    assert placed == {"_principal_components": 1, "place_among": 2}


def test_a_layout_is_asked_for_many_times_a_second_while_its_process_says_nothing(tmp_path, monkeypatch):
    silent = "import sys, time; time.sleep(0.6); open(sys.argv[1] + '/layout.npy', 'w')"
    popen = umap.subprocess.Popen
    monkeypatch.setattr(
        umap.subprocess, "Popen", lambda command, **options: popen([sys.executable, "-c", silent, command[-1]], **options)
    )
    asked = []
    umap._run_child(tmp_path, 5, lambda *_: None, lambda: bool(asked.append(1)))
    assert len(asked) >= 6
