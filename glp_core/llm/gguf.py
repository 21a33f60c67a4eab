"""The GGUF in an installed wheel, as a folder of safetensors: made on first use, kept in the cache folder."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from safetensors import SafetensorError

from glp_core.errors import GlpError, in_short
from glp_core.files import scratch_prefix, sweep
from glp_core.llm.needs import hollow_model
from glp_core.llm.sources import LlmSource, cache_folder, wheel_file

MOST_NUMBERS = 8
"""In a byte; the roughest quantised formats have five."""


@contextmanager
def no_progress_bars() -> Iterator[None]:
    """Keep transformers from drawing on stderr, which belongs to the command that runs."""
    from transformers.utils import logging

    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()


def converted_gguf(source: LlmSource) -> Path:
    """Return a safetensors copy of the wheel's GGUF, made on first use (about 20 s) and kept in the cache folder."""
    target = cache_folder() / f"{Path(source.file).stem}-{source.sha256[:12] or 'unchecked'}"
    if (target / "config.json").is_file():
        return target
    gguf = wheel_file(source.name, source.file, source.sha256)
    scratch = None
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        sweep(target.parent)
        scratch = Path(tempfile.mkdtemp(prefix=scratch_prefix(target.name), dir=target.parent))
        with no_progress_bars():
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
    from gguf import GGUFReader
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

    options = {"gguf_file": gguf.name, "trust_remote_code": False}
    try:
        config = AutoConfig.from_pretrained(gguf.parent, **options)
        tensors, layers = len(GGUFReader(gguf).tensors), config.get_text_config().num_hidden_layers
        if layers > tensors:
            raise ValueError(f"it has {tensors:,} tensors, too few for {layers:,} layers")
        hollow = hollow_model(config, torch.float32)
        if sum(weight.numel() for weight in hollow.parameters()) > MOST_NUMBERS * gguf.stat().st_size:
            raise ValueError("it claims more numbers than it can hold")
        loaded = AutoModelForCausalLM.from_pretrained(gguf.parent, dtype=torch.float32, attn_implementation="sdpa", **options)
        tokenizer = AutoTokenizer.from_pretrained(gguf.parent, **options)
    except Exception as error:  # transformers raises any kind for a damaged file
        raise GlpError(
            f"{gguf.name} is no language model that can be read: {in_short(error)}. Install its package again."
        ) from error
    config = loaded.config
    if hasattr(config, "quantization_config"):
        del config.quantization_config
    fresh = type(loaded)(config)
    fresh.load_state_dict(loaded.state_dict())
    fresh.to(torch.bfloat16).save_pretrained(target)
    tokenizer.save_pretrained(target)
