"""Write files so that a kill or a full disk never leaves half of one, and read them so that a damaged one is named; needs no torch."""

import hashlib
import json
import math
import os
import platform
import re
import shutil
import struct
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple

import psutil

from glp_core.errors import GlpError

if TYPE_CHECKING:
    from torch import Tensor

Json = dict[str, Any]
"""A JSON object: a report, a configuration, a header. Its values are checked where they are read."""


MOST_DIGITS = 300
"""Of a whole number in JSON."""
LARGEST_JSON = 50_000_000
LONGEST_HEADER = 4_000_000
"""Bytes; larger files of their kind are damaged or hostile."""
MOST_TENSORS = 20_000
"""In one file; the largest GLP has some hundred."""
NUMBER_BYTES = {
    **dict.fromkeys(("F64", "I64", "U64", "C64"), 8),
    **dict.fromkeys(("F32", "I32", "U32"), 4),
    **dict.fromkeys(("F16", "BF16", "I16", "U16"), 2),
    **dict.fromkeys(("F8_E4M3", "F8_E5M2", "I8", "U8", "BOOL"), 1),
}
"""Bytes of a number in each format of safetensors that is read here."""
_waiting: ContextVar[list[tuple[Path, Path]] | None] = ContextVar("waiting", default=None)
PICKLES = (b"PK", b"\x80\x02", b"\x80\x04", b"\x80\x05")
"""How pickles begin, zipped or plain."""


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a scratch path beside `path` to write to; rename it there when the block ends well, remove it otherwise.

    Raises:
        GlpError: the disk is full or not writable.
    """
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        sweep(path.parent)
        handle, name = tempfile.mkstemp(prefix=scratch_prefix(path.name), dir=path.parent)
        os.close(handle)
        scratch, waiting = Path(name), _waiting.get()
        try:
            yield scratch
            os.chmod(scratch, 0o644)
            if waiting is None:
                os.replace(scratch, path)
            else:
                waiting.append((scratch, path))
        except BaseException:
            scratch.unlink(missing_ok=True)
            raise


@contextmanager
def together() -> Iterator[None]:
    """Let what this thread replaces in the block take its places at the block's end: a disk that fills on the way mixes no old and new.

    For files that say something only together, as weights and their statistics; what is written is not to be read in the block.
    A block in another is part of that one. A kill between two renames is the one moment that is left: the next run of the command
    mends it.
    """
    if _waiting.get() is not None:
        yield
        return
    waiting: list[tuple[Path, Path]] = []
    token = _waiting.set(waiting)
    try:
        yield
        for scratch, path in waiting:
            with writing(path):
                os.replace(scratch, path)
    finally:
        _waiting.reset(token)
        for scratch, _ in waiting:
            scratch.unlink(missing_ok=True)


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Tell a failure to write `path` in the block as a GlpError: the disk is full or not writable."""
    try:
        yield
    except OSError as error:
        raise GlpError(
            f"Could not write {path}: {error.strerror or error}. Nothing half-written is left; free some space or choose another "
            "folder, and start the same command again: it goes on where it was."
        ) from error


def scratch_prefix(name: str) -> str:
    """Return how the name of a scratch file or folder begins that this process makes with `tempfile`, so that `sweep` knows it."""
    return f".{name}-{platform.node()}-{os.getpid()}-"


def sweep(folder: Path, name: str = "") -> None:
    """Remove what processes of this machine that are gone had begun to write in a folder: all of it, or that in place of `name`."""
    begun = re.compile(rf"\.{re.escape(name) or '.+'}-{re.escape(platform.node())}-(\d{{1,9}})-[a-z0-9_]{{8}}", re.DOTALL)
    for one in os.scandir(folder):
        if (match := begun.fullmatch(one.name)) and not psutil.pid_exists(int(match[1])):
            if one.is_dir(follow_symlinks=False):
                shutil.rmtree(one, ignore_errors=True)
            else:
                Path(one).unlink(missing_ok=True)


def expanded(path: str | Path) -> Path:
    """Return a path, a home directory's sign spelt out; raise GlpError where nobody has that home."""
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        raise GlpError(f"{path}: {error} Name the folder in full.") from error


def copy_file(source: Path, target: Path) -> None:
    """Copy a file's bytes; raise GlpError where one cannot be read, or the other not written."""
    try:
        opened = source.open("rb")
    except OSError as error:
        raise GlpError(f"Could not read {source}: {error.strerror or error}.") from error
    with opened, replacing(target) as scratch, scratch.open("wb") as copy:
        shutil.copyfileobj(opened, copy)


def write_json(path: Path, value: object) -> None:
    """Write a value as readable JSON."""
    with replacing(path) as scratch:
        scratch.write_text(json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n", encoding="utf-8")


def read_json(path: Path, *, largest: int = LARGEST_JSON) -> Any:
    """Read JSON; raise GlpError when the file is missing, larger than so many bytes, or not JSON."""
    try:
        if path.stat().st_size > largest:
            raise GlpError(f"{path} is larger than {largest:,} bytes, wanted a smaller JSON file.")
        return parse_json(path.read_text(encoding="utf-8"), constants=False)
    except FileNotFoundError as error:
        raise GlpError(f"{path} does not exist.") from error
    except OSError as error:
        raise GlpError(f"{path} cannot be read: {error.strerror or error}.") from error
    except GlpError:
        raise
    except (ValueError, RecursionError) as error:
        raise GlpError(f"{path} is not readable JSON: {error}.") from error


def parse_json(text: str | bytes, *, constants: bool = True) -> Any:
    """Do what `json.loads` does, and refuse whole numbers that no float can hold: whatever calculates with one would fail.

    Args:
        constants: take NaN and Infinity, which are no JSON.
    Raises:
        ValueError: no JSON, or such a number.
    """
    return json.loads(text, parse_int=_whole, parse_constant=None if constants else _refuse)


def _whole(digits: str) -> int:
    if len(digits) > MOST_DIGITS:
        raise ValueError(f"a whole number has {len(digits):,} digits, wanted at most {MOST_DIGITS}")
    return int(digits)


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is no JSON number")


def read_object(path: Path, *, largest: int = LARGEST_JSON) -> Json:
    """Read a JSON object; raise GlpError when the file is missing, larger than so many bytes, or holds anything else."""
    value = read_json(path, largest=largest)
    if not isinstance(value, dict):
        raise GlpError(f"{path} holds a {type(value).__name__}, wanted a JSON object.")
    return value


class TensorHeader(NamedTuple):
    """What a safetensors file says of itself."""

    tensors: Json
    """Name to its dtype, shape and data_offsets."""
    metadata: dict[str, str]


def tensor_header(path: Path) -> TensorHeader:
    """Return the header of a safetensors file after checking that it is one, whole, and that its entries fit; needs no torch.

    Raises:
        GlpError: the file is missing, no safetensors file, cut off, or says something else of its tensors than it holds.
    """
    try:
        with path.open("rb") as file:
            return _header_of(path, file)
    except OSError as error:
        raise GlpError(f"{path} cannot be read: {error.strerror or error}.") from error


def _header_of(path: Path, file: BinaryIO) -> TensorHeader:
    size = path.stat().st_size
    start = file.read(8)
    if len(start) < 8:
        raise GlpError(f"{path.name} has {size} bytes: it is no safetensors file. Copy it again.")
    (length,) = struct.unpack("<Q", start)
    if length > min(LONGEST_HEADER, size):
        if start[:2] in PICKLES:
            raise GlpError(f"{path.name} is a pickle, not a safetensors file; pickles can run code and are never read.")
        raise GlpError(f"{path.name} claims a header of {length:,} bytes; wanted at most {min(LONGEST_HEADER, size):,}.")
    try:
        tensors = parse_json(file.read(length), constants=False)
        metadata = tensors.pop("__metadata__", None) or {}
        if len(tensors) > MOST_TENSORS:
            raise ValueError(f"{len(tensors):,} tensors, wanted at most {MOST_TENSORS:,}")
        if not all(isinstance(word, str) for word in metadata.values()):
            raise ValueError("metadata that is no text")
        end = max((_end_of(entry) for entry in tensors.values()), default=0)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise GlpError(f"{path.name} has a damaged header: {error}. Copy it again.") from error
    if 8 + length + end > size:
        raise GlpError(f"{path.name} is cut off: {size:,} bytes of {8 + length + end:,}. Copy it again.")
    return TensorHeader(tensors, metadata)


def _end_of(entry: Json) -> int:
    """Return where a tensor's bytes end, after checking that its header entry is what its shape and number format make."""
    shape, (start, end), kind = entry["shape"], entry["data_offsets"], entry["dtype"]
    if not all(type(n) is int and n >= 0 for n in (*shape, start, end)) or kind not in NUMBER_BYTES:
        raise ValueError(f"shape {shape}, offsets {[start, end]}, numbers {kind!r}")
    if math.prod(shape) * NUMBER_BYTES[kind] != end - start:
        raise ValueError(f"{end - start:,} bytes for shape {shape} of {kind}")
    return int(end)


def write_tensors(path: Path, tensors: "dict[str, Tensor]", metadata: dict[str, str] | None = None) -> None:
    """Write tensors as safetensors."""
    from safetensors.torch import save_file  # here, so that JSON is read and written without waiting for torch

    with replacing(path) as scratch:
        try:
            save_file({name: t.cpu().contiguous() for name, t in tensors.items()}, scratch, metadata=metadata)
        except Exception as error:
            # safetensors reports a full disk as its own exception type
            if "os error" in str(error).lower():
                raise OSError(str(error)) from error
            raise


def file_digest(path: Path) -> str:
    """Return the sha256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def tensors_digest(path: Path) -> str:
    """Return the sha256 of a safetensors file's numbers: what is said about them, as a title, may change; GlpError for a damaged one."""
    tensor_header(path)
    with path.open("rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        file.seek(8 + length)
        return hashlib.file_digest(file, "sha256").hexdigest()
