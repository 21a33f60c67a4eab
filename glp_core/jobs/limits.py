"""What one visitor may ask of a shared server: runs a minute and tokens a day, counted over the time just past. Knows nothing of pages."""

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from glp_core.errors import GlpError

MINUTE, DAY = 60.0, 86_400.0
MOST_VISITORS = 10_000
"""That are remembered; whoever has asked for nothing for longest is forgotten first."""


class VisitorLimits:
    """Counts what visitors ask for.

    Args:
        runs_a_minute: of one visitor; 0 for no limit.
        tokens_a_day: of one visitor; 0 for no limit.
        now: the clock, in seconds.
    """

    def __init__(self, runs_a_minute: int = 0, tokens_a_day: int = 0, now: Callable[[], float] = time.monotonic) -> None:
        self._runs, self._tokens, self._now = runs_a_minute, tokens_a_day, now
        self._asked: dict[str, deque[tuple[float, int]]] = {}
        self._lock = threading.Lock()

    @contextmanager
    def taking(self, visitor: str, tokens: int = 0) -> Iterator[None]:
        """Count a run of so many tokens once the block ends well.

        Raises:
            GlpError: it is more than the visitor may ask for now; the message says when there is room again.
        """
        if not self._runs and not self._tokens:
            yield
            return
        with self._lock:
            now, asked = self._now(), self._asked.pop(visitor, deque())
            while asked and asked[0][0] <= now - DAY:
                asked.popleft()
            self._asked[visitor] = asked  # last, as the latest
            while len(self._asked) > MOST_VISITORS:
                del self._asked[next(iter(self._asked))]
            self._check_runs([at for at, _ in asked if at > now - MINUTE], now)
            self._check_tokens(asked, tokens, now)
        yield
        with self._lock:
            asked.append((now, tokens))

    def _check_runs(self, begun: list[float], now: float) -> None:
        if self._runs and len(begun) >= self._runs:
            wait = begun[-self._runs] + MINUTE - now
            raise GlpError(
                f"You have begun {len(begun)} runs within a minute, as many as this server lets one visitor. Wait {_words(wait)}."
            )

    def _check_tokens(self, asked: "deque[tuple[float, int]]", tokens: int, now: float) -> None:
        used = sum(count for _, count in asked)
        if not self._tokens or used + tokens <= self._tokens:
            return
        limit = f"This server writes {self._tokens:,} tokens a day for one visitor"
        if tokens > self._tokens:
            raise GlpError(f"{limit}, and this run asks for {tokens:,}: ask for fewer tokens or columns.")
        left, over = self._tokens - used, used + tokens - self._tokens
        for at, count in asked:
            over -= count
            if over <= 0:
                wait = _words(at + DAY - now)
                raise GlpError(
                    f"{limit}; {left:,} are left of yours and this run asks for {tokens:,}. Ask for fewer, or wait {wait}."
                )


def _words(seconds: float) -> str:
    if seconds < 2 * MINUTE:
        return f"{max(1, round(seconds))} seconds"
    return f"{round(seconds / MINUTE)} minutes" if seconds < 2 * 3600 else f"{seconds / 3600:.0f} hours"
