"""Batches of rows of similar length, so that little of a padded batch is padding, as large as a device reads at once."""

from collections.abc import Iterator, Sequence

import torch

CPU_TOKENS = 1536
"""Tokens a forward on the CPU."""
ACCELERATOR_TOKENS, ACCELERATOR_WIDTH = 131_072, 576
"""Tokens a forward on an accelerator at that width; wider models read fewer, so that a forward's memory stays the same."""


def tokens_per_forward(device: torch.device, width: int) -> int:
    """Return how many tokens, padding included, one forward of a model of that width reads."""
    if device.type == "cpu":
        return CPU_TOKENS
    return min(ACCELERATOR_TOKENS, max(CPU_TOKENS, ACCELERATOR_TOKENS * ACCELERATOR_WIDTH // width))


def by_length(lengths: Sequence[int], tokens: int) -> Iterator[list[int]]:
    """Yield the places of rows in batches, longest rows first, of at most `tokens` padded tokens (or one row)."""
    order = sorted(range(len(lengths)), key=lambda place: -lengths[place])
    while order:
        count = max(1, tokens // max(1, lengths[order[0]]))
        yield order[:count]
        order = order[count:]
