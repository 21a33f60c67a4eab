"""Read safetensors through one checked reader: names, number formats and shapes before anything is allocated, then finite values."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from glp_core.errors import GlpError
from glp_core.files import Json, TensorHeader, parse_json, tensor_header

if TYPE_CHECKING:
    from torch import Tensor

Wanted = Mapping[str, str]
"""A tensor's name to what it must be: its kind and a word for each dimension, as in "float n d".

Kinds: float (finite), number (float that may be nan), whole, any. A word of digits is a size, any other one names a size that is the same
wherever it stands, and "..." takes any shape. A name that ends in "?" may be missing.
"""
KINDS = {
    "float": ("F64", "F32", "F16", "BF16"),
    "number": ("F64", "F32", "F16", "BF16"),
    "whole": ("I64", "I32", "I16", "I8", "U8", "BOOL"),
}


class TensorFile(NamedTuple):
    """What a safetensors file holds."""

    tensors: "dict[str, Tensor]"
    metadata: dict[str, str]


def read_tensors(path: Path, wanted: Wanted, *, again: str = "Copy it again.", only: bool = False) -> TensorFile:
    """Read a safetensors file, on the CPU; what is allocated is what the file holds.

    Args:
        again: the way out where the file is damaged.
        only: leave tensors that are not wanted on disk.
    Raises:
        GlpError: the file is missing or damaged, or a tensor is not what is wanted.
    """
    import torch
    from safetensors import SafetensorError, safe_open

    header = check_tensors(path, wanted, again=again)
    plain = {name.rstrip("?"): words for name, words in wanted.items()}
    names = [name for name in header.tensors if not only or name in plain]
    try:
        with safe_open(path, "pt") as file:
            tensors = {name: file.get_tensor(name) for name in names}
    except (SafetensorError, OSError, ValueError, RuntimeError) as error:
        raise GlpError(f"{path.name} cannot be read: {error}. {again}") from error
    for name, tensor in tensors.items():
        if plain.get(name, "").startswith("float") and not torch.isfinite(tensor).all():
            raise GlpError(f"{path.name}: {name} holds values that are not finite. {again}")
    return TensorFile(tensors, header.metadata)


def read_torch(path: Path, safe: Sequence[Callable[..., object] | tuple[Callable[..., object], str]] = ()) -> object:
    """Return what a file of torch.save holds, plain tensors and what they stand in, on the CPU; nothing in it is run.

    Args:
        safe: classes and functions that may stand in it beside those of torch.
    Raises:
        GlpError: it is damaged, holds something else, or a tensor that claims more than the file has.
    """
    import torch

    try:
        with torch.serialization.safe_globals(list(safe)):
            loaded = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many kinds for a damaged or unsafe file
        reason = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
        raise GlpError(
            f"{path.name} is no plain tensor file ({type(error).__name__}: {reason}). Files that would run code are not read."
        ) from error
    values = loaded.values() if isinstance(loaded, dict) else [loaded]
    claimed = max((one.numel() * one.element_size() for one in values if isinstance(one, torch.Tensor)), default=0)
    if claimed > path.stat().st_size:
        raise GlpError(f"{path.name} has {path.stat().st_size:,} bytes and claims a tensor of {claimed:,}. Copy it again.")
    return loaded


def check_tensors(
    path: Path, wanted: Wanted, *, sizes: Mapping[str, int] | None = None, again: str = "Copy it again."
) -> TensorHeader:
    """Return a safetensors file's header after checking that its tensors are what is wanted; needs no torch.

    Args:
        sizes: of dimensions that are known already, by their word.
    Raises:
        GlpError: as `read_tensors`.
    """
    if not path.is_file():
        raise GlpError(f"There is no {path}. {again}")
    header = tensor_header(path)
    known = dict(sizes or {})
    for name, words in wanted.items():
        entry = header.tensors.get(name.rstrip("?"))
        if entry is None and not name.endswith("?"):
            have = ", ".join(list(header.tensors)[:6]) or "nothing"
            raise GlpError(f"{path.name} has no {name}: it has {have}. {again}")
        if entry is not None:
            _check_entry(f"{path.name}: {name.rstrip('?')}", entry, words.split(), known, again)
    return header


def _check_entry(what: str, entry: Json, words: list[str], known: dict[str, int], again: str) -> None:
    kind, *dimensions = words
    shape = entry["shape"]
    if dimensions == ["..."]:
        dimensions = ["any"] * len(shape)
    sizes = [int(word) if word.isdigit() else known.get(word) for word in dimensions]
    fits = len(shape) == len(sizes) and all(size in (None, got) for got, size in zip(shape, sizes, strict=True))
    if not fits or entry["dtype"] not in KINDS.get(kind, (entry["dtype"],)):
        names = ", ".join(word if size is None else str(size) for word, size in zip(dimensions, sizes, strict=True))
        words_of_kind = {"float": "floats", "number": "floats", "whole": "whole numbers"}.get(kind, "numbers")
        raise GlpError(
            f"{what} is {entry['dtype']} of shape {tuple(shape)}, wanted {words_of_kind} of shape ({names}). {again}"
        )
    known.update({word: got for word, got in zip(dimensions, shape, strict=True) if not word.isdigit() and word != "any"})


def metadata_json(header: TensorHeader, key: str, path: Path, *, again: str = "Copy it again.") -> object:
    """Return the JSON under a key of a file's metadata; raise GlpError when there is none."""
    try:
        return parse_json(header.metadata[key])
    except (KeyError, ValueError, RecursionError) as error:
        raise GlpError(f"{path.name} does not say its {key} ({type(error).__name__}). {again}") from error
