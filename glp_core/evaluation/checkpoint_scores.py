"""Score a run's kept checkpoints beyond their loss: what their samples, projections, neurons and steered texts are worth.

Written to evals.csv after each checkpoint, with how it was measured in evals.json. Every checkpoint gets the same held-out
activations, documents, tasks, prefixes and noise, so that differences are the checkpoints'. A score that is there already is not
computed again.
"""

import csv
import io
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch

from glp_core.data.store import ActivationStore
from glp_core.devices import named_dtype
from glp_core.errors import GlpError
from glp_core.evaluation import fidelity
from glp_core.evaluation.runs import SCORES, read_scores
from glp_core.files import Json, read_object, replacing, write_json
from glp_core.llm.site import Site
from glp_core.llm.sources import cache_folder
from glp_core.neurons import probing_score
from glp_core.prior.checkpoint import load_glp, read_statistics
from glp_core.prior.gaussian import GaussianPrior
from glp_core.prior.glp import GLP
from glp_core.progress import Progress, quiet
from glp_core.steering.directions import Direction
from glp_core.steering.trials import text_scores
from glp_core.steering.trials.outcomes import Outcome
from glp_core.training.kept_weights import kept_checkpoints
from glp_core.workspace import Workspace

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
    probing: Path | None = None
    """Folder of `probe`'s last-token activations; none: the cache folder."""
    direction: str = "positive-sentiment"
    """That the steering score pushes along."""
    prefixes: int = 100
    """Of the steering score: the first ones of the demo's list."""
    strengths: tuple[float, ...] = text_scores.STRENGTHS
    """Of the steering score, above 1."""
    progress: Progress = quiet
    """Told how far texts are that have to be run first."""

    def settings(self, score: str) -> Json:
        """Return what decides a score's value besides the checkpoint, for evals.json."""
        caps = probing_score.CAPS
        settings: dict[str, Json] = {
            "frechet": {"samples": self.samples, "steps": STEPS},
            "delta_lm": {"documents": self.n_documents, "tokens": self.tokens, "noise_level": NOISE_LEVEL, "steps": STEPS},
            "probing": {"every": probing_score.EVERY, "rows_a_task": caps.train + caps.validation + caps.test},
            "steering": {"direction": self.direction, "prefixes": self.prefixes, "strengths": list(self.strengths)},
        }
        return settings[score]

    @cached_property
    def held_out(self) -> torch.Tensor:
        """Two times `samples` held-out activations (2 n, d) in a fixed random order."""
        acts = self.store.validation()
        if len(acts) < 2 * self.samples:
            raise GlpError(f"The store holds {len(acts):,} held-out activations, wanted twice --samples ({self.samples:,}).")
        return acts[torch.randperm(len(acts), generator=torch.Generator().manual_seed(0))[: 2 * self.samples]]

    @cached_property
    def site(self) -> Site:
        """The language model and its layer."""
        return self.workspace.site(self.workspace.load_llm())

    @cached_property
    def ids(self) -> torch.Tensor:
        """Token ids (documents, tokens) of held-out texts."""
        texts = [document.text for document in self.workspace.documents("validation")]
        return self.site.llm.long_rows(texts, self.n_documents, self.tokens)

    @cached_property
    def base(self) -> torch.Tensor:
        """The LLM's own loss on each document (documents,)."""
        return fidelity.document_losses(self.site, self.ids, None)

    def frechet(self, glp: GLP) -> dict[str, float]:
        """Return the Frechet distance in latent space of samples to real activations, and that of two real sets beside it."""
        real, other = (glp.normalize(part).cpu() for part in self.held_out.split(self.samples))
        latents = fidelity.generated_latents(glp, self.samples, STEPS, self.store.median_norm)
        return {
            "frechet": fidelity.frechet_distance(latents, real),
            "real_real": fidelity.frechet_distance(real, other),
        }

    def delta_lm(self, glp: GLP) -> dict[str, float]:
        """Return by how much the LLM's loss rises when the layer is noised to 0.5 and denoised by the checkpoint."""
        prior = GaussianPrior(glp.normalizer.mean[0], self._covariance)
        replace = fidelity.replacements(glp, prior, NOISE_LEVEL, STEPS)["glp"]
        losses = fidelity.document_losses(self.site, self.ids, replace)
        return {"delta_lm": float((losses - self.base).mean())}

    def probing_auc(self, glp: GLP) -> dict[str, float]:
        """Return the mean 1-D probing AUC over a fixed fifth of the tasks."""
        return {"probing": probing_score.mean_auc(glp, self.probing_set)}

    def steering(self, glp: GLP) -> dict[str, float]:
        """Return the steering score: concept and fluency over strengths above 1."""
        inputs = (self.site.llm, self.steered_direction, glp, self.texts, self.unsteered)
        return {"steering": text_scores.steering_score(*inputs, strengths=self.strengths)}

    @cached_property
    def _covariance(self) -> torch.Tensor:
        return self.store.statistics()["covariance"]

    @cached_property
    def probing_set(self) -> probing_score.ProbingSet:
        """The tasks' activations."""
        folder = self.probing or cache_folder() / "probing" / self.workspace.store_folder.name
        return probing_score.probing_set(folder, lambda: self.site, progress=self.progress)

    @cached_property
    def steered_direction(self) -> Direction:
        """The direction, of the layer that the workspace models."""
        return self.workspace.direction(self.direction)

    @cached_property
    def unsteered(self) -> list[Outcome]:
        """The prefixes' unsteered texts, measured."""
        return text_scores.unsteered(self.site.llm, self.steered_direction, self.texts)

    @cached_property
    def texts(self) -> list[str]:
        """The workspace's prefixes that are steered, the demo's where it has none."""
        prefixes = self.workspace.prefixes()
        if not 1 <= self.prefixes <= len(prefixes):
            raise GlpError(f"--prefixes is {self.prefixes}, wanted 1 to {len(prefixes)}.")
        return prefixes[: self.prefixes]


WAYS: dict[str, Callable[[Scorer, GLP], dict[str, float]]] = {
    "frechet": Scorer.frechet,
    "delta_lm": Scorer.delta_lm,
    "probing": Scorer.probing_auc,
    "steering": Scorer.steering,
}
"""Score to what computes it."""


def score_run(folder: Path, scorer: Scorer, scores: Sequence[str], *, again: bool = False, progress: Progress = quiet) -> None:
    """Compute the missing `scores` of every checkpoint in a training folder and write evals.csv after each.

    Args:
        again: forget values that were measured otherwise than `scorer` does; else they are an error.
    Raises:
        GlpError: an unknown score, values that were measured otherwise, or a checkpoint that cannot be read.
    """
    unknown = [name for name in scores if name not in WAYS]
    if unknown:
        raise GlpError(f"Score {unknown[0]!r} is not known: use {', '.join(WAYS)}.")
    read_statistics(folder)
    table = _read(folder / "evals.csv")
    _settle(folder, scorer, scores, table, again)
    checkpoints = kept_checkpoints(folder)
    for i, (seen, name) in enumerate(checkpoints.items()):
        row = table.setdefault(seen, {})
        missing = [score for score in scores if score not in row]
        if missing:
            device = scorer.workspace.device
            glp = load_glp(folder, name, device, named_dtype("auto", device))
            for score in missing:
                progress(i, len(checkpoints), f"{score} of {seen:,} activations")
                row |= WAYS[score](scorer, glp)
                _write(folder / "evals.csv", table)
    progress(len(checkpoints), len(checkpoints), "")


def _settle(folder: Path, scorer: Scorer, scores: Sequence[str], table: dict[int, dict[str, float]], again: bool) -> None:
    """Note in evals.json how the scores are measured, so that values measured in two ways never stand in one column."""
    path = folder / "evals.json"
    settings = read_object(path) if path.is_file() else {}
    for score in scores:
        current, earlier = scorer.settings(score), settings.get(score)
        if any(score in row for row in table.values()) and earlier != current:
            if not again:
                raise GlpError(
                    f"{folder.name} has {score} measured with {earlier or 'settings that were not recorded'}, not with {current}. Use "
                    "the same settings, or --again to forget those values and measure every checkpoint anew."
                )
            for row in table.values():
                row.pop(score, None)
            _write(folder / "evals.csv", table)
        settings[score] = current
    write_json(path, settings)


def _read(path: Path) -> dict[int, dict[str, float]]:
    if not path.is_file():
        return {}
    table = read_scores(path)
    rows = table.to_dict("records")
    return {
        int(row.pop("activations")): {str(name): value for name, value in row.items() if not math.isnan(value)} for row in rows
    }


def _write(path: Path, table: dict[int, dict[str, float]]) -> None:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["activations", *SCORES])
    for seen, row in sorted(table.items()):
        writer.writerow([seen, *(f"{row[name]:.5g}" if name in row else "" for name in SCORES)])
    with replacing(path) as scratch:
        scratch.write_text(text.getvalue())
