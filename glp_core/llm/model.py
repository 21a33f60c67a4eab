"""The language model whose activations we look at, with its tokenizer: texts to ids, ids to activations and back to text.

Knows tokens and layers; knows nothing of files, GLPs or steering.
"""

from collections.abc import Iterator, Sequence
from functools import cached_property
from itertools import chain
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from glp_core.errors import GlpError
from glp_core.llm.chat import Chat
from glp_core.llm.hooks import edit_device, layer_at, layers_of, pause_between_blocks, record
from glp_core.llm.needs import hidden_width
from glp_core.llm.text_stream import TextStream, encodable
from glp_core.speed.packed import laid_out_bytes

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from glp_core.llm.fixed_step import FixedSteps

FEWEST_TOKENS = 8
"""Of a text that a loss is measured on."""
OTHERS_CONTEXT = 2048
"""Longest text of models that name no limit, such as recurrent ones."""


class Llm:
    """A causal language model with its tokenizer; shared by all requests, never changed by one."""

    def __init__(self, model: "PreTrainedModel", tokenizer: "PreTrainedTokenizerBase", title: str = "") -> None:
        self.model = model.eval().requires_grad_(False)
        pause_between_blocks(model)
        self.tokenizer = tokenizer
        self.title = title or type(model).__name__
        self.notes = list(_notes(self))
        """What is unusual of this model and changes what can be done with it, a sentence each."""

    @cached_property
    def fixed_steps(self) -> "FixedSteps":
        """Decode steps that an accelerator replays."""
        from glp_core.llm.fixed_step import FixedSteps

        return FixedSteps()

    @cached_property
    def chat(self) -> Chat:
        """The model's way of writing conversations."""
        return Chat(self.tokenizer, self.title)

    @property
    def device(self) -> torch.device:
        """Where ids go in, activations and logits come out, and edits compute; a spread model's layers lie elsewhere too."""
        return edit_device(self.model) or self.model.device

    @property
    def dtype(self) -> torch.dtype:
        return self.model.dtype

    @property
    def n_bytes(self) -> int:
        """What it takes in memory."""
        tensors = (*self.model.parameters(), *self.model.buffers())
        return sum(tensor.numel() * tensor.element_size() for tensor in tensors) + laid_out_bytes(self.model)

    @property
    def n_layers(self) -> int:
        return len(layers_of(self.model))

    @property
    def d_model(self) -> int:
        return hidden_width(self.model)

    @property
    def context_length(self) -> int:
        config = self.model.config.get_text_config()
        named = (getattr(config, name, None) for name in ("max_position_embeddings", "max_seq_len", "n_positions"))
        return next((length for length in named if isinstance(length, int)), OTHERS_CONTEXT)

    @cached_property
    def stop_ids(self) -> frozenset[int]:
        """Token ids that end a text: the model's, the tokenizer's, and <|endoftext|>, which ends one that is only continued."""
        listed = self.model.generation_config.eos_token_id if self.model.generation_config else None
        end_of_text = self.tokenizer.get_vocab().get("<|endoftext|>")
        ids = {self.tokenizer.eos_token_id, end_of_text, *(listed if isinstance(listed, list) else [listed])}
        return frozenset(i for i in ids if i is not None)

    @cached_property
    def first_id(self) -> int:
        """The token put before every text: an attention sink, never edited, collected or scored."""
        tokenizer = self.tokenizer
        named = (tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id, tokenizer.unk_token_id)
        return next((i for i in named if i is not None), 0)

    def encode(self, text: str, *, max_tokens: int | None = None) -> list[int]:
        """Return the text's token ids, first_id before them, cut to `max_tokens` in all; names of control tokens stay text."""
        ids = [self.first_id, *self.tokenizer.encode(encodable(text), add_special_tokens=False, split_special_tokens=True)]
        return ids[:max_tokens]

    def encode_all(self, texts: Sequence[str], *, max_tokens: int | None = None) -> list[list[int]]:
        """Return for each text what `encode` does, tokenised together: many times faster for thousands of texts."""
        if not texts:
            return []
        rows = self.tokenizer([encodable(text) for text in texts], add_special_tokens=False, split_special_tokens=True)[
            "input_ids"
        ]
        return [[self.first_id, *ids[: None if max_tokens is None else max_tokens - 1]] for ids in rows]

    def encode_chat(self, messages: Sequence[dict[str, str]], *, answer: bool = True) -> list[int]:
        """Return the ids of a conversation in the model's chat template, `answer`: ready for the assistant's turn."""
        return self.encode_chats([messages], answer=answer)[0]

    def encode_chats(self, conversations: Sequence[Sequence[dict[str, str]]], *, answer: bool = True) -> list[list[int]]:
        """Return the ids of many conversations, as `chat` says; GlpError when the model has no template, or its template refuses them."""
        return self.chat.encode(conversations, answer=answer)

    def pieces(self, ids: Sequence[int]) -> list[str]:
        """Return each id's text so that the pieces joined are the text; a character split over tokens goes to its last."""
        stream = TextStream(self.tokenizer)
        return [stream.push(token, last=place == len(ids)) for place, token in enumerate(ids, 1)]

    def pad(self, rows: Sequence[Sequence[int]], *, left: bool = False) -> tuple[Tensor, Tensor]:
        """Return ids and attention mask (rows, longest), padded on the right or left."""
        lengths = torch.tensor([len(row) for row in rows])[:, None]
        places = torch.arange(int(lengths.max()))
        real = places >= len(places) - lengths if left else places < lengths
        ids = torch.full(real.shape, self.first_id)
        ids[real] = torch.from_numpy(np.fromiter(chain.from_iterable(rows), np.int64, int(lengths.sum())))
        return ids.to(self.device), real.long().to(self.device)

    def long_rows(self, texts: Sequence[str], documents: int, tokens: int) -> Tensor:
        """Return ids (documents, tokens) of the first texts that are long enough; where none is, of as many tokens as half of them have.

        Raises:
            GlpError: that is fewer than a few.
        """
        read: list[list[int]] = []
        long: list[list[int]] = []
        for text in texts:
            read.append(self.encode(text, max_tokens=tokens))
            if len(read[-1]) == tokens:
                long.append(read[-1])
            if len(long) == documents:
                break
        if not long:
            half = sorted(map(len, read))[len(read) // 2] if read else 0
            if half < min(tokens, FEWEST_TOKENS):
                raise GlpError(f"Half of {len(texts)} texts have fewer than {FEWEST_TOKENS} tokens: give longer ones.")
            long = [row[:half] for row in read if len(row) >= half][:documents]
        return torch.tensor(long, device=self.device)

    @torch.inference_mode()
    def activations(self, rows: Sequence[Sequence[int]], layer: int) -> list[Tensor]:
        """Return each row's block outputs (tokens, d) at `layer`; the forward ends there.

        On an accelerator no mask is passed: rows are padded on the right, where causal attention does not look, and attention
        without a mask is several times faster there.
        """
        layer_at(self.model, layer)
        ids, mask = self.pad(rows)
        with record(self.model, [layer], stop=True) as acts:
            self.model(
                input_ids=ids, attention_mask=mask if self.device.type == "cpu" else None, use_cache=False, logits_to_keep=1
            )
        return [acts[layer][i, : len(row)] for i, row in enumerate(rows)]


def token_log_probabilities(logits: Tensor, ids: Tensor) -> Tensor:
    """Return the log-probability of every token after the first (rows, t - 1), for logits (rows, t, vocabulary) of ids (rows, t).

    On the CPU row by row: one row's logits stay in its cache, those of all do not.
    """
    before = logits[:, :-1]
    chosen = before.gather(-1, ids[:, 1:, None])[..., 0].float()
    rows = before.split(1) if before.device.type == "cpu" else [before]
    return chosen - torch.cat([row.float().logsumexp(-1) for row in rows])


def _notes(llm: Llm) -> Iterator[str]:
    tokenizer = llm.tokenizer
    if tokenizer.bos_token_id is None and tokenizer.eos_token_id is None:
        first = tokenizer.convert_ids_to_tokens(llm.first_id)
        yield f"The tokenizer names no first and no last token: {first!r} (id {llm.first_id}) stands before every text."
    if not llm.stop_ids:
        yield "No token ends a text: every text is as long as was asked for."
    if not tokenizer.chat_template:
        yield "The tokenizer has no chat template: texts are continued; chat and personas are left out."
