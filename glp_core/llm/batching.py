"""Batches of rows of similar length, so that little of a padded batch is padding."""

from collections.abc import Iterator, Sequence


def by_length(lengths: Sequence[int], tokens: int) -> Iterator[list[int]]:
    """Yield the places of rows in batches, longest rows first, of at most `tokens` padded tokens (or one row)."""
    order = sorted(range(len(lengths)), key=lambda place: -lengths[place])
    while order:
        count = max(1, tokens // max(1, lengths[order[0]]))
        yield order[:count]
        order = order[count:]
