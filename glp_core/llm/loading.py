"""Load a language model: from a hub id, a local folder, or the GGUF in an installed wheel; what cannot be trusted is refused.

Safetensors only and never remote code. Memory is counted before any weight is read; a model larger than its device is spread.
"""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch

from glp_core.devices import device_at, native_dtype
from glp_core.errors import GlpError, in_short, way_in
from glp_core.files import expanded
from glp_core.llm.gguf import converted_gguf, no_progress_bars
from glp_core.llm.hooks import edit_on, name_layers
from glp_core.llm.model import Llm
from glp_core.llm.needs import Placement, check_claims, check_weights, memory_needed, placement
from glp_core.llm.sources import LlmSource, check_shards
from glp_core.progress import Tell, unheard
from glp_core.speed.attention import attend_row_by_row
from glp_core.speed.packed import lay_out

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

PREFIXES = r"^(?:(?:module|_orig_mod|_fsdp_wrapped_module)\.)+"
"""What wrappers put before tensors' names when a data-parallel, compiled or sharded model is saved with them."""

SCALES = r"\.(weight_scale\w*|weight_zero_point|weight_packed|qweight|qzeros|scales|absmax|\w+_blocks|\w+_scales)$"
"""What quantised weights are multiplied by, or packed in, as formats name it."""


def load_llm(
    source: LlmSource,
    *,
    device: torch.device | str = "cpu",
    dtype: torch.dtype | None = None,
    beside: int = 0,
    tell: Tell = unheard,
) -> Llm:
    """Load the model and its tokenizer in `dtype` (native_dtype when None).

    Args:
        source: for example LlmSource("hub", "org/model", revision="<commit>"), or LlmSource("folder", "path").
        device: a torch device, or auto, cpu, cuda, cuda:N or mps.
        beside: bytes that will be loaded on the device beside the model.
        tell: told how much memory is needed and free, before any weight is read.
    Raises:
        GlpError: the package, folder or hub model is missing, a file is not what it should be, the device is not there, or memory does
            not suffice.
    """
    if not isinstance(source, LlmSource):
        raise GlpError(
            f"The LLM to load is {source!r}, wanted an LlmSource, such as LlmSource('hub', 'org/model', revision='<commit>') or "
            "LlmSource('folder', 'path')."
        )
    device = device_at(device)
    dtype = dtype or native_dtype(device)
    where, options = _resolve(source)
    with _refusals(source.label, where, options):
        from transformers import AutoConfig, AutoTokenizer

        config = AutoConfig.from_pretrained(where, **options)
        check_claims(where, config)
        tokenizer = AutoTokenizer.from_pretrained(where, **options)
        needed = memory_needed(config, dtype, device, folder=where, prior=beside)
        if not hasattr(config, "quantization_config"):
            check_weights(where, needed, dtype)
        plan = placement(source.label, needed, device)
        tell(plan.words)
        placed = plan.options or ({"device_map": {"": device}} if hasattr(config, "quantization_config") else {})
        model, report = _load_model(where, dtype=dtype, use_safetensors=True, **placed, **options)
        model = model if placed else model.to(device)
        _check_tensors(where, report)
        _check_tokenizer(where, tokenizer, model)
    return _assembled(source, model, tokenizer, plan, device)


def model_type(source: LlmSource) -> str:
    """Return the model's family as its configuration names it; GlpError for a model that cannot be found or read."""
    where, options = _resolve(source)
    with _refusals(source.label, where, options):
        from transformers import AutoConfig

        return str(AutoConfig.from_pretrained(where, **options).model_type)


def llm_bytes(source: LlmSource, *, device: torch.device | str, dtype: torch.dtype) -> int:
    """Return the bytes that `load_llm` will take on the device; GlpError for a model that cannot be found or read."""
    where, options = _resolve(source)
    with _refusals(source.label, where, options):
        from transformers import AutoConfig

        config = AutoConfig.from_pretrained(where, **options)
        check_claims(where, config)
        return memory_needed(config, dtype, torch.device(device), folder=where).total


def _assembled(
    source: LlmSource, model: "PreTrainedModel", tokenizer: "PreTrainedTokenizerBase", plan: Placement, device: torch.device
) -> Llm:
    if plan.options:
        edit_on(model, device)
    if plan.layout:
        lay_out(model)
    attend_row_by_row(model)
    if source.layers_at:
        name_layers(model, source.layers_at)
    llm = Llm(model, tokenizer, source.label)
    llm.notes += plan.notes
    return llm


@contextmanager
def _refusals(title: str, where: str, options: dict[str, Any]) -> Iterator[None]:
    """Turn what transformers raises while it reads a model into one line, without its bars."""
    try:
        with no_progress_bars():
            yield
    except GlpError:
        raise
    except (torch.OutOfMemoryError, MemoryError) as error:
        raise GlpError(f"{title} does not fit into the device's memory: take a smaller model, or --device cpu.") from error
    except Exception as error:  # transformers and tokenizers raise any kind for files that hold something else than they should
        words = in_short(error)
        quantised = _quantised(where, options)
        if quantised:
            raise GlpError(
                f"{title} is quantised ({quantised}) and cannot be read here: {words}. Install what is named, or take the model's "
                "unquantised weights, whose config.json has no quantization_config."
            ) from error
        raise GlpError(f"Could not load the LLM from {where!r}: {words}.{way_in(error)}") from error


def _quantised(where: str, options: dict[str, Any]) -> str:
    """Return the format that a model is quantised in, empty for none."""
    from transformers import PreTrainedConfig

    try:
        facts = PreTrainedConfig.get_config_dict(where, **options)[0].get("quantization_config")
    except Exception:  # as above
        return ""
    if not isinstance(facts, dict):
        return ""
    return str(facts.get("quant_method") or ("bitsandbytes" if facts.keys() & {"load_in_4bit", "load_in_8bit"} else "unknown"))


def _check_tensors(where: str, report: dict[str, Any]) -> None:
    scales = sorted(name for name in report["unexpected_keys"] if re.search(SCALES, name))
    if scales:
        raise GlpError(
            f"The weights in {where} are quantised in a format that is not known here: {scales[0]} says how, and would be left out. Take "
            "the model's unquantised weights."
        )
    missing = sorted(report["missing_keys"])
    if missing:
        raise GlpError(
            f"{where} lacks {len(missing)} of the model's tensors ({', '.join(missing[:3])}{', …' * (len(missing) > 3)}): they would be "
            "random. Save the whole causal language model, head included."
        )


def _check_tokenizer(where: str, tokenizer: "PreTrainedTokenizerBase", model: "PreTrainedModel") -> None:
    rows = model.get_input_embeddings().num_embeddings
    if len(tokenizer) > rows:
        raise GlpError(
            f"The tokenizer in {where} has {len(tokenizer):,} ids, the model's embedding {rows:,} rows: they do not belong together. "
            "Take the model's own tokenizer, or resize the embedding."
        )
    tokenizer.encode("a", add_special_tokens=False)  # which tells of settings that are none


def _load_model(where: str, **options: object) -> "tuple[PreTrainedModel, dict[str, Any]]":
    """Load with torch's own attention, or plain attention for the families that have no other (Gemma 2); no kernel is fetched.

    Returns:
        The model, and what transformers says of its tensors. Wrappers' prefixes of their names are left out.
    """
    from transformers import AutoModelForCausalLM

    options |= {"output_loading_info": True, "key_mapping": {PREFIXES: ""}}
    try:
        return AutoModelForCausalLM.from_pretrained(where, attn_implementation="sdpa", **options)
    except ValueError as error:
        if "scaled_dot_product_attention" not in str(error):
            raise
        return AutoModelForCausalLM.from_pretrained(where, attn_implementation="eager", **options)


def _resolve(source: LlmSource) -> tuple[str, dict[str, Any]]:
    """Return where the model's files are, and the options that they are read with; code beside them is never run."""
    if source.kind == "hub":
        return source.name, {"revision": source.revision, "trust_remote_code": False}
    if source.kind == "wheel":
        return str(converted_gguf(source)), {"trust_remote_code": False}
    folder = expanded(source.name)
    if not os.path.isfile(folder / "config.json"):
        raise GlpError(f"No config.json in {folder}: give a folder saved by transformers' save_pretrained.")
    check_shards(folder)
    source.check_folder()
    return str(folder), {"trust_remote_code": False}
