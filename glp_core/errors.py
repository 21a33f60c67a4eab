"""The one exception that a user can cause: what was got, what was wanted, and the way out."""

LONGEST_BEGINNING, LONGEST_END = 1_000, 500
"""Characters of a message: a damaged file may put anything into one."""
ASK_FOR_ACCESS = (
    " What is gated or private is there for who has access: ask for it on its page, then log in with `.venv/bin/hf auth login` or set "
    "HF_TOKEN."
)


class GlpError(ValueError):
    """Report bad input; its message is fit to be shown to a person as it is, so of a very long one the middle is left out."""

    def __init__(self, words: str) -> None:
        if len(words) > LONGEST_BEGINNING + LONGEST_END:
            words = f"{words[:LONGEST_BEGINNING]} … {words[-LONGEST_END:]}"
        super().__init__(words)


def in_short(error: Exception) -> str:
    """Return what another library's exception says, on one line and without a stop at its end; its kind where it says nothing."""
    return (" ".join(str(error).split()) or type(error).__name__).rstrip(".")


def way_in(error: BaseException | None) -> str:
    """Return how to get what the Hugging Face hub refused to who asked, after a space; empty where this is no such refusal."""
    while error is not None:
        if getattr(getattr(error, "response", None), "status_code", None) in (401, 403):
            return ASK_FOR_ACCESS
        error = error.__cause__ or error.__context__
    return ""
