"""A server that speaks OpenAI's protocol, asked one question at a time and patiently.

What it says is text of a stranger: it is cut, cleaned of control characters where it is shown, and never run or rendered.
"""

import http.client
import json
import math
import re
import threading
import time
import unicodedata
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

from glp_core.errors import GlpError

Answer = TypeVar("Answer")
LONGEST_ANSWER = 200_000
LONGEST_LINE = 300
"""Characters of an answer that is shown on a line."""
LONGEST_REFUSAL = 4_000
"""Bytes that are read of what a server says when it refuses."""
THINKING = 4_000
"""Tokens more for models that want `max_completion_tokens`: they count what they think before they answer."""
NAMES_A_PARAMETER = re.compile(r"max_(?:completion_)?tokens|temperature")
OF_ONE_QUESTION = (400, 413, 422)
"""Statuses that may be about one message alone."""


class _Learned:
    """What asking has shown of a server, and when it was asked last; threads that ask one server share it."""

    def __init__(self) -> None:
        self.wants_completion_tokens = False
        """It refused max_tokens or the temperature."""
        self._last = -math.inf
        self._turn = threading.Lock()

    def take_turn(self, seconds: float, sleep: Callable[[float], None]) -> None:
        """Wait until `seconds` have passed since the turn before."""
        with self._turn:
            pause = self._last + seconds - time.monotonic()
            if pause > 0:
                sleep(pause)
            self._last = time.monotonic()


@dataclass(frozen=True)
class Server:
    """Which server to ask, and how patiently."""

    endpoint: str
    """Base URL, for example http://localhost:8000/v1."""
    model: str
    key: str = ""
    """Sent as a bearer token when there is one."""
    per_minute: float = math.inf
    """Requests at most, those of further attempts among them."""
    timeout: float = 60.0
    """Seconds for one answer."""
    attempts: int = 4
    """For one question, after which it is left for the next run."""
    _learned: _Learned = field(default_factory=_Learned, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "key", self.key.strip())  # what `$(cat key.txt)` and Windows add
        if not (self.key.isascii() and self.key.isprintable()):
            raise GlpError("The server's key holds a line break, or a character that no key has. Set it anew, without.")
        if not re.match(r"https?://[^\s/]+", self.endpoint):
            raise GlpError(f"Endpoint {self.endpoint!r} is no http address. Give one such as http://localhost:8000/v1.")
        for name in ("per_minute", "timeout", "attempts"):
            value = getattr(self, name)
            if not value > 0:  # nan is none either
                raise GlpError(f"{name.replace('_', '-')} is {value:g}, wanted a number above 0.")


@dataclass(frozen=True)
class Unanswered:
    """That a question got no usable answer."""

    reason: str
    """Of the last attempt, on one line."""
    refused: bool = False
    """Whether the server did not take the question: another one may go well."""


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """Leaves a redirect to be told as a refusal: following it would take the key to an address that nobody named."""

    def redirect_request(self, *_args: object, **_options: object) -> None:
        return None


_OPENER = urllib.request.build_opener(_NoRedirects)


class _TryAgain(Exception):
    """A failure that may pass; `wait` seconds were asked for."""

    def __init__(self, reason: str, wait: float = 0.0) -> None:
        super().__init__(reason)
        self.wait = wait


class _RefusesQuestion(Exception):
    """The server does not take this one message: it is too long, or a filter stops it."""


class _RefusesParameters(Exception):
    """The server does not take max_tokens or this temperature."""


def ask_patiently(
    server: Server,
    message: str,
    read: Callable[[str], Answer],
    *,
    tokens: int = 300,
    sleep: Callable[[float], None] | None = None,
    cancelled: Callable[[], bool] = lambda: False,
) -> Answer | Unanswered:
    """Return what `read` makes of the server's answer, or why there is no usable one.

    Failures of server and connection are tried again. A question that the server does not take, or whose answer `read` refuses, is
    left for the next run: at temperature 0 it would get the same one.

    Args:
        read: raises ValueError for an answer that is none.
        tokens: of an answer, at most.
        sleep: waits so many seconds; by default a second at a time, until `cancelled`.
        cancelled: says whether to give up between attempts.
    Raises:
        GlpError: the server refuses for good: a wrong key, no such model.
    """
    reason, sleep = "stopped", sleep or (lambda seconds: _pause(seconds, cancelled))
    for attempt in range(server.attempts):
        if cancelled():
            break
        try:
            content = _ask_either_way(server, message, tokens, sleep)
        except _TryAgain as again:
            reason = clean(str(again))
            if attempt + 1 < server.attempts:
                sleep(min(120.0, max(again.wait, 2.0**attempt)))
            continue
        except _RefusesQuestion as refusal:
            return Unanswered(clean(str(refusal)), refused=True)
        try:
            return read(content)
        except (ValueError, OverflowError, RecursionError) as error:
            return Unanswered(clean(f"{error}, in the answer {content!r}"))
    return Unanswered(reason)


def _pause(seconds: float, cancelled: Callable[[], bool]) -> None:
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0 and not cancelled():
        time.sleep(min(1.0, left))


def clean(text: object) -> str:
    """Return text on one line without control and format characters (right-to-left marks among them), cut to a sane length."""
    if not isinstance(text, str):
        return ""
    kept = "".join(" " if c.isspace() else c for c in text if c.isspace() or not unicodedata.category(c).startswith("C"))
    return " ".join(kept.split())[:LONGEST_LINE]


def object_in(text: str) -> dict[str, object]:
    """Return the JSON object in an answer, which may hold words or fences around it; raise ValueError when there is none."""
    start, end = text.find("{"), text.rfind("}")
    if start < 0 or end < start:
        raise ValueError("no JSON object")
    value = json.loads(text[start : end + 1])
    if not isinstance(value, dict):
        raise ValueError("no JSON object")
    return value


def _ask_either_way(server: Server, message: str, tokens: int, sleep: Callable[[float], None]) -> str:
    """Return the answer; a server that refuses max_tokens or the temperature is asked once more as newer models want it."""
    try:
        return _ask(server, message, tokens, sleep)
    except _RefusesParameters:
        server._learned.wants_completion_tokens = True
        return _ask(server, message, tokens, sleep)


def _ask(server: Server, message: str, tokens: int, sleep: Callable[[float], None]) -> str:
    new = server._learned.wants_completion_tokens
    limits = {"max_completion_tokens": tokens + THINKING} if new else {"max_tokens": tokens, "temperature": 0}
    body = {"model": server.model, "messages": [{"role": "user", "content": message}], **limits}
    headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {server.key}"} if server.key else {})
    request = urllib.request.Request(  # noqa: S310 - the scheme is checked in Server
        server.endpoint.rstrip("/") + "/chat/completions", json.dumps(body).encode(), headers
    )
    server._learned.take_turn(60.0 / server.per_minute, sleep)
    try:
        with _OPENER.open(request, timeout=server.timeout) as response:
            raw = response.read(LONGEST_ANSWER)
        content = json.loads(raw)["choices"][0]["message"]["content"]
        return content if isinstance(content, str) else ""
    except urllib.error.HTTPError as error:
        words = _words_of(error)
        if error.code in (408, 409, 425, 429) or error.code >= 500:
            raise _TryAgain(f"status {error.code}: {words}", _seconds(error.headers.get("Retry-After"))) from error
        if error.code == 400 and not new and NAMES_A_PARAMETER.search(words):
            raise _RefusesParameters from error
        if error.code in OF_ONE_QUESTION:
            raise _RefusesQuestion(f"status {error.code}: {words}") from error
        raise GlpError(
            f"{server.endpoint} refused with status {error.code}: {clean(words)}. Check endpoint, model and key."
        ) from error
    except http.client.InvalidURL as error:
        raise GlpError(f"{server.endpoint} is no address: {error}. Check endpoint.") from error
    except (OSError, http.client.HTTPException, ValueError, KeyError, IndexError, TypeError, RecursionError) as error:
        # no connection, a timeout, a broken body, or one of another shape: the next attempt may go well
        raise _TryAgain(f"{type(error).__name__}: {error}") from error


def _words_of(error: urllib.error.HTTPError) -> str:
    """Return the beginning of what a refusal says, empty when it breaks off."""
    try:
        return error.read(LONGEST_REFUSAL).decode("utf-8", "replace")
    except (OSError, http.client.HTTPException):
        return ""


def _seconds(value: str | None) -> float:
    return float(value) if value and re.fullmatch(r"\d{1,4}(\.\d+)?", value) else 0.0
