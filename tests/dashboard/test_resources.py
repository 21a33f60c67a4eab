"""What the server keeps in memory: packages and models are left out of collections, and collected all the same when they are let go."""

import gc
import re
import subprocess
import sys
import weakref
from types import SimpleNamespace

import pytest
import torch

from dashboard.service import neurons, resources
from glp_core import memory
from glp_core.errors import GlpError
from glp_core.neuron_index.reader import NeuronIndex
from tests.support import full_card, pages
from tests.support.serving import ROOT

WORK = """
import sys, numpy as np, torch
from dashboard.manifold.map_plane import _placed, _test_words
from dashboard.service.resources import import_libraries
from glp_core.neurons.planes import place_among
from glp_core.neurons.search import rank_neurons
from glp_core.steering.origins.fitting import fit_probe
import_libraries()
before = set(sys.modules)
rows, labels = np.random.default_rng(0).standard_normal((40, 8)).astype(np.float32), np.arange(40) % 2
fit_probe(torch.from_numpy(rows), labels)
rank_neurons(rows, labels, [""] * 40, 4, k=1, folds=2, permutations=9, seed=0)
_placed("PCA", None, rows, {"a": rows}, None, None)
_test_words(rows, rows + 1)
place_among(rows[:, :2], rows, {"a": rows})
print(sorted(name for name in set(sys.modules) - before if name.partition(".")[0] in ("scipy", "sklearn")))
"""


class Loaded:
    """Something that only a collection frees, since it refers to itself."""

    def __init__(self):
        self.myself = self


def test_what_is_there_when_the_models_are_loaded_is_left_out_of_later_collections(llm, workspace):
    gc.unfreeze()
    everything = len(gc.get_objects())
    resources.warm_up().wait(30)
    assert resources.warm_up().state == "done"
    assert len(gc.get_objects()) < everything / 10


def test_models_that_could_not_be_loaded_are_tried_again_after_a_while(llm, workspace, monkeypatch):
    def full(_folder):
        raise GlpError("no memory")

    with monkeypatch.context() as short:
        short.setattr(resources, "_llm", full)
        failed = resources.warm_up()
        assert failed.wait(30) and str(failed.error) == "no memory"
    assert resources.warm_up() is failed
    monkeypatch.setattr(resources, "AGAIN_AFTER", 0.0)
    again = resources.warm_up()
    assert again is not failed and again.wait(30) and again.state == "done"
    assert resources.warm_up() is again


def test_the_memory_that_the_models_need_is_told_in_the_sidebar_before_they_are_loaded(llm, workspace, monkeypatch):
    monkeypatch.setattr("glp_core.memory.free_memory", lambda _device: 5_000_000_000)
    llm.model.save_pretrained(workspace.folder / "llm")
    told = []
    monkeypatch.setattr(resources, "_llm", lambda _folder: told.extend(job.events) or llm)
    job = resources.warm_up()
    job.wait(30)
    assert job.state == "done"
    needed = re.fullmatch(r"(\d+) MB needed, 5\.0 GB free", job.events[0][1])
    weights = sum(weight.numel() * weight.element_size() for weight in llm.model.parameters())
    assert told == job.events[:1] and float(needed[1]) == pytest.approx(weights / 1e6, abs=20)
    monkeypatch.setattr(resources, "warm_up", lambda: SimpleNamespace(live=True, state="running", events=told))
    said = " ".join(element.proto.body for element in pages.open_page("scaling").get("html"))
    assert "loading the LLM" in said and job.events[0][1] in said


def test_room_is_made_for_the_prior_too_before_the_llm_is_loaded(workspace, monkeypatch):
    its = SimpleNamespace(llm="llm", dtype="auto", llm_bytes=5, prior_bytes=3, load_llm=lambda: "loaded")
    needed = []
    store = SimpleNamespace(get=lambda *_, needs, **__: needed.append(needs))
    monkeypatch.setattr(resources, "_workspace", lambda _folder: its)
    monkeypatch.setattr(resources, "models", lambda: store)
    resources._llm(workspace.folder)
    assert needed == [8]


def test_a_full_memory_is_a_sentence_to_the_page_and_what_was_cached_is_handed_back(monkeypatch):
    card = full_card.insert(monkeypatch, free=5, cached=60)

    def work(_cancelled):
        yield 1
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.")

    job = resources.runner().submit("a", work)
    job.wait(30)
    with pytest.raises(GlpError, match="memory is full. CUDA out of memory"):
        job.result()
    assert card.free == 65


def test_what_is_let_go_is_collected_though_it_was_left_out():
    loaded = Loaded()
    alive = weakref.ref(loaded)
    gc.freeze()
    del loaded
    gc.collect()
    assert alive() is not None
    memory.hand_back()
    assert alive() is None


def test_the_index_is_opened_with_the_models_so_that_its_first_reader_holds_up_nobody(llm, workspace, monkeypatch):
    opened, index = [], SimpleNamespace(facts={})
    monkeypatch.setattr(NeuronIndex, "open", lambda folder: opened.append(folder) or index)
    resources.warm_up().wait(30)
    assert opened == [workspace.neurons]
    assert neurons.index() is index and len(opened) == 1


def test_what_takes_long_to_import_is_there_before_anybody_writes():
    """No work of a page imports anything of SciPy or scikit-learn: the texts that others write would wait for it."""
    done = subprocess.run([sys.executable, "-c", WORK], cwd=ROOT, text=True, capture_output=True)
    assert done.stdout.strip() == "[]", done.stdout + done.stderr
