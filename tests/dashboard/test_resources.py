"""What the server keeps in memory: packages and models are left out of collections, and collected all the same when they are let go."""

import gc
import weakref

from dashboard.service import neurons, resources
from glp_core.neuron_index.reader import NeuronIndex


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


def test_what_is_let_go_is_collected_though_it_was_left_out():
    loaded = Loaded()
    alive = weakref.ref(loaded)
    gc.freeze()
    del loaded
    gc.collect()
    assert alive() is not None
    resources._hand_back()
    assert alive() is None


def test_the_index_is_opened_with_the_models_so_that_its_first_reader_holds_up_nobody(llm, workspace, monkeypatch):
    opened = []
    monkeypatch.setattr(NeuronIndex, "open", lambda folder: opened.append(folder) or "the index")
    resources.warm_up().wait(30)
    assert opened == [workspace.neurons]
    assert neurons.index() == "the index" and len(opened) == 1
