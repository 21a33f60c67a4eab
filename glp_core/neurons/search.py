"""Find the neurons that tell a person's own two groups of texts apart, with honest evidence.

The area under the ROC curve of the best of thousands of neurons is high by chance alone: every p-value is against the best neuron of
permuted labels, and the cross-validated AUC is of neurons chosen on other texts.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import rankdata

from glp_core.data.text_activations import TextReading
from glp_core.errors import GlpError
from glp_core.jobs.pause import pause
from glp_core.llm.site import Site
from glp_core.neuron_index.neuron_data import Reading
from glp_core.neuron_index.reading import read_in_parts
from glp_core.prior.glp import GLP
from glp_core.progress import Progress, quiet
from glp_core.stats import Interval, auc_interval, auc_of_ranks, drawn_counts, percentiles

FEWEST = 5
PERMUTATIONS_AT_ONCE = 100
RANKED_AT_ONCE = 500_000
"""Values between two pauses."""
BOOTSTRAP = 1000


@dataclass(frozen=True)
class FoundNeuron:
    """One neuron and how well it tells the two groups apart."""

    layer: int
    neuron: int
    auc: float
    """On all texts, turned so that it is at least 0.5."""
    sign: int
    """1 when the neuron is higher on positive texts, else -1."""
    p_value: float
    """Share of permutations whose best neuron of all is at least as good: corrected for having looked at every neuron."""
    folds: int
    """Folds whose other texts made it the best neuron."""
    values: np.ndarray
    """The neuron at each text's last token (n,)."""


@dataclass(frozen=True)
class ConceptNeurons:
    """The best neurons for two groups of texts."""

    neurons: list[FoundNeuron]
    cross_validated: Interval
    """AUC of choosing the best neuron on other texts, on held-out texts. Its interval is bootstrapped over texts."""
    p_value: float
    """Of the best neuron: could labels at random find as good a one?"""
    n_positive: int
    n_negative: int
    permutations: int
    labels: np.ndarray
    """1 for positive texts, first, then 0 (n,)."""
    texts: list[str]


def find_neurons(
    site: Site,
    glp: GLP,
    positive: Sequence[str],
    negative: Sequence[str],
    reading: Reading,
    *,
    k: int = 10,
    folds: int = 5,
    permutations: int = 1000,
    seed: int = 0,
    progress: Progress = quiet,
    cancelled: Callable[[], bool] = lambda: False,
) -> ConceptNeurons:
    """Return the k neurons whose values at the last token tell positive from negative texts best.

    Raises:
        GlpError: fewer than FEWEST texts in a group, a text without tokens or with massive ones only, a text in both groups, or cancelled.
    """
    positive, negative = (list(dict.fromkeys(t.strip() for t in texts if t.strip())) for texts in (positive, negative))
    if min(len(positive), len(negative)) < FEWEST:
        raise GlpError(
            f"Got {len(positive)} positive and {len(negative)} negative different texts, wanted at least {FEWEST} of each."
        )
    both = set(positive) & set(negative)
    if both:
        raise GlpError(f"{len(both)} texts stand in both groups, for example {min(both)[:60]!r}: take them out of one.")

    def reading_progress(done: int, total: int, words: str) -> None:
        if cancelled():
            raise GlpError("Stopped.")
        progress(done, total, words)

    texts = [*positive, *negative]
    acts = TextReading.of(site, texts, progress=reading_progress).last
    unread = acts.isnan().any(1).nonzero()[:, 0].tolist()
    if unread:
        raise GlpError(f"{texts[unread[0]][:60]!r} has nothing but massive activations, which are not read: leave it out.")
    neurons = read_in_parts(glp, acts, reading).numpy()
    labels = np.repeat([1, 0], [len(positive), len(negative)])
    return rank_neurons(neurons, labels, texts, glp.d_mlp, k=k, folds=folds, permutations=permutations, seed=seed)


def rank_neurons(
    neurons: np.ndarray, labels: np.ndarray, texts: list[str], d_mlp: int, *, k: int, folds: int, permutations: int, seed: int
) -> ConceptNeurons:
    """Rank neurons (n, m) by how well they tell labels (n,) apart."""
    rng = np.random.default_rng(seed)
    ranks = _ranks(neurons).astype(np.float32)
    areas = auc_of_ranks(ranks, labels)
    strength = np.abs(areas - 0.5)
    chance = _best_by_chance(ranks, labels, permutations, rng)
    best = np.argsort(-strength, kind="stable")[:k]
    # the smallest difference that float32 areas can be trusted to
    p_values = (1 + (chance[:, None] >= strength[best] - 1e-6).sum(0)) / (1 + permutations)
    picked, scores, fold = _held_out(neurons, labels, min(folds, int(labels.sum()), int((1 - labels).sum())), rng)
    area = _pooled(scores, labels, fold, rng)
    best_neurons = [
        FoundNeuron(
            *divmod(int(neuron), d_mlp),
            auc=float(0.5 + strength[neuron]),
            sign=1 if areas[neuron] >= 0.5 else -1,
            p_value=float(p),
            folds=picked.count(int(neuron)),
            values=neurons[:, neuron].copy(),
        )
        for neuron, p in zip(best, p_values, strict=True)
    ]
    counts = int(labels.sum()), int((1 - labels).sum())
    return ConceptNeurons(best_neurons, area, best_neurons[0].p_value, *counts, permutations, labels, texts)


def _ranks(neurons: np.ndarray) -> np.ndarray:
    """Return each text's rank (n, m) by every neuron, float64, some neurons at a time."""
    ranks, at_once = np.empty(neurons.shape), max(1, RANKED_AT_ONCE // len(neurons))
    for first in range(0, neurons.shape[1], at_once):
        pause()
        ranks[:, first : first + at_once] = rankdata(neurons[:, first : first + at_once], axis=0)
    return ranks


def _best_by_chance(ranks: np.ndarray, labels: np.ndarray, permutations: int, rng: np.random.Generator) -> np.ndarray:
    """Return the largest |AUC - 0.5| over neurons for each permutation of the labels."""
    best = []
    for first in range(0, permutations, PERMUTATIONS_AT_ONCE):
        pause()
        shuffled = np.stack([rng.permutation(labels) for _ in range(min(PERMUTATIONS_AT_ONCE, permutations - first))])
        best.append(np.abs(auc_of_ranks(ranks, shuffled.astype(np.float32)) - 0.5).max(1))
    return np.concatenate(best)


def held_out_auc(neurons: np.ndarray, labels: np.ndarray, combined: int = 1, *, folds: int = 5, seed: int = 0) -> Interval:
    """Return the AUC, on texts that did not choose them, of the `combined` best neurons (n, m) taken together.

    Their values count in standard deviations, each turned to the side that the other texts chose.
    """
    rng = np.random.default_rng(seed)
    _, scores, fold = _held_out(neurons, labels, min(folds, int(labels.sum()), int((1 - labels).sum())), rng, combined)
    return _pooled(scores, labels, fold, rng)


def _held_out(
    neurons: np.ndarray, labels: np.ndarray, folds: int, rng: np.random.Generator, combined: int = 1
) -> tuple[list[int], np.ndarray, np.ndarray]:
    """Choose the best neurons on the other folds; return the choices, each text's score by those chosen without it, and its fold."""
    fold = np.empty(len(labels), int)
    for label in (0, 1):
        places = rng.permutation(np.flatnonzero(labels == label))
        fold[places] = np.arange(len(places)) % folds
    picked, scores = [], np.empty(len(labels))
    for i in range(folds):
        pause()
        rest, held = fold != i, fold == i
        areas = auc_of_ranks(_ranks(neurons[rest]), labels[rest])
        best = np.argsort(-np.abs(areas - 0.5), kind="stable")[:combined]
        spread = np.maximum(neurons[rest][:, best].std(0), 1e-12)
        values = neurons[:, best] / spread * np.where(areas[best] >= 0.5, 1, -1)
        picked += best.tolist()
        scores[held] = values[held].sum(1)
    return picked, scores, fold


def _pooled(scores: np.ndarray, labels: np.ndarray, fold: np.ndarray, rng: np.random.Generator) -> Interval:
    """Return the AUC over pairs of the same fold, as neurons differ between folds, and its 95% bootstrap interval over texts."""
    positive, negative = np.flatnonzero(labels == 1), np.flatnonzero(labels == 0)
    same = fold[positive][:, None] == fold[negative]
    wins = (scores[positive][:, None] > scores[negative]) + 0.5 * (scores[positive][:, None] == scores[negative])
    wins = wins * same
    draws = []
    for a, b in drawn_counts([len(positive), len(negative)], draws=BOOTSTRAP, rng=rng):
        pause()
        pairs = a @ same @ b
        draws.append(a @ wins @ b / pairs if pairs else np.nan)
    area = float(wins.sum() / same.sum())
    if area in (0, 1):  # every draw of texts gives the same area
        return auc_interval(area, len(positive), len(negative))
    return Interval(area, *percentiles(draws))
