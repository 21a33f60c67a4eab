"""Batches of rows of similar length, so that little of a padded batch is padding, as large as a device reads at once."""

import math
from collections.abc import Iterator, Sequence

import torch

CPU_TOKENS = 1536
"""Tokens a forward on the CPU."""
ACCELERATOR_TOKENS, ACCELERATOR_WIDTH = 131_072, 576
"""Tokens a forward on an accelerator at that width; wider models read fewer, so that a forward's memory stays the same."""
SMALL_MODEL = 200_000_000
"""Parameters; the CPU reads some thousand tokens a second with such a model, and fewer with a larger one in proportion."""
FEWEST = 4
"""Texts that are kept together, however large the model is."""


def tokens_per_forward(device: torch.device, width: int) -> int:
    """Return how many tokens, padding included, one forward of a model of that width reads."""
    if device.type == "cpu":
        return CPU_TOKENS
    return min(ACCELERATOR_TOKENS, max(CPU_TOKENS, ACCELERATOR_TOKENS * ACCELERATOR_WIDTH // width))


def texts_kept_together(n: int, device: torch.device, parameters: int) -> int:
    """Return how many texts are written as one file: `n`, or on the CPU less by powers of 2 for a large model.

    So a kill loses seconds of work, not minutes; it depends on the model alone, so that a call that goes on makes the same files.
    """
    if device.type != "cpu" or parameters <= SMALL_MODEL:
        return n
    return max(min(n, FEWEST), n // 2 ** math.ceil(math.log2(parameters / SMALL_MODEL)))


def by_length(lengths: Sequence[int], tokens: int) -> Iterator[list[int]]:
    """Yield the places of rows in batches, longest rows first, of at most `tokens` padded tokens (or one row)."""
    order = sorted(range(len(lengths)), key=lambda place: -lengths[place])
    while order:
        count = max(1, tokens // max(1, lengths[order[0]]))
        yield order[:count]
        order = order[count:]
