"""Generate text while steering: a batched decode loop whose rows are the arms of a comparison, each with its own edit.

The edit acts on the last position of every forward, as in the paper: on the prompt's last token, then on each new one. A row's
text does not depend on the rows beside it. Knows token ids; knows nothing of workspaces or pages.
"""

from collections.abc import Callable, Generator, Sequence

import torch
from torch import Tensor

from glp_core.devices import batch_size
from glp_core.errors import GlpError
from glp_core.llm.decoding import Context, Sampling, check_prompt, shares_prompts
from glp_core.llm.hooks import layer_at, record
from glp_core.llm.model import Llm, token_log_probabilities
from glp_core.llm.site import Site
from glp_core.prior.distance import ManifoldMeter
from glp_core.progress import Progress, quiet
from glp_core.steering.edit import Arm
from glp_core.steering.loop import Row, check
from glp_core.steering.shared_batch import SharedBatch, Step

__all__ = ["Arm", "Row", "Sampling", "SharedBatch", "Step", "clean_reading", "decode", "generate", "mean_activation"]
__all__ += ["read_texts", "steer"]

TOKENS_PER_READING = {"cpu": 4096, "accelerator": 32_768}
"""In a vocabulary of VOCABULARY: the logits of 32,768 tokens take some 13 GB in it."""
VOCABULARY = 49_152


def generate(
    site: Site,
    ids: Sequence[int],
    arms: Sequence[Arm],
    sampling: Sampling,
    *,
    meter: ManifoldMeter | None = None,
    cancelled: Callable[[], bool] = lambda: False,
    batch: SharedBatch | None = None,
) -> Generator[Step]:
    """Write a continuation of one prompt for each arm, side by side; yield every token as it comes.

    Args:
        site: whose output is edited.
        ids: the prompt, from `llm.encode` or `llm.encode_chat`.
        meter: measures distances when given (one more GLP call a step).
        cancelled: asked before every step; when it says yes, the iterator ends.
        batch: which other requests' rows are in; they take each step together.
    Raises:
        GlpError: an empty or too long prompt, a bad strength or direction, or steering so strong that the model breaks.
    """
    rows = [Row(ids, arm, sampling.seed) for arm in arms]
    for _, step in decode(site, rows, sampling, meter=meter, cancelled=cancelled, batch=batch):
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
    batch: SharedBatch | None = None,
) -> Generator[tuple[int, Step]]:
    """Do what `generate` does for rows with prompts of their own; yield each token with its row's number."""
    check(site, rows, sampling)
    if cancelled():
        return
    with (batch or SharedBatch()).writing(site, rows, sampling, meter) as writer:
        while writer.open and not cancelled():
            yield from writer.next()


def clean_reading(
    site: Site, prompt_ids: Sequence[int], continuations: Sequence[Sequence[int]], read: Context | None = None
) -> tuple[list[list[float]], Tensor]:
    """Read continuations of one prompt with the unsteered model.

    Args:
        read: a context of one row that has read the prompt, which is not read again then; it cannot be gone on with.
    Returns:
        Every token's log-probability, a list for each continuation, and the mean activation at the site over its tokens (n, d),
        massive ones left out; nan for an empty continuation.
    """
    together = _texts_at_once(site, [prompt_ids], continuations) >= len(continuations)
    apart = shares_prompts(site.llm) and _texts_at_once(site, [prompt_ids[-1:]], continuations) >= len(continuations)
    if not apart or (read is None and together):
        return read_texts(site, [prompt_ids] * len(continuations), continuations)
    layer_at(site.llm.model, site.layer)
    check_prompt(site.llm, prompt_ids, max(map(len, continuations), default=0))
    with torch.inference_mode():
        read = read or Context(site.llm, [prompt_ids])  # a long prompt, once for all
        read.choose([0] * len(continuations))
        return _read_batch(site, [prompt_ids] * len(continuations), continuations, read)


@torch.inference_mode()
def mean_activation(site: Site, prompt_ids: Sequence[int], continuation: Sequence[int]) -> Tensor:
    """Return the means (1, d) of `clean_reading` alone, for one continuation: its forward ends at the layer, and no logit is computed."""
    check_prompt(site.llm, prompt_ids, len(continuation))
    acts = site.activations([[*prompt_ids, *continuation]])[0][None, len(prompt_ids) :].float()
    return _mean_activations(site, acts, torch.ones(acts.shape[:2], dtype=torch.bool, device=acts.device)).cpu()


def read_texts(
    site: Site, prompts: Sequence[Sequence[int]], continuations: Sequence[Sequence[int]], *, progress: Progress = quiet
) -> tuple[list[list[float]], Tensor]:
    """Do what `clean_reading` does for continuations with prompts of their own."""
    layer_at(site.llm.model, site.layer)
    for prompt, continuation in zip(prompts, continuations, strict=True):
        check_prompt(site.llm, prompt, len(continuation))
    log_probabilities: list[list[float]] = []
    means: list[Tensor] = [torch.zeros(0, site.llm.d_model)]
    size = _texts_at_once(site, prompts, continuations)
    for first in range(0, len(continuations), size):
        part = slice(first, first + size)
        read, mean = _read_batch(site, prompts[part], continuations[part])
        log_probabilities += read
        means.append(mean)
        progress(len(log_probabilities), len(continuations), "reading")
    return log_probabilities, torch.cat(means)


def _texts_at_once(site: Site, prompts: Sequence[Sequence[int]], continuations: Sequence[Sequence[int]]) -> int:
    """Return how many of these texts are read in one forward."""
    longest = max((len(ids) for ids in continuations), default=0) + max(map(len, prompts), default=1)
    vocabulary = site.llm.model.get_input_embeddings().num_embeddings
    at_once = batch_size(site.llm.device, **TOKENS_PER_READING) * VOCABULARY // max(VOCABULARY, vocabulary)
    return max(1, at_once // longest)


@torch.inference_mode()
def _read_batch(
    site: Site, prompts: Sequence[Sequence[int]], continuations: Sequence[Sequence[int]], read: Context | None = None
) -> tuple[list[list[float]], Tensor]:
    llm = site.llm
    ids, _ = llm.pad([[prompt[-1], *continuation] for prompt, continuation in zip(prompts, continuations, strict=True)])
    with record(llm.model, [site.layer]) as seen:
        if shares_prompts(llm):
            logits = (read or Context(llm, prompts)).feed(ids)
            acts = seen[site.layer]
        else:
            logits, acts = _read_whole(llm, prompts, continuations, lambda: seen[site.layer])
    chosen = token_log_probabilities(logits, ids)
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
