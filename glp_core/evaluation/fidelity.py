"""How good a GLP is: held-out loss, Frechet distance of its samples, and what an LLM loses when its activations are projected.

Every number comes with its sample size, and a confidence interval by bootstrap over documents where documents are the unit.
Knows models and activations; reads and writes no files.
"""

from collections.abc import Callable, Sequence
from statistics import fmean
from typing import NamedTuple

import torch
from torch import Tensor

from glp_core.devices import batch_size
from glp_core.errors import GlpError
from glp_core.files import Json
from glp_core.llm.hooks import edit
from glp_core.llm.model import token_log_probabilities
from glp_core.llm.site import Site, is_massive
from glp_core.prior import flow
from glp_core.prior.gaussian import GaussianPrior
from glp_core.prior.glp import GLP
from glp_core.progress import Progress, quiet
from glp_core.stats import bootstrap_mean
from glp_core.training.loss import stratified_sigmas

DOCUMENTS_AT_ONCE = {"cpu": 8, "accelerator": 32}
EULER_STEPS = (1, 20, 50)
SOLVER: flow.Solver = "ab2"
CALLS = 50
"""Network calls for a sample."""
SPLITS = 3
"""Random divisions of the held-out documents that a Frechet distance is the mean over."""
Replace = Callable[[Tensor, Tensor], Tensor]
"""Takes activations (n, d) and standard normal noise (n, d), returns what stands in for them."""


class Rows(NamedTuple):
    """Activations with what groups them."""

    acts: Tensor
    """(n, d)."""
    groups: Tensor
    """(n,): their document; for drawn ones their number."""


class Halves(NamedTuple):
    """Real activations of different documents, equally many."""

    rebuilt: Rows
    """What methods give back."""
    real: Rows
    """What everything is compared with."""


def halves(acts: Tensor, documents: Tensor, n: int, *, seed: int = 0) -> Halves:
    """Return two sets of at most n real activations (m, d) from different documents (m,), equally many."""
    generator = torch.Generator().manual_seed(seed)
    numbers = documents.unique()
    first = torch.isin(documents, numbers[torch.randperm(len(numbers), generator=generator)[: len(numbers) // 2]])
    order = torch.randperm(len(acts), generator=generator)
    sides = [order[first[order] == side] for side in (True, False)]
    count = min(n, *(len(side) for side in sides))
    return Halves(*(Rows(acts[side[:count]].float(), documents[side[:count]]) for side in sides))


def mean_by(values: Tensor, groups: Tensor) -> Tensor:
    """Return the mean of values (n,) in each group that occurs in groups (n,)."""
    _, index = groups.unique(return_inverse=True)
    sums = torch.zeros(int(index.max()) + 1, dtype=torch.float64).index_add(0, index, values.double())
    return sums / index.bincount()


def held_out_errors(glp: GLP, acts: Tensor, *, draws: int = 2, seed: int = 0, batch: int = 2048) -> Tensor:
    """Return each held-out activation's (n, d) velocity error, mean over `draws` of noise and stratified noise levels (n,)."""
    generator = torch.Generator().manual_seed(seed)
    total = torch.zeros(len(acts), dtype=torch.float64)
    for _ in range(draws):
        parts = []
        for part in acts.split(batch):
            noise = torch.randn(part.shape, generator=generator)
            parts.append(glp.denoising_error(part, stratified_sigmas(len(part), generator), noise))
        total += torch.cat(parts).cpu().double()
    return total / draws


def frechet_distance(one: Tensor, other: Tensor) -> float:
    """Return the Frechet distance of the normal distributions fitted to two samples (n, d) and (m, d).

    |m1 - m2|^2 + tr(C1 + C2 - 2 (C1^1/2 C2 C1^1/2)^1/2), by symmetric eigenvalues in float64: exact, no iteration.
    """
    if one.ndim != 2 or other.ndim != 2 or one.shape[1] != other.shape[1] or min(len(one), len(other)) < 2:
        raise GlpError(
            f"Got samples of shapes {tuple(one.shape)} and {tuple(other.shape)}, wanted two (n, d) of one width, n > 1."
        )
    one, other = one.double(), other.double()
    first, second = one.T.cov(), other.T.cov()
    values, vectors = torch.linalg.eigh(first)
    root = vectors * values.clamp_min(0).sqrt() @ vectors.T
    cross = torch.linalg.eigvalsh(root @ second @ root).clamp_min(0).sqrt().sum()
    return float((one.mean(0) - other.mean(0)).square().sum() + first.trace() + second.trace() - 2 * cross)


def generated_latents(
    glp: GLP, n: int, steps: int, median_norm: float, *, solver: flow.Solver = "euler", seed: int = 0, batch: int = 1000
) -> Tensor:
    """Return latents (at most n, d) of samples, massive ones left out."""
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(n, glp.d_input, generator=generator)
    acts = torch.cat([glp.sample(part, steps, solver=solver).cpu() for part in noise.split(batch)])
    return glp.normalize(acts[~is_massive(acts, median_norm)]).cpu()


def frechet_report(
    glp: GLP, prior: GaussianPrior, held_out: Rows, median_norm: float, *, n: int = 10_000, progress: Progress = quiet
) -> Json:
    """Return Frechet distances in latent space between n generated and n real activations, and between two real sets of n.

    The two real sets are of different documents, as generated ones are of none; means over SPLITS random divisions. `generated_real` is
    of 50 network calls of the second-order solver; those of the released schedule's Euler steps stand beside it.
    """
    latents = Rows(glp.normalize(held_out.acts).cpu(), held_out.groups)
    pairs = [halves(*latents, n, seed=seed) for seed in range(SPLITS)]
    n = len(pairs[0].real.acts)
    report: Json = {"n": n, "splits": SPLITS}
    report["real_real"] = fmean(frechet_distance(pair.rebuilt.acts, pair.real.acts) for pair in pairs)

    def distance(drawn: Tensor) -> float:
        return fmean(frechet_distance(drawn, pair.real.acts) for pair in pairs)

    report["gaussian_real"] = distance(glp.normalize(prior.sample(n, torch.Generator().manual_seed(1))).cpu())
    for i, steps in enumerate(EULER_STEPS):
        progress(i, len(EULER_STEPS) + 1, f"{n:,} samples with {steps} steps")
        report[f"generated_real_{steps}_steps"] = distance(generated_latents(glp, n, steps, median_norm))
    progress(len(EULER_STEPS), len(EULER_STEPS) + 1, f"{n:,} samples with {CALLS} calls of {SOLVER}")
    report["generated_real"] = distance(generated_latents(glp, n, CALLS, median_norm, solver=SOLVER))
    return report | {"steps": CALLS, "solver": SOLVER, "space": "latents, massive tokens left out"}


def replacements(glp: GLP, prior: GaussianPrior, noise_level: float, steps: int = 20) -> dict[str, Replace]:
    """Return the ways to noise and denoise activations that are compared; all noise to the same level, the schedule's."""
    sigma = flow.projection_schedule(noise_level, steps)[0]
    generator = torch.Generator().manual_seed(2)
    return {
        "glp": lambda acts, noise: glp.project(acts, noise_level, steps, noise),
        "gaussian_mean": lambda acts, noise: prior.posterior_mean(acts, sigma, noise),
        "gaussian_sample": lambda acts, noise: prior.posterior_sample(acts, sigma, noise, generator),
    }


def mean_ablation(glp: GLP) -> Replace:
    """Return the replacement of every activation by the training mean."""
    return lambda acts, _noise: glp.normalizer.mean[0].to(acts).expand_as(acts)


@torch.inference_mode()
def document_losses(site: Site, ids: Tensor, replace: Replace | None, *, seed: int = 0) -> Tensor:
    """Return each document's mean next-token loss (documents,) with the site's output replaced, for ids (documents, tokens).

    The first token and massive activations pass untouched. The same seed gives every replacement the same noise.
    """
    generator = torch.Generator().manual_seed(seed)
    losses = []
    for rows in ids.split(batch_size(ids.device, **DOCUMENTS_AT_ONCE)):
        noise = torch.randn(*rows.shape, site.llm.d_model, generator=generator)
        edits = {} if replace is None else {site.layer: replacing_edit(site, replace, noise)}
        with edit(site.llm.model, edits):
            logits = site.llm.model(input_ids=rows, use_cache=False).logits
        losses.append(-token_log_probabilities(logits, rows).mean(1))
    return torch.cat(losses).cpu().double()


def replacing_edit(site: Site, replace: Replace, noise: Tensor) -> Callable[[Tensor], Tensor]:
    """Return an edit of a layer's output (batch, tokens, d) that puts `replace` in place of all but first and massive tokens."""

    def apply(hidden: Tensor) -> Tensor:
        chosen = ~site.is_massive(hidden)
        chosen[:, 0] = False
        out = hidden.clone()
        out[chosen] = replace(hidden[chosen], noise.to(hidden.device)[chosen]).to(hidden.dtype)
        return out

    return apply


def delta_lm_report(
    site: Site,
    glp: GLP,
    prior: GaussianPrior,
    ids: Tensor,
    *,
    noise_levels: Sequence[float] = (0.25, 0.5, 0.75),
    progress: Progress = quiet,
) -> Json:
    """Return by how much the LLM's loss rises when the site is noised and denoised, per method and noise level, over ids (n, tokens)."""
    base = document_losses(site, ids, None)
    ablated = bootstrap_mean(document_losses(site, ids, mean_ablation(glp)) - base)
    by_level: dict[str, Json] = {}
    for i, level in enumerate(noise_levels):
        progress(i, len(noise_levels), f"loss of the LLM at noise level {level}")
        ways = replacements(glp, prior, level)
        by_level[f"{level:g}"] = {
            name: bootstrap_mean(document_losses(site, ids, way) - base).to_json() | {"n": len(ids)}
            for name, way in ways.items()
        }
    middle = by_level.get("0.5", by_level[f"{noise_levels[0]:g}"])
    return {
        **{name: interval["value"] for name, interval in middle.items()},
        "mean_ablation": ablated.value,
        "mean_ablation_ci": ablated.ci,
        "ci": {name: interval["ci"] for name, interval in middle.items()},
        "base_loss": base.mean().item(),
        "noise_level": 0.5,
        "steps": 20,
        "documents": ids.shape[0],
        "tokens": ids.shape[1],
        "by_noise_level": by_level,
    }
