"""Generate text while steering: a batched decode loop whose rows are the arms of a comparison, each with its own edit.

The edit acts on the last position of every forward, as in the paper: on the prompt's last token, then on each new one. A row's
text does not depend on the rows beside it. Knows token ids; knows nothing of workspaces or pages.
"""

import time
from collections.abc import Callable, Generator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from glp_core.devices import batch_size
from glp_core.errors import GlpError
from glp_core.llm.decoding import Context, Sampling, check_prompt, choose, filled, shares_prompts
from glp_core.llm.hooks import edit, layer_at, record
from glp_core.llm.model import Llm
from glp_core.llm.site import Site
from glp_core.llm.text_stream import TextStream
from glp_core.prior.distance import ManifoldMeter
from glp_core.steering.edit import Arm, EditEffect, OneEdit, SteeringEdit, check_arms

__all__ = ["Arm", "Row", "Sampling", "Step", "clean_reading", "decode", "generate", "read_texts", "steer"]

TOKENS_PER_READING = {"cpu": 4096, "accelerator": 32_768}
"""The logits of 32,768 tokens take some 13 GB in a vocabulary of 49,152."""


class Step(NamedTuple):
    """One token of one arm."""

    step: int
    """Counted from 0."""
    arm: str
    """The arm's name."""
    token: int
    """Token id."""
    text: str
    """What the token adds to the text; empty for a stop token and while a character's bytes are incomplete."""
    log_probability: float
    """Of the token, under the arm itself (its steered logits, temperature 1)."""
    distance_before: float
    """Manifold distance of the activation that the token was chosen from, before the edit; nan without a meter or when massive."""
    distance_after: float
    """The same, after the edit and the projection."""
    kept_push: float
    """Share of the push along the direction that the projection left; nan without push or projection."""
    seconds: float
    """Time that this step took, for all arms together."""
    finished: bool
    """Whether this is the arm's last token."""


class Row(NamedTuple):
    """One text to write."""

    prompt: Sequence[int]
    """Token ids, first_id included."""
    arm: Arm
    """What is done while it is written."""
    seed: int = 0
    """Of its choice of tokens and of its projection noise."""


def generate(
    site: Site,
    ids: Sequence[int],
    arms: Sequence[Arm],
    sampling: Sampling,
    *,
    meter: ManifoldMeter | None = None,
    cancelled: Callable[[], bool] = lambda: False,
) -> Generator[Step]:
    """Write a continuation of one prompt for each arm, side by side; yield every token as it comes.

    Args:
        site: whose output is edited.
        ids: the prompt, from `llm.encode` or `llm.encode_chat`.
        meter: measures distances when given (one more GLP call a step).
        cancelled: asked before every step; when it says yes, the iterator ends.
    Raises:
        GlpError: an empty or too long prompt, a bad strength or direction, or steering so strong that the model breaks.
    """
    rows = [Row(ids, arm, sampling.seed) for arm in arms]
    for _, step in decode(site, rows, sampling, meter=meter, cancelled=cancelled):
        yield step


def steer(site: Site, prompt: str, arms: Sequence[Arm], *, max_tokens: int = 64, seed: int = 0) -> dict[str, str]:
    """Return the likeliest continuation of a prompt under each arm, by the arm's name; `seed` is of the projections' noise.

    Raises:
        GlpError: as `generate`, or two arms of one name.
    """
    texts = {arm.name: "" for arm in arms}
    if len(texts) < len(arms):
        raise GlpError(f"Two arms have one name: got {', '.join(arm.name for arm in arms)}.")
    for step in generate(site, site.llm.encode(prompt), arms, Sampling(max_tokens, seed=seed)):
        texts[step.arm] += step.text
    return texts


def decode(
    site: Site,
    rows: Sequence[Row],
    sampling: Sampling,
    *,
    meter: ManifoldMeter | None = None,
    cancelled: Callable[[], bool] = lambda: False,
) -> Generator[tuple[int, Step]]:
    """Do what `generate` does for rows with prompts of their own; yield each token with its row's number."""
    _check(site, rows, sampling)
    if cancelled():
        return
    batch = _Batch(Loop(site, rows, sampling, meter))
    for step in range(sampling.max_tokens):
        if not batch.open or cancelled():
            return
        yield from batch.step(step)


def _check(site: Site, rows: Sequence[Row], sampling: Sampling) -> None:
    layer_at(site.llm.model, site.layer)
    check_arms([row.arm for row in rows], site.llm.d_model, site.layer)
    for row in rows:
        check_prompt(site.llm, row.prompt, sampling.max_tokens)


class Loop:
    """The decode loop's state in tensors: rows of text that grow by a token a step, each with its own edit."""

    def __init__(self, site: Site, rows: Sequence[Row], sampling: Sampling, meter: ManifoldMeter | None) -> None:
        _check(site, rows, sampling)
        self.site, self.rows, self.sampling = site, rows, sampling
        llm = site.llm
        spare = filled(len(rows)) - len(rows)
        prompts = [list(row.prompt) for row in rows] + [list(rows[0].prompt)] * spare
        with torch.inference_mode():
            self.edit = SteeringEdit(site, [row.arm for row in rows], [row.seed for row in rows], meter=meter)
            self.context = Context(llm, prompts, room=sampling.max_tokens)
            self.last = torch.tensor([prompt[-1] for prompt in prompts], device=llm.device)
        self.generators = [torch.Generator().manual_seed(row.seed) for row in rows] if sampling.temperature else []

    @torch.inference_mode()
    def advance(self) -> tuple[Tensor, OneEdit]:
        """Write one more token of every row; return the logits (rows, vocabulary) it was chosen from, and the edit made on the way.

        The tokens are in `last`; rows beyond those asked for are spare.
        """
        once = self.edit.start(self.context.lengths == 0)
        with edit(self.site.llm.model, {self.site.layer: once}):
            logits = self.context.feed(self.last[:, None], keep=1)[:, -1].float()
        if not torch.isfinite(logits[: len(self.rows)]).all():
            raise GlpError(
                "The model's output is not a number any more: steering that is too strong breaks it. Reduce the strength."
            )
        self.last = self._choose(logits)
        return logits, once

    def _choose(self, logits: Tensor) -> Tensor:
        drawn = [torch.rand(1, generator=generator, dtype=torch.float64) for generator in self.generators]
        spare = len(logits) - len(drawn)
        return choose(logits, self.sampling, torch.cat([*drawn, torch.zeros(spare, dtype=torch.float64)]))


class _Batch:
    """A loop whose tokens are handed out as steps."""

    def __init__(self, loop: Loop) -> None:
        self.loop, self.rows = loop, loop.rows
        self.streams = [TextStream(loop.site.llm.tokenizer, row.prompt) for row in self.rows]
        self.stop_ids = loop.site.llm.stop_ids
        self.open = set(range(len(self.rows)))

    def step(self, step: int) -> list[tuple[int, Step]]:
        """Write one more token of every row; return those of the rows that had not ended before."""
        start = time.perf_counter()
        tokens, log_probabilities, reading = self._forward()
        seconds = time.perf_counter() - start
        steps = []
        for row in sorted(self.open):
            token = tokens[row]
            stopped = token in self.stop_ids
            finished = stopped or step == self.loop.sampling.max_tokens - 1
            stream = self.streams[row]
            text = stream.flush() if stopped else stream.push(token, last=finished)
            before, after, kept_push = (float(values[row]) for values in reading)
            arm, chance = self.rows[row].arm.name, log_probabilities[row]
            steps.append((row, Step(step, arm, token, text, chance, before, after, kept_push, seconds, finished)))
            if finished:
                self.open.discard(row)
        return steps

    @torch.inference_mode()
    def _forward(self) -> tuple[list[int], list[float], EditEffect]:
        logits, once = self.loop.advance()
        log_probabilities = logits.log_softmax(-1).gather(-1, self.loop.last[:, None])[:, 0]
        return self.loop.last.tolist(), log_probabilities.tolist(), once.read()


def clean_reading(
    site: Site, prompt_ids: Sequence[int], continuations: Sequence[Sequence[int]]
) -> tuple[list[list[float]], Tensor]:
    """Read continuations of one prompt with the unsteered model.

    Returns:
        Every token's log-probability, a list for each continuation, and the mean activation at the site over its tokens (n, d),
        massive ones left out; nan for an empty continuation.
    """
    return read_texts(site, [prompt_ids] * len(continuations), continuations)


def read_texts(
    site: Site, prompts: Sequence[Sequence[int]], continuations: Sequence[Sequence[int]]
) -> tuple[list[list[float]], Tensor]:
    """Do what `clean_reading` does for continuations with prompts of their own."""
    layer_at(site.llm.model, site.layer)
    for prompt, continuation in zip(prompts, continuations, strict=True):
        check_prompt(site.llm, prompt, len(continuation))
    log_probabilities: list[list[float]] = []
    means: list[Tensor] = [torch.zeros(0, site.llm.d_model)]
    longest = max((len(c) for c in continuations), default=0)
    at_once = batch_size(site.llm.device, **TOKENS_PER_READING)
    size = max(1, at_once // (1 + longest))
    for first in range(0, len(continuations), size):
        part = slice(first, first + size)
        read, mean = _read_batch(site, prompts[part], continuations[part])
        log_probabilities += read
        means.append(mean)
    return log_probabilities, torch.cat(means)


@torch.inference_mode()
def _read_batch(
    site: Site, prompts: Sequence[Sequence[int]], continuations: Sequence[Sequence[int]]
) -> tuple[list[list[float]], Tensor]:
    llm = site.llm
    ids, _ = llm.pad([[prompt[-1], *continuation] for prompt, continuation in zip(prompts, continuations, strict=True)])
    with record(llm.model, [site.layer]) as seen:
        if shares_prompts(llm):
            logits = Context(llm, prompts).feed(ids)
            acts = seen[site.layer]
        else:
            logits, acts = _read_whole(llm, prompts, continuations, lambda: seen[site.layer])
    logits = logits[:, :-1]
    chosen = logits.gather(-1, ids[:, 1:, None])[..., 0].float() - logits.float().logsumexp(-1)
    lengths = [len(continuation) for continuation in continuations]
    log_probabilities = [row[:n] for row, n in zip(chosen.tolist(), lengths, strict=True)]
    present = torch.arange(ids.shape[1] - 1, device=ids.device) < torch.tensor(lengths, device=ids.device)[:, None]
    return log_probabilities, _mean_activations(site, acts[:, 1:].float(), present).cpu()


def _read_whole(
    llm: Llm, prompts: Sequence[Sequence[int]], continuations: Sequence[Sequence[int]], acts: Callable[[], Tensor]
) -> tuple[Tensor, Tensor]:
    """Read prompts and continuations in one forward; return logits and activations from each prompt's last token on (rows, t, …)."""
    ids, _ = llm.pad([[*prompt, *continuation] for prompt, continuation in zip(prompts, continuations, strict=True)])
    logits = llm.model(input_ids=ids, use_cache=False).logits
    longest = max(len(continuation) for continuation in continuations)
    first = torch.tensor([len(prompt) - 1 for prompt in prompts], device=ids.device)[:, None]
    places = (first + torch.arange(1 + longest, device=ids.device)).clamp_max(ids.shape[1] - 1)
    rows = torch.arange(len(ids), device=ids.device)[:, None]
    return logits[rows, places], acts()[rows, places]


def _mean_activations(site: Site, acts: Tensor, present: Tensor) -> Tensor:
    """Return the mean over the tokens that are present (rows, t) of acts (rows, t, d), massive ones left out; nan for no token."""
    usual = present & ~site.is_massive(acts)
    total = acts.masked_fill(~usual[..., None], 0).sum(1)
    return total / usual.sum(1, keepdim=True).float().masked_fill(~usual.any(1, keepdim=True), torch.nan)
