"""How long work tells how far it is: a function that the caller gives and the worker calls."""

from collections.abc import Callable, Sequence
from itertools import accumulate

Progress = Callable[[int, int, str], None]
"""Called with what is done, what there is to do, and a few words."""


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
