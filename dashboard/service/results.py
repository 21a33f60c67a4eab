"""What was computed last, for all sessions: a bounded store, so that going back or opening a link does not compute it again."""

import hashlib
from collections import OrderedDict
from threading import Lock
from typing import Any

import streamlit as st

KEPT_RESULTS = 6
"""One is at most some 25 MB: a text read by every neuron."""
KEPT_SMALL_RESULTS = 100
"""One is at most some 500 KB: four columns of 256 steps."""


class Results:
    """The last results of all sessions, by a digest of what made them; bounded, so a server that runs for months stays small."""

    def __init__(self, most: int = KEPT_RESULTS) -> None:
        self._most = most
        self._kept: OrderedDict[str, object] = OrderedDict()
        self._lock = Lock()

    def get(self, *made_from: object) -> Any | None:
        """Return a result, or None."""
        with self._lock:
            return self._kept.get(_digest(made_from))

    def put(self, value: object, *made_from: object) -> None:
        """Keep a result; the oldest goes."""
        with self._lock:
            self._kept[_digest(made_from)] = value
            while len(self._kept) > self._most:
                self._kept.popitem(last=False)


def _digest(made_from: tuple[object, ...]) -> str:
    return hashlib.sha256(repr(made_from).encode("utf-8", "surrogatepass")).hexdigest()


@st.cache_resource(max_entries=1)
def results() -> Results:
    """Return the one store of large results."""
    return Results()


@st.cache_resource(max_entries=1)
def small_results() -> Results:
    """Return the one store of small results, which keeps more of them."""
    return Results(KEPT_SMALL_RESULTS)
