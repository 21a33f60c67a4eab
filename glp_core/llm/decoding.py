"""Parts of a decode loop: prompts in a key-value cache that rows share, the choice of a token, and its text.

Knows token ids and a transformer; knows nothing of steering or GLPs.
"""

import copy
import inspect
import math
import weakref
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad
from transformers import DynamicCache

from glp_core.errors import GlpError
from glp_core.llm.fixed_step import FixedStep
from glp_core.llm.hooks import active_edits, edit
from glp_core.llm.joining import Read, choose_rows, first_row, join, keeps_all
from glp_core.llm.model import Llm
from glp_core.speed.replay import RECORDERS

ROWS = 4
"""Batches are filled up to a multiple of this: matrix kernels sum in an order that depends on the batch size, so a fixed size makes a
row's numbers independent of how many rows run beside it. In bfloat16 four rows cost as much as one."""
BLOCK = 256
"""Neighbours in the vocabulary that are drawn as one, then among each other: much less noise than a number for each token."""
ALIKE, ALIKE_IN_FLOAT32 = 0.2, 1e-2
"""Logits that differ by less than this share of the largest may come from rounding; in float32 some thirty families stay below 1e-4."""


@dataclass(frozen=True)
class Sampling:
    """How tokens are chosen, and how many."""

    max_tokens: int = 64
    """Tokens a row; fewer when a stop token comes."""
    temperature: float = 0.0
    """0: the likeliest token; else the softmax temperature."""
    seed: int = 0
    """Every row of a request starts from this seed, so rows differ by what is done to them, not by luck."""

    def __post_init__(self) -> None:
        if type(self.max_tokens) is not int or self.max_tokens < 1:
            raise GlpError(f"Got {self.max_tokens!r} tokens to generate, wanted a whole number of at least 1.")
        if not (math.isfinite(self.temperature) and self.temperature >= 0):
            raise GlpError(f"Temperature is {self.temperature}, wanted a number of at least 0 (0: always the likeliest token).")
        if type(self.seed) is not int or not 0 <= self.seed < 2**62:
            raise GlpError(f"The seed is {self.seed!r}, wanted a whole number from 0 to 2^62.")


def filled(n: int) -> int:
    """Return `n` rounded up to a multiple of ROWS."""
    return -(-n // ROWS) * ROWS


def check_prompt(llm: Llm, prompt: Sequence[int], max_tokens: int) -> None:
    """Raise GlpError when the prompt is empty, or too long to be followed by `max_tokens` tokens."""
    if not prompt:
        raise GlpError("The prompt is empty: type a few words for the model to go on from.")
    longest = llm.context_length - max_tokens
    if len(prompt) > longest:
        raise GlpError(
            f"The prompt has {len(prompt):,} tokens; with {max_tokens} more to generate, {llm.title} reads at most {max(longest, 0):,}. "
            "Shorten the prompt or generate fewer tokens."
        )


class Context:
    """Rows of text that the model has read so far: one key-value cache, and what each row may look at.

    Prompts that rows share are read once, unless the rows' keys differ. Of each prompt, all but the last token is read here; `feed` goes on
    with that one.
    """

    def __init__(
        self,
        llm: Llm,
        prompts: Sequence[Sequence[int]],
        keys: Sequence[Hashable] | None = None,
        *,
        room: int = 0,
        at_once: int | None = None,
    ) -> None:
        self.llm = llm
        self._room = room
        """Tokens that are to be fed one by one; 0 where that is not known."""
        self._fixed: FixedStep | None = None
        self._hand_back: Callable[[], object] = lambda: None
        """Gives the fixed step to the next who wants it."""
        self.cache = DynamicCache(config=llm.model.config)
        self._cache_name = cache_name(llm)
        self.mask: Tensor | None = None
        self.lengths = torch.tensor([len(prompt) - 1 for prompt in prompts], device=llm.device)
        """Tokens that each row has read."""
        self.columns = max(len(prompt) - 1 for prompt in prompts)
        """Tokens that the longest has read."""
        self.reading = True
        """Whether `read_on` has to be called: prompts longer than `at_once` tokens are read in parts, where rows can share them."""
        self._parts = self._read(_named(prompts, keys), at_once)
        self.read_on()

    def read_on(self) -> None:
        """Read the next part of the prompts."""
        self.reading = next(self._parts, False)

    def _read(self, named: Sequence[tuple[tuple[int, ...], Hashable]], at_once: int | None) -> Iterator[bool]:
        """Read prompts but for their last tokens, in parts; yield between two of them."""
        shared = keeps_all(self.cache)
        unique = list(dict.fromkeys(named)) if shared else list(named)
        heads = [prompt[:-1] for prompt, _ in unique]
        if not any(heads):
            return
        ids, mask = self.llm.pad(heads, left=True)
        positions = (mask.cumsum(-1) - 1).clamp_min(0)
        padded = bool((mask == 0).any())
        width = ids.shape[1] if padded or not shared or at_once is None else max(1, at_once // len(ids))
        for first in range(0, ids.shape[1], width):
            if first:
                yield True
            part = slice(first, first + width)
            # without the head: its logits are not wanted, and on every row's last token alone it is slow
            self._forward(self.llm.model.base_model, ids[:, part], positions[:, part], mask if padded else None)
        where = torch.arange(len(named), device=self.llm.device)
        if shared:
            places = {prompt: place for place, prompt in enumerate(unique)}
            where = torch.tensor([places[one] for one in named], device=self.llm.device)
            for layer in self.cache.layers:
                layer.batch_select_indices(where.to(layer.keys.device))
        self.mask = mask[where] if padded else None

    @property
    def joins(self) -> bool:
        """Whether rows can come and go; states of recurrent layers cannot be handed out."""
        return keeps_all(self.cache)

    @property
    def recorded(self) -> bool:
        """Whether steps are, or may yet be, replayed on fixed buffers, whose rows stay the same."""
        may = self._room > 0 and self.lengths.device.type in RECORDERS and not self.llm.fixed_steps.given_up
        return self._fixed is not None or may

    def first_row(self) -> "Context":
        """Return another context of one row, which has read what the first has; for one whose rows can come and go."""
        one = copy.copy(self)
        one.cache, one._room, one._parts = first_row(self.cache), 0, iter(())
        one.lengths, one.mask = self.lengths[:1], None if self.mask is None else self.mask[:1]
        return one

    def join(self, other: "Context") -> None:
        """Take over another context's rows, which it must not go on with, behind one's own."""
        for one in (self, other):
            one._leave_fixed()
        sizes = [Read(len(one.lengths), one.columns) for one in (self, other)]
        join(self.cache, sizes[0], other.cache, sizes[1])
        masks = [one._whole_mask() for one in (self, other)]
        self.columns = max(self.columns, other.columns)
        mask = torch.cat([pad(mask, (self.columns - mask.shape[1], 0)) for mask in masks])
        self.mask = mask if bool((mask == 0).any()) else None
        self.lengths = torch.cat([self.lengths, other.lengths])

    def choose(self, rows: Sequence[int]) -> None:
        """Go on with these rows, in this order and as often as they are named; columns that none of them needs are left out."""
        self._leave_fixed()
        where = torch.tensor(rows, device=self.lengths.device)
        self.lengths = self.lengths[where]
        columns = int(self.lengths.max())
        choose_rows(self.cache, where, columns)
        if self.mask is not None:
            mask = self.mask[where, self.columns - columns :]
            self.mask = mask if bool((mask == 0).any()) else None
        self.columns = columns

    def _whole_mask(self) -> Tensor:
        """Return which columns each row may look at (rows, columns)."""
        shape = len(self.lengths), self.columns
        return torch.ones(shape, dtype=torch.long, device=self.lengths.device) if self.mask is None else self.mask

    def _leave_fixed(self) -> None:
        """Go on without fixed buffers."""
        self._room = 0
        if self._fixed is not None:
            self._fixed.save(self.cache)
            self._fixed = None
            self._hand_back()

    def feed(self, ids: Tensor, *, keep: int = 0) -> Tensor:
        """Read ids (rows, t) after what was read before; return the logits (rows, `keep` or t, vocabulary)."""
        steps = ids.shape[1]
        positions = self.lengths[:, None] + torch.arange(steps, device=ids.device)
        if self.mask is not None:
            self.mask = torch.cat([self.mask, self.mask.new_ones(len(ids), steps)], dim=1)
        logits = self._step(ids, positions) if steps == keep == 1 else None
        if logits is None:
            logits = self._forward(self.llm.model, ids, positions, self.mask, logits_to_keep=keep).logits
        self.lengths = self.lengths + steps
        self.columns += steps
        return logits

    def _step(self, ids: Tensor, positions: Tensor) -> Tensor | None:
        """Read one token a row on fixed buffers, where the device, the model and what is edited allow it."""
        if len(active_edits(self.llm.model)) > 1:
            self._leave_fixed()
        if self._fixed is not None:
            return self._fixed(ids, positions)
        if not self._room:
            return None
        room, self._room = self._room, 0
        steps = self.llm.fixed_steps
        try:
            fixed = steps.take(self.llm.model, self.cache, room)
            if fixed is None:
                return None
            fixed.load(self.cache, None if self.mask is None else self.mask[:, :-1])
            fixed.prepare(ids, positions)
        except torch.OutOfMemoryError:  # there may be room for the next request
            return None
        except (RuntimeError, AttributeError, TypeError, ValueError) as error:  # what cannot be recorded decodes as ever
            steps.failures.append(f"{type(error).__name__}: {error}".splitlines()[0])
            return None
        self._fixed = fixed
        self._hand_back = weakref.finalize(self, steps.give_back, fixed)
        return fixed(ids, positions)

    def _forward(self, model: Any, ids: Tensor, positions: Tensor, mask: Tensor | None, **options: Any) -> Any:
        if mask is not None and self._cache_name != "past_key_values":
            mask = mask[:, -ids.shape[1] :]  # states say what was read before
        return model(
            input_ids=ids,
            attention_mask=mask,
            position_ids=positions,
            use_cache=True,
            **{self._cache_name: self.cache},
            **options,
        )


def _named(prompts: Sequence[Sequence[int]], keys: Sequence[Hashable] | None) -> list[tuple[tuple[int, ...], Hashable]]:
    return [(tuple(prompt), key) for prompt, key in zip(prompts, keys or [None] * len(prompts), strict=True)]


def read_rows(llm: Llm, prompts: Sequence[Sequence[int]], keys: Sequence[Hashable] | None = None) -> list[int]:
    """Return which rows' prompts a `Context` reads, in its order: the first of each that is shared."""
    named = _named(prompts, keys)
    return [named.index(one) for one in dict.fromkeys(named)] if shares_prompts(llm) else list(range(len(named)))


def shares_prompts(llm: Llm) -> bool:
    """Say whether prompts can be read once for all rows that go on from them, by several tokens at once."""
    return keeps_all(DynamicCache(config=llm.model.config))


def cache_name(llm: Llm) -> str:
    """Return what the model calls its cache; recurrent ones have a name of their own."""
    parameters = inspect.signature(type(llm.model).forward).parameters
    return "cache_params" if "cache_params" in parameters else "past_key_values"


@torch.inference_mode()
def check_decoding(llm: Llm, layer: int | None = None) -> None:
    """Raise GlpError unless rows of unlike length, read token by token, say what they say when read whole.

    Args:
        layer: also checked to give out activations (tokens, d), and to be a place where an edit changes what the model says.
    """
    rows = [llm.encode("The weather this week"), llm.encode("A")]
    alike = ALIKE_IN_FLOAT32 if llm.dtype == torch.float32 else ALIKE
    try:
        if layer is not None:
            _check_layer(llm, layer, rows)
        context = Context(llm, rows)
        for _ in range(2):
            last = torch.tensor([row[-1:] for row in rows], device=llm.device)
            logits = context.feed(last, keep=1)[:, -1].float()
            whole = torch.stack([_last_logits(llm, row) for row in rows])
            if not (logits - whole).abs().max() <= alike * whole.abs().max():
                raise RuntimeError("token by token it says something else than when it reads the text whole")
            rows = [[*row, int(token)] for row, token in zip(rows, whole.argmax(-1), strict=True)]
    except GlpError:
        raise
    except (AttributeError, TypeError, ValueError, RuntimeError, LookupError) as error:
        why = str(error).splitlines()[0].rstrip(".") if str(error) else type(error).__name__
        raise GlpError(
            f"{llm.title} ({type(llm.model).__name__}) cannot be generated from here, so steering would fail: {why}. Take another model."
        ) from error


def _check_layer(llm: Llm, layer: int, rows: Sequence[Sequence[int]]) -> None:
    for row, acts in zip(rows, llm.activations(rows, layer), strict=True):
        if acts.shape != (len(row), llm.d_model):
            raise RuntimeError(
                f"layer {layer} gives out {tuple(acts.shape)} for {len(row)} tokens, wanted {llm.d_model} values a token"
            )
    before = _last_logits(llm, rows[0])
    with edit(llm.model, {layer: lambda hidden: hidden.roll(1, -1)}):
        if torch.equal(before, _last_logits(llm, rows[0])):
            raise RuntimeError(f"an edit of layer {layer} does not change what it says")


def _last_logits(llm: Llm, row: Sequence[int]) -> Tensor:
    return llm.model(input_ids=torch.tensor([row], device=llm.device), use_cache=False).logits[0, -1].float()


def draw(generator: torch.Generator, vocabulary: int) -> Tensor:
    """Return the noise in [0, 1) that one row's token is chosen by: a number for each block of the vocabulary and each place in one."""
    return torch.rand(BLOCK + -(-vocabulary // BLOCK), generator=generator, dtype=torch.float64)


def choose(logits: Tensor, sampling: Sampling, noise: Tensor) -> Tensor:
    """Return a token for each row of logits (rows, vocabulary), sampled by a row of `draw` each.

    A block of neighbours in the vocabulary is drawn by its share, then a token of it by its own: the one whose exponential time at the
    rate of its share is the shortest (the Gumbel-max trick, https://arxiv.org/abs/1411.0030). A rounding of the logits so changes a
    token as seldom as it is small; inverting the distribution's running sum, it would move the bounds of every token.
    Rows do not influence each other, and the same noise chooses the same tokens on every device.
    """
    if sampling.temperature == 0:
        return logits.argmax(-1)
    logits = logits.float()
    shares = ((logits - logits.amax(-1, keepdim=True)) / sampling.temperature).softmax(-1)
    blocks = pad(shares, (0, -shares.shape[-1] % BLOCK)).unflatten(-1, (-1, BLOCK))
    times = -noise.log().float().to(logits.device)
    block = (blocks.sum(-1) / times[:, BLOCK:]).argmax(-1)
    return block * BLOCK + (blocks[torch.arange(len(block), device=block.device), block] / times[:, :BLOCK]).argmax(-1)
