"""What the sampled documents of a pass tell, read again: random texts of each interval, correlated neurons, noise, held-out firing."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from glp_core.data.store import TOKENS_PER_DOCUMENT
from glp_core.neuron_index.format import INTERVAL_EDGES, INTERVAL_REACH, INTERVAL_TEXTS, NEIGHBOURS, REPEATED
from glp_core.neuron_index.neuron_data import PAPER, Reading
from glp_core.neuron_index.reading import read_neurons
from glp_core.neuron_index.statistics import Sample
from glp_core.prior.glp import GLP

CORRELATED_TOKENS = 8192
NOISE_TOKENS = 2048
ROWS_AT_ONCE = 4096
INTERVAL_DOCUMENTS = 256
"""Sampled documents that random texts are taken from, where there are not so many neurons that fewer fill VALUES."""
VALUES = 2**30
"""Numbers of four bytes that are held at once of all neurons over these documents."""
NEURONS_AT_ONCE = 1024
TRIED_TOKENS = 8192
"""Random tokens of these that a neuron's intervals are looked for in."""
SPREAD = 8
"""Tokens of an interval that are looked at for each text that is kept, so that the texts differ."""


@dataclass(frozen=True)
class FiringTokens:
    """Which tokens of the sample each neuron fires on: those where its absolute value is above its tail."""

    tokens: np.ndarray
    """Row in the sample, counted from 1, with the sign of the value, neuron after neuron (entries,), int32."""
    starts: np.ndarray
    """First entry of each neuron, and the end of the last (neurons + 1,), int32."""


def read_sample(glp: GLP, reading: Reading, sample: Sample, tables: dict[str, np.ndarray]) -> dict[str, np.ndarray | Tensor]:
    """Return the tables that need the sampled documents' neurons."""
    few = _rows_read(sample.starts, len(tables["tail"]))
    neurons = torch.cat([read_neurons(glp, part, reading) for part in sample.acts[:few].split(ROWS_AT_ONCE)])
    some = neurons[_spread_rows(few, CORRELATED_TOKENS)]
    scaled = (some - some.mean(0)) / (some.std(0, correction=0).clamp_min(1e-8) * len(some) ** 0.5)
    near, correlation = nearest(scaled.T.contiguous())
    share = noise_share(glp, sample.acts[_spread_rows(few, NOISE_TOKENS)])
    firing = held_out_firing(glp, reading, sample.acts, tables["tail"])
    return {
        "near_activation": near,
        "near_activation_similarity": correlation,
        "noise_share": share,
        "firing_tokens": firing.tokens,
        "firing_starts": firing.starts,
        **_intervals(neurons.cpu().numpy(), sample, tables),
    }


def sample_bytes(n_neurons: int) -> int:
    """Return what the neurons that are held at once take at most."""
    return 4 * min(VALUES, n_neurons * INTERVAL_DOCUMENTS * TOKENS_PER_DOCUMENT)


def _rows_read(starts: np.ndarray, n_neurons: int) -> int:
    """Return how many of the sample's rows are read for all neurons at once: those of whole documents, one at least."""
    documents = int(np.searchsorted(starts, VALUES // n_neurons, side="right")) - 1
    return int(starts[min(max(1, documents), INTERVAL_DOCUMENTS, len(starts) - 1)])


def _spread_rows(n: int, most: int) -> Tensor:
    return torch.linspace(0, n - 1, min(most, n)).long()


def nearest(rows: Tensor, k: int = NEIGHBOURS) -> tuple[Tensor, Tensor]:
    """Return the k rows of (n, m) with the largest absolute products with each row, itself left out, and the signed products."""
    k = min(k, len(rows) - 1)
    found, similarity = [], []
    for first in range(0, len(rows), 1024):
        products = rows[first : first + 1024] @ rows.T
        own = torch.arange(len(products), device=rows.device)
        products[own, first + own] = 0
        best = products.abs().topk(k).indices
        found.append(best.to(torch.int32))
        similarity.append(products.gather(1, best))
    return torch.cat(found), torch.cat(similarity)


def noise_share(glp: GLP, acts: Tensor, seeds: tuple[int, int] = (1, 2)) -> Tensor:
    """Return the share of each neuron's variance over tokens that independent noise causes, in the paper's reading (neurons,)."""
    draws = [torch.Generator().manual_seed(seed) for seed in seeds]
    one, two = (glp.neurons(acts, sigma=PAPER.sigma, generator=generator).flatten(1) for generator in draws)
    total = (one.var(0) + two.var(0)) / 2
    return ((one - two).square().mean(0) / 2 / total.clamp_min(1e-12)).clamp(0, 1)


def held_out_firing(glp: GLP, reading: Reading, acts: Tensor, tails: np.ndarray) -> FiringTokens:
    """Return which of the activations (n, d) each neuron fires on, by its tail (neurons,); a neuron that is always 0 never does."""
    limits = torch.from_numpy(np.where(tails > 0, tails, np.inf).astype(np.float32))
    neuron, entries, first = [], [], 1
    for part in acts.split(ROWS_AT_ONCE):
        values = read_neurons(glp, part, reading)
        rows, columns = (values.abs() > limits.to(values.device)).nonzero(as_tuple=True)
        entries.append(((rows + first) * values[rows, columns].sign().long()).int().cpu())
        neuron.append(columns.cpu())
        first += len(part)
    columns = torch.cat(neuron)
    order = columns.argsort(stable=True)
    starts = np.concatenate([[0], torch.bincount(columns, minlength=len(tails)).cumsum(0).numpy()])
    return FiringTokens(torch.cat(entries)[order].numpy(), starts.astype(np.int32))


def _intervals(neurons: np.ndarray, sample: Sample, tables: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Choose random texts, one token each, whose values lie in each quantile interval; keep the values around them.

    Returns:
        interval_documents (-1: none), interval_peaks, interval_values (neurons, 5, INTERVAL_TEXTS) and interval_windows (..., window).
    """
    owner = np.repeat(np.arange(len(sample.documents)), np.diff(sample.starts))
    order = np.random.default_rng(0).permutation(len(neurons))[:TRIED_TOKENS]
    chosen = []
    for first in range(0, neurons.shape[1], NEURONS_AT_ONCE):
        some = slice(first, first + NEURONS_AT_ONCE)
        values = torch.from_numpy(neurons[order, some]).bfloat16().float().numpy().T
        bounds = zip(values, tables["edges"][some], tables["repeated"][some], strict=True)
        chosen += [_chosen(order, own, edges, repeated, owner) for own, edges, repeated in bounds]
    row = np.stack(chosen)
    there = row >= 0
    at = np.where(there, row, 0)
    return {
        "interval_documents": np.where(there, sample.documents[owner[at]], -1),
        "interval_peaks": sample.positions[at].astype(np.int16),
        "interval_values": np.where(there, neurons[at, np.arange(len(row))[:, None, None]], 0.0).astype(np.float32),
        "interval_windows": _windows(neurons, sample, owner, at, there),
    }


def _chosen(order: np.ndarray, values: np.ndarray, edges: np.ndarray, repeated: float, owner: np.ndarray) -> np.ndarray:
    """Return the sample's rows whose values of one neuron lie in each interval, of different texts; -1 where there are no more."""
    # an edge belongs to the interval below it, as the quantiles are values that a share of tokens do not exceed
    interval = np.searchsorted(edges[1:-1], values, side="left")
    if repeated:
        distinct, back, count = np.unique(values, return_inverse=True, return_counts=True)
        interval[(count > REPEATED * len(values))[back] & (len(distinct) > 1)] = -1
    row = np.full((len(INTERVAL_EDGES) - 1, INTERVAL_TEXTS), -1)
    for i in range(len(row)):
        candidates = order[np.flatnonzero(interval == i)[: SPREAD * INTERVAL_TEXTS]]
        _, first = np.unique(owner[candidates], return_index=True)
        chosen = candidates[np.sort(first)[:INTERVAL_TEXTS]]
        row[i, : len(chosen)] = chosen
    return row


def _windows(neurons: np.ndarray, sample: Sample, owner: np.ndarray, at: np.ndarray, there: np.ndarray) -> np.ndarray:
    """Return the values around rows `at` (neurons, 5, texts, 2 * INTERVAL_REACH + 1), nan where their documents have no token."""
    near = at[..., None] + np.arange(-INTERVAL_REACH, INTERVAL_REACH + 1)
    starts, positions = sample.starts, sample.positions
    inside = (near >= starts[owner[at]][..., None]) & (near < starts[owner[at] + 1][..., None]) & there[..., None]
    near = np.where(inside, near, 0)
    slots = positions[near] - positions[at][..., None] + INTERVAL_REACH
    inside &= (slots >= 0) & (slots <= 2 * INTERVAL_REACH)
    windows = np.full((*at.shape, 2 * INTERVAL_REACH + 2), np.nan, np.float32)
    own = np.broadcast_to(np.arange(len(at))[:, None, None, None], near.shape)
    np.put_along_axis(
        windows, np.where(inside, slots, windows.shape[-1] - 1), np.where(inside, neurons[near, own], np.nan), axis=-1
    )
    return windows[..., :-1]
