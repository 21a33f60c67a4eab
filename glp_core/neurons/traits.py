"""What a token and its surroundings are like, in words: the traits that descriptions of neurons are made from.

Knows pieces of text; knows nothing of neurons.
"""

import re
from collections.abc import Sequence
from enum import IntEnum
from typing import NamedTuple

NEAR = 8
"""Tokens before a token that count as shortly before it."""
LEAST_LETTERS = 4
"""Of a word shortly before; shorter ones stand before everything."""
WORD = re.compile(r"[^\W\d_][\w'’-]*")


class TraitKind(IntEnum):
    """What a trait is about; descriptions name kinds in this order."""

    TOKEN = 0
    """The token itself."""
    PAIR = 1
    """The token with the one before it."""
    AFTER = 2
    """The token before it."""
    NEAR = 3
    """A word shortly before it."""
    SHAPE = 4
    """What the token looks like, whatever it says."""


class Trait(NamedTuple):
    """One property that a token in its text can have."""

    kind: TraitKind
    words: str


NUMBERS, PUNCTUATION, CAPITALS = "numbers", "punctuation", "capitalised words"
LATER_PARTS, FIRST, BREAKS = "later parts of words", "the first word of a text", "line breaks"


def traits(pieces: Sequence[str], position: int) -> list[Trait]:
    """Return the traits of the token at a position, counted from 0, of a text's pieces; case and spaces aside."""
    token = pieces[position]
    word = token.strip().casefold()
    before = pieces[position - 1] if position else ""
    made = [Trait(TraitKind.SHAPE, shape) for shape in _shapes(token, before, position)]
    if word:
        made.append(Trait(TraitKind.TOKEN, word))
    if before.strip():
        made.append(Trait(TraitKind.AFTER, before.strip().casefold()))
        if word:
            made.append(Trait(TraitKind.PAIR, (before + token).strip().casefold()))
    near = WORD.findall("".join(pieces[max(0, position - NEAR) : max(0, position - 1)]).casefold())
    made += [Trait(TraitKind.NEAR, one) for one in set(near) if len(one) >= LEAST_LETTERS]
    return made


def _shapes(token: str, before: str, position: int) -> list[str]:
    text = token.strip()
    shapes = [FIRST] if position == 0 else []
    if not text:
        return shapes + ([BREAKS] if "\n" in token else [])
    if text.isdigit():
        shapes.append(NUMBERS)
    elif not any(c.isalnum() for c in text):
        shapes.append(PUNCTUATION)
    elif position and text[0].isupper():
        shapes.append(CAPITALS)
    if text[0].isalpha() and token[0] == text[0] and before[-1:].isalpha():
        shapes.append(LATER_PARTS)
    return shapes


def in_words(chosen: Sequence[Trait]) -> str:
    """Return what tokens with any of these traits have in common, for example: “security”, “safety”; after “social”."""
    parts = []
    for kind in TraitKind:
        named = [trait.words for trait in chosen if trait.kind == kind]
        if not named:
            continue
        quoted = ", ".join(named) if kind == TraitKind.SHAPE else ", ".join(f"“{words}”" for words in named)
        parts.append({TraitKind.AFTER: "after ", TraitKind.NEAR: "shortly after "}.get(kind, "") + quoted)
    return "; ".join(parts)
