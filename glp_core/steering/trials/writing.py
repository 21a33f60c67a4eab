"""Write many texts at once, for reports: whole texts instead of tokens as they come, thousands of rows in a batch on an accelerator.

A row's text is the one that `generation.generate` writes. Knows token ids; knows nothing of what texts are measured for.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from glp_core.jobs.pause import pause
from glp_core.llm.batching import ACCELERATOR_WIDTH
from glp_core.llm.decoding import ROWS, Sampling
from glp_core.llm.model import Llm
from glp_core.llm.needs import cache_bytes
from glp_core.llm.site import Site
from glp_core.memory import free_memory
from glp_core.prior.distance import ManifoldMeter
from glp_core.progress import Progress, quiet
from glp_core.steering.loop import Loop, Row

ROWS_AT_ONCE = {"cpu": 128, "accelerator": 3072}
"""On an accelerator, of a model of ACCELERATOR_WIDTH; wider ones write fewer."""
SHARE_FOR_KEYS = 0.5
"""Of the free memory that keys and values may take."""


class Stopped(Exception):
    """Writing was stopped; what was not whole is not kept."""


class WrittenText(NamedTuple):
    """One row's text."""

    tokens: list[int]
    """Without the stop token."""
    text: str
    distance: float
    """Mean manifold distance of the activations that its tokens were chosen from, after the edit; nan without a meter."""
    kept_push: float
    """Mean share of the push that the projection left; nan without one."""
    cosine: float = math.nan
    """Mean cosine between the push and what the activation moved by in all; nan without a projection."""
    correction: float = math.nan
    """Mean length of what the projection did at right angles to the push, in median norms; nan without one."""


def write_texts(
    site: Site,
    rows: Sequence[Row],
    sampling: Sampling,
    *,
    meter: ManifoldMeter | None = None,
    progress: Progress = quiet,
    cancelled: Callable[[], bool] = lambda: False,
) -> list[WrittenText]:
    """Write every row's text; rows that share a projector are quickest side by side.

    Args:
        cancelled: asked before every token.
    Raises:
        GlpError: as `generation.generate`.
        Stopped: `cancelled` said yes.
    """
    size = rows_at_once(site.llm, max((len(row.prompt) for row in rows), default=1) + sampling.max_tokens, ROWS_AT_ONCE)
    texts: list[WrittenText] = []
    for first in range(0, len(rows), size):
        texts += _write_batch(site, rows[first : first + size], sampling, meter, cancelled)
        progress(len(texts), len(rows), rows[len(texts) - 1].arm.name)
    return texts


def rows_at_once(llm: Llm, tokens: int, most: Mapping[str, int]) -> int:
    """Return how many rows of so many tokens, prompt included, are written side by side; no row's text depends on it.

    Args:
        most: of them on a `cpu` and on an `accelerator`.
    """
    rows = most["cpu"]
    if llm.device.type != "cpu":
        rows = most["accelerator"] * ACCELERATOR_WIDTH // max(ACCELERATOR_WIDTH, llm.d_model)
    each, free = tokens * cache_bytes(llm.model.config, llm.dtype), free_memory(llm.device)
    if each and free is not None:
        rows = min(rows, int(SHARE_FOR_KEYS * free) // each)
    return max(1, rows // ROWS) * ROWS


@torch.inference_mode()
def _write_batch(
    site: Site, rows: Sequence[Row], sampling: Sampling, meter: ManifoldMeter | None, cancelled: Callable[[], bool]
) -> list[WrittenText]:
    llm, loop = site.llm, Loop(site, rows, sampling, meter)
    stops = torch.tensor(sorted(llm.stop_ids), device=llm.device)
    ended = torch.zeros(len(loop.last), dtype=torch.bool, device=llm.device)
    tokens, distances, retentions = [], [], []
    for _ in range(sampling.max_tokens):
        pause()
        if cancelled():
            raise Stopped
        _, once = loop.advance()
        edited = once.edited
        tokens.append(loop.last)
        retentions.append(torch.stack(edited.retention).masked_fill(ended, torch.nan))
        if meter is not None:
            distance = meter.distance(edited.final).to(llm.device)
            distances.append(distance.masked_fill(ended | edited.massive, torch.nan))
        ended = ended | torch.isin(loop.last, stops)
        if ended.all():
            break
    written = torch.stack(tokens, dim=1)[: len(rows)].tolist()
    ids = [_before_stop(row, llm.stop_ids) for row in written]
    texts = _continuations(llm, [row.prompt for row in rows], ids)
    far = _means(distances, len(rows))
    kept = (_means([one[i] for one in retentions], len(rows)) for i in range(3))
    return [WrittenText(*row) for row in zip(ids, texts, far, *kept, strict=True)]


def _before_stop(tokens: list[int], stop_ids: frozenset[int]) -> list[int]:
    end = next((i for i, token in enumerate(tokens) if token in stop_ids), len(tokens))
    return tokens[:end]


def _continuations(llm: Llm, prompts: Sequence[Sequence[int]], ids: Sequence[list[int]]) -> list[str]:
    """Return the text that ids add after their prompts; some tokenizers write a text's first word otherwise than a later one."""
    tails = [list(prompt[-8:]) for prompt in prompts]
    joined = [tail + row for tail, row in zip(tails, ids, strict=True)]
    befores, wholes = (
        llm.tokenizer.batch_decode(rows, skip_special_tokens=False, clean_up_tokenization_spaces=False)
        for rows in (tails, joined)
    )
    return [whole[len(before) :] for before, whole in zip(befores, wholes, strict=True)]


def _means(steps: Sequence[Tensor], n: int) -> list[float]:
    """Return each row's mean over steps of (rows,), nan left out; nan for n rows without any."""
    return torch.stack(list(steps), dim=1)[:n].cpu().double().nanmean(1).tolist() if steps else [float("nan")] * n
