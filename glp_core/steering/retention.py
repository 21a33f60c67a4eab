"""What a projection left of a push: how much of it, in which direction the activation went instead, and how far aside.

Knows activations before a push, after it, and after the projection.
"""

from typing import NamedTuple

from torch import Tensor


class Retention(NamedTuple):
    """What was left of each push (n,); nan where nothing was pushed."""

    kept_push: Tensor
    """Share of the push that is left along its direction: 1 all of it, 0 nothing, below 0 the projection went the other way."""
    cosine: Tensor
    """Between what the activation moved by in all and the push: 1 the same way, 0 at right angles."""
    correction: Tensor
    """Length of what the projection did at right angles to the push, in median norms."""


def retention(clean: Tensor, pushed: Tensor, final: Tensor, median_norm: float) -> Retention:
    """Measure activations (n, d) before a push, after it, and as they went on."""
    push, moved = (pushed - clean).float(), (final - clean).float()
    length = push.norm(dim=-1)
    along = (moved * push).sum(-1) / length  # of no push: nan
    aside = moved - (along / length)[..., None] * push
    return Retention(along / length, along / moved.norm(dim=-1), aside.norm(dim=-1) / median_norm)
