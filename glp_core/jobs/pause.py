"""Moments at which long work lets others have the device: loops call `pause`, and the queue that runs them says what happens then."""

from collections.abc import Callable
from contextvars import Context, ContextVar

from glp_core.errors import GlpError


def _nothing() -> None:
    """Go on at once: no queue runs this work."""


_queue: ContextVar[Callable[[], object]] = ContextVar("glp_core_pause", default=_nothing)


def pause() -> None:
    """Let others have the device for a moment if somebody waits; for loops of long work, several times a second."""
    _queue.get()()


def is_shared() -> bool:
    """Say whether this work runs in a queue, where others may wait for the device."""
    return _queue.get() is not _nothing


def pauses(context: Context, queue: Callable[[], object]) -> None:
    """Let `pause` call `queue` in what runs in a context."""
    context.run(_queue.set, queue)


def end_at_pauses(cancelled: Callable[[], bool]) -> None:
    """Let the work that calls this raise GlpError at its next pause once `cancelled`, which pauses itself, is true."""

    def look() -> None:
        if cancelled():
            raise GlpError("Stopped.")

    _queue.set(look)
