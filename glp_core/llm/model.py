"""Load the language model whose activations we look at: from a hub id, a local folder, or the GGUF in an installed wheel.

Safetensors only and never remote code. Knows tokens and layers; knows nothing of GLPs or steering.
"""

import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError
from torch import Tensor

from glp_core.devices import native_dtype
from glp_core.errors import GlpError
from glp_core.llm.hooks import layer_at, layers_of, record
from glp_core.llm.sources import SMOLLM2, LlmSource, cache_folder, check_shards, wheel_file
from glp_core.llm.text_stream import TextStream

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from glp_core.llm.fixed_step import FixedSteps

__all__ = ["SMOLLM2", "Llm", "LlmSource", "cache_folder", "converted_gguf", "load_llm", "wheel_file"]


class Llm:
    """A causal language model with its tokenizer; shared by all requests, never changed by one."""

    def __init__(self, model: "PreTrainedModel", tokenizer: "PreTrainedTokenizerBase", title: str = "") -> None:
        self.model = model.eval().requires_grad_(False)
        self.tokenizer = tokenizer
        self.title = title or type(model).__name__

    @cached_property
    def fixed_steps(self) -> "FixedSteps":
        """Decode steps that an accelerator replays."""
        from glp_core.llm.fixed_step import FixedSteps

        return FixedSteps()

    @property
    def device(self) -> torch.device:
        return self.model.device

    @property
    def dtype(self) -> torch.dtype:
        return self.model.dtype

    @property
    def n_layers(self) -> int:
        return len(layers_of(self.model))

    @property
    def d_model(self) -> int:
        return self.model.get_input_embeddings().embedding_dim

    @property
    def context_length(self) -> int:
        return getattr(self.model.config, "max_position_embeddings", 2048)

    @cached_property
    def stop_ids(self) -> frozenset[int]:
        """Token ids that end a text: the model's, the tokenizer's, and <|endoftext|>, which ends one that is only continued."""
        listed = self.model.generation_config.eos_token_id if self.model.generation_config else None
        end_of_text = self.tokenizer.get_vocab().get("<|endoftext|>")
        ids = {self.tokenizer.eos_token_id, end_of_text, *(listed if isinstance(listed, list) else [listed])}
        return frozenset(i for i in ids if i is not None)

    @property
    def first_id(self) -> int:
        """The token put before every text: an attention sink, never edited, collected or scored."""
        tokenizer = self.tokenizer
        named = (tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id, tokenizer.unk_token_id)
        return next((i for i in named if i is not None), 0)

    def encode(self, text: str, *, max_tokens: int | None = None) -> list[int]:
        """Return the text's token ids, first_id before them, cut to `max_tokens` in all; names of control tokens stay text."""
        ids = [self.first_id, *self.tokenizer.encode(text, add_special_tokens=False, split_special_tokens=True)]
        return ids[:max_tokens]

    def encode_all(self, texts: Sequence[str], *, max_tokens: int | None = None) -> list[list[int]]:
        """Return for each text what `encode` does, tokenised together: many times faster for thousands of texts."""
        if not texts:
            return []
        rows = self.tokenizer(list(texts), add_special_tokens=False, split_special_tokens=True)["input_ids"]
        return [[self.first_id, *ids[: None if max_tokens is None else max_tokens - 1]] for ids in rows]

    def encode_chat(self, messages: Sequence[dict[str, str]], *, answer: bool = True) -> list[int]:
        """Return the ids of a conversation in the model's chat template, `answer`: ready for the assistant's turn."""
        return self.encode_chats([messages], answer=answer)[0]

    def encode_chats(self, conversations: Sequence[Sequence[dict[str, str]]], *, answer: bool = True) -> list[list[int]]:
        """Return the ids of many conversations; a model that can think before it answers is told not to."""
        if not self.tokenizer.chat_template:
            raise GlpError(f"{self.title} has no chat template: use the continue mode.")
        options = {"add_generation_prompt": answer, "tokenize": True, "return_dict": False, "enable_thinking": False}
        return self.tokenizer.apply_chat_template([list(messages) for messages in conversations], **options)

    def pieces(self, ids: Sequence[int]) -> list[str]:
        """Return each id's text so that the pieces joined are the text; a character split over tokens goes to its last."""
        stream = TextStream(self.tokenizer)
        return [stream.push(token, last=place == len(ids)) for place, token in enumerate(ids, 1)]

    def pad(self, rows: Sequence[Sequence[int]], *, left: bool = False) -> tuple[Tensor, Tensor]:
        """Return ids and attention mask (rows, longest), padded on the right or left."""
        length = max(len(row) for row in rows)
        ids = torch.full((len(rows), length), self.first_id)
        mask = torch.zeros_like(ids)
        for i, row in enumerate(rows):
            where = slice(length - len(row), length) if left else slice(0, len(row))
            ids[i, where] = torch.tensor(row)
            mask[i, where] = 1
        return ids.to(self.device), mask.to(self.device)

    def long_rows(self, texts: Sequence[str], documents: int, tokens: int) -> Tensor:
        """Return ids (documents, tokens) of the first texts that are long enough; GlpError when none is."""
        rows: list[list[int]] = []
        for text in texts:
            ids = self.encode(text, max_tokens=tokens)
            if len(ids) == tokens:
                rows.append(ids)
            if len(rows) == documents:
                break
        if not rows:
            raise GlpError(f"None of {len(texts)} texts has {tokens} tokens: give longer ones or ask for fewer tokens.")
        return torch.tensor(rows, device=self.device)

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


def load_llm(source: LlmSource, *, device: torch.device | str = "cpu", dtype: torch.dtype | None = None) -> Llm:
    """Load the model and its tokenizer in `dtype` (native_dtype when None).

    Raises:
        GlpError: the package, folder or hub model is missing, or a file is not what it should be.
    """
    from transformers import AutoTokenizer

    where, options = _resolve(source)
    safe = {"trust_remote_code": False, **options}
    try:
        with _no_progress_bars():
            tokenizer = AutoTokenizer.from_pretrained(where, **safe)
            model, report = _load_model(where, dtype=dtype or native_dtype(device), use_safetensors=True, **safe)
    except (OSError, ValueError, SafetensorError) as error:
        raise GlpError(f"Could not load the LLM from {where!r}: {error}") from error
    missing = sorted(report["missing_keys"])
    if missing:
        raise GlpError(
            f"{where} lacks {len(missing)} of the model's tensors ({', '.join(missing[:3])}{', …' * (len(missing) > 3)}): they would be "
            "random. Save the whole causal language model, head included."
        )
    llm = Llm(model.to(device), tokenizer, source.title or source.name)
    rows = model.get_input_embeddings().num_embeddings
    if len(tokenizer) > rows:
        raise GlpError(
            f"The tokenizer in {where} has {len(tokenizer):,} ids, the model's embedding {rows:,} rows: they do not belong together. "
            "Take the model's own tokenizer, or resize the embedding."
        )
    return llm


def _load_model(where: str, **options: object) -> "tuple[PreTrainedModel, dict[str, Any]]":
    """Load with torch's own attention, or plain attention for the families that have no other (Gemma 2); no kernel is fetched.

    Returns:
        The model, and what transformers says of its tensors. The prefix of a compiled model's names is left out.
    """
    from transformers import AutoModelForCausalLM

    options |= {"output_loading_info": True, "key_mapping": {r"^_orig_mod\.": ""}}
    try:
        return AutoModelForCausalLM.from_pretrained(where, attn_implementation="sdpa", **options)
    except ValueError as error:
        if "scaled_dot_product_attention" not in str(error):
            raise
        return AutoModelForCausalLM.from_pretrained(where, attn_implementation="eager", **options)


@contextmanager
def _no_progress_bars() -> Iterator[None]:
    """Keep transformers from drawing on stderr, which belongs to the command that runs."""
    from transformers.utils import logging

    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()


def _resolve(source: LlmSource) -> tuple[str, dict[str, str]]:
    if source.kind == "hub":
        return source.name, {"revision": source.revision}
    if source.kind == "wheel":
        return str(converted_gguf(source)), {}
    folder = Path(source.name).expanduser()
    if not (folder / "config.json").is_file():
        raise GlpError(f"No config.json in {folder}: give a folder saved by transformers' save_pretrained.")
    check_shards(folder)
    return str(folder), {}


def converted_gguf(source: LlmSource) -> Path:
    """Return a safetensors copy of the wheel's GGUF, made on first use (about 20 s) and kept in the cache folder."""
    target = cache_folder() / f"{Path(source.file).stem}-{source.sha256[:12] or 'unchecked'}"
    if (target / "config.json").is_file():
        return target
    gguf = wheel_file(source.name, source.file, source.sha256)
    scratch = None
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        scratch = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
        with _no_progress_bars():
            _convert(gguf, scratch)
        os.replace(scratch, target)
    except (OSError, SafetensorError) as error:
        if not (target / "config.json").is_file():  # else another process made it meanwhile
            raise GlpError(
                f"Could not keep the converted model in {target}: {error}. It needs 300 MB; see $GLP_EXPLORER_CACHE."
            ) from error
    finally:
        if scratch is not None:
            shutil.rmtree(scratch, ignore_errors=True)
    return target


def _convert(gguf: Path, target: Path) -> None:
    """Dequantise into bfloat16: its rounding is finer than four-bit steps, and both dtypes then run the same weights."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    options = {"gguf_file": gguf.name, "trust_remote_code": False}
    loaded = AutoModelForCausalLM.from_pretrained(gguf.parent, dtype=torch.float32, attn_implementation="sdpa", **options)
    config = loaded.config
    if hasattr(config, "quantization_config"):
        del config.quantization_config
    fresh = type(loaded)(config)
    fresh.load_state_dict(loaded.state_dict())
    fresh.to(torch.bfloat16).save_pretrained(target)
    AutoTokenizer.from_pretrained(gguf.parent, **options).save_pretrained(target)
