"""Scenes of one text that is being written: others use the pages beside it, or its visitor leaves."""

import json
import math
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

from tests.load.scenes import Row, visitor
from tests.load.visitor import GaveUp, Run, Visitor
from tests.support import serving
from tests.support.serving import Server

GAP = 0.2
"""Seconds that other work may take between two steps of a text."""
AWAY = 2.0
"""Seconds after which nothing is computed any more for a visitor who left."""
COOKING = (
    "Whisk the eggs.",
    "Simmer the sauce.",
    "Roast the carrots.",
    "Knead the dough.",
    "Drain the pasta.",
    "Beat the cream.",
)
OTHER = ("The library is free.", "My sister sings.", "He painted a fence.", "A bus leaves.", "She read law.", "It is a river.")
OTHERS: dict[str, tuple[str, dict[str, object], str]] = {
    "meta-neurons over a text": ("neurons", {"view": "text", "text": "Nobody has asked yet what is in this text. " * 8}, ""),
    "an own concept": (
        "concepts",
        {"concepts_part": "Your own concept", "positive": "\n".join(COOKING), "negative": "\n".join(OTHER)},
        "concepts_find",
    ),
    "Manifold, Text": ("manifold", {"manifold_view": "Text", "manifold_text": "This text is as new as that one was. " * 8}, ""),
    "Manifold, Map": ("manifold", {"manifold_view": "Map", "manifold_strength": -1.75, "manifold_steps": 10}, ""),
}
"""What somebody else asks for: page, what its link says, and the button to press."""


def slices(address: str, tokens: int) -> Iterator[Row]:
    """Yield the rows of a text beside each of OTHERS: the longest time between two boards that bring tokens.

    A page looks at its run some nine times a second, so a gap is seen up to one look longer than it was; so are those of a text alone.
    """
    with visitor(address, 0, tokens) as someone:
        someone.open()
        alone = someone.press_run().longest_gap
    yield Row(f"{tokens} tokens alone: longest gap", f"{alone:.2f} s")
    for what, (page, values, button) in OTHERS.items():
        run, seconds = beside(address, tokens, page, values, button)
        gap, all_along = run.longest_gap, math.isnan(run.done)
        words = f"{gap:.2f} s, {seconds:.1f} s for them" + ("" if all_along else ", text done before")
        yield Row(f"  beside {what}", words, f"{GAP + alone:.2f} s", gap <= GAP + alone)


def beside(address: str, tokens: int, page: str, values: dict[str, object], button: str) -> tuple[Run, float]:
    """Let somebody else ask for a page from the first token of a text on; return the run up to then, and the other's seconds."""
    begun, answered = threading.Event(), threading.Event()
    with visitor(address, 1, tokens) as writer, Visitor(address, page, **values) as other, ThreadPoolExecutor(1) as pool:
        writer.open()
        if button:
            other.open()
        text = pool.submit(writer.press_run, begun.set, answered.is_set)
        try:
            if not begun.wait(60):
                raise GaveUp("no token after a minute")
            seconds = other.press(button) if button else other.open()
        finally:
            answered.set()
        return text.result(), seconds


WAYS: dict[str, Callable[[Visitor], None]] = {
    "closes the tab": Visitor.close,
    "goes to another page": lambda someone: someone.go_to("scaling"),
}
"""How a visitor leaves the Steering page."""


def leaving(server: Server, tokens: int) -> Iterator[Row]:
    """Yield the rows of a visitor who begins a long text and leaves: how long the server goes on writing."""
    for way, leave in WAYS.items():
        with visitor(server.address, 2, tokens) as someone:
            someone.open()
            begun = threading.Event()
            someone.press_run(begun.set, begun.is_set)
            left = time.monotonic()
            leave(someone)
            seconds = freed(server, left)
        yield Row(f"a visitor of {tokens} tokens {way}: freed", f"{seconds:.1f} s", f"{AWAY:.0f} s", seconds <= AWAY)


def freed(server: Server, since: float, patience: float = 120) -> float:
    """Return the seconds until the server says that nothing runs; infinity when it does not become so."""
    while time.monotonic() - since < patience:
        if json.loads(serving.read(f"{server.address}/api/ready"))["running"] == 0:
            return time.monotonic() - since
        time.sleep(0.05)
    return math.inf
