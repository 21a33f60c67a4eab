"""The place that is looked at: one layer of one language model, with the norm that tells massive activations and scales pushes.

Knows a model and a number; knows nothing of priors or of what is done at the place.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from glp_core.jobs.pause import is_shared, pause
from glp_core.llm.batching import by_length, tokens_per_forward
from glp_core.llm.model import Llm
from glp_core.progress import Progress, quiet

MASSIVE = 10.0
"""Tokens above this many median norms are attention sinks, not content."""
TOKENS_BETWEEN_PAUSES = 256
"""Read at once where others wait for the device: a tenth of a second on two cores."""


def is_massive(acts: Tensor, median_norm: float) -> Tensor:
    """Return for each activation (..., d) whether it is a massive one."""
    return acts.float().norm(dim=-1) > MASSIVE * median_norm


@dataclass(frozen=True, eq=False)
class Site:
    """One layer of one language model."""

    llm: Llm
    layer: int
    """Block whose output is read and edited, counted from 0."""
    median_norm: float
    """Of the layer's activations: the unit of strength."""

    def activations(self, rows: Sequence[Sequence[int]]) -> list[Tensor]:
        """Return each row's activations (tokens, d) for rows of token ids; the forward ends at the layer."""
        return self.llm.activations(rows, self.layer)

    def read(self, rows: Sequence[Sequence[int]], *, progress: Progress = quiet) -> list[Tensor]:
        """Return each row's activations (tokens, d) in batches, float32 on the CPU."""
        read: list[Tensor] = [torch.empty(0)] * len(rows)
        done = 0
        at_once = tokens_per_forward(self.llm.device, self.llm.d_model)
        for places in by_length([len(row) for row in rows], min(at_once, TOKENS_BETWEEN_PAUSES) if is_shared() else at_once):
            pause()
            for place, acts in zip(places, self.activations([rows[place] for place in places]), strict=True):
                read[place] = acts.float().cpu()
            done += len(places)
            progress(done, len(rows), "texts read")
        return read

    def is_massive(self, acts: Tensor) -> Tensor:
        """Return for each activation (..., d) whether it is a massive one."""
        return is_massive(acts, self.median_norm)
