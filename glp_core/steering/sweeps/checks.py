"""Checks of what a sweep's configuration holds: types, lengths and ranges, each refused by name."""

from collections.abc import Sequence
from typing import NoReturn

from glp_core.errors import GlpError
from glp_core.llm.text_stream import encodable


def short(value: object) -> str:
    """Return a value in at most 80 characters."""
    words = str(value) if value is not None else "nothing"
    return words if len(words) <= 80 else words[:79] + "…"


def refuse(what: str, got: object, wanted: str) -> NoReturn:
    """Raise GlpError for something of a sweep that is not what is wanted."""
    raise GlpError(f"In the sweep, {what} is {short(repr(got))}, wanted {wanted}.")


def check_list(what: str, values: object, most: int, *, least: int = 1) -> tuple[object, ...]:
    """Return a tuple of as many values; raise GlpError for anything else."""
    if not isinstance(values, tuple):
        refuse(what, values, "a list")
    if not least <= len(values) <= most:
        raise GlpError(f"In the sweep, {what} are {len(values)}, wanted {int(least)} to {most}.")
    return values


def check_text(what: str, value: object, longest: int, *, empty: bool = False) -> None:
    """Raise GlpError unless this is a text of that length at most, which is not empty, or may be."""
    if not isinstance(value, str) or not (empty or value.strip()):
        refuse(what, value, "a text")
    if encodable(value) != value:
        raise GlpError(f"In the sweep, {what} holds half a character, as of an emoji that was cut: write it anew.")
    if len(value) > longest:
        raise GlpError(f"In the sweep, {what} has {len(value):,} characters, wanted at most {longest:,}.")


def check_numbers(what: str, values: object, low: float, high: float, *, most: int, least: int = 1) -> None:
    """Raise GlpError unless this is a tuple of as many different finite numbers in the range."""
    numbers = check_list(what, values, most, least=least)
    for value in numbers:
        if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
            raise GlpError(f"In the sweep, {what} hold {short(repr(value))}, wanted numbers from {low:g} to {high:g}.")
    check_different(what, numbers)


def check_whole(what: str, value: object, low: int, high: int) -> None:
    """Raise GlpError unless this is a whole number in the range."""
    if type(value) is not int or not low <= value <= high:
        refuse(what, value, f"a whole number from {low:,} to {high:,}")


def check_different(what: str, values: Sequence[object]) -> None:
    """Raise GlpError where something stands twice."""
    if len(set(values)) < len(values):
        raise GlpError(f"In the sweep, {what} hold something twice.")
