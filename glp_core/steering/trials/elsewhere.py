"""What steering costs elsewhere: how much the model's loss on neutral held-out text rises while every position is steered.

Knows a model, conditions and texts; knows no files.
"""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from glp_core.devices import batch_size
from glp_core.files import Json
from glp_core.llm.hooks import edit
from glp_core.llm.model import token_log_probabilities
from glp_core.llm.site import Site
from glp_core.prior.projection import Projector
from glp_core.progress import Progress, quiet
from glp_core.stats import bootstrap_mean
from glp_core.steering.trials.outcomes import Condition

DOCUMENTS, TOKENS = 32, 64
AT_ONCE = {"cpu": 1, "accelerator": 6}
"""Conditions in one forward."""


def loss_rises(
    site: Site,
    planned: Sequence[Condition],
    texts: Sequence[str],
    *,
    documents: int = DOCUMENTS,
    tokens: int = TOKENS,
    progress: Progress = quiet,
) -> list[Json]:
    """Return for each condition, in their order, how many nats a token the loss rises on the first texts that are long enough.

    The first token and massive activations stay as they are.

    Returns:
        Rows of arm, strength, loss_rise, loss_rise_ci (95%, bootstrap over documents), n.
    Raises:
        GlpError: the texts are too short (`Llm.long_rows`).
    """
    ids = site.llm.long_rows(texts, documents, tokens)
    plain = _losses(site, ids, None)
    size = batch_size(site.llm.device, **AT_ONCE)
    rows: dict[int, Json] = {}
    for numbers in _side_by_side(planned, size):
        part = [planned[number] for number in numbers]
        losses = _losses(site, ids.repeat(len(part), 1), _Edit(site, part, len(ids)))
        for number, condition, after in zip(numbers, part, losses.split(len(ids)), strict=True):
            rise = bootstrap_mean((after - plain).cpu().numpy())
            row = {"loss_rise": round(rise.value, 4), "loss_rise_ci": [round(end, 4) for end in (rise.low, rise.high)]}
            rows[number] = {"arm": condition.arm, "strength": condition.strength} | row | {"n": len(ids)}
        progress(len(rows), len(planned), part[-1].arm)
    return [rows[number] for number in range(len(planned))]


class _Edit:
    """Pushes every position as conditions say, each for its block of documents; for `hooks.edit`."""

    def __init__(self, site: Site, planned: Sequence[Condition], documents: int) -> None:
        self.site, self.planned, self.documents = site, planned, documents

    def __call__(self, hidden: Tensor) -> Tensor:
        """Edit hidden (documents of all conditions, tokens, d)."""
        clean = hidden.float()
        norm, parts = self.site.median_norm, clean.split(self.documents)
        pushes = [condition.strength * norm * condition.direction.vector.to(clean) for condition in self.planned]
        pushed = torch.cat([part + push for part, push in zip(parts, pushes, strict=True)])
        projector = self.planned[0].projector
        if projector is not None:
            flat = (-1, hidden.shape[-1])
            pushed = projector(pushed.reshape(flat), clean.reshape(flat), noise=self._noise(projector, clean)).reshape(
                clean.shape
            )
        free = ~self.site.is_massive(clean)
        free[:, 0] = False
        return torch.where(free[..., None], pushed.to(hidden.dtype), hidden)

    def _noise(self, projector: Projector, clean: Tensor) -> Tensor | None:
        """Return the same noise for every condition's documents, (n, d) or (draws, n, d)."""
        if not projector.draws:
            return None
        shape = (projector.draws, self.documents * clean.shape[1], clean.shape[-1])
        noise = torch.randn(shape, generator=torch.Generator().manual_seed(0)).to(clean.device)
        noise = noise.repeat(1, len(self.planned), 1)
        return noise[0] if projector.draws == 1 else noise


def _side_by_side(planned: Sequence[Condition], size: int) -> Iterator[list[int]]:
    """Yield numbers of conditions that share a projector, at most `size` together."""
    groups: list[tuple[Projector | None, list[int]]] = []
    for number, condition in enumerate(planned):
        same = next((numbers for projector, numbers in groups if projector == condition.projector), None)
        if same is None:
            groups.append((condition.projector, [number]))
        else:
            same.append(number)
    for _, numbers in groups:
        for first in range(0, len(numbers), size):
            yield numbers[first : first + size]


@torch.inference_mode()
def _losses(site: Site, ids: Tensor, apply: _Edit | None) -> Tensor:
    """Return each row's mean next-token loss (rows,)."""
    with edit(site.llm.model, {} if apply is None else {site.layer: apply}):
        logits = site.llm.model(input_ids=ids, use_cache=False).logits
    return -token_log_probabilities(logits, ids).mean(1)
