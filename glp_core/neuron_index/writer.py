"""Turn the statistics of a pass into the index's files: compact tables of every neuron, and the texts that they refer to.

neurons.safetensors holds arrays by neuron; texts.safetensors the tokens of the documents referred to, as numbers of text pieces;
index.json the facts, pieces and data set names. Values around extreme tokens are kept in 8 bits on a logarithmic scale.
"""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from glp_core.data.corpus import Documents
from glp_core.data.store import TOKENS_PER_DOCUMENT
from glp_core.files import Json, together, write_json, write_tensors
from glp_core.llm.model import Llm
from glp_core.neuron_index.distributions import distributions
from glp_core.neuron_index.format import (
    FORMAT,
    INTERVAL_EDGES,
    INTERVAL_REACH,
    QUANTILES,
    REACH,
    encode,
    reach_for,
    window_span,
)
from glp_core.neuron_index.neuron_data import Reading
from glp_core.neuron_index.samples import nearest, read_sample
from glp_core.neuron_index.statistics import NeuronStatistics, Sample
from glp_core.neuron_index.write_directions import token_effects, write_directions
from glp_core.prior.glp import GLP
from glp_core.progress import Progress, quiet

Tables = dict[str, Any]
"""Name to array or tensor, a row a neuron: what is written."""


def finish(
    statistics: NeuronStatistics,
    glp: GLP,
    llm: Llm,
    reading: Reading,
    documents: Documents,
    folder: Path,
    *,
    facts: Json,
    progress: Progress = quiet,
) -> None:
    """Write the index of a whole pass to `folder`."""
    steps = 6
    progress(0, steps, "distributions")
    tables: Tables = dict(distributions(statistics.counts, statistics.n_tokens))
    progress(1, steps, "sample of documents")
    sample = statistics.sample()
    tables |= read_sample(glp, reading, sample, tables)
    progress(2, steps, "write directions")
    directions = write_directions(glp)
    columns = torch.cat([block.down_proj.weight.float().T for block in glp.network.layers])
    columns = columns / columns.norm(dim=1, keepdim=True).clamp_min(1e-12)
    tables["near_write"], tables["near_write_similarity"] = nearest(columns)
    progress(3, steps, "promoted tokens")
    tokens, tables["effect_scores"] = token_effects(llm, directions)
    progress(4, steps, "texts")
    numbers = _referred(statistics, sample, tables)
    texts, pieces, sources = _texts(llm, documents, numbers, tokens.cpu())
    texts |= _sampled_tokens(sample)
    lengths = texts.pop("lengths")
    tables["effect_pieces"] = texts.pop("effect_pieces")
    progress(5, steps, "windows")
    reach = reach_for(statistics.n_neurons)
    tables |= _compact(statistics, tables, numbers, lengths, reach)
    folder.mkdir(parents=True, exist_ok=True)
    counted = {"tokens": statistics.n_tokens, "documents": statistics.n_documents, "massive_left_out": statistics.n_massive}
    shape = {"n_layers": glp.n_layers, "d_mlp": glp.d_mlp, "quantiles": QUANTILES, "interval_edges": INTERVAL_EDGES}
    facts = facts | counted | shape | {"reading": reading.to_json(), "format": FORMAT, "reach": reach}
    with together():
        write_tensors(folder / "units.safetensors", {name: _short(name, _tensor(value)) for name, value in tables.items()})
        write_tensors(folder / "texts.safetensors", {name: _tensor(value) for name, value in texts.items()})
        write_json(folder / "index.json", {"facts": facts, "sources": sources, "pieces": pieces})
    progress(steps, steps, "written")


def _referred(statistics: NeuronStatistics, sample: Sample, tables: Tables) -> np.ndarray:
    """Return the numbers of all documents in lists or in the sample, ascending."""
    listed = statistics.documents[statistics.values > -torch.inf].cpu().numpy()
    random = tables["interval_documents"]
    return np.unique(np.concatenate([listed, random[random >= 0], sample.documents]))


def _sampled_tokens(sample: Sample) -> Tables:
    """Return the sample's documents, and the position of each of its tokens in its document."""
    return {
        "sample_numbers": sample.documents.astype(np.int32),
        "sample_starts": sample.starts.astype(np.int32),
        "sample_positions": sample.positions.astype(np.int16),
    }


def _texts(llm: Llm, documents: Documents, numbers: np.ndarray, effects: Tensor) -> tuple[Tables, list[str], list[str]]:
    """Return the documents' tokens as numbers of pieces, the table of pieces, and that of sources."""
    pieces: dict[str, int] = {}
    sources: dict[str, int] = {}
    tokens: list[int] = []
    lengths, source = [], []
    for number in numbers.tolist():
        [document] = documents[number : number + 1]
        ids = llm.encode(document.text, max_tokens=TOKENS_PER_DOCUMENT)
        words = llm.pieces(ids)[1:]
        tokens.extend(pieces.setdefault(word, len(pieces)) for word in words)
        lengths.append(len(words))
        source.append(sources.setdefault(document.source, len(sources)))
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


def _compact(statistics: NeuronStatistics, tables: Tables, numbers: np.ndarray, lengths: np.ndarray, reach: int) -> Tables:
    """Replace document numbers by places in the table of texts, and windows by 8-bit values without the empty ends."""
    values, peaks = statistics.values.cpu(), statistics.peaks.cpu()
    filled = values > -torch.inf
    place = np.where(filled, np.searchsorted(numbers, statistics.documents.cpu().numpy()), -1)
    windows = statistics.windows[..., REACH - reach : REACH + reach + 1].float().cpu().numpy()
    interval_place = tables["interval_documents"]
    interval_place = np.where(interval_place >= 0, np.searchsorted(numbers, interval_place), -1)
    interval_windows = tables.pop("interval_windows")
    largest = np.fmax.reduce(np.abs(windows).reshape(len(windows), -1), axis=1, initial=0)
    scale = np.maximum(np.fmax.reduce(np.abs(interval_windows).reshape(len(windows), -1), axis=1, initial=0), largest)
    signs = torch.tensor([1.0, -1.0])[:, None]
    return {
        "scale": scale.astype(np.float32),
        "top_documents": place.astype(np.int32),
        "top_peaks": peaks,
        "top_values": torch.where(filled, values * signs, 0.0),
        "top_windows": _pack(windows, scale, place, peaks.numpy(), lengths, reach),
        "interval_documents": interval_place.astype(np.int32),
        "interval_windows": _pack(interval_windows, scale, interval_place, tables["interval_peaks"], lengths, INTERVAL_REACH),
    }


def _pack(
    windows: np.ndarray, scale: np.ndarray, place: np.ndarray, peaks: np.ndarray, lengths: np.ndarray, reach: int
) -> np.ndarray:
    """Return all windows' 8-bit values, one after another, only where their document has tokens; -128 stands for none."""
    start, stop = window_span(peaks, lengths[np.maximum(place, 0)], reach)
    slots = np.arange(2 * reach + 1) - reach + (peaks[..., None].astype(np.int64) - 1)
    inside = (slots >= start[..., None]) & (slots < stop[..., None]) & (place[..., None] >= 0)
    full = np.broadcast_to(scale.reshape(-1, *[1] * (windows.ndim - 1)), windows.shape)[inside]
    return encode(windows[inside], full)


def _tensor(value: Tensor | np.ndarray) -> Tensor:
    return (value.cpu() if isinstance(value, Tensor) else torch.from_numpy(np.ascontiguousarray(value))).contiguous()


def _short(name: str, tensor: Tensor) -> Tensor:
    """Return numbers of neurons, pieces and documents in 16 bits where these hold them, and similarities and scores as halves."""
    if name.endswith(("_similarity", "_scores")):
        return tensor.half()
    if tensor.dtype in (torch.int32, torch.int64) and name != "counts" and int(tensor.max()) < 2**15:
        return tensor.to(torch.int16)
    return tensor
