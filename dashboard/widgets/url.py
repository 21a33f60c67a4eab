"""What a page's URL may hold: each parameter's range, what was wrong with a link, and the link to share.

Widgets carry `key=param.key, bind="query-params"`, so Streamlit keeps URL and widget equal and falls back to the default for a
value that does not fit. This module says so to the person, and checks every value again on its way to the models, because
neither a URL nor a browser can be trusted. Knows nothing of models.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypedDict
from urllib.parse import urlencode

import streamlit as st

from glp_core.errors import GlpError


@dataclass(frozen=True)
class Param:
    """One value that the URL holds and a widget sets."""

    key: str
    """Query parameter and widget key; begins with the page's name."""
    label: str
    """What messages call it."""
    default: Any
    """Value when the URL has none."""
    check: Callable[[object], Any]
    """Returns the value, from text or as a widget gives it, or raises GlpError."""

    @property
    def bound(self) -> "Bound":
        """What ties a widget to this parameter, as keyword arguments."""
        return {"key": self.key, "bind": "query-params"}


class Bound(TypedDict):
    """Keyword arguments of a widget whose value the URL holds."""

    key: str
    bind: Literal["query-params"]


def number(key: str, label: str, default: float, low: float, high: float) -> Param:
    """Return a parameter for a number from low to high."""
    return Param(key, label, default, lambda value: _bounded(label, value, low, high))


def whole(key: str, label: str, default: int, low: int, high: int) -> Param:
    """Return a parameter for a whole number from low to high."""

    def check(value: object) -> int:
        found = _bounded(label, value, low, high)
        if found != int(found):
            raise GlpError(f"{label} is {shorten(value)}, wanted a whole number.")
        return int(found)

    return Param(key, label, default, check)


def choice(key: str, label: str, default: str, options: Sequence[str]) -> Param:
    """Return a parameter for one of some words."""

    def check(value: object) -> str:
        if not isinstance(value, str) or value not in options:
            raise GlpError(f"{label} is {shorten(value)}, wanted one of: {', '.join(options)}.")
        return value

    return Param(key, label, default, check)


def switch(key: str, label: str, default: bool) -> Param:
    """Return a parameter for yes or no; the URL says true or false."""

    def check(value: object) -> bool:
        known = {"true": True, "false": False}
        found = value if isinstance(value, bool) else known.get(str(value).lower())
        if found is None:
            raise GlpError(f"{label} is {shorten(value)}, wanted true or false.")
        return found

    return Param(key, label, default, check)


def text(key: str, label: str, default: str, longest: int) -> Param:
    """Return a parameter for a text that is not empty and has at most `longest` characters."""

    def check(value: object) -> str:
        if not isinstance(value, str) or not value.strip():
            raise GlpError(f"{label} is empty: write something, or pick an example.")
        if len(value) > longest:
            raise GlpError(f"{label} has {len(value):,} characters, wanted at most {longest:,}. Shorten it.")
        return value

    return Param(key, label, default, check)


def _bounded(label: str, value: Any, low: float, high: float) -> float:
    try:
        found = float(value)
    except (TypeError, ValueError):
        found = math.nan
    if not low <= found <= high:
        raise GlpError(f"{label} is {shorten(value)}, wanted a number from {_told(low)} to {_told(high)}.")
    return found


def _told(value: float) -> str:
    return f"{value:,.0f}" if value == int(value) else f"{value:g}"


def shorten(value: object, longest: int = 60) -> str:
    """Return a value as a short quoted text for a message."""
    words = str(value)
    return repr(words if len(words) <= longest else words[: longest - 1] + "…")


def link_problems(params: Sequence[Param]) -> list[str]:
    """Return what is wrong with the values in this page's URL; call before its widgets are drawn."""
    problems = []
    for param in params:
        if param.key in st.query_params:
            try:
                param.check(st.query_params[param.key])
            except GlpError as error:
                problems.append(f"The link's {error} {param.label} {shorten(param.default)} is used instead.")
    return problems


def checked(params: Sequence[Param], values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values by key, each checked again; raise GlpError for the first that does not fit."""
    return {param.key: param.check(values.get(param.key, param.default)) for param in params}


def current(params: Sequence[Param]) -> dict[str, Any]:
    """Return what the widgets hold now, by key, unchecked."""
    return {param.key: st.session_state.get(param.key, param.default) for param in params}


def page_link(page: str, values: Mapping[str, Any]) -> str:
    """Return the address of a page with these query parameters, as the person's browser reaches this server."""
    base = st.context.url or ""
    root = base.split("?", 1)[0].rstrip("/")
    last = root.rsplit("/", 1)[-1]
    if last in PAGES:
        root = root[: -len(last) - 1]
    words = {key: str(value).lower() if isinstance(value, bool) else value for key, value in values.items()}
    return f"{root}/{page}?{urlencode(words)}" if words else f"{root}/{page}"


PAGES = ("overview", "steering", "neurons", "concepts", "scaling", "manifold", "lab")
"""Names of the pages in addresses."""
