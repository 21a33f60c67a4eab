"""Write files so that a kill or a full disk never leaves half of one: to a temporary name, then rename."""

import hashlib
import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from glp_core.errors import GlpError

if TYPE_CHECKING:
    from torch import Tensor

Json = dict[str, Any]
"""A JSON object: a report, a configuration, a header. Its values are checked where they are read."""


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a scratch path beside `path` to write to; rename it there when the block ends well, remove it otherwise.

    Raises:
        GlpError: the disk is full or not writable.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{path.name}-", dir=path.parent)
        os.close(handle)
        scratch = Path(name)
        try:
            yield scratch
            os.chmod(scratch, 0o644)
            os.replace(scratch, path)
        finally:
            scratch.unlink(missing_ok=True)
    except OSError as error:
        raise GlpError(
            f"Could not write {path}: {error.strerror or error}. Nothing half-written is left; free some space or choose another "
            "folder, and start the same command again: it goes on where it was."
        ) from error


def write_json(path: Path, value: object) -> None:
    """Write a value as readable JSON."""
    with replacing(path) as scratch:
        scratch.write_text(json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n")


def read_json(path: Path) -> Any:
    """Read JSON; raise GlpError when the file is missing or is not JSON."""
    try:
        return json.loads(path.read_text())
    except FileNotFoundError as error:
        raise GlpError(f"{path} does not exist.") from error
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise GlpError(f"{path} is not readable JSON: {error}.") from error


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
