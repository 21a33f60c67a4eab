"""A workspace: one folder that holds everything about one explorable model, and the way to each part of it.

    workspace.json   name, LLM source, layer, dtype, median norm, versions; texts, where they are not the demo's
    glp/             the prior: config.json, statistics.safetensors, final.safetensors, or a released folder's files
    covariance.safetensors   of the layer's activations, where the prior's own statistics have none
    directions/      one safetensors file a direction
    neurons/         the meta-neuron index
    runs/<name>/     config.json, train.csv, evals.csv of training runs
    reports/         what the commands measured, one JSON file each
    sweeps/          cells/: texts of sweeps by content; runs/: sweeps with their settings, texts and scores

Knows where things lie and loads them; computes nothing. Facts are read without torch, which is imported when a model is loaded.
"""

import os
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Literal, overload

from glp_core import places
from glp_core.checked.tensors import read_tensors
from glp_core.data.texts.source import OwnTexts
from glp_core.errors import GlpError
from glp_core.files import Json, expanded, file_digest, read_json, read_object, tensors_digest, write_json, write_tensors
from glp_core.llm.sources import LlmSource
from glp_core.prior.facts import GlpFacts, bytes_needed
from glp_core.progress import Tell, unheard
from glp_core.reports import read_report, versions

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from glp_core.data.corpus import Document, Documents
    from glp_core.data.store import ActivationStore
    from glp_core.llm.model import Llm
    from glp_core.llm.site import Site
    from glp_core.prior.glp import GLP
    from glp_core.prior.walk import WalkRule, WalkSettings
    from glp_core.steering.directions import Direction

DEMO = Path(__file__).resolve().parents[1] / "assets" / "demo"
LARGEST_NORM = 1e30
DIGEST_LENGTH = 16
"""Hexadecimal digits of a GLP's digest in the artefacts that were made with it."""
DTYPES = ("auto", "bfloat16", "float32")


@dataclass(frozen=True)
class Workspace:
    """One explorable model's folder."""

    folder: Path
    name: str
    """Shown as the title; also names the default activation store."""
    llm: LlmSource
    layer: int
    """The LLM block whose output is modelled, counted from 0."""
    dtype: str = "auto"
    """auto: bfloat16 where the device multiplies it natively, else float32."""
    median_norm: float = 0.0
    """Median norm of the layer's activations: the unit of steering strengths."""
    texts: OwnTexts | None = None
    """What is read where texts are needed; None: the demo's corpus."""
    versions: dict[str, str] = field(default_factory=versions)
    device: str = "cpu"
    """Where models of this workspace are loaded and compute; not stored."""
    tell: Tell = field(default=unheard, compare=False, repr=False)
    """Hears what a model needs of memory, and what is free, before it is loaded; not stored."""

    def __post_init__(self) -> None:
        where = f"{self.folder}/workspace.json"
        if not isinstance(self.name, str) or not self.name.strip():
            raise GlpError(f"{where}: name is {self.name!r}, wanted some text.")
        if type(self.layer) is not int or self.layer < 0:
            raise GlpError(f"{where}: layer is {self.layer!r}, wanted a whole number of at least 0.")
        if self.dtype not in DTYPES:
            raise GlpError(f"{where}: dtype is {self.dtype!r}, wanted {', '.join(DTYPES)}.")
        norm = self.median_norm
        if isinstance(norm, bool) or not isinstance(norm, int | float) or not 0 < norm <= LARGEST_NORM:
            raise GlpError(
                f"{where}: median_norm is {norm!r}, wanted a number above 0 (`python -m glp_core collect` finds it)."
            )

    @classmethod
    def open(cls, folder: Path | str = DEMO, device: str = "cpu") -> "Workspace":
        """Read a workspace, whose models will compute on `device`: auto, cpu, cuda, cuda:N or mps.

        Raises:
            GlpError: workspace.json is missing, damaged, or lacks something; or the device is not there.
        """
        if device != "cpu":  # facts are read without torch
            from glp_core.devices import device_at

            device = str(device_at(device))
        path = (folder := expanded(folder)) / "workspace.json"
        if not os.path.isfile(path):  # False too where nobody may look, or no file can have the name
            way_out = "`python -m glp_core build --help` says how to make one."
            raise GlpError(f"No workspace.json in {folder}: this is no workspace. {way_out}")
        facts = read_object(path)
        names = {"name", "llm", "layer", "dtype", "median_norm", "versions"}
        if names - facts.keys():
            raise GlpError(f"{path} lacks {', '.join(sorted(names - facts.keys()))}.")
        try:
            source = LlmSource(**facts["llm"])
        except TypeError as error:
            raise GlpError(
                f"{path}: llm is no LLM source: {error}. Wanted kind, name and, as the kind asks, file, sha256, revision."
            ) from error
        texts = OwnTexts.from_json(facts["texts"], str(path)) if "texts" in facts else None
        return cls(folder=folder, llm=source, texts=texts, device=device, **{key: facts[key] for key in names - {"llm"}})

    def save(self) -> None:
        """Write workspace.json."""
        facts: Json = {"name": self.name, "llm": self.llm.to_json(), "layer": self.layer, "dtype": self.dtype}
        facts |= {"texts": self.texts.to_json()} if self.texts else {}
        write_json(self.folder / "workspace.json", facts | {"median_norm": self.median_norm, "versions": self.versions})

    def load_llm(self) -> "Llm":
        """Load the language model on the workspace's device, in its dtype."""
        from glp_core.llm.loading import load_llm

        return load_llm(self.llm, device=self.device, dtype=self.torch_dtype, beside=self.prior_bytes, tell=self.tell)

    @cached_property
    def llm_bytes(self) -> int:
        """What the language model takes in memory, counted without loading it."""
        from glp_core.llm.loading import llm_bytes

        return llm_bytes(self.llm, device=self.device, dtype=self.torch_dtype)

    @property
    def prior_bytes(self) -> int:
        """What the prior takes in memory, its layouts for inference included; 0 without one."""
        on_cpu, files = self.device.split(":")[0] == "cpu", (self.folder / "glp").glob("*.safetensors")
        return max((bytes_needed(file, self.torch_dtype.itemsize, on_cpu=on_cpu, halves=True) for file in files), default=0)

    def memory(self) -> str:
        """Return in words what the models need on the workspace's device and what is free there; nothing is loaded."""
        from glp_core.memory import needed_and_free

        return needed_and_free(self.llm_bytes + self.prior_bytes, self.device)

    @overload
    def documents(self, split: Literal["train"]) -> "Documents": ...
    @overload
    def documents(self, split: Literal["validation"]) -> "Sequence[Document]": ...
    def documents(self, split: Literal["train", "validation"]) -> "Documents":
        """Return the documents to train on, streamed where they are the workspace's own, or the held-out ones.

        Raises:
            GlpError: the texts are not where workspace.json says.
        """
        if self.texts is None:
            from glp_core.data.corpus import documents

            return documents(split)
        from glp_core.data.texts.documents import TrainingDocuments, held_out

        return TrainingDocuments(self.texts) if split == "train" else held_out(self.texts)

    def site(self, llm: "Llm") -> "Site":
        """Return the layer of `llm`, this workspace's model, that is looked at."""
        from glp_core.llm.site import Site

        return Site(llm, self.layer, self.median_norm)

    def load_glp(self, checkpoint: str = "final", *, dtype: "torch.dtype | None" = None, whole: bool = False) -> "GLP":
        """Load the prior on the workspace's device, in its dtype or another: that of its layer, or `whole`, of all it serves."""
        from glp_core.prior.checkpoint import load_glp

        glp = load_glp(self.folder / "glp", checkpoint, self.device, dtype or self.torch_dtype, halves=True, tell=self.tell)
        return glp if whole else glp.at(self.layer)

    def transferred_from(self) -> str:
        """Return the LLM that the prior was trained on, where it is another than this workspace's; else nothing."""
        trained_on = GlpFacts.read(self.folder / "glp").llm
        return "" if not trained_on or self.llm.is_named(trained_on) else trained_on

    def walk(self) -> "WalkRule | WalkSettings":
        """Return how walks go here: as `tune-walk` chose for this workspace, else by default."""
        from glp_core.prior.walk import WalkRule, WalkSettings

        chosen = (self.report("walk_tuning") or {}).get("chosen")
        try:
            return WalkRule.of(chosen) if chosen else WalkSettings.untuned(self.report("reference"))
        except (TypeError, KeyError, AttributeError) as error:
            again = "Make it again with `python -m glp_core tune-walk`."
            raise GlpError(f"{self.report_path('walk_tuning')} holds no walk that was chosen: {error!r}. {again}") from error

    @property
    def torch_dtype(self) -> "torch.dtype":
        """The number type of the models on the workspace's device."""
        from glp_core.devices import named_dtype

        return named_dtype(self.dtype, self.device)

    def covariance(self) -> "Tensor":
        """Return the covariance (d, d) of the layer's activations, for Gaussian baselines: the prior's, or what `evaluate` kept."""
        from glp_core.prior.checkpoint import read_statistics

        covariance = read_statistics(self.folder / "glp").get("covariance")
        if covariance is None and self._covariance_path.is_file():
            covariance = read_tensors(self._covariance_path, {"covariance": "float d d"}).tensors["covariance"]
        if covariance is None:
            raise GlpError(
                f"The statistics in {self.folder / 'glp'} hold no covariance. `python -m glp_core evaluate` takes it from the store."
            )
        return covariance

    def keep_covariance(self, covariance: "Tensor") -> None:
        """Keep the covariance (d, d) of the layer's activations, for a prior that has none, as released ones."""
        write_tensors(self._covariance_path, {"covariance": covariance})

    @property
    def _covariance_path(self) -> Path:
        return self.folder / "covariance.safetensors"

    def open_store(self, folder: Path | None = None) -> "ActivationStore":
        """Open the collected activations in a folder, by default this workspace's.

        Raises:
            GlpError: they are another layer's or, in the default folder, another model's.
        """
        from glp_core.data.store import ActivationStore

        store = ActivationStore(folder or self.store_folder)
        store.check_of(self.layer, self.llm.identity, tell=self.tell if folder else None)
        return store

    def prefixes(self, name: str = "prefixes", path: Path | None = None) -> list[str]:
        """Return openings of texts to be gone on with: <name>.json of this workspace, or the demo's; or those of a file.

        Args:
            name: prefixes (for tests) or validation_prefixes (to choose by).
        Raises:
            GlpError: the file holds something else than a list of texts.
        """
        homes = (folder / f"{name}.json" for folder in (self.folder, DEMO))
        path = path or next((home for home in homes if home.is_file()), None)
        texts = read_json(path) if path else None
        if not isinstance(texts, list) or not texts or not all(isinstance(text, str) and text.strip() for text in texts):
            raise GlpError(f"{path or name} must hold a JSON list of texts.")
        return texts

    def direction_names(self) -> list[str]:
        """Return the names of the stored directions, sorted."""
        return sorted(path.stem for path in (self.folder / "directions").glob("*.safetensors"))

    def direction(self, name: str) -> "Direction":
        """Load one direction; raise GlpError when there is none of that name, or it is of another layer."""
        from glp_core.steering.directions import Direction

        direction = Direction.load(self._direction_file(name))
        if direction.layer != self.layer:
            raise GlpError(f"{name} is of layer {direction.layer}, the workspace models layer {self.layer}.")
        return direction

    def direction_digest(self, name: str) -> str:
        """Return what tells a direction's numbers from all others; GlpError when it is not there or damaged."""
        return tensors_digest(self._direction_file(name))[:DIGEST_LENGTH]

    def _direction_file(self, name: str) -> Path:
        names = self.direction_names()
        if name not in names:
            raise GlpError(f"No direction {name!r} in {self.name}: it has {', '.join(names) or 'none'}.")
        return self.folder / "directions" / f"{name}.safetensors"

    def directions(self, names: Sequence[str] | None = None) -> "list[Direction]":
        """Load the directions of these names, or all; raise GlpError when there is none."""
        directions = [self.direction(name) for name in names or self.direction_names()]
        if not directions:
            raise GlpError("The workspace has no direction to steer along. Make one with `python -m glp_core directions`.")
        return directions

    def report(self, name: str) -> Json | None:
        """Return what a command measured, or None when it has not been run; raise GlpError when the file is damaged."""
        path = self.report_path(name)
        return read_report(path) if path.is_file() else None

    def glp_digest(self, checkpoint: str = "final") -> str:
        """Return what tells the prior's weights from all others: the start of their file's sha256; empty without the file."""
        path = self.folder / "glp" / f"{checkpoint}.safetensors"
        return file_digest(path)[:DIGEST_LENGTH] if path.is_file() else ""

    def save_report(self, name: str, value: Json, *, checkpoint: str | None = "final") -> None:
        """Write a report with the versions, machine and date that made it; what `value["made_by"]` says already is kept.

        Args:
            checkpoint: whose digest is written as glp_digest; None when no GLP was measured.
        """
        if checkpoint is not None:
            value = value | {"glp_digest": self.glp_digest(checkpoint)}
        write_json(self.report_path(name), value | {"made_by": self.stamp() | value.get("made_by", {})})

    def stamp(self) -> Json:
        """Return the versions, machine with the models' number type, and date of now, as reports name what made them."""
        from glp_core.devices import machine

        on = machine(self.device, self.torch_dtype)
        return {**versions(), "machine": on, "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")}

    def made_with(self) -> Json:
        """Return all that decides which texts the workspace's model writes."""
        from glp_core.devices import machine

        on, walk = machine(self.device), asdict(self.walk())
        dtype = str(self.torch_dtype).removeprefix("torch.")
        facts = {"llm": self.llm.to_json(), "layer": self.layer, "median_norm": self.median_norm, "dtype": dtype}
        facts |= {"glp": self.glp_digest(), "walk": walk, "versions": versions()}
        return facts | {"machine": {name: on[name] for name in ("cpu", "device")}}

    def report_path(self, name: str) -> Path:
        """Return where a report is kept; raise GlpError for a name that could not be written."""
        if not re.fullmatch(r"[a-z0-9_]+", name):
            raise GlpError(f"Report name {name!r} is not made of small letters, digits and underscores.")
        return self.folder / "reports" / f"{name}.json"

    def runs(self) -> list[Path]:
        """Return the folders of training runs, sorted by name."""
        return sorted(path.parent for path in (self.folder / "runs").glob("*/train.csv"))

    @property
    def neurons(self) -> Path:
        """The folder of the meta-neuron index."""
        return self.folder / "neurons"

    @property
    def sweeps(self) -> Path:
        """The folder of sweeps over steering strengths."""
        return self.folder / "sweeps"

    @property
    def store_folder(self) -> Path:
        """The default folder of collected activations: large, and so outside the workspace."""
        return places.store_folder(self.name)

    @property
    def sae_path(self) -> Path:
        """The default place of the sparse autoencoder: large, and so outside the workspace."""
        return places.sae_path(self.name)

    @property
    def training_folder(self) -> Path:
        """The default folder in which runs are trained, with their states and checkpoints."""
        return places.training_folder(self.name)
