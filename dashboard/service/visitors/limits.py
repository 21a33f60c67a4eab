"""What one visitor may ask of this server, as whoever runs it has set it, and by what visitors are told apart. Draws nothing."""

import os
from ipaddress import ip_address

import streamlit as st

from glp_core.errors import GlpError
from glp_core.jobs.limits import VisitorLimits

VARIABLES = ("GLP_EXPLORER_RUNS_A_MINUTE", "GLP_EXPLORER_TOKENS_A_DAY")
"""Environment variables: what one visitor may ask for; 0 or not set for no limit."""


@st.cache_resource(show_spinner=False)
def limits() -> VisitorLimits:
    """Return the counts of all visitors; GlpError where a variable is no number."""
    runs, tokens = map(_whole, VARIABLES)
    return VisitorLimits(runs, tokens)


def _whole(variable: str) -> int:
    words = os.environ.get(variable, "").strip() or "0"
    if not words.isdecimal() or len(words) > 15:
        raise GlpError(f"{variable} is {words[:40]!r}, wanted a whole number, or 0 for no limit.")
    return int(words)


def visitor() -> str:
    """Return the address that the browser came from, as a proxy on this network says it; empty where nothing is known."""
    address = st.context.ip_address or ""
    said = st.context.headers.get("X-Forwarded-For", "").split(",")[-1].strip()
    return said[:64] if said and (not address or ip_address(address).is_private) else address
