"""Recording a CUDA graph, by fakes of what torch asks of a driver: which card and stream it is on, and what a failure leaves behind."""

import warnings
from contextlib import contextmanager
from types import SimpleNamespace

import pytest
import torch

from glp_core.speed.replay import RECORDERS

CARD = torch.device("cuda", 1)


class Cards:
    """Two cards whose graphs hold what was computed on the capturing stream of the current card; torch.cuda.graph is torch's own."""

    def __init__(self):
        self.current, self.streams, self.made = 0, {0: "first", 1: "second"}, []
        self.capturing, self.fails = None, False

    @contextmanager
    def device(self, device):
        before, self.current = self.current, device.index
        try:
            yield
        finally:
            self.current = before

    def stream_of(self, index, name):
        return SimpleNamespace(index=index, name=name, wait_stream=lambda _other: None)

    def current_stream(self, device=None):
        index = self.current if device is None else device.index
        return self.stream_of(index, self.streams[index])

    def new_stream(self, device=None):
        index = self.current if device is None else device.index
        self.made.append(self.stream_of(index, f"own {len(self.made)}"))
        return self.made[-1]

    def set_stream(self, stream):
        self.current, self.streams[stream.index] = stream.index, stream.name

    def stream(self, stream):
        return Selected(self, stream)

    def graph(self):
        return SimpleNamespace(capture_begin=self.begin, capture_end=self.end, replay=lambda: None)

    def begin(self, **_options):
        self.capturing = []

    def end(self):
        held, self.capturing = self.capturing, None
        if self.fails:
            raise RuntimeError("operation failed due to a previous error during capture")
        if not held:
            warnings.warn("The CUDA Graph is empty. This usually means another device or stream.", stacklevel=1)

    def compute(self, index):
        """Compute on a card, whichever is the current one."""
        if self.capturing is not None and self.current == index and self.streams[index].startswith("own"):
            self.capturing.append(index)
        return torch.ones(2, 3)


class Selected:
    """What torch.cuda.stream returns; no generator, which Python would end where torch.cuda.graph forgets to."""

    def __init__(self, cards, stream):
        self.cards, self.stream = cards, stream

    def __enter__(self):
        self.before = self.cards.current_stream()
        self.cards.set_stream(self.stream)

    def __exit__(self, *_error):
        self.cards.set_stream(self.before)


@pytest.fixture
def cards(monkeypatch):
    made = Cards()
    replaced = {"device": made.device, "stream": made.stream, "set_stream": made.set_stream, "CUDAGraph": made.graph}
    replaced |= {"current_stream": made.current_stream, "Stream": made.new_stream}
    for name, fake in replaced.items():
        monkeypatch.setattr(torch.cuda, name, fake)
    for name in ("synchronize", "empty_cache"):
        monkeypatch.setattr(torch.cuda, name, lambda: None)
    monkeypatch.setattr(torch._C, "_host_emptyCache", lambda: None, raising=False)
    monkeypatch.setattr(torch.cuda.graph, "default_capture_stream", None)
    return made


def test_a_computation_is_recorded_on_its_own_card(cards):
    _, output = RECORDERS["cuda"](lambda: cards.compute(1), CARD)
    assert torch.equal(output, torch.ones(2, 3))
    assert [stream.index for stream in cards.made] == [1] and cards.current == 0
    assert cards.streams == {0: "first", 1: "second"}


def test_a_graph_of_nothing_is_an_error(cards):
    with pytest.raises(RuntimeError, match="The CUDA Graph is empty"):
        RECORDERS["cuda"](lambda: cards.compute(0), CARD)


def test_a_recording_that_fails_leaves_the_thread_on_the_stream_that_it_had(cards):
    cards.fails = True
    with pytest.raises(RuntimeError, match="previous error"):
        RECORDERS["cuda"](lambda: cards.compute(1), CARD)
    assert cards.streams == {0: "first", 1: "second"} and cards.current == 0
