"""Turn the statistics of a pass into the index's files: compact tables of every neuron, and the texts that they refer to.

neurons.safetensors holds arrays by neuron; texts.safetensors the tokens of the documents referred to, as numbers of text pieces;
index.json the facts, pieces and data set names. Values around extreme tokens are kept in 8 bits on a square-root scale.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from glp_core.data.corpus import Document
from glp_core.data.store import TOKENS_PER_DOCUMENT
from glp_core.files import Json, write_json, write_tensors
from glp_core.llm.model import Llm
from glp_core.neuron_index.distributions import distributions
from glp_core.neuron_index.format import (
    INTERVAL_EDGES,
    INTERVAL_REACH,
    INTERVAL_TEXTS,
    NEIGHBOURS,
    QUANTILES,
    REACH,
    encode,
    window_span,
)
from glp_core.neuron_index.reading import PAPER, Reading, read_neurons
from glp_core.neuron_index.statistics import NeuronStatistics
from glp_core.neuron_index.write_directions import token_effects, write_directions
from glp_core.prior.glp import GLP
from glp_core.progress import Progress, quiet

CORRELATED_TOKENS = 8192
NOISE_TOKENS = 2048

Tables = dict[str, Any]
"""Name to array or tensor, a row a neuron: what is written."""


def finish(
    statistics: NeuronStatistics,
    glp: GLP,
    llm: Llm,
    reading: Reading,
    documents: Sequence[Document],
    folder: Path,
    *,
    facts: Json,
    progress: Progress = quiet,
) -> None:
    """Write the index of a whole pass to `folder`."""
    steps = 6
    progress(0, steps, "distributions")
    tables: Tables = dict(distributions(statistics))
    progress(1, steps, "sample of documents")
    tables |= _sample_tables(statistics, glp, reading, tables)
    progress(2, steps, "write directions")
    directions = write_directions(glp)
    columns = torch.cat([block.down_proj.weight.float().T for block in glp.network.layers])
    columns = columns / columns.norm(dim=1, keepdim=True).clamp_min(1e-12)
    tables["near_write"], tables["near_write_similarity"] = nearest(columns)
    progress(3, steps, "promoted tokens")
    tokens, tables["effect_scores"] = token_effects(llm, directions)
    progress(4, steps, "texts")
    numbers = _referred(statistics, tables)
    texts, pieces, sources = _texts(llm, documents, numbers, tokens)
    lengths = texts.pop("lengths")
    tables["effect_pieces"] = texts.pop("effect_pieces")
    progress(5, steps, "windows")
    tables |= _compact(statistics, tables, numbers, lengths)
    folder.mkdir(parents=True, exist_ok=True)
    write_tensors(folder / "units.safetensors", {name: _short(name, _tensor(value)) for name, value in tables.items()})
    write_tensors(folder / "texts.safetensors", {name: _tensor(value) for name, value in texts.items()})
    counted = {"tokens": statistics.n_tokens, "documents": statistics.n_documents, "massive_left_out": statistics.n_massive}
    shape = {"n_layers": glp.n_layers, "d_mlp": glp.d_mlp, "quantiles": QUANTILES, "interval_edges": INTERVAL_EDGES}
    facts = facts | counted | shape | {"reading": reading.to_json()}
    write_json(folder / "index.json", {"facts": facts, "sources": sources, "pieces": pieces})
    progress(steps, steps, "written")


def nearest(rows: Tensor, k: int = NEIGHBOURS) -> tuple[Tensor, Tensor]:
    """Return the k rows of (n, m) with the largest absolute products with each row, itself left out, and the signed products."""
    k = min(k, len(rows) - 1)
    found, similarity = [], []
    for first in range(0, len(rows), 1024):
        products = rows[first : first + 1024] @ rows.T
        own = torch.arange(len(products))
        products[own, first + own] = 0
        best = products.abs().topk(k).indices
        found.append(best.to(torch.int32))
        similarity.append(products.gather(1, best))
    return torch.cat(found), torch.cat(similarity)


def _sample_tables(statistics: NeuronStatistics, glp: GLP, reading: Reading, tables: Tables) -> Tables:
    """Read the sampled documents again: interval texts, correlated neurons, share of variance that is due to the noise seed."""
    sample = statistics.sample()
    neurons = torch.cat([read_neurons(glp, part, reading) for part in sample.acts.split(2048)])
    some = neurons[torch.linspace(0, len(neurons) - 1, min(CORRELATED_TOKENS, len(neurons))).long()]
    scaled = (some - some.mean(0)) / (some.std(0, correction=0).clamp_min(1e-8) * len(some) ** 0.5)
    near, correlation = nearest(scaled.T.contiguous())
    few = sample.acts[torch.linspace(0, len(neurons) - 1, min(NOISE_TOKENS, len(neurons))).long()]
    made = {"near_activation": near, "near_activation_similarity": correlation, "noise_share": noise_share(glp, few)}
    return made | _intervals(neurons.numpy(), sample.documents, sample.starts, sample.positions, tables["edges"])


def noise_share(glp: GLP, acts: Tensor, seeds: tuple[int, int] = (1, 2)) -> Tensor:
    """Return the share of each neuron's variance over tokens that independent noise causes, in the paper's reading (neurons,)."""
    draws = [torch.Generator().manual_seed(seed) for seed in seeds]
    one, two = (glp.neurons(acts, sigma=PAPER.sigma, generator=generator).flatten(1) for generator in draws)
    total = (one.var(0) + two.var(0)) / 2
    return ((one - two).square().mean(0) / 2 / total.clamp_min(1e-12)).clamp(0, 1)


def _intervals(
    neurons: np.ndarray, documents: np.ndarray, starts: np.ndarray, positions: np.ndarray, edges: np.ndarray
) -> dict[str, np.ndarray]:
    """Choose random texts, one token each, whose values lie in each quantile interval; keep the values around them.

    Returns:
        interval_documents (-1: none), interval_peaks, interval_values (neurons, 5, INTERVAL_TEXTS) and interval_windows (..., window).
    """
    n_neurons, n_intervals = neurons.shape[1], len(INTERVAL_EDGES) - 1
    shape = (n_neurons, n_intervals, INTERVAL_TEXTS)
    row = np.full(shape, -1)
    owner = np.repeat(np.arange(len(documents)), np.diff(starts))
    rng = np.random.default_rng(0)
    for neuron in range(n_neurons):
        order = rng.permutation(len(neurons))
        # an edge belongs to the interval below it, as the quantiles are values that a share of tokens do not exceed
        interval = np.searchsorted(edges[neuron, 1:-1], _as_bfloat16(neurons[order, neuron]), side="left")
        for i in range(n_intervals):
            candidates = order[np.flatnonzero(interval == i)[: 8 * INTERVAL_TEXTS]]
            _, first = np.unique(owner[candidates], return_index=True)
            chosen = candidates[np.sort(first)[:INTERVAL_TEXTS]]
            row[neuron, i, : len(chosen)] = chosen
    there = row >= 0
    at = np.where(there, row, 0)
    near = at[..., None] + np.arange(-INTERVAL_REACH, INTERVAL_REACH + 1)
    inside = (near >= starts[owner[at]][..., None]) & (near < starts[owner[at] + 1][..., None]) & there[..., None]
    near = np.where(inside, near, 0)
    slots = positions[near] - positions[at][..., None] + INTERVAL_REACH
    inside &= (slots >= 0) & (slots <= 2 * INTERVAL_REACH)
    windows = np.full((*shape, 2 * INTERVAL_REACH + 2), np.nan, np.float32)
    own = np.broadcast_to(np.arange(n_neurons)[:, None, None, None], near.shape)
    np.put_along_axis(
        windows, np.where(inside, slots, windows.shape[-1] - 1), np.where(inside, neurons[near, own], np.nan), axis=-1
    )
    return {
        "interval_documents": np.where(there, documents[owner[at]], -1),
        "interval_peaks": positions[at].astype(np.int16),
        "interval_values": np.where(there, neurons[at, own[..., 0]], 0.0).astype(np.float32),
        "interval_windows": windows[..., :-1],
    }


def _as_bfloat16(values: np.ndarray) -> np.ndarray:
    return torch.from_numpy(np.ascontiguousarray(values)).bfloat16().float().numpy()


def _referred(statistics: NeuronStatistics, tables: Tables) -> np.ndarray:
    """Return the numbers of all documents in lists, ascending."""
    listed = statistics.documents[statistics.values > -torch.inf].numpy()
    sampled = tables["interval_documents"]
    return np.unique(np.concatenate([listed, sampled[sampled >= 0]]))


def _texts(
    llm: Llm, documents: Sequence[Document], numbers: np.ndarray, effects: Tensor
) -> tuple[Tables, list[str], list[str]]:
    """Return the documents' tokens as numbers of pieces, the table of pieces, and that of sources."""
    pieces: dict[str, int] = {}
    sources: dict[str, int] = {}
    tokens: list[int] = []
    lengths, source = [], []
    for number in numbers.tolist():
        ids = llm.encode(documents[number].text, max_tokens=TOKENS_PER_DOCUMENT)
        words = llm.pieces(ids)[1:]
        tokens.extend(pieces.setdefault(word, len(pieces)) for word in words)
        lengths.append(len(words))
        source.append(sources.setdefault(documents[number].source, len(sources)))
    single = {i: llm.tokenizer.decode([i]) for i in effects.unique().tolist()}
    named = {i: pieces.setdefault(word, len(pieces)) for i, word in single.items()}
    table = np.array([named.get(i, 0) for i in range(int(effects.max()) + 1)])
    starts = np.cumsum([0, *lengths])
    # 16 bits where they hold all numbers; safetensors has no unsigned type that every torch operation takes, so shift into int16
    small = len(pieces) <= 2**16
    made = {
        "numbers": numbers.astype(np.int32),
        "starts": starts,
        "sources": np.array(source, np.int16),
        "tokens": (np.array(tokens) - 2**15).astype(np.int16) if small else np.array(tokens, np.int32),
        "lengths": np.array(lengths),
        "effect_pieces": table[effects.numpy()].astype(np.int32),
    }
    return made, list(pieces), list(sources)


def _compact(statistics: NeuronStatistics, tables: Tables, numbers: np.ndarray, lengths: np.ndarray) -> Tables:
    """Replace document numbers by places in the table of texts, and windows by 8-bit values without the empty ends."""
    found = statistics.values > -torch.inf
    place = np.where(found, np.searchsorted(numbers, statistics.documents.numpy()), -1)
    windows = statistics.windows.float().numpy()
    interval_place = tables["interval_documents"]
    interval_place = np.where(interval_place >= 0, np.searchsorted(numbers, interval_place), -1)
    interval_windows = tables.pop("interval_windows")
    largest = np.fmax.reduce(np.abs(windows).reshape(len(windows), -1), axis=1, initial=0)
    scale = np.maximum(np.fmax.reduce(np.abs(interval_windows).reshape(len(windows), -1), axis=1, initial=0), largest)
    signs = torch.tensor([1.0, -1.0])[:, None]
    return {
        "scale": scale.astype(np.float32),
        "top_documents": place.astype(np.int32),
        "top_peaks": statistics.peaks,
        "top_values": torch.where(found, statistics.values * signs, 0.0),
        "top_windows": _pack(windows, scale, place, statistics.peaks.numpy(), lengths, REACH),
        "interval_documents": interval_place.astype(np.int32),
        "interval_windows": _pack(interval_windows, scale, interval_place, tables["interval_peaks"], lengths, INTERVAL_REACH),
    }


def _pack(
    windows: np.ndarray, scale: np.ndarray, place: np.ndarray, peaks: np.ndarray, lengths: np.ndarray, reach: int
) -> np.ndarray:
    """Return all windows' 8-bit values, one after another, only where their document has tokens; -128 stands for none."""
    start, stop = window_span(peaks, lengths[np.maximum(place, 0)], reach)
    slots = np.arange(2 * reach + 1) - reach + (peaks[..., None].astype(np.int64) - 1)
    kept = (slots >= start[..., None]) & (slots < stop[..., None]) & (place[..., None] >= 0)
    full = np.broadcast_to(scale.reshape(-1, *[1] * (windows.ndim - 1)), windows.shape)[kept]
    return encode(windows[kept], full)


def _tensor(value: Tensor | np.ndarray) -> Tensor:
    return (value if isinstance(value, Tensor) else torch.from_numpy(np.ascontiguousarray(value))).contiguous()


def _short(name: str, tensor: Tensor) -> Tensor:
    """Return numbers of neurons, pieces and documents in 16 bits where these hold them, and similarities and scores as halves."""
    if name.endswith(("_similarity", "_scores")):
        return tensor.half()
    if tensor.dtype in (torch.int32, torch.int64) and name != "counts" and int(tensor.max()) < 2**15:
        return tensor.to(torch.int16)
    return tensor
