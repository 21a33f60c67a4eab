"""What a page shows of one neuron, as plain values."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Snippet:
    """One text on a neuron's page."""

    document: int
    """Its number in the corpus."""
    source: str
    """Its data set."""
    value: float
    """The neuron's value at the peak token."""
    peak: int
    """Index of that token in pieces."""
    pieces: list[str]
    """The document's tokens; joined they are its text."""
    values: np.ndarray
    """The neuron's values (len(pieces),), float32; nan where they were not kept."""
    start: int
    """First piece of the kept window."""
    stop: int
    """End of the kept window."""


@dataclass(frozen=True)
class ValueRange:
    """Random texts with values between two quantiles."""

    low_quantile: float
    high_quantile: float
    low: float
    high: float
    texts: list[Snippet]


@dataclass(frozen=True)
class Neighbour:
    """A similar neuron."""

    layer: int
    neuron: int
    similarity: float
    """Cosine or correlation, signed."""


@dataclass(frozen=True)
class TokenEffect:
    """A token of the LLM that a neuron promotes or suppresses."""

    text: str
    score: float


@dataclass(frozen=True)
class Neuron:
    """All that a neuron's page shows."""

    layer: int
    neuron: int
    index: int
    description: str
    described_by: str
    """"automatic", or the model that wrote it."""
    mean: float
    std: float
    skewness: float
    kurtosis: float
    """Excess: 0 for a normal distribution."""
    noise_share: float
    """Share of variance due to the noise seed at sigma 0.1 with one draw."""
    counts: np.ndarray
    """Tokens in each of 50 bins, int64; their sum is the tokens seen."""
    edges: np.ndarray
    """Of the bins (51,), equal on a signed logarithmic scale."""
    tail: float
    """The absolute value that one token in a thousand reaches."""
    repeated: float
    """Share of tokens at values that repeat, such as exactly 0; the intervals are over the others."""
    quantiles: list[tuple[float, float]]
    top: list[Snippet]
    bottom: list[Snippet]
    intervals: list[ValueRange]
    promoted: list[TokenEffect]
    suppressed: list[TokenEffect]
    nearest_write: list[Neighbour]
    nearest_activation: list[Neighbour]
    scale: float
    """Largest absolute value kept: the colour scale that all its texts share."""
    best_task: str | None
    best_auc: float | None
    tasks: list[tuple[str, float]]
    """The ten tasks with the most extreme test AUC."""


@dataclass(frozen=True)
class StoredDocument:
    """One text of the index."""

    source: str
    pieces: list[str]


@dataclass(frozen=True)
class HeldOutTokens:
    """The tokens of the sampled documents, on which descriptions are tested."""

    documents: list[int]
    """Their numbers in the corpus."""
    pieces: list[str]
    """Every token that was read (n,)."""
    document: np.ndarray
    """Place among `documents` of each token (n,)."""
    position: np.ndarray
    """Of each token among its document's pieces, counted from 0 (n,)."""


@dataclass(frozen=True)
class HeldOutFiring:
    """The held-out tokens on which one neuron's absolute value is above its tail."""

    rows: np.ndarray
    """Of the held-out tokens, ascending."""
    signs: np.ndarray
    """Of the neuron's values there: 1 or -1."""
