"""The GLP beside PCA, a Gaussian and a sparse autoencoder: what each draws or gives back, compared with real activations.

Frechet distance (mean and covariance only), two classifier tests (the rest as well), and by how much the LLM's loss rises when a layer's
output is replaced. Reconstructions of one half of the documents are compared with real ones of the other half. Reads and writes no files.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from glp_core.evaluation.fidelity import Halves, Replace, Rows, document_losses, frechet_distance, mean_ablation, replacements
from glp_core.evaluation.two_sample import Accuracy, logistic_test, neighbour_test
from glp_core.files import Json
from glp_core.llm.site import Site
from glp_core.prior.gaussian import GaussianPrior
from glp_core.prior.glp import GLP
from glp_core.progress import Progress, quiet
from glp_core.stats import bootstrap_mean, jackknife
from glp_core.training.sae import Sae

NOISE_LEVEL = 0.5
STEPS = (1, 4, 20, 50)
GROUPS = 10
"""Of the jackknife."""


@dataclass(frozen=True, eq=False)
class Contest:
    """What the methods are compared on."""

    site: Site
    glp: GLP
    prior: GaussianPrior
    ids: Tensor
    """(documents, tokens), of the LLM's loss."""
    halves: Halves
    """Real held-out activations of different documents, equally many."""
    tested: int
    """Activations of each sample that the classifiers see."""


def frechet(one: Rows, other: Rows) -> Json:
    """Return the Frechet distance of two samples with a 95% interval: a jackknife that leaves out a tenth of the groups at a time.

    (A bootstrap would be biased: repeated rows make a sample look farther off.)
    """
    value = frechet_distance(one.acts, other.acts)
    parts = []
    for group in range(GROUPS):
        rest = [rows.acts[rows.groups % GROUPS != group] for rows in (one, other)]
        parts.append(frechet_distance(*rest))
    return jackknife(value, parts, least=0.0).to_json() | {"n": len(one.acts)}


def components_for(rise: Callable[[int], float], budget: float, d: int) -> int:
    """Return the fewest principal components, up to d, whose rise of the loss is within the budget, by bisection."""
    low, high = 1, d
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if rise(middle) <= budget else (middle + 1, high)
    return low


def scorecard(contest: Contest, sae: Sae | None, *, progress: Progress = quiet) -> Json:
    """Return a row for each method and way (drawn from noise, or given back), and what k of PCA is."""
    losses = _Losses(contest, progress)
    glp = replacements(contest.glp, contest.prior, NOISE_LEVEL)
    rises = {("GLP", "noised to 0.5 and denoised"): (glp["glp"], losses.rise(glp["glp"]))}
    budget = next(iter(rises.values()))[1]["value"]
    k = components_for(lambda count: losses.rise(_pca(contest, count))["value"], budget, contest.glp.d_input)
    others: dict[tuple[str, str], Replace] = {
        (f"PCA, {k} components", "projected on them"): _pca(contest, k),
        ("Gaussian", "noised to 0.5, posterior mean"): glp["gaussian_mean"],
        ("Gaussian", "noised to 0.5, posterior draw"): glp["gaussian_sample"],
    }
    if sae is not None:
        others[f"SAE, {sae.k} of {len(sae.encoder):,} latents", "reconstructed"] = lambda acts, _noise: sae.reconstruct(acts)
    rises |= {key: (way, losses.rise(way)) for key, way in others.items()}
    rows = [_row(contest, "real", "other documents", contest.halves.rebuilt)]
    samples = _drawn(contest, k)
    for i, ((method, way), acts) in enumerate(samples.items()):
        progress(i, len(samples) + len(rises), f"{method}, {way}")
        rows.append(_row(contest, method, way, acts))
    for i, ((method, way), (replace, rise)) in enumerate(rises.items()):
        progress(len(samples) + i, len(samples) + len(rises), f"{method}, {way}")
        rows.append(_row(contest, method, way, _given_back(contest, replace)) | {"delta_lm": rise})
    progress(1, 1, "")
    return {
        "rows": rows,
        "n": len(contest.halves.rebuilt.acts),
        "tested": min(contest.tested, len(contest.halves.rebuilt.acts)),
        "documents": len(contest.ids),
        "tokens": contest.ids.shape[1],
        "base_loss": float(losses.base.mean()),
        "mean_ablation": losses.rise(mean_ablation(contest.glp)),
        "pca_components": k,
        "noise_level": NOISE_LEVEL,
        "sae": None if sae is None else {"k": sae.k, "n_latents": len(sae.encoder)},
        "intervals": "95%: Frechet by a jackknife over documents, Delta LM by bootstrap over documents, accuracies by Wilson",
    }


class _Losses:
    """The LLM's loss on the documents, with and without a replacement."""

    def __init__(self, contest: Contest, progress: Progress) -> None:
        self.contest, self.progress, self.asked = contest, progress, 0
        self.base = self._of(None)

    def rise(self, replace: Replace) -> Json:
        """Return by how much the loss rises, with its interval over documents."""
        return bootstrap_mean(self._of(replace) - self.base).to_json() | {"n": len(self.base)}

    def _of(self, replace: Replace | None) -> Tensor:
        c = self.contest
        self.asked += 1
        self.progress(self.asked, 18, "loss of the LLM")
        return document_losses(c.site, c.ids, replace)


def _pca(contest: Contest, components: int) -> Replace:
    return lambda acts, _noise: contest.prior.reconstruct(acts, components)


def _drawn(contest: Contest, k: int) -> dict[tuple[str, str], Rows]:
    """Return samples drawn from noise, by method and way."""
    n, glp, prior = len(contest.halves.rebuilt.acts), contest.glp, contest.prior
    noise = torch.randn(n, glp.d_input, generator=torch.Generator().manual_seed(0))
    samples = {
        ("GLP", f"drawn from noise, {steps} step{'s' * (steps > 1)}"): torch.cat(
            [glp.sample(part, steps).cpu() for part in noise.split(1000)]
        )
        for steps in STEPS
    }
    samples[f"PCA, {k} components", "drawn from noise"] = prior.sample(n, torch.Generator().manual_seed(0), components=k)
    samples["Gaussian", "drawn from noise"] = prior.sample(n, torch.Generator().manual_seed(0))
    content = {key: acts[~contest.site.is_massive(acts)] for key, acts in samples.items()}
    return {key: Rows(acts, torch.arange(len(acts))) for key, acts in content.items()}


def _given_back(contest: Contest, replace: Replace) -> Rows:
    """Return what a replacement makes of the first half's activations."""
    acts, groups = contest.halves.rebuilt
    noise = torch.randn(acts.shape, generator=torch.Generator().manual_seed(3))
    parts = zip(acts.split(1000), noise.split(1000), strict=True)
    return Rows(torch.cat([replace(part, drawn).float().cpu() for part, drawn in parts]), groups)


def _row(contest: Contest, method: str, way: str, sample: Rows) -> Json:
    """Compare a sample with the other half's real activations, in latent space."""
    latents = contest.glp.normalize(sample.acts).cpu()
    real = contest.glp.normalize(contest.halves.real.acts).cpu()
    row: Json = {"method": method, "way": way, "delta_lm": None}
    row["frechet"] = frechet(Rows(latents, sample.groups), Rows(real, contest.halves.real.groups))
    seen = (latents[: contest.tested].numpy(), real[: contest.tested].numpy())
    return row | {"logistic": _plain(logistic_test(*seen)), "neighbour": _plain(neighbour_test(*seen))}


def _plain(test: Accuracy) -> Json:
    return {"accuracy": test.share.value, "ci": test.share.ci, "n": test.n, "drawn": test.first, "real": test.second}
