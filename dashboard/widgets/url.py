"""What a page's address may hold: each parameter's range, one reader that checks them all, and the link to share.

A widget ties itself to its parameter with `**param.bound`, or reads it with `value`; `read_link` runs before the widgets, takes out
of the address what does not fit and says so, so that address, widget and message agree. Values are checked again on their way to
the models, because neither an address nor a browser can be trusted. Knows nothing of models.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypedDict, TypeVar
from urllib.parse import urlencode, urlsplit

import streamlit as st
from streamlit.errors import StreamlitAPIException
from streamlit.runtime.scriptrunner import get_script_run_ctx
from streamlit.runtime.state.session_state_proxy import get_session_state

from glp_core.errors import GlpError

PAGES = {path.stem for path in (Path(__file__).parents[2] / "pages").glob("*.py")}
"""Names of the pages in addresses."""
NAMED_OPTIONS = 8
"""Options that a message lists before it breaks off."""
NOTES = "link_notes"
WORKSPACE = "workspace"
"""Query parameter of every page: the name of the workspace, where it is not the one to begin with."""

Words = TypeVar("Words", str, str | list[str])
Query = dict[str, str | list[str]]
"""Query parameters by key; a list holds several values of one."""
Values = dict[str, Any]
"""What parameters hold, each of its own type, by key or short name."""


@dataclass(frozen=True)
class Param:
    """One value that the address holds and a widget sets."""

    key: str
    """Query parameter and widget key; begins with the page's name."""
    label: str
    """What messages call it."""
    default: Any
    """Value when the address has none."""
    check: Callable[[object], Any]
    """Returns the value, from text or as a widget gives it, or raises GlpError."""
    longest: int = 0
    """Of a text: characters up to which the address holds it."""
    many: bool = False
    """Whether the address may hold several values, each of which is checked."""

    @property
    def bound(self) -> "Bound":
        """What ties a widget to this parameter, as keyword arguments."""
        return {"key": self.key, "bind": "query-params"}


class Bound(TypedDict):
    """Keyword arguments of a widget whose value the address holds."""

    key: str
    bind: Literal["query-params"]


def number(key: str, label: str, default: float | None, low: float, high: float) -> Param:
    """Return a parameter for a number from low to high; with None by default, for a widget that takes its first value from elsewhere."""

    def check(value: object) -> float | None:
        return None if value is default is None else _bounded(label, value, low, high)

    return Param(key, label, default, check)


def whole(key: str, label: str, default: int, low: int, high: int) -> Param:
    """Return a parameter for a whole number from low to high."""

    def check(value: object) -> int:
        bounded = _bounded(label, value, low, high)
        if bounded != int(bounded):
            raise GlpError(f"{label} is {shorten(value)}, wanted a whole number.")
        return int(bounded)

    return Param(key, label, default, check)


def choice(key: str, label: str, default: Any, options: Sequence[Any]) -> Param:
    """Return a parameter for one of some words or numbers."""
    by_text = {str(option): option for option in options}

    def check(value: object) -> Any:
        if str(value) not in by_text:
            more = f" and {len(by_text) - NAMED_OPTIONS} more" if len(by_text) > NAMED_OPTIONS else ""
            raise GlpError(f"{label} is {shorten(value)}, wanted one of: {', '.join(list(by_text)[:NAMED_OPTIONS])}{more}.")
        return by_text[str(value)]

    return Param(key, label, default, check)


def switch(key: str, label: str, default: bool) -> Param:
    """Return a parameter for yes or no; the address says true or false."""

    def check(value: object) -> bool:
        words = {"true": True, "false": False}
        if str(value).lower() not in words:
            raise GlpError(f"{label} is {shorten(value)}, wanted true or false.")
        return words[str(value).lower()]

    return Param(key, label, default, check)


def text(key: str, label: str, default: str, longest: int, *, empty: bool = False) -> Param:
    """Return a parameter for a text of at most `longest` characters that is not empty, or may be."""

    def check(value: object) -> str:
        if not isinstance(value, str) or not (empty or value.strip()):
            raise GlpError(f"{label} is empty: write something, or pick an example.")
        if len(value) > longest:
            raise GlpError(f"{label} has {len(value):,} characters, wanted at most {longest:,}. Shorten it.")
        return value

    return Param(key, label, default, check, longest)


def parsed(key: str, label: str, parse: Callable[[str], str]) -> Param:
    """Return a parameter for words that `parse` reads, writes out plainly, or refuses; none by default."""

    def check(value: object) -> str:
        try:
            return parse(str(value)) if value else ""
        except GlpError as error:
            raise GlpError(f"{label}: {error}") from error

    return Param(key, label, "", check)


def _bounded(label: str, value: Any, low: float, high: float) -> float:
    try:
        as_float = float(value)
    except (TypeError, ValueError, OverflowError):
        as_float = math.nan
    if not low <= as_float <= high:
        raise GlpError(f"{label} is {shorten(value)}, wanted a number from {_plain(low)} to {_plain(high)}.")
    return as_float


def _plain(value: float) -> str:
    return f"{value:,.0f}" if value == int(value) else f"{value:g}"


def shorten(value: object, longest: int = 60) -> str:
    """Return a value as a short quoted text for a message."""
    words = str(value)
    return repr(words if len(words) <= longest else words[: longest - 1] + "…")


class Notes(NamedTuple):
    """What is wrong with the link that opened a page."""

    page: str
    by_key: dict[str, str]
    """A sentence for each parameter that did not fit."""


def read_link(page: str, params: Iterable[Param]) -> list[str]:
    """Take out of the address what does not fit, and return what to tell about it; call before the page's widgets are drawn.

    A wrong value leaves the address before any widget sees it (the page runs once more for that), so its default is used. The note stays
    until the person sets that value or goes to another page.
    """
    known = {param.key: param for param in params}
    if st.session_state.get(NOTES, Notes("", {})).page != page:
        st.session_state[NOTES] = Notes(page, {})
        if not any(key in st.query_params for key in known):
            _keep_what_widgets_hold()
    notes: dict[str, str] = st.session_state[NOTES].by_key
    changed = False
    for param in known.values():
        given = st.query_params.get_all(param.key)
        if not given:
            continue
        if param.many and given == [""]:  # none is chosen
            notes.pop(param.key, None)
            continue
        try:
            fitting = [param.check(raw) for raw in (given if param.many else given[-1:])]
        except GlpError as error:
            if not _given_by_hand(param.key, given):
                _take_out(param)
                notes[param.key] = f"In the link: {error} {_instead(param)}"
                changed = True
            continue
        notes.pop(param.key, None)
        wanted = [
            _in_address(one) if isinstance(one, int) else raw for one, raw in zip(fitting, given[-len(fitting) :], strict=True)
        ]
        if wanted != given:
            with suppress(StreamlitAPIException):
                st.query_params[param.key] = wanted if param.many else wanted[0]
                changed = True
    for key in _unknown(known):
        with suppress(StreamlitAPIException):
            del st.query_params[key]
            notes[key] = f"In the link: {shorten(key)} is nothing that this page knows here. It is left out."
            changed = True
    if changed:
        st.rerun()
    return list(notes.values())


def _keep_what_widgets_hold() -> None:
    """Come back to a page by Back as by its tab: Streamlit leaves an address without parameters in the history, which would clear it."""
    context = get_script_run_ctx()
    if context is not None:
        context.is_history_navigation = False


def _given_by_hand(key: str, given: Sequence[str]) -> bool:
    """Say whether the address holds what a person gave the widget: that is the page's own affair."""
    held = st.session_state.get(key)
    return [_in_address(one) for one in (held if isinstance(held, list | tuple) else [held])] == list(given)


def _take_out(param: Param) -> None:
    """Take a parameter out of the address, also where a widget holds it: a browser brings old addresses back to a page in use."""
    with get_session_state().query_params() as held:  # `del st.query_params[...]` refuses what a widget holds
        held.remove_param(param.key)
    if param.key in st.session_state:
        st.session_state[param.key] = param.default


def _instead(param: Param) -> str:
    used = not param.many and param.default not in ("", None)
    return f"{param.label} {shorten(param.default)} is used instead." if used else "It is left out."


def _unknown(known: Mapping[str, Param]) -> list[str]:
    """Return the address's parameters that begin as this page's do and are none of them."""
    prefixes = {key.partition("_")[0] for key in known if "_" in key}
    return [key for key in st.query_params if "_" in key and key.partition("_")[0] in prefixes and key not in known]


def refuse(keys: Sequence[str], words: str) -> None:
    """Take out of the address what only a page can tell to be wrong; the page runs once more and says so, as `read_link` does."""
    for key in keys:
        st.query_params.pop(key, None)
    note(keys[0], f"{words} It is left out.")


def note(key: str, words: str) -> None:
    """Say of a parameter what is wrong with it, until it is set; the page runs once more."""
    st.session_state[NOTES].by_key[key] = f"In the link: {words}"
    st.rerun()


def value(param: Param) -> Any:
    """Return the address's value of a parameter that no widget is bound to, checked; the default when there is none or it does not fit."""
    with suppress(GlpError):
        return param.check(st.query_params[param.key]) if param.key in st.query_params else param.default
    return param.default


def put(param: Param, new: object) -> None:
    """Put a value that no widget is bound to into the address, or take it out when it is the default (in a callback)."""
    if new == param.default:
        st.query_params.pop(param.key, None)
    else:
        st.query_params[param.key] = _in_address(new)


def _in_address(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def checked(params: Iterable[Param], values: Mapping[str, object]) -> Values:
    """Return the values by key, each checked again; raise GlpError for the first that does not fit."""
    return {param.key: param.check(values.get(param.key, param.default)) for param in params}


def current(params: Iterable[Param]) -> Values:
    """Return what the widgets hold now, by key, unchecked; for a parameter that has none what the address says."""
    return {param.key: st.session_state[param.key] if param.key in st.session_state else value(param) for param in params}


def chosen(params: Iterable[Param]) -> Values:
    """Return of `current` what differs from the page's defaults: all that a link has to hold."""
    listed = list(params)
    defaults = {param.key: param.default for param in listed}
    return {key: one for key, one in current(listed).items() if one != defaults[key]}


def kept(query: Mapping[str, Words]) -> dict[str, Words]:
    """Return a link's query parameters with the workspace that the address names."""
    named = st.query_params.get(WORKSPACE)
    return dict(query) if named is None else {**query, WORKSPACE: named}


def query() -> Query:
    """Return all that the address holds; of a parameter with several values all of them."""
    held = {key: st.query_params.get_all(key) for key in st.query_params}
    return {key: values if len(values) > 1 else values[0] for key, values in held.items()}


def page_link(page: str, values: Mapping[str, object]) -> str:
    """Return the address of a page of this workspace with these query parameters, as the person's browser reaches this server."""
    written: Query = {
        key: [_in_address(one) for one in value] if isinstance(value, list) else _in_address(value)
        for key, value in values.items()
    }
    return address(page, kept(written))


def address(page: str, query: Mapping[str, str | list[str]]) -> str:
    """Return the address of a page with exactly these query parameters; a list stands for several values of one."""
    return f"{_root()}/{page}?{urlencode(query, doseq=True)}" if query else f"{_root()}/{page}"


def _root() -> str:
    """Return the app's address without a page; `st.context.url` loses the ends of base paths and hosts that are called like a page."""
    context = get_script_run_ctx()
    shown = urlsplit(context.context_info.url if context and context.context_info else "")
    path, base = shown.path.rstrip("/"), st.get_option("server.baseUrlPath").strip("/")
    before, _, last = path.rpartition("/")
    return shown._replace(path=before if last in PAGES and path != f"/{base}" else path, query="", fragment="").geturl()
