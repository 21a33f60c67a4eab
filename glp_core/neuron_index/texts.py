"""Read the documents that an index of meta-neurons keeps: token pieces by place or by number in the corpus, from the disk."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from safetensors import safe_open

from glp_core.errors import GlpError
from glp_core.neuron_index.neuron_data import HeldOutTokens, StoredDocument


class StoredTexts:
    """The documents of an index; a place is a document's position among them."""

    def __init__(self, path: Path, pieces: Sequence[str], sources: Sequence[str]) -> None:
        """Open texts.safetensors; `pieces` are the text of each token that it uses, `sources` the data sets' names."""
        self.pieces, self._sources = pieces, sources
        self._file = safe_open(path, "np")
        self._starts = self._file.get_tensor("starts")
        self._numbers = self._file.get_tensor("numbers")
        self._source = self._file.get_tensor("sources")
        self._tokens = self._file.get_slice("tokens")
        self._shift = 2**15 if self._tokens.get_dtype() == "I16" else 0

    @property
    def lengths(self) -> np.ndarray:
        """Tokens of each document (documents,)."""
        return np.diff(self._starts)

    def number(self, place: int) -> int:
        """Return a document's number in the corpus."""
        return int(self._numbers[place])

    def source(self, place: int) -> str:
        """Return the data set that a document is of."""
        return self._sources[self._source[place]]

    def words(self, place: int) -> list[str]:
        """Return the token pieces of a document."""
        tokens = self._tokens[int(self._starts[place]) : int(self._starts[place + 1])]
        return [self.pieces[token] for token in (tokens.astype(np.int64) + self._shift)]

    def document(self, number: int) -> StoredDocument:
        """Return a document by its number in the corpus; raise GlpError when it is not kept."""
        place = int(np.searchsorted(self._numbers, number))
        if place >= len(self._numbers) or self._numbers[place] != number:
            raise GlpError(f"Document {number} is not in the index: it holds the {len(self._numbers):,} that its lists show.")
        return StoredDocument(self.source(place), self.words(place))

    def all(self) -> list[str]:
        """Return the text of every document."""
        return ["".join(self.words(place)) for place in range(len(self._numbers))]

    def tokens_at(self, places: np.ndarray, positions: np.ndarray) -> np.ndarray:
        """Return the token at a position, counted from 0, of each place, -1 where the place is negative; shapes are the same."""
        at = self._starts[np.maximum(places, 0)] + positions
        tokens = self._file.get_tensor("tokens").astype(np.int64)[np.clip(at, 0, None)] + self._shift
        return np.where(places < 0, -1, tokens)

    def held_out(self) -> HeldOutTokens:
        """Return the tokens of the sampled documents."""
        numbers, starts, positions = (self._file.get_tensor(f"sample_{name}") for name in ("numbers", "starts", "positions"))
        document = np.repeat(np.arange(len(numbers)), np.diff(starts))
        places = np.searchsorted(self._numbers, numbers)[document]
        position = positions.astype(np.int64) - 1
        pieces = [self.pieces[token] for token in self.tokens_at(places, position)]
        return HeldOutTokens(numbers.tolist(), pieces, document, position)
