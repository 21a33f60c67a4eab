"""How long work tells how far it is: a function that the caller gives and the worker calls."""

from collections.abc import Callable

Progress = Callable[[int, int, str], None]
"""Called with what is done, what there is to do, and a few words."""


def quiet(_done: int, _total: int, _words: str) -> None:
    """Report nothing."""
