"""Files of texts, local or on a hub: opened as streams of bytes, decompressed on the way, from any place on.

Knows bytes and lines; knows nothing of what stands in them.
"""

import gzip
import io
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO, cast

from glp_core.data.texts import hub
from glp_core.errors import GlpError

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

BLOCK = 1 << 20
LONGEST_LINE = 1 << 24
"""Bytes; a longer line is no line of texts but a file of another format."""


@dataclass(frozen=True)
class TextFile:
    """One file of texts."""

    system: "AbstractFileSystem"
    path: str
    name: str
    """Inside the folder that was named: what is shown, and stored as a document's source."""
    stamp: str
    """Size and date, or what else says that the file is still the same."""

    @property
    def kind(self) -> str:
        """The format's suffix, without that of the compression."""
        return suffixes(self.name)[0]

    @contextmanager
    def opened(self, place: int = 0) -> Iterator[BinaryIO]:
        """Open the decompressed bytes from `place` on; damage met on the way is a GlpError that names the file."""
        try:
            with self.system.open(self.path, "rb") as raw:
                stream = _decompressed(raw, suffixes(self.name)[1])
                _skip(stream, place)
                yield stream
        except FileNotFoundError as error:
            raise GlpError(f"{self.path} is no longer there. Put it back, or name other texts for a new workspace.") from error
        except GlpError:
            raise
        except hub.failures(EOFError, zlib.error) as error:
            raise GlpError(f"{self.path} cannot be read on: {error}. Copy it again if it is damaged or cut off.") from error

    def lines(self, stream: BinaryIO) -> Iterator[bytes]:
        """Yield the lines of an opened stream, each with its end."""
        while line := stream.readline(LONGEST_LINE + 1):
            if len(line) > LONGEST_LINE:
                raise GlpError(
                    f"{self.path} has a line of more than {LONGEST_LINE:,} bytes: it is no {self.kind} file of texts."
                )
            yield line

    def error(self, place: int, words: str, unit: str = "line") -> GlpError:
        """Return the error that what stands at `place` is `words`; lines are counted only now."""
        number = place
        if unit == "line":
            with self.opened() as stream:
                number = sum(block.count(b"\n") for block in _blocks(stream, place))
        return GlpError(f"{self.path}, {unit} {number + 1:,}: {words}. Mend or remove it, and start the same command again.")


def suffixes(name: str) -> tuple[str, str]:
    """Return a file name's suffix and that of its compression, in small letters; each may be empty."""
    stem, dot, last = name.lower().rpartition(".")
    if last in ("gz", "zst") and dot:
        inner = stem.rpartition(".")
        return (f".{inner[2]}" if inner[1] else ""), f".{last}"
    return (f".{last}" if dot else ""), ""


def _decompressed(raw: BinaryIO, compression: str) -> BinaryIO:
    if compression == ".gz":
        return cast(BinaryIO, gzip.GzipFile(fileobj=raw))
    if compression == ".zst":
        import pyarrow as pa

        return cast(BinaryIO, io.BufferedReader(pa.CompressedInputStream(raw, "zstd"), BLOCK))
    return cast(BinaryIO, io.BufferedReader(cast(io.RawIOBase, raw), BLOCK))


def _skip(stream: BinaryIO, place: int) -> None:
    """Go to `place`; what is compressed is read up to there."""
    if stream.seekable():
        stream.seek(place)
        return
    for _ in _blocks(stream, place):
        pass


def _blocks(stream: BinaryIO, size: int) -> Iterator[bytes]:
    """Yield the next `size` bytes in blocks."""
    while size > 0 and (block := stream.read(min(BLOCK, size))):
        size -= len(block)
        yield block
