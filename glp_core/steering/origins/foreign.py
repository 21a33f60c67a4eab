"""Directions in other tools' files: control vectors (GGUF), persona vectors (.pt), SAE decoders (safetensors); read, and written as GGUF.

Layers are counted as here, blocks from 0, at their output. llama.cpp and repeng count alike: `direction.N` is added to the output of
block N, and there is none for block 0 (https://github.com/ggml-org/llama.cpp, llama_adapter_cvec). Persona vectors have a row for the
embeddings first, as `output_hidden_states` has. Nothing in these files is ever run.
"""

import re
import struct
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from glp_core.checked.tensors import read_torch
from glp_core.errors import GlpError
from glp_core.files import read_object, replacing, tensor_header
from glp_core.steering.directions import Direction

DECODER = "W_dec"
"""Name of an SAE's decoder (latents, d) with SAELens and sparsify."""
LARGEST_FILE = 16_000_000_000
"""Bytes; an SAE of 131,072 latents and width 4,096 has 4.3 GB."""
ARCHITECTURE = "controlvector"
HOOKS = (re.compile(r"blocks\.(\d{1,4})\.hook_resid_(pre|post)"), re.compile(r"(?:.*\.)?(?:layers|h)\.(\d{1,4})()"))
"""Where an SAE reads, as SAELens and sparsify name the residual stream before or after a block; a block's number, and which side."""


KINDS = (".gguf", ".pt", ".safetensors")
"""Endings of files that are read."""


class ForeignVector(NamedTuple):
    """One vector out of a file."""

    vector: Tensor
    """(d,), as it stands there."""
    words: str
    """What it is, for people."""


def read_foreign(path: Path, *, layer: int, n_layers: int, latent: int | None = None) -> ForeignVector:
    """Read the vector of a layer from another tool's file.

    Args:
        layer: LLM block, counted from 0.
        n_layers: blocks of the LLM.
        latent: row of an SAE's decoder.
    Raises:
        GlpError: the file is missing, damaged, of no known kind, or holds nothing for this layer.
    """
    check_file(path)
    readers: dict[str, Callable[[], ForeignVector]] = {
        ".gguf": lambda: _control_vector(path, layer),
        ".pt": lambda: _persona_vector(path, layer, n_layers),
        ".safetensors": lambda: _decoder_row(path, latent, layer),
    }
    foreign = readers[path.suffix]()
    if foreign.vector.ndim != 1 or not torch.isfinite(foreign.vector).all() or not foreign.vector.norm() > 0:
        raise GlpError(f"{path.name}: {foreign.words} is no finite vector other than zero.")
    return foreign


def check_file(path: Path) -> None:
    """Raise GlpError for a file that is missing, too large, or of no known kind."""
    if not path.is_file():
        raise GlpError(f"There is no file {path}.")
    if path.stat().st_size > LARGEST_FILE:
        raise GlpError(f"{path.name} has {path.stat().st_size:,} bytes, wanted at most {LARGEST_FILE:,}.")
    if path.suffix not in KINDS:
        raise GlpError(f"{path.name} is of no known kind, wanted {', '.join(KINDS)}.")


def own_direction(path: Path, *, name: str, title: str, layer: int, width: int) -> Direction | None:
    """Return a direction that `export-direction` or the Lab wrote, with its probe and evidence; None for another kind of file.

    Args:
        title: to show, in the place of its own.
    Raises:
        GlpError: the file is damaged, or of another layer or model.
    """
    if not path.is_file() or path.suffix != ".safetensors" or "direction" not in tensor_header(path).metadata:
        return None
    found = Direction.load(path)
    if found.layer != layer or found.vector.shape != (width,):
        raise GlpError(
            f"{path.name} is of block {found.layer} and width {len(found.vector):,}, wanted block {layer} and width {width:,}."
        )
    return replace(found, name=name, title=title)


def as_direction(found: ForeignVector, *, name: str, title: str, layer: int, median_norm: float, width: int) -> Direction:
    """Return a foreign vector as a direction of unit length; it has no probe, so the concept of a text is unknown (nan).

    Raises:
        GlpError: its width is not the LLM's.
    """
    if found.vector.shape != (width,):
        raise GlpError(
            f"{found.words} has {len(found.vector):,} numbers, wanted {width:,}, the LLM's width: it is of another model."
        )
    length = float(found.vector.norm())
    how = f"{found.words}; its own length is {length / median_norm:.3g} median norms"
    about = {"source": "file", "length": length}
    return Direction.unmeasured(
        found.vector, name=name, title=title, layer=layer, median_norm=median_norm, how=how, about=about
    )


def write_control_vector(direction: Direction, path: Path, *, model_type: str) -> None:
    """Write a direction as a control vector for llama.cpp and repeng; a scale there is a strength here.

    Args:
        model_type: of the LLM, as its configuration has it, for example "llama".
    Raises:
        GlpError: the direction is of block 0, which llama.cpp cannot steer.
    """
    from gguf import GGUFWriter

    if direction.layer == 0:
        raise GlpError("llama.cpp adds no control vector to block 0; choose a direction of a later layer.")
    with replacing(path) as scratch:
        writer = GGUFWriter(scratch, ARCHITECTURE)
        writer.add_string(f"{ARCHITECTURE}.model_hint", model_type)
        writer.add_uint32(f"{ARCHITECTURE}.layer_count", 1)
        writer.add_description(
            f"{direction.title}: {direction.how}. direction.{direction.layer} is added to the output of block {direction.layer}, "
            f"counted from 0. It is {direction.median_norm:.6g} long, the layer's median activation norm, so scale 1 is strength 1."
        )
        scaled = (direction.vector.float() * direction.median_norm).numpy().astype(np.float32)
        writer.add_tensor(f"direction.{direction.layer}", scaled)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()


def _control_vector(path: Path, layer: int) -> ForeignVector:
    from gguf import GGUFReader

    try:
        reader = GGUFReader(path)
        field = reader.get_field("general.architecture")
        architecture = field.contents() if field else None
        by_name = {tensor.name: tensor for tensor in reader.tensors}
        numbers = np.array(by_name[f"direction.{layer}"].data) if f"direction.{layer}" in by_name else None
    except (
        ValueError,
        IndexError,
        KeyError,
        TypeError,
        OverflowError,
        struct.error,
        UnicodeDecodeError,
        RecursionError,
        MemoryError,
    ) as error:
        raise GlpError(f"{path.name} is no readable GGUF file: {error}.") from error
    if architecture != ARCHITECTURE:
        raise GlpError(f"{path.name} is a GGUF file of the kind {str(architecture)[:40]!r}, wanted {ARCHITECTURE!r}.")
    if numbers is None:
        raise GlpError(f"{path.name} has no vector for layer {layer}: it has {', '.join(list(by_name)[:6]) or 'none'}.")
    if not np.issubdtype(numbers.dtype, np.floating):
        raise GlpError(f"{path.name}: direction.{layer} is quantised, wanted float32 or float16.")
    return ForeignVector(torch.from_numpy(numbers.astype(np.float32)), f"direction.{layer} of the control vector {path.name}")


def _persona_vector(path: Path, layer: int, n_layers: int) -> ForeignVector:
    rows = read_torch(path)
    if not isinstance(rows, Tensor) or rows.ndim not in (1, 2) or not rows.is_floating_point():
        raise GlpError(f"{path.name} holds no table of numbers, wanted a tensor (layers, width).")
    if rows.ndim == 1:
        return ForeignVector(rows.float(), f"the vector in {path.name}")
    embeddings_first = len(rows) == n_layers + 1
    if len(rows) != n_layers and not embeddings_first:
        raise GlpError(
            f"{path.name} has {len(rows)} rows, wanted {n_layers}, one for each block, or one more for the embeddings first."
        )
    return ForeignVector(rows[layer + embeddings_first].float(), f"block {layer} of the persona vectors {path.name}")


def _decoder_row(path: Path, latent: int | None, layer: int) -> ForeignVector:
    hook, block = _read_at(path)
    if hook and block != layer:
        where = f"the output of block {block}" if block is not None and block >= 0 else "no block's output"
        raise GlpError(f"The SAE in {path.name} reads {hook!r}, {where}; wanted that of block {layer}, counted from 0.")
    shapes = {name: entry["shape"] for name, entry in tensor_header(path).tensors.items()}
    if DECODER not in shapes or len(shapes[DECODER]) != 2:
        raise GlpError(f"{path.name} has no {DECODER} (latents, width): it has {', '.join(list(shapes)[:6]) or 'nothing'}.")
    n_latents = shapes[DECODER][0]
    if latent is None or not 0 <= latent < n_latents:
        raise GlpError(f"The SAE in {path.name} has latents 0 to {n_latents - 1}, got {latent}: say which with --latent.")
    try:
        with safe_open(path, "pt") as file:
            row = file.get_slice(DECODER)[latent]
    except SafetensorError as error:
        raise GlpError(f"{path.name} cannot be read: {error}.") from error
    return ForeignVector(row.float(), f"latent {latent} of the SAE {path.name}")


def _read_at(path: Path) -> tuple[str, int | None]:
    """Return where an SAE reads, and the block whose output that is; nothing where neither cfg.json nor the folder's name says it.

    SAELens keeps hook_name in the cfg.json beside the weights, or in its metadata; sparsify names the folder.
    """
    beside = path.parent / "cfg.json"
    facts = read_object(beside) if beside.is_file() else {}
    more = facts.get("metadata")
    hook = facts.get("hook_name") or (more.get("hook_name") if isinstance(more, dict) else None)
    name = str(hook or (path.parent.name if HOOKS[1].fullmatch(path.parent.name) else ""))
    found = next(filter(None, (pattern.fullmatch(name) for pattern in HOOKS)), None)
    return name, int(found[1]) - (found[2] == "pre") if found else None
