"""The shape that a JSON value must have before anything is taken out of it: kinds, ranges and lengths, checked in one place.

A shape is `int`, `float` (finite), `str` or `bool`; a `Limits`, `OneOf`, `Many` or `Maybe`; a tuple of shapes for a list of just those;
or a dictionary from keys to shapes. A key that ends in "?" may be missing, "*" is every other key, and keys that are not named are not
looked at. `object` takes anything.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeGuard

from glp_core.errors import GlpError

Shape = object
"""See above."""
LARGEST = 1e300
LARGEST_WHOLE = 2**63 - 1
LONGEST_LIST = 1_000_000
LONGEST_TEXT = 1_000_000
LONGEST_SHOWN = 40


@dataclass(frozen=True)
class Limits:
    """A number from low to high; `nan` may be allowed for one that was not measured."""

    kind: type
    low: float
    high: float
    nan: bool = False


@dataclass(frozen=True)
class OneOf:
    """One of some values."""

    values: Sequence[object]


@dataclass(frozen=True)
class Many:
    """A list of values of one shape, with at least so many."""

    shape: Shape
    least: int = 0


@dataclass(frozen=True)
class Maybe:
    """A value of a shape, or null."""

    shape: Shape


def check(value: object, shape: Shape, where: str) -> Any:
    """Return a value after checking its shape; `where` begins the message.

    Raises:
        GlpError: something in it is missing, or of another kind, size or length.
    """
    problem = _problem(value, shape, "")
    if problem:
        raise GlpError(f"{where}: {problem}.")
    return value


def _problem(value: object, shape: Shape, path: str) -> str:
    """Return what is wrong, empty when nothing is."""
    if shape is object:
        return ""
    if isinstance(shape, dict):
        return _of_object(value, shape, path)
    if isinstance(shape, Maybe):
        return "" if value is None else _problem(value, shape.shape, path)
    if isinstance(shape, tuple):
        return _of_list(value, shape, path) if _is_list(value, len(shape)) else _wrong(path, value, f"a list of {len(shape)}")
    if isinstance(shape, Many):
        if not _is_list(value) or len(value) < shape.least:
            return _wrong(path, value, f"a list of at least {shape.least}" if shape.least else "a list")
        return _of_list(value, (shape.shape,) * len(value), path)
    return _of_value(value, shape, path)


def _of_object(value: object, shape: Mapping[str, Shape], path: str) -> str:
    if not isinstance(value, dict):
        return _wrong(path, value, "an object")
    for key, part in shape.items():
        name = key.removesuffix("?")
        if key == "*":
            others = [other for other in value if other not in shape and f"{other}?" not in shape]
            problems = (_problem(value[other], part, f"{path}.{other[:LONGEST_SHOWN]}") for other in others)
            problem = next(filter(None, problems), "")
        elif name not in value:
            problem = "" if key.endswith("?") else f"it lacks {(path + '.' + name).lstrip('.')}"
        else:
            problem = _problem(value[name], part, f"{path}.{name}")
        if problem:
            return problem
    return ""


def _of_list(value: Sequence[object], shapes: Sequence[object], path: str) -> str:
    problems = (_problem(one, shape, f"{path}[{i}]") for i, (one, shape) in enumerate(zip(value, shapes, strict=True)))
    return next(filter(None, problems), "")


def _is_list(value: object, size: int | None = None) -> TypeGuard[list[object]]:
    return isinstance(value, list) and len(value) <= LONGEST_LIST and size in (None, len(value))


def _of_value(value: object, shape: Shape, path: str) -> str:
    if isinstance(shape, OneOf):
        fits = any(value == one and type(value) is type(one) for one in shape.values)
        return "" if fits else _wrong(path, value, f"one of {', '.join(map(str, shape.values))}")
    if shape is str:
        return "" if isinstance(value, str) and len(value) <= LONGEST_TEXT else _wrong(path, value, "a text")
    if shape is bool:
        return "" if isinstance(value, bool) else _wrong(path, value, "true or false")
    kind, low, high = (shape.kind, shape.low, shape.high) if isinstance(shape, Limits) else (shape, None, None)
    if isinstance(shape, Limits) and shape.nan and isinstance(value, float) and math.isnan(value):
        return ""
    largest = LARGEST_WHOLE if kind is int else LARGEST
    low, high = -largest if low is None else low, largest if high is None else high
    wanted = (int,) if kind is int else (int, float)
    if isinstance(value, int | float) and type(value) in wanted and low <= value <= high:
        return ""
    words = "a whole number" if kind is int else "a number"
    return _wrong(path, value, f"{words} from {low:g} to {high:g}" if isinstance(shape, Limits) else words)


def _wrong(path: str, value: object, wanted: str) -> str:
    if isinstance(value, dict | list):
        got = f"{'an object' if isinstance(value, dict) else 'a list'} of {len(value)}"
    elif isinstance(value, int) and value.bit_length() > 200:
        got = "a number of more than sixty digits"
    else:
        words = repr(value)
        got = words if len(words) <= LONGEST_SHOWN else f"{words[: LONGEST_SHOWN - 1]}…"
    return f"{path.lstrip('.') or 'it'} is {got}, wanted {wanted}"
