"""Recordings: which are kept; and CUDA graphs by fakes of what torch asks of a driver, their card, their stream and their failures."""

import warnings
from contextlib import contextmanager
from types import SimpleNamespace

import pytest
import torch

from glp_core.speed import replay
from glp_core.speed.replay import RECORDERS, Recorded, Replays

CARD = torch.device("cuda", 1)


class Cards:
    """Two cards whose graphs hold what was computed on the capturing stream of the current card; torch.cuda.graph is torch's own."""

    def __init__(self):
        self.current, self.streams, self.made = 0, {0: "first", 1: "second"}, []
        self.capturing, self.fails, self.reserved = None, False, 1000

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
        self.reserved += 24
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
    replaced |= {
        "memory_reserved": lambda _device: made.reserved,
        "current_stream": made.current_stream,
        "Stream": made.new_stream,
    }
    for name, fake in replaced.items():
        monkeypatch.setattr(torch.cuda, name, fake)
    for name in ("synchronize", "empty_cache"):
        monkeypatch.setattr(torch.cuda, name, lambda: None)
    monkeypatch.setattr(torch._C, "_host_emptyCache", lambda: None, raising=False)
    monkeypatch.setattr(torch.cuda.graph, "default_capture_stream", None)
    return made


def test_a_computation_is_recorded_on_its_own_card(cards):
    recorded = RECORDERS["cuda"](lambda: cards.compute(1), CARD)
    assert torch.equal(recorded.output, torch.ones(2, 3)) and recorded.size == 24
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


@pytest.fixture
def ran(monkeypatch):
    """Let the CPU record, computations of 40 bytes beside their inputs; return what was computed, by its number."""
    found = []
    monkeypatch.setitem(RECORDERS, "cpu", lambda compute, _device: Recorded(lambda: None, compute(), 40))
    return found


def asked(replays, ran, keys):
    """Ask for computations of 24 bytes; return those that were computed or recorded, not replayed."""
    ran.clear()
    for key in keys:
        replays.run(key, lambda x, key=key: ran.append(key) or x + 1, torch.ones(2, 3))
    return ran


def test_what_is_asked_once_pushes_no_recording_out(ran):
    replays = Replays()
    asked(replays, ran, "aa")
    asked(replays, ran, range(2 * replay.MOST_MARKED))
    assert asked(replays, ran, "a") == [] and len(replays._marked) == replay.MOST_MARKED


def test_recordings_are_kept_while_there_is_room_for_their_bytes_those_used_last_first(ran, monkeypatch):
    monkeypatch.setattr(replay, "BYTES_KEPT", 3 * 64)
    replays = Replays()
    asked(replays, ran, "aabbcc")
    assert asked(replays, ran, "abc") == []
    asked(replays, ran, "addd")
    assert asked(replays, ran, "acd") == [] and asked(replays, ran, "b") == ["b"]
    replays.clear()
    assert asked(replays, ran, "d") == ["d"]


def test_one_that_takes_more_than_there_is_room_for_is_computed_and_costs_no_other(ran, monkeypatch):
    replays = Replays()
    asked(replays, ran, "aa")
    monkeypatch.setattr(replay, "BYTES_KEPT", 63)
    assert asked(replays, ran, "bbbb") == ["b"] * 5, "once more to record it"
    assert asked(replays, ran, "a") == [] and replays.failures == ["RuntimeError: A recording takes 0 MiB, wanted 0 at most"]


def test_where_memory_is_short_recordings_go(ran, monkeypatch):
    replays = Replays()
    asked(replays, ran, "aa")

    def full(_compute, _device):
        raise torch.OutOfMemoryError("CUDA out of memory.\nTried to allocate 2 GiB.")

    monkeypatch.setitem(RECORDERS, "cpu", full)
    assert asked(replays, ran, "bbb") == ["b"] * 3 and asked(replays, ran, "a") == ["a"]
    assert replays.failures == ["OutOfMemoryError: CUDA out of memory."]
