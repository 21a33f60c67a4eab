"""What a language model makes of texts at one layer: an activation for each text, at its last token and averaged over its tokens.

Knows texts, tokens and a layer; knows nothing of labels or directions.
"""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from glp_core.errors import GlpError
from glp_core.llm.site import Site
from glp_core.progress import Progress, quiet

Pooling = Literal["last", "mean"]
POOLED = {"last": "last-token activations", "mean": "activations averaged over each text"}
TOKENS_PER_TEXT = 48
"""Longer texts are cut: a topic shows early, and a last token deep in a text says little about its start."""


class TextReading:
    """What the model makes of texts at one layer: last-token and mean activations, float32."""

    def __init__(self, last: Tensor, mean: Tensor) -> None:
        self.last, self.mean = last, mean

    @staticmethod
    def of(site: Site, texts: Sequence[str], *, progress: Progress = quiet) -> "TextReading":
        """Read texts, cut to TOKENS_PER_TEXT; first tokens and massive activations are left out.

        One massive activation would outweigh hundreds of texts; a text that has no others (a lone word) gives nan.
        """
        rows = [site.llm.encode(text, max_tokens=TOKENS_PER_TEXT) for text in texts]
        short = next((text for text, row in zip(texts, rows, strict=True) if len(row) < 2), None)
        if short is not None:
            raise GlpError(f"The text {short!r} has no tokens: leave empty texts out.")
        return TextReading.of_spans(site, rows, [1] * len(rows), progress=progress)

    @staticmethod
    def of_spans(
        site: Site, rows: Sequence[Sequence[int]], starts: Sequence[int], *, progress: Progress = quiet
    ) -> "TextReading":
        """Read rows of token ids, each from its position `start` on."""
        spans = [acts[start:] for acts, start in zip(site.read(rows, progress=progress), starts, strict=True)]
        content = [span[~site.is_massive(span)] for span in spans]
        nothing = torch.full((site.llm.d_model,), torch.nan)
        last, means = ([pool(span) if len(span) else nothing for span in content] for pool in (_last, _mean))
        return TextReading(torch.stack(last), torch.stack(means))

    def pooled(self, pooling: Pooling) -> Tensor:
        """Return one activation for each text (n, d)."""
        return self.last if pooling == "last" else self.mean

    def first(self, n: int) -> "TextReading":
        """Return the reading of the first `n` texts."""
        return TextReading(self.last[:n], self.mean[:n])

    @staticmethod
    def joined(parts: Sequence["TextReading"]) -> "TextReading":
        """Return several readings as one."""
        return TextReading(*(torch.cat([getattr(part, name) for part in parts]) for name in ("last", "mean")))


def _last(span: Tensor) -> Tensor:
    return span[-1]


def _mean(span: Tensor) -> Tensor:
    return span.mean(0)
