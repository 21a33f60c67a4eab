"""A text box whose text the URL holds while it is short: no limit cuts or swallows a paste, what is too long is refused in words.

Streamlit's own `max_chars` ignores a longer paste in silence, and binding would put megabytes into the address.
"""

from collections.abc import Callable
from typing import Any

import streamlit as st

LONGEST_KEPT = 200_000
"""Characters of a text that survives a change of page."""


def url_text_area(
    label: str, *, key: str, param: str, default: str, fits: int, on_change: Callable[[], None] | None = None, **look: Any
) -> str:
    """Draw the box; return its text, whatever its length.

    Args:
        param: query parameter of the text; the URL wins over what this session had.
        default: the example to begin with; not in the URL.
        fits: characters up to which a text goes into the URL.
        on_change: runs when the person changes the text.
    """
    kept = f"{key}_kept"
    asked = st.query_params.get(param)
    if asked is not None and asked != st.session_state.get(kept):
        st.session_state[kept] = st.session_state[key] = asked
    elif key not in st.session_state:
        st.session_state[key] = st.session_state.setdefault(kept, default)
    if asked is None:
        _into_url(st.session_state[kept], param, default, fits)

    def changed() -> None:
        keep(st.session_state[key], key=key, param=param, default=default, fits=fits)
        if on_change is not None:
            on_change()

    return st.text_area(label, key=key, on_change=changed, **look)


def keep(text: str, *, key: str, param: str, default: str, fits: int) -> None:
    """Make this the box's text (in a callback)."""
    st.session_state[key] = text
    st.session_state[f"{key}_kept"] = text if len(text) <= LONGEST_KEPT else default
    st.query_params.pop(param, None)
    _into_url(text, param, default, fits)


def _into_url(text: str, param: str, default: str, fits: int) -> None:
    if text and text != default and len(text) <= fits:
        st.query_params[param] = text
