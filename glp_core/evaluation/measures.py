"""How far an activation is from real ones, measured in five ways, and where that lies among real held-out activations.

Every measure is larger for what is farther off, always gives the same value for the same activation (the log-likelihood for the same
text), and is compared with its own quantiles on the bank. Knows activations, a GLP and a bank; knows nothing of tokens.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from glp_core.data.bank import COMMAND, Bank, nearest
from glp_core.errors import GlpError
from glp_core.files import Json
from glp_core.jobs.pause import pause
from glp_core.prior import flow
from glp_core.prior.distance import ManifoldMeter
from glp_core.prior.gaussian import GaussianPrior, gaussian_prior
from glp_core.prior.likelihood import LogLikelihood, log_likelihood, velocity_of
from glp_core.prior.reference import Reference
from glp_core.progress import Progress, quiet

if TYPE_CHECKING:
    from glp_core.workspace import Workspace

NAMES = ("error", "displacement", "mahalanobis", "neighbour", "likelihood")
QUICK = NAMES[:4]
"""All but the likelihood, which takes some hundred network calls an activation."""
NOISE_LEVEL, SEED = 0.5, 0
QUANTILES = 201
"""Kept of a measure on real activations, at evenly spread shares of them."""
Cancelled = Callable[[], bool]


def never() -> bool:
    """Return that nobody has asked to stop."""
    return False


@dataclass(frozen=True, eq=False)
class Measures:
    """The five measures of one GLP."""

    meter: ManifoldMeter
    """Gives the denoising error."""
    covariance: Tensor
    """(d, d) of the training activations."""
    bank: Bank
    """Real held-out activations."""

    def of(self, name: str, acts: Tensor, *, own: Tensor | None = None, cancelled: Cancelled = never) -> Tensor:
        """Return one measure of activations (n, d), (n,).

        error: the manifold distance. displacement: how far projection (noise level 0.5, one fixed noise) moves it. mahalanobis: under the
        training activations' covariance. neighbour: distance to the nearest bank activation. likelihood: minus the log-likelihood in
        nats a dimension. Distances are in latent space, root mean square over dimensions.

        Args:
            own: documents (n,) when the activations are the bank's own; neighbours from the same one do not count.
        """
        ways = {
            "error": lambda: self.meter.distance(acts),
            "displacement": lambda: self._displacement(acts),
            "mahalanobis": lambda: self._mahalanobis(acts),
            "neighbour": lambda: nearest(self.meter.glp, self.bank, acts, own=own),
            "likelihood": lambda: -self.likelihood(acts, cancelled=cancelled).value,
        }
        if name not in ways:
            raise GlpError(f"Measure {name!r} is not known: use {', '.join(NAMES)}.")
        pause()
        return ways[name]().float().cpu() if len(acts) else torch.zeros(0)

    def likelihood(
        self, acts: Tensor, *, probes: int = 4, intervals: int = 32, cancelled: Cancelled = never, progress: Progress = quiet
    ) -> LogLikelihood:
        """Return log p per dimension of activations (n, d) in latent space, with its standard error; the same for the same rows."""
        glp, parts = self.meter.glp, []
        for start in range(0, len(acts), 64):
            progress(start, len(acts), "log-likelihood")
            generator = torch.Generator().manual_seed(SEED)
            z = glp.normalize(acts[start : start + 64])
            way = velocity_of(glp, self.meter.layer)
            parts.append(log_likelihood(way, z, probes=probes, intervals=intervals, generator=generator, cancelled=cancelled))
        return LogLikelihood(*(torch.cat(values) for values in zip(*parts, strict=True)))

    def _displacement(self, acts: Tensor) -> Tensor:
        glp = self.meter.glp
        noise = flow.fixed_noise(glp.d_input, SEED)
        parts = []
        for part in acts.float().split(128):
            moved = glp.project(part, NOISE_LEVEL, 20, noise=noise.expand_as(part), layer=self.meter.layer)
            parts.append((glp.normalize(moved) - glp.normalize(part)).square().mean(1).sqrt())
        return torch.cat(parts)

    @cached_property
    def _prior(self) -> GaussianPrior:
        return gaussian_prior(self.meter.glp.normalizer.mean[0].cpu(), self.covariance.cpu())

    def _mahalanobis(self, acts: Tensor) -> Tensor:
        prior = self._prior
        z = ((acts.float().cpu() - prior.mean) / prior.std) @ prior.vectors
        return (z.square() / prior.eigenvalues.clamp_min(1e-6)).mean(1).sqrt()


def open_measures(workspace: "Workspace", meter: ManifoldMeter | None = None) -> Measures:
    """Return a workspace's measures; GlpError says which command has not been run.

    Args:
        meter: the workspace's, where it is loaded already.
    """
    if meter is None:
        reference = workspace.report("reference")
        if reference is None:
            raise GlpError("reports/reference.json is missing. Make it with `python -m glp_core evaluate`.")
        meter = ManifoldMeter(workspace.load_glp(), reference)
    return Measures(meter, workspace.covariance(), Bank.load(workspace.folder / "bank"))


def reference(measures: Measures, names: tuple[str, ...] = NAMES, *, n: int = 2000, progress: Progress = quiet) -> Json:
    """Return each measure's quantiles over `n` of the bank's activations, a tenth of them for the slow likelihood."""
    bank, report = measures.bank, {}
    for i, name in enumerate(names):
        progress(i, len(names), name)
        if name == "error":
            report[name] = of_distance(measures.meter.reference)
            continue
        count = min(len(bank), max(20, n // 10) if name == "likelihood" else n)
        chosen = torch.linspace(0, len(bank) - 1, count).long()
        values = measures.of(name, bank.acts[chosen], own=bank.documents[chosen]).double().numpy()
        report[name] = {"n": count, "quantiles": np.quantile(values, np.linspace(0, 1, QUANTILES)).round(6).tolist()}
    progress(len(names), len(names), "")
    return report


def of_distance(stored: Reference) -> Json:
    """Return the denoising error's entry: the quantiles of manifold distance, which has a larger reference of its own."""
    return {"n": stored.n, "quantiles": stored.quantiles(QUANTILES)}


def percentiles(values: Tensor, entry: Json | None) -> np.ndarray:
    """Return for each value (n,) the share of real activations that are less far off, by a measure's entry in the reference."""
    quantiles = np.asarray((entry or {}).get("quantiles", []), dtype=float)
    if quantiles.ndim != 1 or len(quantiles) < 2 or not np.isfinite(quantiles).all():
        raise GlpError(f"This measure's quantiles on real activations are missing or damaged. Make them with `{COMMAND}`.")
    return np.interp(values.double().numpy(), np.maximum.accumulate(quantiles), np.linspace(0, 1, len(quantiles)))
