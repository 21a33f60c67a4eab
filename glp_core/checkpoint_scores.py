"""Score a run's kept checkpoints beyond their loss: what their samples and their projections are worth. Written to evals.csv.

Every checkpoint gets the same held-out activations, documents and noise, so that differences are the checkpoints'. A score that is
there already is not computed again.
"""

import csv
import io
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch

from glp_core import evaluation
from glp_core.activations import ActivationStore
from glp_core.checkpoint import load_glp, read_statistics
from glp_core.corpus import documents
from glp_core.errors import GlpError
from glp_core.files import Progress, quiet, read_json, replacing
from glp_core.gaussian import GaussianPrior
from glp_core.llm import Llm
from glp_core.model import GLP
from glp_core.runs import SCORES
from glp_core.workspace import Workspace, torch_dtype

STEPS = 20
"""Of the released schedule, for samples and for projections."""
NOISE_LEVEL = 0.5


@dataclass(frozen=True)
class Scorer:
    """Everything that all checkpoints are scored with; each part is made when the first score needs it."""

    workspace: Workspace
    store: ActivationStore
    samples: int = 4000
    """Generated and real activations of the Frechet distance."""
    n_documents: int = 32
    """Held-out documents of the Delta LM loss."""
    tokens: int = 128
    """Tokens of each document."""

    @cached_property
    def held_out(self) -> torch.Tensor:
        """Two times `samples` held-out activations (2 n, d) in a fixed random order."""
        acts = self.store.validation()
        if len(acts) < 2 * self.samples:
            raise GlpError(f"The store holds {len(acts):,} held-out activations, wanted twice --samples ({self.samples:,}).")
        return acts[torch.randperm(len(acts), generator=torch.Generator().manual_seed(0))[: 2 * self.samples]]

    @cached_property
    def llm(self) -> Llm:
        """The language model."""
        return self.workspace.load_llm()

    @cached_property
    def ids(self) -> torch.Tensor:
        """Token ids (documents, tokens) of held-out texts."""
        return evaluation.long_rows(self.llm, [d.text for d in documents("validation")], self.n_documents, self.tokens)

    @cached_property
    def base(self) -> torch.Tensor:
        """The LLM's own loss on each document (documents,)."""
        return evaluation.document_losses(self.llm, self.workspace.layer, self.ids, None, self.store.median_norm)

    def frechet(self, glp: GLP) -> dict[str, float]:
        """Return the Frechet distance in latent space of samples to real activations, and that of two real sets beside it."""
        real, other = (glp.normalize(part).cpu() for part in self.held_out.split(self.samples))
        latents = evaluation.generated_latents(glp, self.samples, STEPS, self.store.median_norm)
        return {
            "frechet": evaluation.frechet_distance(latents, real),
            "real_real": evaluation.frechet_distance(real, other),
        }

    def delta_lm(self, glp: GLP) -> dict[str, float]:
        """Return by how much the LLM's loss rises when the layer is noised to 0.5 and denoised by the checkpoint."""
        prior = GaussianPrior(glp.normalizer.mean[0], self._covariance)
        replace = evaluation.replacements(glp, prior, NOISE_LEVEL, STEPS)["glp"]
        losses = evaluation.document_losses(self.llm, self.workspace.layer, self.ids, replace, self.store.median_norm)
        return {"delta_lm": float((losses - self.base).mean())}

    @cached_property
    def _covariance(self) -> torch.Tensor:
        return self.store.statistics()["covariance"]


WAYS: dict[str, Callable[[Scorer, GLP], dict[str, float]]] = {"frechet": Scorer.frechet, "delta_lm": Scorer.delta_lm}
"""Score to what computes it."""


def kept_checkpoints(folder: Path) -> dict[int, str]:
    """Return the checkpoints in a training folder, by activations seen, ascending."""
    found = {}
    for path in (folder / "checkpoints").glob("activations_*.safetensors"):
        number = re.fullmatch(r"activations_(\d+)", path.stem)
        if number:
            found[int(number[1])] = f"checkpoints/{path.stem}"
    if (folder / "final.safetensors").is_file():
        seen = read_json(folder / "config.json").get("about", {}).get("activations_seen")
        if isinstance(seen, int):
            found[seen] = "final"
    return dict(sorted(found.items()))


def score_run(folder: Path, scorer: Scorer, scores: Sequence[str], *, progress: Progress = quiet) -> None:
    """Compute the missing `scores` of every checkpoint in a training folder and write evals.csv after each.

    Raises:
        GlpError: an unknown score, or a checkpoint that cannot be read.
    """
    unknown = [name for name in scores if name not in WAYS]
    if unknown:
        raise GlpError(f"Score {unknown[0]!r} is not known: use {', '.join(WAYS)}.")
    read_statistics(folder)
    table = _read(folder / "evals.csv")
    checkpoints = kept_checkpoints(folder)
    for i, (seen, name) in enumerate(checkpoints.items()):
        row = table.setdefault(seen, {})
        missing = [score for score in scores if score not in row]
        if missing:
            glp = load_glp(folder, name, dtype=torch_dtype("auto"))
            for score in missing:
                progress(i, len(checkpoints), f"{score} of {seen:,} activations")
                row |= WAYS[score](scorer, glp)
            _write(folder / "evals.csv", table)
    progress(len(checkpoints), len(checkpoints), "")


def _read(path: Path) -> dict[int, dict[str, float]]:
    if not path.is_file():
        return {}
    with path.open(newline="") as file:
        return {
            int(float(row["activations"])): {name: float(row[name]) for name in SCORES if row.get(name)}
            for row in csv.DictReader(file)
        }


def _write(path: Path, table: dict[int, dict[str, float]]) -> None:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["activations", *SCORES])
    for seen, row in sorted(table.items()):
        writer.writerow([seen, *(f"{row[name]:.5g}" if name in row else "" for name in SCORES)])
    with replacing(path) as scratch:
        scratch.write_text(text.getvalue())
