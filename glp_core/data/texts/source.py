"""Where a workspace's texts lie: a file or folder, here or in a data set of the Hugging Face hub, as workspace.json keeps it.

Needs neither torch nor pandas; opens nothing before it is asked for files.
"""

import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

from glp_core.data.texts import hub
from glp_core.data.texts.files import TextFile, suffixes
from glp_core.errors import GlpError, in_short, way_in
from glp_core.files import Json, expanded

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

HUB = "hf://datasets/"
DEFAULT_FIELD = "text"
MOST_FILES = 20_000
"""Files of texts, or folders of them, here."""
WANTED = ".jsonl, .csv and .txt (each also .gz or .zst), and .parquet"


@dataclass(frozen=True)
class OwnTexts:
    """A file or folder of texts, and the column that holds them."""

    source: str
    """An absolute path, or hf://datasets/org/name/path."""
    field: str = ""
    """The column; empty for plain text."""
    revision: str = ""
    """Pinned commit (hub only)."""

    @staticmethod
    def find(words: str, field: str | None = None) -> "OwnTexts":
        """Read --texts and --text-field: check that texts are there, pin a hub's revision, and choose the column.

        Raises:
            GlpError: nothing that can be read is there, or it is not plain which column holds the texts.
        """
        from glp_core.data.texts.formats import columns_of

        source, revision = _pinned(words) if words.startswith("hf://") else (os.path.abspath(expanded(words)), "")
        first = OwnTexts(source, revision=revision).files()[0]
        return OwnTexts(source, _chosen(columns_of(first), field, first), revision)

    @staticmethod
    def from_json(value: Any, where: str) -> "OwnTexts":
        """Read the entry of workspace.json at `where`."""
        known = {"source", "field", "revision"}
        if not isinstance(value, dict) or not all(isinstance(one, str) for one in value.values()) or value.keys() - known:
            raise GlpError(f"{where}: texts is {value!r}, wanted an object with source, field and revision, all of them words.")
        if not value.get("source"):
            raise GlpError(f"{where}: texts has no source, wanted a path or {HUB}…")
        return OwnTexts(**value)

    def to_json(self) -> Json:
        """Return the fields that are set, for workspace.json."""
        return {name: value for name, value in vars(self).items() if value}

    @property
    def label(self) -> str:
        """What tells these texts from all others, on one line."""
        revision = f"@{self.revision}" if self.revision else ""
        return f"{self.source}{revision}" + (f" [{self.field}]" if self.field else "")

    def state(self) -> str:
        """Return a digest of the files' names and sizes, so that others in their place are noticed; empty on the hub, where a commit is.

        Raises:
            GlpError: as `files`.
        """
        if self.revision:
            return ""
        listed = [[file.name, file.stamp.split()[0]] for file in self.files()]  # a copy has another date
        return hashlib.sha256(json.dumps(listed).encode()).hexdigest()[:12]

    def files(self) -> list[TextFile]:
        """Return the files of texts, by path.

        Raises:
            GlpError: they are not there any more, none can be read, or they are of several formats.
        """
        system, root = self._place()
        try:
            found = _found(system, root)
        except GlpError:
            raise
        except hub.failures(ValueError) as error:
            raise GlpError(f"The texts at {self.label} cannot be reached: {in_short(error)}.{way_in(error)}") from error
        if not found:
            raise GlpError(
                f"No texts at {self.label}: wanted a file or folder of {WANTED}. Put it back, or name other texts for a new workspace."
            )
        listed = [_text_file(system, root, path, about) for path, about in sorted(found.items())]
        files = [file for file in listed if _is_readable(file.name, named=file.path == root)]
        kinds = sorted({file.kind for file in files})
        if not files:
            raise GlpError(f"No texts at {self.label} among {len(found)} files: wanted {WANTED}.")
        if len(kinds) > 1:
            raise GlpError(f"{self.label} holds files of several formats ({', '.join(kinds)}): name those of one of them.")
        return files

    def _place(self) -> "tuple[AbstractFileSystem, str]":
        """Return the file system and the path in it."""
        if self.source.startswith(HUB):
            from huggingface_hub import HfFileSystem

            org, name, *rest = self.source.removeprefix(HUB).split("/")
            return HfFileSystem(), "/".join(["datasets", org, f"{name}@{self.revision}", *rest])
        from fsspec.implementations.local import LocalFileSystem

        return LocalFileSystem(), self.source


def _found(system: "AbstractFileSystem", root: str) -> dict[str, Json]:
    """Return the files below a folder, or the one of that name; what they are by path.

    Raises:
        GlpError: there are more than a folder of texts has, as below / or a home folder: they are not all looked at.
    """
    if root.startswith("datasets/"):
        return dict(system.find(root, detail=True))
    found: dict[str, Json] = {}
    for looked_at, (_, _, files) in enumerate(system.walk(root, detail=True)):
        found |= {file["name"]: file for name, file in files.items() if name}
        if max(looked_at, len(found)) > MOST_FILES:
            raise GlpError(f"{root} holds more than {MOST_FILES:,} files or folders: name a folder that has texts only.")
    return found or ({root: system.info(root)} if system.isfile(root) else {})


def _pinned(words: str) -> tuple[str, str]:
    """Return hf://datasets/org/name[@revision]/path without its revision, and the commit that this is now."""
    name, _, rest = words.removeprefix(HUB).partition("/")[2].partition("/")
    org = words.removeprefix(HUB).partition("/")[0]
    name, _, revision = name.partition("@")
    if not words.startswith(HUB) or not org or not name:
        raise GlpError(f"--texts is {words!r}, wanted {HUB}org/name/path or {HUB}org/name@revision/path.")
    from huggingface_hub import HfApi

    try:
        commit = HfApi().dataset_info(f"{org}/{name}", revision=revision or None).sha
    except hub.failures(ValueError) as error:
        raise GlpError(
            f"{words} cannot be reached: {in_short(error)}. Set HF_HUB_OFFLINE=0 where the hub may be asked, or give a local copy."
            f"{way_in(error)}"
        ) from error
    return f"{HUB}{org}/{name}" + (f"/{rest.strip('/')}" if rest.strip("/") else ""), str(commit)


def _text_file(system: "AbstractFileSystem", root: str, path: str, about: Json) -> TextFile:
    name = path[len(root) :].strip("/") or PurePosixPath(path).name
    stamp = about.get("mtime") or about.get("blob_id") or about.get("created") or ""
    return TextFile(system, path, name, f"{about.get('size')} {stamp}")


def _is_readable(name: str, *, named: bool) -> bool:
    """Say whether a file is of a kind that holds texts, and is not hidden where a folder was named."""
    from glp_core.data.texts.formats import COMPRESSED, FORMATS

    kind, compression = suffixes(name)
    hidden = any(part.startswith((".", "_")) for part in PurePosixPath(name).parts)
    return (named or not hidden) and kind in (COMPRESSED if compression else FORMATS)


def _chosen(columns: dict[str, bool], field: str | None, file: TextFile) -> str:
    """Return the column that was asked for, `text`, or the only one that holds texts."""
    if not columns:
        if field and file.kind == ".txt":
            raise GlpError(f"{file.path} is plain text, which has no {field!r}: leave --text-field out.")
        if file.kind != ".txt":
            raise GlpError(f"{file.path} is empty: it has no column, and no text.")
        return ""
    from glp_core.data.texts.formats import listed as named

    listed = f"it has {named(columns)}"
    if field is not None:
        if field not in columns:
            raise GlpError(f"{file.path} has no {field!r}: {listed}.")
        return field
    if DEFAULT_FIELD in columns:
        return DEFAULT_FIELD
    texts = [name for name, is_text in columns.items() if is_text]
    if len(texts) != 1:
        raise GlpError(f"Which column of {file.path} holds the texts? Say it with --text-field: {listed}.")
    return texts[0]
