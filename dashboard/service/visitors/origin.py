"""Whence visitors may come: from this machine only, or also from others. Draws nothing."""

import streamlit as st

LOCAL = ("127.0.0.1", "::1", "localhost")
"""Addresses and names of this machine itself."""
FORWARDED = ("X-Forwarded-For", "Forwarded", "X-Real-Ip")
"""Headers by which a proxy says that somebody else is asking."""


def on_this_machine_only() -> bool:
    """Say whether the server listens on this machine only, is called by no other name, and the visitor comes by no proxy."""
    names = st.get_option("server.allowedHosts") or []
    context = st.context
    return (
        st.get_option("server.address") in LOCAL
        and all(name in LOCAL for name in names)
        and context.ip_address in (None, *LOCAL)
        and not any(header in context.headers for header in FORWARDED)
    )
