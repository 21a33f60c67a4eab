"""Loaded models by owner: kept while there is room; those of the owner that was used least recently are let go when memory is short.

An owner (a workspace) goes as a whole, because its parts hold one another, and never while one of its jobs runs. Plain Python: knows
nothing of Streamlit, torch or models.
"""

from collections import Counter, OrderedDict
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from threading import RLock
from typing import Any, NamedTuple, TypeVar

Loaded = TypeVar("Loaded")

RESERVE = 1 << 30
"""Bytes that stay free beside what is loaded: for forwards, caches of decoding, and the pages."""
MOST_OWNERS = 2
"""Owners that are kept where the free memory cannot be known."""


class _Entry(NamedTuple):
    """One loaded thing."""

    thing: Any
    size: int
    """Bytes."""


@dataclass
class _Kept:
    """What an owner has loaded: by kind, a few things each, the latest used last."""

    things: dict[str, OrderedDict[Hashable, _Entry]] = field(default_factory=dict)

    @property
    def size(self) -> int:
        return sum(entry.size for kind in self.things.values() for entry in kind.values())


class ModelStore:
    """Keeps what was loaded for owners, safe for threads; one thing is loaded at a time.

    Args:
        free: returns the bytes that new models can take, None where that cannot be known.
        let_go: called after something was dropped, to hand its memory back.
    """

    def __init__(self, free: Callable[[], int | None], let_go: Callable[[], None] = lambda: None) -> None:
        self._free, self._let_go = free, let_go
        self._kept: OrderedDict[Hashable, _Kept] = OrderedDict()
        self._held: Counter[Hashable] = Counter()
        self._known: dict[tuple[Hashable, str], int] = {}
        self._changing, self._loading = RLock(), RLock()

    def get(
        self,
        owner: Hashable,
        kind: str,
        key: Hashable,
        load: Callable[[], Loaded],
        *,
        needs: int = 0,
        size: Callable[[Loaded], int] = lambda _: 0,
        most: int = 1,
    ) -> Loaded:
        """Return what the owner keeps of that kind and key, else load it, letting go of what there is no room for beside it.

        Args:
            needs: bytes that it will take, as far as is known beforehand.
            size: returns the bytes that it takes.
            most: things of this kind that the owner keeps; the one used least recently makes room for another.
        """
        found = self._find(owner, kind, key)
        if found is None:
            with self._loading:
                found = self._find(owner, kind, key)
                if found is None:
                    self._drop_older(owner, kind, most - 1)
                    self._make_room(owner, max(needs, self._known.get((owner, kind), 0)))
                    loaded = load()
                    found = self._keep(owner, kind, key, _Entry(loaded, size(loaded)))
        thing: Loaded = found.thing
        return thing

    def _find(self, owner: Hashable, kind: str, key: Hashable) -> _Entry | None:
        with self._changing:
            things = self._kept[owner].things.get(kind) if owner in self._kept else None
            if things is None or key not in things:
                return None
            self._kept.move_to_end(owner)
            things.move_to_end(key)
            return things[key]

    def _keep(self, owner: Hashable, kind: str, key: Hashable, entry: _Entry) -> _Entry:
        with self._changing:
            self._kept.setdefault(owner, _Kept()).things.setdefault(kind, OrderedDict())[key] = entry
            self._kept.move_to_end(owner)
            self._known[owner, kind] = entry.size
        return entry

    def _drop_older(self, owner: Hashable, kind: str, most: int) -> None:
        with self._changing:
            things = self._kept.get(owner, _Kept()).things.get(kind, OrderedDict())
            dropped = [things.popitem(last=False) for _ in range(len(things) - most)]
        if dropped:
            del dropped
            self._let_go()

    def _make_room(self, owner: Hashable, needs: int) -> None:
        """Let go of other owners, those used least recently first, until there is room or only held ones are left."""
        free = self._free()
        with self._changing:
            others = [one for one in self._kept if one != owner]
            going = [one for one in others if not self._held[one]]
            if free is None:
                going = going[: max(0, len(others) + 1 - MOST_OWNERS)]
            short = needs + RESERVE - free if free is not None else 1
            dropped = []
            for one in going:
                if short <= 0:
                    break
                dropped.append(self._kept.pop(one))
                short -= dropped[-1].size if free is not None else 0
        if dropped:
            del dropped
            self._let_go()

    @contextmanager
    def holding(self, owner: Hashable) -> Iterator[None]:
        """Keep what the owner has loaded, and will load, while the block runs."""
        with self._changing:
            self._held[owner] += 1
        try:
            yield
        finally:
            with self._changing:
                self._held[owner] -= 1
                if not self._held[owner]:
                    del self._held[owner]

    def owners(self) -> list[Hashable]:
        """Return who has something loaded, the one used least recently first."""
        with self._changing:
            return list(self._kept)

    def size(self) -> int:
        """Return the bytes of all that is kept."""
        with self._changing:
            return sum(kept.size for kept in self._kept.values())
