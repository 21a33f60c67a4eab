"""Numbers in words: with as many digits as are true."""

import math

TRUE_DIGITS = 3
"""Significant digits of a value that models computed in bfloat16."""
PACKED_DIGITS = 2
"""Of a value that the index keeps in eight bits."""


def signed(value: float, digits: int = TRUE_DIGITS) -> str:
    """Return a value with its sign and that many significant digits, for example +1,040 or −0.00312; "0" has no sign."""
    if not math.isfinite(value):
        return "none"
    if value == 0:
        return "0"
    power = math.floor(math.log10(abs(value)))
    rounded = round(value, digits - 1 - power)
    if not -5 <= power < 7:
        words = f"{rounded:+.{digits - 1}e}"
    else:
        # rounding up can add a digit: 9.996 is 10.0
        power = math.floor(math.log10(abs(rounded)))
        words = f"{rounded:+,.{max(0, digits - 1 - power)}f}"
    return words.replace("-", "−", 1) if value < 0 else words


def cut_words(read: int, whole: int) -> str:
    """Say how much of a longer text was read; nothing where it was read whole."""
    return "" if read >= whole else f"Only the first {read:,} of the text's {whole:,} tokens are read."


def share_words(share: float) -> str:
    """Return a share of many as a percentage that is true: all of them only where it is all."""
    return "100%" if share >= 1 else "more than 99%" if share >= 0.995 else f"{share:.0%}"


def in_tails(value: float, tail: float, digits: int = TRUE_DIGITS) -> str:
    """Return a value in units of a neuron's tail; the value itself for a neuron without one."""
    return signed(value / tail if tail else value, digits)


def value_words(value: float, tail: float, digits: int = TRUE_DIGITS) -> str:
    """Return a value in units of a neuron's tail with the raw one beside it."""
    raw = signed(value, digits)
    return f"{in_tails(value, tail, digits)} tails (raw {raw})" if tail else raw
