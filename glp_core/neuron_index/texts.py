"""Read the documents that an index of meta-neurons keeps, by place or by number in the corpus, and the lists of them that neurons have."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import safe_open

from glp_core.checked.tensors import check_tensors
from glp_core.errors import GlpError
from glp_core.neuron_index.format import AGAIN, decode, window_span
from glp_core.neuron_index.neuron_data import HeldOutTokens, Snippet, StoredDocument

TEXTS = {
    "starts": "whole starts",
    "numbers": "whole documents",
    "sources": "whole documents",
    "tokens": "whole tokens",
    "sample_numbers?": "whole samples",
    "sample_starts?": "whole sample_starts",
    "sample_positions?": "whole sample_tokens",
}


class StoredTexts:
    """The documents of an index; a place is a document's position among them."""

    def __init__(self, path: Path, pieces: Sequence[str], sources: Sequence[str]) -> None:
        """Open texts.safetensors; `pieces` are the text of each token that it uses, `sources` the data sets' names."""
        self.pieces, self._sources = pieces, sources
        check_tensors(path, TEXTS, again=AGAIN)
        self._file = safe_open(path, "np")
        self._starts = self._file.get_tensor("starts")
        self._numbers = self._file.get_tensor("numbers")
        self._source = self._file.get_tensor("sources")
        self._tokens = self._file.get_slice("tokens")
        self._shift = 2**15 if self._tokens.get_dtype() == "I16" else 0
        tokens = self._file.get_tensor("tokens")
        documents = len(self._numbers)
        fits = _within(self._source, 0, len(sources)) and _within(tokens, -self._shift, len(pieces) - self._shift)
        if not fits or not _rises(self._starts, documents, len(tokens)) or (np.diff(self._numbers) <= 0).any():
            raise GlpError(f"{path.name} of the index is damaged: its documents, tokens and pieces do not fit. {AGAIN}")

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

    def tokens_at(self, places: np.ndarray, positions: np.ndarray) -> np.ndarray:
        """Return the token at a position, counted from 0, of each place, -1 where the place is negative; shapes are the same."""
        at = self._starts[np.maximum(places, 0)] + positions
        tokens = self._file.get_tensor("tokens").astype(np.int64)[np.clip(at, 0, None)] + self._shift
        return np.where(places < 0, -1, tokens)

    def held_out(self) -> HeldOutTokens:
        """Return the tokens of the sampled documents."""
        names = [f"sample_{name}" for name in ("numbers", "starts", "positions")]
        if not set(names) <= set(self._file.keys()):
            raise GlpError(f"The index keeps no held-out tokens. {AGAIN}")
        numbers, starts, positions = map(self._file.get_tensor, names)
        listed = np.isin(numbers, self._numbers).all() and _rises(starts, len(numbers), len(positions))
        document = np.repeat(np.arange(len(numbers)), np.diff(starts)) if listed else np.zeros(0, np.int64)
        places = np.searchsorted(self._numbers, numbers)
        if not listed or not _inside(positions, self.lengths, places[document]):
            raise GlpError(f"texts.safetensors of the index is damaged: its held-out tokens are not in its texts. {AGAIN}")
        places = places[document]
        position = positions.astype(np.int64) - 1
        pieces = [self.pieces[token] for token in self.tokens_at(places, position)]
        return HeldOutTokens(numbers.tolist(), pieces, document, position)


class NeuronTexts:
    """The lists of texts that neurons have: windows around an extreme token of each, or around random ones."""

    def __init__(self, kind: str, neurons: Any, texts: StoredTexts, reach: int, version: int) -> None:
        """Take the lists of a kind, "top" or "interval", from the open units.safetensors; `version` is its format."""
        self._kind, self._file, self._texts, self._reach, self._version = kind, neurons, texts, reach, version
        places = neurons.get_tensor(f"{kind}_documents")
        peaks, lengths = neurons.get_tensor(f"{kind}_peaks"), texts.lengths
        if not _within(places, -1, len(lengths)) or not (_inside(peaks, lengths, places)):
            raise GlpError(f"units.safetensors of the index is damaged: its {kind} texts are not among those kept. {AGAIN}")
        start, stop = window_span(peaks, lengths[np.maximum(places, 0)], reach)
        sizes = np.where(places >= 0, stop - start, 0)
        self._starts = (np.cumsum(sizes) - sizes.ravel()).reshape(places.shape)
        """Of each entry's window among the packed values."""
        if int(sizes.sum()) != neurons.get_slice(f"{kind}_windows").get_shape()[0]:
            raise GlpError(f"units.safetensors of the index is damaged: its {kind} windows do not fit its texts. {AGAIN}")

    def snippets(self, index: int, row: int, scale: float) -> list[Snippet]:
        """Return the texts of one list of the neuron of that flat number, whose values are packed on this scale."""
        places, peaks, values = (
            self._file.get_slice(f"{self._kind}_{name}")[index][row].tolist() for name in ("documents", "peaks", "values")
        )
        entries = zip(places, peaks, values, self._starts[index, row].tolist(), strict=True)
        return [self._snippet(place, peak, value, first, scale) for place, peak, value, first in entries if place >= 0]

    def _snippet(self, place: int, peak: int, value: float, first: int, scale: float) -> Snippet:
        pieces = self._texts.words(place)
        start, stop = (int(end) for end in window_span(np.array(peak), np.array(len(pieces)), self._reach))
        codes = self._file.get_slice(f"{self._kind}_windows")[first : first + stop - start]
        values = np.full(len(pieces), np.nan, np.float32)
        values[start:stop] = decode(codes, scale, self._version)
        values[peak - 1] = value
        return Snippet(self._texts.number(place), self._texts.source(place), value, peak - 1, pieces, values, start, stop)


def _within(values: np.ndarray, low: int, high: int) -> bool:
    """Say whether all values are from low to below high."""
    return not values.size or bool(low <= values.min() and values.max() < high)


def _rises(starts: np.ndarray, parts: int, end: int) -> bool:
    """Say whether these are the starts of so many parts, and their end."""
    return len(starts) == parts + 1 and starts[0] == 0 and starts[-1] == end and bool((np.diff(starts) >= 0).all())


def _inside(peaks: np.ndarray, lengths: np.ndarray, places: np.ndarray) -> bool:
    """Say whether every listed peak is a token of its document."""
    if not len(lengths):
        return not (places >= 0).any()
    return bool(((places < 0) | ((peaks >= 1) & (peaks <= lengths[np.maximum(places, 0)]))).all())
