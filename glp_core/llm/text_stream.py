"""Token ids as text, piece by piece: a character whose bytes are spread over tokens goes to the last of them.

Knows a tokenizer; knows no model.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

CONTEXT = 8
"""Ids before a text that its first piece is read with: some tokenizers write a text's first word otherwise than a later one."""


def encodable(text: str) -> str:
    """Return a text that tokenizers take: half a character (a surrogate alone, as in a text that was cut) becomes a question mark."""
    return text.encode("utf-8", "replace").decode("utf-8")


class TextStream:
    """Turns a growing list of ids into text; holds back a character until all its bytes are there."""

    def __init__(self, tokenizer: "PreTrainedTokenizerBase", before: Sequence[int] = ()) -> None:
        self._tokenizer = tokenizer
        self._ids = list(before[-CONTEXT:])
        self._start, self._shown = 0, len(self._ids)
        self._old = self._decode(self._ids)

    def push(self, token: int, *, last: bool = False) -> str:
        """Return the text that `token` adds; with `last`, also what was held back."""
        self._ids.append(token)
        text = self._decode(self._ids[self._start :])
        if text.endswith("\ufffd") and not last:  # its bytes may not be complete yet
            return ""
        added = text[len(self._old) :]
        self._start, self._shown = self._shown, len(self._ids)
        self._old = self._decode(self._ids[self._start :])
        return added

    def flush(self) -> str:
        """Return what was held back."""
        return self._decode(self._ids[self._start :])[len(self._old) :]

    def _decode(self, ids: Sequence[int]) -> str:
        return self._tokenizer.decode(list(ids), skip_special_tokens=False, clean_up_tokenization_spaces=False)
