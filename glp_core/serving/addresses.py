"""Where servers of this project listen unless told otherwise, and how an address is written."""

HOST = "127.0.0.1"
LOCAL_NAMES = (HOST, "localhost", "::1")
"""What this machine calls itself."""


def shown(host: str) -> str:
    """Return a host as a web address names it: one of IPv6 in brackets."""
    return f"[{host}]" if ":" in host else host
