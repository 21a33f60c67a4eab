"""Memory that a language model needs, counted from its configuration before any weight is read, against what is free.

A model larger than an accelerator is spread over all of them and main memory. Knows configurations and devices; loads nothing.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from glp_core.devices import device_title
from glp_core.errors import GlpError
from glp_core.llm.batching import tokens_per_forward
from glp_core.memory import free_memory, gigabytes
from glp_core.speed.packed import layout_bytes

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedModel

TENSORS_OF_A_FORWARD = 12
"""Values of the hidden width that a forward holds for each token, roughly: a gated layer's inner values among them."""
SPARE = 100_000_000
"""Bytes of a model beside its stored weights: tables that it makes itself."""
TOLD = 1_000_000
"""Bytes from which on a second layout is told of."""
MOST_SPREAD = 0.92
"""Share of each device's free memory that a model spread over several may take."""


@dataclass(frozen=True)
class MemoryNeeded:
    """Bytes, by what needs them."""

    weights: int
    """The language model's parameters, in the number type that they are loaded in."""
    working: int
    """Values of one forward, of as many tokens as are read at once."""
    prior: int = 0
    """What is loaded beside the model."""
    layout: int = 0
    """A second layout of the parameters, which makes a decode step faster and is made where there is room."""

    @property
    def total(self) -> int:
        return self.weights + self.working + self.prior

    @property
    def words(self) -> str:
        """The sum and its parts."""
        prior = f", the prior {gigabytes(self.prior)}" if self.prior else ""
        layout = f"; {gigabytes(self.layout)} more make it faster" if self.layout >= TOLD else ""
        return (
            f"{gigabytes(self.total)} (weights {gigabytes(self.weights)}, a forward {gigabytes(self.working)}{prior}{layout})"
        )


def check_claims(folder: str, config: "PreTrainedConfig") -> None:
    """Refuse a folder whose configuration names more layers than its weight files have tensors, before anything is made of it.

    Nothing is said of what is on the hub: its files are not here yet.
    """
    from safetensors import safe_open

    files = list(Path(folder).glob("*.safetensors"))
    tensors = sum(len(safe_open(file, "pt").keys()) for file in files)
    layers = getattr(config.get_text_config(), "num_hidden_layers", None)
    if files and isinstance(layers, int) and layers > tensors:
        raise GlpError(
            f"{folder} has {tensors:,} tensors, too few for the {layers:,} layers of its config.json. Copy it again."
        )


def check_weights(folder: str, needed: MemoryNeeded, dtype: torch.dtype) -> None:
    """Refuse a folder whose configuration makes more numbers than its weight files have bytes: they would be allocated for nothing."""
    held = sum(file.stat().st_size for file in Path(folder).glob("*.safetensors"))
    if held and needed.weights > held * dtype.itemsize + SPARE:
        raise GlpError(
            f"The config.json in {folder} makes a model of {gigabytes(needed.weights)}, and its weight files have {gigabytes(held)}: "
            "they do not belong together. Copy it again."
        )


@dataclass(frozen=True)
class Placement:
    """Where a model goes, and what there is to say of it."""

    words: str
    """Memory needed and free."""
    options: dict[str, Any] = field(default_factory=dict)
    """For `from_pretrained`, when the model is spread over devices."""
    notes: tuple[str, ...] = ()
    """What a person should know."""
    layout: bool = False
    """Whether there is room for a second layout."""


def memory_needed(
    config: "PreTrainedConfig", dtype: torch.dtype, device: torch.device, *, folder: str = "", prior: int = 0
) -> MemoryNeeded:
    """Return what a model of that configuration needs on a device.

    Args:
        folder: where its weights are; a quantised model's are counted there, as large as their files (0 while they are on the hub), where
            they stay quantised.
        prior: bytes that will be loaded beside it.
    """
    model = hollow_model(config, dtype)
    weights = sum(tensor.numel() * tensor.element_size() for tensor in (*model.parameters(), *model.buffers()))
    if hasattr(config, "quantization_config") and not _unpacked(config.quantization_config, device):
        weights = sum(file.stat().st_size for file in Path(folder).glob("*.safetensors"))
    width = hidden_width(model)
    working = tokens_per_forward(device, width) * width * dtype.itemsize * TENSORS_OF_A_FORWARD
    return MemoryNeeded(weights, working, prior, layout_bytes(model) if device.type == "cpu" else 0)


def hidden_width(model: "PreTrainedModel") -> int:
    """Return the dimensions of what the layers give out; a few models embed tokens in fewer."""
    width = getattr(model.config.get_text_config(), "hidden_size", None)
    return width if isinstance(width, int) else int(model.get_input_embeddings().embedding_dim)


def cache_bytes(config: "PreTrainedConfig", dtype: torch.dtype) -> int:
    """Return the bytes of keys and values that a model keeps of each token it has read, in all its layers; 0 where it is not plain."""
    try:
        text = config.get_text_config()
        layers, heads, own_heads, own_width = (
            value if isinstance(value := getattr(text, name, None), int) else 0
            for name in ("num_hidden_layers", "num_attention_heads", "num_key_value_heads", "head_dim")
        )
    except (RuntimeError, ValueError):  # layers that differ, of several models in one
        return 0
    width = own_width or (text.hidden_size // heads if heads else 0)
    return 2 * layers * (own_heads or heads) * width * dtype.itemsize if heads else 0


def _unpacked(quantised: object, device: torch.device) -> bool:
    """Say whether transformers turns a model's quantised weights into plain ones, for want of a device that multiplies them."""
    method = quantised.get("quant_method") if isinstance(quantised, dict) else getattr(quantised, "quant_method", None)
    return device.type != "cuda" and method in ("fp8", "mxfp4")


def hollow_model(config: "PreTrainedConfig", dtype: torch.dtype) -> "PreTrainedModel":
    """Return the model of that configuration without its numbers, on torch's device `meta`: shapes only, in a moment."""
    from transformers import AutoModelForCausalLM

    with torch.device("meta"):
        return AutoModelForCausalLM.from_config(config, dtype=dtype, trust_remote_code=False)


def placement(title: str, needed: MemoryNeeded, device: torch.device) -> Placement:
    """Return where a model goes: to the device, or spread over all CUDA devices and main memory when it is larger.

    Raises:
        GlpError: memory does not suffice. Where the free memory cannot be known, nothing is refused.
    """
    free = free_memory(device)
    has = f"{device_title(device)} has {gigabytes(free)} free" if free is not None else "what is free cannot be known"
    words = f"{title} needs {needed.words}; {has}."
    if free is None or needed.total <= free:
        return Placement(words, layout=needed.layout > 0 and (free is None or needed.total + needed.layout <= free))
    room = room_by_device(free_by_device(device), needed.total - needed.weights)
    if len(room) > 1 and needed.weights <= sum(room.values()):
        spread = (
            f"{title} is larger than {device_title(device)}: it is spread over {', '.join(map(_title, room))}, which is slower."
        )
        return Placement(f"{words} {spread}", {"device_map": "auto", "max_memory": room}, (spread,))
    raise GlpError(f"{words} {_ways_out(needed, device)}")


def free_by_device(device: torch.device) -> dict[int | str, int]:
    """Return the free bytes of the devices that a model may be spread over, as accelerate names them.

    All CUDA devices, then main memory, for cuda:0, which also stands for `cuda` and `auto`; none for another card or main memory, nor
    where other processes have the other cards.
    """
    if device.type != "cuda" or device.index or torch.distributed.is_initialized():
        return {}
    free: dict[int | str, int] = {n: free_memory(torch.device("cuda", n)) or 0 for n in range(torch.cuda.device_count())}
    return free | {"cpu": free_memory("cpu") or 0}


def room_by_device(free: Mapping[int | str, int], beside: int) -> dict[int | str, int]:
    """Return how much of a model each device takes: most of its free memory, on the first less what is needed beside the weights."""
    room = {name: int(free_bytes * MOST_SPREAD) for name, free_bytes in free.items()}
    return {name: max(0, bytes_ - beside) if place == 0 else bytes_ for place, (name, bytes_) in enumerate(room.items())}


def _title(name: int | str) -> str:
    return f"cuda:{name}" if isinstance(name, int) else "main memory"


def _ways_out(needed: MemoryNeeded, device: torch.device) -> str:
    ways = ["Take a smaller model", "end what else uses the memory"]
    main = free_memory("cpu")
    if device.type != "cpu" and main is not None and needed.total < main:
        ways.append(f"take --device cpu ({gigabytes(main)} free)")
    if device.index:
        ways.append("take --device cuda, which spreads it over all cards and main memory")
    return f"{', '.join(ways[:-1])}, or {ways[-1]}."
