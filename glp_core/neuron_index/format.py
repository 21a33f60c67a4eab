"""What the index of meta-neurons keeps of a neuron, and how values around an extreme token are packed; numpy only."""

import numpy as np

KEPT = 20
"""Texts kept of each sign."""
REACH = 32
"""Tokens kept on either side of the extreme one."""
QUANTILES = (1e-5, 1e-4, 1e-3, 0.01, 0.05, 0.2, 0.4, 0.5, 0.6, 0.8, 0.95, 0.99, 0.999, 0.9999, 0.99999)
TAILS = (1e-4, 0.9999)
"""Quantiles that values are normalised by."""
ACTIVE = 0.25
"""A token counts as active above this share of the neuron's tail."""
HISTOGRAM_BINS = 50
INTERVAL_EDGES = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
"""Quantiles between which random texts are kept."""
INTERVAL_TEXTS = 5
INTERVAL_REACH = 16
"""Tokens kept on either side of a random text's token."""
NEIGHBOURS = 10
NO_VALUE = -128
EFFECT_NOTE = (
    "An approximation: the neuron's write direction, carried linearly through the GLP's output and the LLM's unembedding, "
    "skipping both rescalings and all LLM layers in between."
)


def window_span(peaks: np.ndarray, lengths: np.ndarray, reach: int) -> tuple[np.ndarray, np.ndarray]:
    """Return first and last + 1 index among a document's pieces (its tokens after the first) of the window around position `peaks`."""
    index = peaks.astype(np.int64) - 1
    return np.maximum(index - reach, 0), np.minimum(index + reach + 1, lengths)


def encode(values: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """Return signed square roots in units of sqrt(scale) / 127 as int8; -128 for nan."""
    share = np.sqrt(np.abs(values) / np.maximum(scale, 1e-30))
    code = np.sign(values) * np.rint(127 * np.minimum(share, 1))
    return np.where(np.isnan(values), NO_VALUE, code).astype(np.int8)


def decode(codes: np.ndarray, scale: float) -> np.ndarray:
    """Return the values (float32) of `encode`'s codes; nan for -128."""
    share = codes.astype(np.float32) / 127
    return np.where(codes == NO_VALUE, np.nan, np.sign(share) * share**2 * scale).astype(np.float32)
