"""How long work tells how far it is, by a function that the caller gives and the worker calls, and when it saves its state."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import accumulate

Progress = Callable[[int, int, str], None]
"""Called with what is done, what there is to do, and a few words."""

WORK_PER_SAVE = 20.0
"""Times a save's own seconds that the work goes on before the next one: saves take 5% of it at most."""

Tell = Callable[[str], None]
"""Called with a line for people."""


def unheard(_words: str) -> None:
    """Tell nobody."""


def quiet(_done: int, _total: int, _words: str) -> None:
    """Report nothing."""


def stages(progress: Progress, sizes: Sequence[int]) -> list[Progress]:
    """Return a progress for each stage of a work, which reports how far the whole is; `sizes`: what each stage has to do."""

    def after(before: int, size: int) -> Progress:
        return lambda done, of, words: progress(before + done * size // max(1, of), sum(sizes), words)

    return [after(before, size) for before, size in zip(accumulate(sizes, initial=0), sizes, strict=False)]


class Saves:
    """The saves of one piece of work, which begins now."""

    def __init__(self, every: float) -> None:
        """Let at least `every` seconds pass before a save."""
        self._every = every
        self._next = time.monotonic() + every

    @property
    def due(self) -> bool:
        """Whether it is time to save."""
        return time.monotonic() > self._next

    @contextmanager
    def saving(self) -> Iterator[None]:
        """Take the time of a save, which decides when the next is due."""
        begun = time.monotonic()
        yield
        ended = time.monotonic()
        self._next = ended + max(self._every, WORK_PER_SAVE * (ended - begun))
