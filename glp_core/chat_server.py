"""A server that speaks OpenAI's protocol, asked one question at a time and patiently.

What it says is text of a stranger: it is cut, cleaned of control characters where it is shown, and never run or rendered.
"""

import http.client
import json
import re
import time
import unicodedata
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from glp_core.errors import GlpError

Answer = TypeVar("Answer")
LONGEST_ANSWER = 200_000
LONGEST_LINE = 300
"""Characters of an answer that is shown on a line."""


@dataclass(frozen=True)
class Server:
    """Which server to ask, and how patiently."""

    endpoint: str
    """Base URL, for example http://localhost:8000/v1."""
    model: str
    key: str = ""
    """Sent as a bearer token when there is one."""
    per_minute: float = 60.0
    """Requests at most."""
    timeout: float = 60.0
    """Seconds for one answer."""
    attempts: int = 4
    """For one question, after which it is left for the next run."""

    def __post_init__(self) -> None:
        if not re.match(r"https?://[^\s/]+", self.endpoint):
            raise GlpError(f"Endpoint {self.endpoint!r} is no http address. Give one such as http://localhost:8000/v1.")
        if self.per_minute <= 0 or self.timeout <= 0 or self.attempts < 1:
            raise GlpError("per-minute, timeout and attempts must be above 0.")


class _TryAgain(Exception):
    """A failure that may pass; `wait` seconds were asked for."""

    def __init__(self, reason: str, wait: float = 0.0) -> None:
        super().__init__(reason)
        self.wait = wait


def ask_patiently(
    server: Server,
    message: str,
    read: Callable[[str], Answer],
    *,
    tokens: int = 300,
    sleep: Callable[[float], None] = time.sleep,
) -> Answer | None:
    """Return what `read` makes of the server's answer, or None when no attempt gave a usable one.

    Args:
        read: raises ValueError for an answer that is none.
        tokens: of an answer, at most.
    Raises:
        GlpError: the server refuses for good: a wrong key, no such model.
    """
    for attempt in range(server.attempts):
        try:
            return _ask(server, message, read, tokens)
        except _TryAgain as again:
            if attempt + 1 < server.attempts:
                sleep(min(120.0, max(again.wait, 2.0**attempt)))
    return None


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


def _ask(server: Server, message: str, read: Callable[[str], Answer], tokens: int) -> Answer:
    body = {"model": server.model, "messages": [{"role": "user", "content": message}], "temperature": 0, "max_tokens": tokens}
    headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {server.key}"} if server.key else {})
    request = urllib.request.Request(  # noqa: S310 - the scheme is checked in Server
        server.endpoint.rstrip("/") + "/chat/completions", json.dumps(body).encode(), headers
    )
    try:
        with urllib.request.urlopen(request, timeout=server.timeout) as response:  # noqa: S310
            raw = response.read(LONGEST_ANSWER)
        content = json.loads(raw)["choices"][0]["message"]["content"]
        return read(content)
    except urllib.error.HTTPError as error:
        if error.code in (408, 409, 425, 429) or error.code >= 500:
            raise _TryAgain(f"status {error.code}", _seconds(error.headers.get("Retry-After"))) from error
        words = clean(error.read(500).decode("utf-8", "replace"))
        raise GlpError(
            f"{server.endpoint} refused with status {error.code}: {words}. Check endpoint, model and key."
        ) from error
    except http.client.InvalidURL as error:
        raise GlpError(f"{server.endpoint} is no address: {error}. Check endpoint.") from error
    except (
        OSError,
        http.client.HTTPException,
        ValueError,
        KeyError,
        IndexError,
        TypeError,
        AttributeError,
        RecursionError,
    ) as error:
        # no connection, a timeout, a broken body, or an answer of another shape: the next attempt may go well
        raise _TryAgain(f"{type(error).__name__}: {error}") from error


def _seconds(value: str | None) -> float:
    return float(value) if value and re.fullmatch(r"\d{1,4}(\.\d+)?", value) else 0.0
