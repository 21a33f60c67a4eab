"""Whether a text holds: it has words, does not loop, and is no word salad to the unsteered model; and where a push shows that walks hold.

Knows shares and numbers only.
"""

LOOPS = 0.5
"""Share of a text's tokens that occurred before, from which it loops, if enough of its bigrams did too (long texts reuse words)."""
LOOPING_BIGRAMS = 0.33
UNLIKELY = -5.0
"""Log-probability under the unsteered model, nats a token, below which a text is word salad."""


def loops(repeated_tokens: float, repeated_bigrams: float) -> bool:
    """Say whether a text repeats itself so much that it says nothing more."""
    return repeated_tokens >= LOOPS and repeated_bigrams >= LOOPING_BIGRAMS


def holds(text: str, repeated_tokens: float, repeated_bigrams: float, log_probability: float) -> bool:
    """Say whether there is a text that neither loops nor is word salad."""
    return bool(text.strip()) and not loops(repeated_tokens, repeated_bigrams) and log_probability > UNLIKELY


SHOWN = {"raw": 0.5, "walk": 0.1}
"""A strength tells raw texts from walked ones where at least this share of the raw ones is broken, and at most this share of the others."""
SHOWING = 0.6
"""Probability of the concept from which a text shows it, so that another machine's rounding does not turn the verdict."""


def tells(raw: float, walk: float) -> bool:
    """Say of the shares of raw and walked texts that break at a strength whether most of the first do and hardly one of the others."""
    return raw >= SHOWN["raw"] and walk <= SHOWN["walk"]
