"""What a workspace says about itself, read from its small JSON files and file headers: fit for a first paint, torch not needed."""

import json
import math
import os
import shlex
import struct
from dataclasses import dataclass
from pathlib import Path

from glp_core.errors import GlpError
from glp_core.files import Json

FOLDER_VARIABLE = "GLP_EXPLORER_WORKSPACE"
"""Environment variable that names another workspace folder."""
ROOT = Path(__file__).resolve().parents[2]
"""The repository."""
DEMO = ROOT / "assets" / "demo"
LARGEST_JSON = 50_000_000


def folder() -> Path:
    """Return the folder of the workspace that this server shows."""
    return Path(os.environ.get(FOLDER_VARIABLE) or DEMO).expanduser().resolve()


def command(words: str) -> str:
    """Return the command line of glp_core to paste into a terminal, for example of "bank --keep", for the workspace that is shown."""
    arguments = words if folder() == DEMO else f"{words} --workspace {shlex.quote(str(folder()))}"
    return f"python -m glp_core {arguments}"


@dataclass(frozen=True)
class DirectionFacts:
    """What a direction's file says about it."""

    name: str
    title: str
    auroc: float
    how: str


@dataclass(frozen=True)
class Facts:
    """What the sidebar and the Overview show of a workspace."""

    folder: Path
    name: str
    llm: str
    layer: int
    dtype: str
    """As the workspace asks for it: auto, bfloat16 or float32."""
    median_norm: float
    d_input: int
    glp_parameters: int
    glp_shape: str
    """Blocks and neurons in words."""
    activations_seen: int | None
    validation_loss: float | None


def read() -> Facts:
    """Return the workspace's facts.

    Raises:
        GlpError: the folder is no workspace, or holds no GLP.
    """
    where = folder()
    about = _json(where / "workspace.json")
    config = _json(where / "glp" / "config.json", needed=False)
    shape = config.get("denoiser", {})
    seen = config.get("about", {})
    try:
        return Facts(
            folder=where,
            name=str(about["name"]),
            llm=str(about["llm"].get("title") or about["llm"]["name"]),
            layer=int(about["layer"]),
            dtype=str(about.get("dtype", "auto")),
            median_norm=float(about["median_norm"]),
            d_input=int(shape.get("d_input", 0)),
            glp_parameters=parameters(where / "glp" / "final.safetensors"),
            glp_shape=f"{shape.get('n_layers', '?')} blocks × {shape.get('d_mlp', '?'):,} neurons"
            if shape
            else "unknown shape",
            activations_seen=seen.get("activations_seen"),
            validation_loss=seen.get("validation_loss"),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise GlpError(f"{where / 'workspace.json'} lacks or garbles {error}. Make the workspace again.") from error


def glp_size() -> tuple[int, int] | None:
    """Return the GLP's number of layers and of neurons a layer, or None where its configuration does not say."""
    shape = _json(folder() / "glp" / "config.json", needed=False).get("denoiser", {})
    try:
        return int(shape["n_layers"]), int(shape["d_mlp"])
    except (KeyError, TypeError, ValueError, OverflowError):
        return None


def report(name: str) -> Json | None:
    """Return what a command measured (reports/<name>.json), or None when it has not been run."""
    path = folder() / "reports" / f"{name}.json"
    return _json(path) if path.is_file() else None


def directions() -> list[DirectionFacts]:
    """Return the workspace's directions, sorted by title; damaged files are left out here and reported when they are used."""
    found = []
    for path in sorted((folder() / "directions").glob("*.safetensors")):
        try:
            facts = json.loads(header(path).get("__metadata__", {}).get("direction", "{}"))
            found.append(DirectionFacts(path.stem, str(facts["title"]), float(facts["auroc"]), str(facts["how"])))
        except (GlpError, KeyError, TypeError, ValueError):
            continue
    return sorted(found, key=lambda direction: direction.title.lower())


def parameters(path: Path) -> int:
    """Return how many numbers a safetensors file holds, 0 when it is missing or damaged (loading it says why)."""
    try:
        return sum(math.prod(entry["shape"]) for name, entry in header(path).items() if name != "__metadata__")
    except (GlpError, KeyError, TypeError):
        return 0


def header(path: Path) -> Json:
    """Return the header of a safetensors file."""
    try:
        with path.open("rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            if length > 4_000_000:
                raise GlpError(f"{path.name} claims a header of {length:,} bytes: it is damaged.")
            return json.loads(file.read(length))
    except (OSError, struct.error, ValueError) as error:
        raise GlpError(f"{path} is no readable safetensors file: {error}.") from error


def _json(path: Path, *, needed: bool = True) -> Json:
    if not path.is_file():
        if needed:
            raise GlpError(f"No {path.name} in {path.parent}. Set {FOLDER_VARIABLE} to a workspace folder.")
        return {}
    if path.stat().st_size > LARGEST_JSON:
        raise GlpError(f"{path} is larger than {LARGEST_JSON:,} bytes, wanted a small JSON file.")
    try:
        found = json.loads(path.read_text())
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise GlpError(f"{path} is not readable JSON: {error}.") from error
    if not isinstance(found, dict):
        raise GlpError(f"{path} holds a {type(found).__name__}, wanted a JSON object.")
    return found
