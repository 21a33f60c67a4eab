"""The steering edit of prompts while they are read: the push and the projection at a span of each row's prompt.

Of each prompt all but the last token; that one is the loop's first step. Knows activations; knows nothing of tokens.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from glp_core.errors import GlpError
from glp_core.llm.site import Site
from glp_core.steering.edit import BROKEN_PUSH, EditedRow

NOISE_STREAM = 2_000_003
"""Added to a row's seed: a prompt's noise is drawn apart from later noise, and alike for all rows of a seed."""
AT_ONCE = 512
"""Tokens that a projector takes in one call."""


class PromptEdit:
    """The edit of one reading of prompts, for `hooks.edit`."""

    def __init__(self, site: Site, rows: Sequence[EditedRow]) -> None:
        self.site, self.rows = site, rows

    def __call__(self, hidden: Tensor) -> Tensor:
        """Edit hidden (rows, tokens, d), prompts padded on the left."""
        edited, end = hidden.clone(), hidden.shape[1]
        for place, row in enumerate(self.rows):
            if not row.edits_prompt:
                continue
            head = row.length - 1
            first, last = max(1, row.span[0]), min(row.span[1], head)
            if first < last:
                part = slice(end - head + first, end - head + last)
                edited[place, part] = self._edited(row, hidden[place, part].float()).to(hidden.dtype)
        return edited

    def _edited(self, row: EditedRow, clean: Tensor) -> Tensor:
        arm = row.arm
        free = ~self.site.is_massive(clean)
        if arm.where.only is not None:
            free = free & arm.where.only(clean)
        pushed = clean if arm.vector is None else clean + arm.strength * self.site.median_norm * arm.vector.float().to(clean)
        if not torch.isfinite(pushed[free]).all():
            raise GlpError(BROKEN_PUSH)
        final = pushed if arm.projector is None or arm.projector.name == "none" else self._projected(row, clean, pushed)
        return torch.where(free[:, None], final, clean)

    def _projected(self, row: EditedRow, clean: Tensor, pushed: Tensor) -> Tensor:
        projector = row.arm.projector
        assert projector is not None
        generator, draws = torch.Generator().manual_seed(row.seed + NOISE_STREAM), projector.draws
        noise = torch.randn(len(clean), draws, clean.shape[1], generator=generator).transpose(0, 1).to(clean)
        parts = []
        for first in range(0, len(clean), AT_ONCE):
            part = slice(first, first + AT_ONCE)
            drawn = noise[:, part] if draws > 1 else noise[0, part] if draws else None
            parts.append(projector(pushed[part], clean[part], noise=drawn).float())
        return torch.cat(parts)
