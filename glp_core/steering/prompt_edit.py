"""The steering edit of prompts while they are read: the push and the projection at a span of each row's prompt.

Of each prompt all but the last token; that one is the loop's first step. Knows activations; knows nothing of tokens.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from glp_core.errors import GlpError
from glp_core.llm.site import Site
from glp_core.prior.projection import Projector
from glp_core.steering.edit import BROKEN_PUSH, EditedRow

NOISE_STREAM = 2_000_003
"""Added to a row's seed: a prompt's noise is drawn apart from later noise, and alike for all rows of a seed."""
AT_ONCE = 512
"""Tokens that a projector takes in one call."""


class PromptEdit:
    """The edit of one reading of prompts, whole or in parts one after another, for `hooks.edit`."""

    def __init__(self, site: Site, rows: Sequence[EditedRow]) -> None:
        self.site, self.rows = site, rows
        self._columns = max(row.length - 1 for row in rows)
        self._read = 0
        """Columns of the parts that were read before."""
        self._noise = [torch.Generator().manual_seed(row.seed + NOISE_STREAM) for row in rows]

    def __call__(self, hidden: Tensor) -> Tensor:
        """Edit the next part of hidden (rows, tokens, d), prompts padded on the left."""
        edited, begin = hidden.clone(), self._read
        self._read = end = begin + hidden.shape[1]
        for row, noise, there, then in zip(self.rows, self._noise, hidden, edited, strict=True):
            if not row.edits_prompt:
                continue
            head = row.length - 1
            first, last = (self._columns - head + place for place in (max(1, row.span[0]), min(row.span[1], head)))
            part = slice(max(first, begin) - begin, min(last, end) - begin)
            if part.start < part.stop:
                then[part] = self._edited(row, noise, there[part].float()).to(hidden.dtype)
        return edited

    def _edited(self, row: EditedRow, noise: torch.Generator, clean: Tensor) -> Tensor:
        arm = row.arm
        free = ~self.site.is_massive(clean)
        if arm.where.only is not None:
            free = free & arm.where.only(clean)
        pushed = clean if arm.vector is None else clean + arm.strength * self.site.median_norm * arm.vector.float().to(clean)
        if not torch.isfinite(pushed[free]).all():
            raise GlpError(BROKEN_PUSH)
        if arm.projector is not None and arm.projector.name != "none":
            pushed = _projected(arm.projector, noise, clean, pushed)
        return torch.where(free[:, None], pushed, clean)


def _projected(projector: Projector, generator: torch.Generator, clean: Tensor, pushed: Tensor) -> Tensor:
    draws = projector.draws
    noise = torch.randn(len(clean), draws, clean.shape[1], generator=generator).transpose(0, 1).to(clean)
    parts = []
    for first in range(0, len(clean), AT_ONCE):
        part = slice(first, first + AT_ONCE)
        drawn = noise[:, part] if draws > 1 else noise[0, part] if draws else None
        parts.append(projector(pushed[part], clean[part], noise=drawn).float())
    return torch.cat(parts)
