"""A box for a text that the page's address holds while it is short, and the session whatever its length."""

from collections.abc import Callable
from typing import Literal

import streamlit as st

from dashboard.widgets import url

LONGEST_KEPT = 200_000
"""Characters of a text that survives a change of page."""


def text_area(
    param: url.Param,
    label: str,
    *,
    key: str,
    on_change: Callable[[], None] | None = None,
    height: int | None = None,
    label_visibility: Literal["visible", "hidden", "collapsed"] = "visible",
) -> str:
    """Draw a box whose text the address holds while it is short; return its text, whatever its length.

    No limit cuts or swallows a paste (Streamlit's `max_chars` ignores a longer one in silence, and binding would put megabytes into the
    address): check the text with `param.check`, which says in words what is too long.

    Args:
        key: of the widget, another one than the parameter's.
        on_change: runs when the person changes the text.
    """
    kept_key = f"{key}_kept"
    linked = st.query_params.get(param.key)
    if linked is not None and linked != st.session_state.get(kept_key):
        st.session_state[kept_key] = st.session_state[key] = linked
    elif key not in st.session_state:
        st.session_state[key] = st.session_state.setdefault(kept_key, param.default)
    if linked is None:
        _put_text(param, st.session_state[kept_key])

    def changed() -> None:
        set_text(param, st.session_state[key], key=key)
        if on_change is not None:
            on_change()

    return st.text_area(label, key=key, on_change=changed, height=height, label_visibility=label_visibility)


def set_text(param: url.Param, words: str, *, key: str) -> None:
    """Make this the text of a box (in a callback)."""
    st.session_state[key] = words
    st.session_state[f"{key}_kept"] = words if len(words) <= LONGEST_KEPT else param.default
    st.query_params.pop(param.key, None)
    _put_text(param, words)


def text_of(param: url.Param, *, key: str) -> str:
    """Return the text of a box, also where the box is not drawn."""
    return st.session_state.get(key, st.session_state.get(f"{key}_kept", url.value(param)))


def _put_text(param: url.Param, words: str) -> None:
    if words and words != param.default and len(words) <= param.longest:
        st.query_params[param.key] = words
