"""The one exception that a user can cause: what was got, what was wanted, and the way out."""

LONGEST_BEGINNING, LONGEST_END = 1_000, 500
"""Characters of a message: a damaged file may put anything into one."""


class GlpError(ValueError):
    """Report bad input; its message is fit to be shown to a person as it is, so of a very long one the middle is left out."""

    def __init__(self, words: str) -> None:
        if len(words) > LONGEST_BEGINNING + LONGEST_END:
            words = f"{words[:LONGEST_BEGINNING]} … {words[-LONGEST_END:]}"
        super().__init__(words)


def in_short(error: Exception) -> str:
    """Return what another library's exception says, on one line and without a stop at its end; its kind where it says nothing."""
    return (" ".join(str(error).split()) or type(error).__name__).rstrip(".")
