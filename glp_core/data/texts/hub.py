"""What goes wrong with the Hugging Face hub: no connection, no such thing there, no right to it. Knows nothing of texts."""


def failures(*others: type[Exception]) -> tuple[type[Exception], ...]:
    """Return what asking the hub raises, and `others`; errors of its HTTP client are no OSErrors."""
    from httpx2 import HTTPError
    from huggingface_hub.errors import HfHubHTTPError

    return OSError, HTTPError, HfHubHTTPError, *others
