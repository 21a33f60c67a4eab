"""What a language model makes of rows of token ids at one layer: the tensors that a store's shards are cut from.

Knows ids and a layer; knows nothing of files.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from itertools import chain
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from glp_core.data.corpus import Document
from glp_core.errors import GlpError
from glp_core.llm.batching import by_length, tokens_per_forward
from glp_core.llm.model import Llm
from glp_core.llm.site import is_massive

Part = Literal["text", "user", "answer", "template"]
PARTS: tuple[Part, ...] = ("text", "user", "answer", "template")
"""What a token is part of; stored as its place in this tuple."""


MOST_TOKENS = 32_767
"""Of a text: positions are stored in 16 bits."""


@dataclass(frozen=True)
class TextRow:
    """Token ids that the model reads as one sequence."""

    document: int
    """Number of the document that they come from."""
    ids: Sequence[int]
    """The first one, an attention sink, is read and never kept."""
    parts: Sequence[int] | None = None
    """Place in PARTS of each id, -1 for one that is read and not kept; None for plain text."""


def text_rows(llm: Llm, documents: Sequence[Document], first: int, max_tokens: int) -> list[TextRow]:
    """Return a row for each document's plain text, numbered from `first`, cut to `max_tokens`."""
    ids = llm.encode_all([document.text for document in documents], max_tokens=max_tokens)
    return [TextRow(first + i, row) for i, row in enumerate(ids)]


@dataclass(frozen=True)
class Tokens:
    """Activations of tokens with where they come from, in the order of the rows; first tokens are left out."""

    acts: Tensor
    """(n, d), on the model's device."""
    tokens: Tensor
    """(n,) int32 ids."""
    documents: Tensor
    """(n,) int32, not falling."""
    positions: Tensor
    """(n,) int16, counted from 0 at the row's first token."""
    parts: Tensor
    """(n,) int8, places in PARTS; -1 for tokens that are not to be kept."""

    def __getitem__(self, which: slice | Tensor) -> "Tokens":
        """Return some of the tokens."""
        here = which.to(self.acts.device) if isinstance(which, Tensor) else which
        return Tokens(self.acts[here], *(getattr(self, one.name)[which] for one in fields(self)[1:]))

    def __len__(self) -> int:
        return len(self.acts)


def read(llm: Llm, layer: int, rows: Sequence[TextRow]) -> Tokens:
    """Return what the model makes of rows, longest rows first through the model and in their own order here.

    Raises:
        GlpError: the layer gives values that are not finite.
    """
    rows = [row for row in rows if len(row.ids) > 1]
    if not rows:
        raise GlpError("None of these documents has a token: leave empty texts out.")
    lengths = np.array([len(row.ids) - 1 for row in rows])
    starts, total = np.cumsum(lengths) - lengths, int(lengths.sum())
    every, finite = torch.empty(0), []
    for places, acts in _forwards(llm, layer, rows):
        where = np.concatenate([np.arange(starts[place], starts[place] + lengths[place]) for place in places])
        every = every if len(every) else acts.new_empty(total, acts.shape[1])
        every[torch.from_numpy(where).to(acts.device)] = acts
        finite.append(torch.isfinite(acts).all())
    if not torch.stack(finite).all():  # once a call: it waits for the device
        raise GlpError(
            f"Layer {layer} of {llm.title} gives NaN or infinite values: its weights are damaged, or {llm.dtype} is too small."
        )
    kinds = chain.from_iterable((row.parts[1:] if row.parts is not None else [0] * (len(row.ids) - 1)) for row in rows)
    return Tokens(
        every,
        torch.from_numpy(np.fromiter(chain.from_iterable(row.ids[1:] for row in rows), np.int32, total)),
        torch.from_numpy(np.repeat(np.array([row.document for row in rows], np.int32), lengths)),
        torch.from_numpy((np.arange(total) - np.repeat(starts, lengths) + 1).astype(np.int16)),
        torch.from_numpy(np.fromiter(kinds, np.int8, total)),
    )


def without_massive(tokens: Tokens, median_norm: float) -> tuple[Tokens, Tensor]:
    """Return the tokens that are to be kept, and the documents (m,) of the massive ones among those left out."""
    massive = is_massive(tokens.acts, median_norm).cpu()
    content = tokens.parts >= 0
    return tokens[content & ~massive], tokens.documents[content & massive]


def _forwards(llm: Llm, layer: int, rows: Sequence[TextRow]) -> Iterator[tuple[list[int], Tensor]]:
    """Yield places of rows and their activations (tokens, d) one after another, first tokens left out."""
    for places in by_length([len(row.ids) for row in rows], tokens_per_forward(llm.device, llm.d_model)):
        acts = torch.cat([a[1:] for a in llm.activations([rows[place].ids for place in places], layer)])
        yield places, acts
