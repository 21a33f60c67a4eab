"""The machine: its device, the number type of models on it, and how busy it is with other programs than this server and what it started."""

import os
import time
from contextlib import suppress
from typing import NamedTuple

import psutil
import streamlit as st

from dashboard.service import resources

SHARED = 0.25
"""Share of all cores that others take, from which a person is told."""
SHORTEST = 1.0
"""Seconds between two looks; a shorter time says little."""


class _Look(NamedTuple):
    at: float
    busy: float
    """Seconds of all cores since the machine was started, and of them those of this server with its children."""
    own: float


class Watch:
    """What others took of the cores since the look before."""

    def __init__(self) -> None:
        self._last, self._share = _look(), 0.0

    def share(self) -> float:
        """Return the share, 0 to 1, of all cores that other programs took lately."""
        now = _look()
        if now.at - self._last.at >= SHORTEST:
            others = (now.busy - self._last.busy) - (now.own - self._last.own)
            self._share = min(1.0, max(0.0, others / (now.at - self._last.at) / (psutil.cpu_count() or 1)))
            self._last = now
        return self._share


def _look() -> _Look:
    times, process = psutil.cpu_times(), psutil.Process()
    own = sum(process.cpu_times()[:4])
    for child in process.children(recursive=True):
        with suppress(psutil.Error):
            own += sum(child.cpu_times()[:2])
    return _Look(time.monotonic(), sum(times) - times.idle - getattr(times, "iowait", 0.0), own)


@st.cache_resource(show_spinner=False)
def watch() -> Watch:
    """Return the server's one watch."""
    return Watch()


def words() -> str:
    """Say what other programs take of the machine; empty when that is little."""
    share = watch().share()
    return f"shared: other programs take {share:.0%} of its {psutil.cpu_count()} cores" if share >= SHARED else ""


def device_title() -> str:
    """Return the name of the device that computes, or what there is to say before torch is loaded."""
    job = resources.warm_up()
    if job.live or job.error:
        return os.environ.get("GLP_EXPLORER_DEVICE") or "auto"
    from glp_core.devices import device_title as title

    return title(resources.workspace().device)


def number_type() -> str:
    """Return the number type that the models run in, or why there is none yet."""
    job = resources.warm_up()
    if job.live:
        return "models are loading"
    return "models could not be loaded" if job.error else str(resources.workspace().torch_dtype).removeprefix("torch.")
