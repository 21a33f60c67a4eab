"""What the index of meta-neurons keeps of a neuron, and how values around an extreme token are packed; numpy only.

Format 2 counts values without a limit, has bins of a signed logarithmic scale, and packs windows logarithmically. Format 1, which
clamped values at 255, had equal bins and packed by square roots, still opens.
"""

from pathlib import Path

import numpy as np

from glp_core.checked.shapes import Limits, Many, OneOf
from glp_core.checked.tensors import check_tensors
from glp_core.files import Json

FORMAT = 2
KEPT = 20
"""Texts kept of each sign."""
REACH = 32
"""Tokens kept on either side of the extreme one."""
WINDOW_BYTES = 18_000_000
"""For the extreme texts of all neurons: where there are many neurons, fewer tokens are kept on either side."""
QUANTILES = (1e-5, 1e-4, 1e-3, 0.01, 0.05, 0.2, 0.4, 0.5, 0.6, 0.8, 0.95, 0.99, 0.999, 0.9999, 0.99999)
TAIL_SHARE = 1e-3
"""A neuron's tail is the absolute value that this share of the tokens reach: the measure of its values."""
TAILS = (1e-4, 0.9999)
"""Quantiles that say how far a neuron goes on either side."""
ACTIVE = 0.25
"""A neuron is active on a token beyond this share of its tail, of either sign."""
HISTOGRAM_BINS = 50
LINEAR_PART = 0.02
"""Share of the tail within which the histogram's scale is nearly linear; beyond it, it is logarithmic."""
INTERVAL_EDGES = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
"""Quantiles, of the values that differ, between which random texts are kept."""
REPEATED = 0.1
"""Values that more than this share of the tokens have are left out of the intervals."""
INTERVAL_TEXTS = 5
INTERVAL_REACH = 16
"""Tokens kept on either side of a random text's token."""
NEIGHBOURS = 10
NO_VALUE = -128
DECADES = 4
"""Powers of ten below the scale that packed values span; smaller ones become 0."""
PACKED_PRECISION = 10 ** (DECADES / 126 / 2) - 1
"""Relative error of a packed value: 3.7%."""
AGAIN = "Make it again with `python -m glp_core index`."
HEAD = {
    "facts": {
        "glp?": str,
        "n_layers": Limits(int, 1, 10_000),
        "d_mlp": Limits(int, 1, 10_000_000),
        "tokens": Limits(int, 0, 10**15),
        "reading": {"sigma": Limits(float, 0, 1), "draws": Limits(int, 0, 64), "seed": Limits(int, 0, 2**63 - 1)},
        "interval_edges": Many(Limits(float, 0, 1), 2),
        "format?": OneOf((1, FORMAT)),
        "reach?": Limits(int, 1, 1024),
    },
    "sources": Many(str, 1),
    "pieces": Many(str, 1),
}
"""What index.json must hold."""
NEURONS = {
    "moments": "number n 4",
    "noise_share": "number n",
    "counts": f"whole n {HISTOGRAM_BINS}",
    "range": "number n 2",
    "quantiles": f"number n {len(QUANTILES)}",
    "scale": "number n",
    "edges": "number n edges",
    "effect_pieces": "whole n 2 effects",
    "effect_scores": "number n 2 effects",
    **{f"near_{of}": "whole n near" for of in ("write", "activation")},
    **{f"near_{of}_similarity": "number n near" for of in ("write", "activation")},
    **{f"top_{what}": "whole n 2 top" for what in ("documents", "peaks")},
    **{f"interval_{what}": "whole n intervals texts" for what in ("documents", "peaks")},
    "top_values": "number n 2 top",
    "interval_values": "number n intervals texts",
    "top_windows": "whole top_windows",
    "interval_windows": "whole interval_windows",
}
"""Tensors of units.safetensors."""
SINCE_2 = {"tail": "number n", "repeated": "number n", "firing_starts": "whole starts", "firing_tokens": "whole firings"}
MAP = {"kind": "text", "layer": "whole", "unit": "whole", "x": "number", "y": "number"}
"""Columns of maps.parquet, which holds the maps of all kinds."""
MAP_FACTS: Json = {"parameters?": {"*": {}}}
"""What maps.json must hold: the parameters of each kind; in earlier versions' all kinds had the same, which stand beside the rest."""
EFFECT_NOTE = (
    "An approximation: the neuron's write direction, carried linearly through the GLP's output and the LLM's unembedding, "
    "skipping both rescalings and all LLM layers in between."
)


def check_neurons(path: Path, facts: Json) -> None:
    """Raise GlpError where units.safetensors does not hold what an index of these facts has; reads its header only."""
    n, edges = facts["n_layers"] * facts["d_mlp"], len(facts["interval_edges"])
    wanted = NEURONS | (SINCE_2 if facts.get("format", 1) > 1 else {})
    check_tensors(path, wanted, sizes={"n": n, "starts": n + 1, "edges": edges, "intervals": edges - 1}, again=AGAIN)


def window_span(peaks: np.ndarray, lengths: np.ndarray, reach: int) -> tuple[np.ndarray, np.ndarray]:
    """Return first and last + 1 index among a document's pieces (its tokens after the first) of the window around position `peaks`."""
    index = peaks.astype(np.int64) - 1
    return np.maximum(index - reach, 0), np.minimum(index + reach + 1, lengths)


def reach_for(n_neurons: int) -> int:
    """Return how many tokens on either side of an extreme token an index of that many neurons keeps: at most REACH."""
    return min(REACH, max(8, (WINDOW_BYTES // (2 * KEPT * max(1, n_neurons)) - 1) // 2))


def histogram_edges(low: np.ndarray, high: np.ndarray, tail: np.ndarray) -> np.ndarray:
    """Return the edges of bins from low to high that are equal on a signed logarithmic scale (neurons, HISTOGRAM_BINS + 1)."""
    step = np.maximum(LINEAR_PART * np.asarray(tail, np.float64), 1e-30)[:, None]
    first, last = (np.arcsinh(np.asarray(end, np.float64)[:, None] / step) for end in (low, high))
    last = np.where(last > first, last, first + 1)
    edges = np.sinh(first + (last - first) * np.linspace(0, 1, HISTOGRAM_BINS + 1)) * step
    edges[:, 0] = low  # sinh(arcsinh(x)) is x but for its last digits
    edges[:, -1] = np.where(np.asarray(high) > low, high, edges[:, -1])
    return edges


def shares_beyond(counts: np.ndarray, edges: np.ndarray, limits: np.ndarray) -> np.ndarray:
    """Return each neuron's share of tokens whose absolute value is beyond its limit (neurons,), read off its histogram.

    Args:
        counts: (neurons, bins), taken as even within a bin.
        edges: (neurons, bins + 1).
        limits: (neurons,), above 0.
    """
    low, high, limit = edges[:, :-1], edges[:, 1:], limits[:, None]
    inside = np.clip((np.minimum(high, limit) - np.maximum(low, -limit)) / np.maximum(high - low, 1e-30), 0, 1)
    return 1 - (counts * inside).sum(1) / np.maximum(counts.sum(1), 1)


def encode(values: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """Return values as int8: their sign, and their size against the scale in DECADES / 126 of a power of ten; -128 for nan."""
    share = np.clip(np.abs(values) / np.maximum(scale, 1e-30), 1e-30, 1)
    code = np.sign(values) * np.maximum(0, np.rint(127 + 126 * np.log10(share) / DECADES))
    return np.where(np.isnan(values), NO_VALUE, code).astype(np.int8)


def decode(codes: np.ndarray, scale: float, version: int = FORMAT) -> np.ndarray:
    """Return the values (float32) of `encode`'s codes; nan for -128. Format 1 has square roots in units of sqrt(scale) / 127."""
    size = np.abs(codes.astype(np.float32))
    share = (size / 127) ** 2 if version == 1 else np.where(size > 0, 10 ** ((size - 127) / 126 * DECADES), 0)
    return np.where(codes == NO_VALUE, np.nan, np.sign(codes) * share * scale).astype(np.float32)


def map_facts(facts: Json, kind: str) -> Json:
    """Return what maps.json says of the maps of one kind, its parameters among it."""
    rest = {name: value for name, value in facts.items() if name != "parameters"}
    return rest | facts.get("parameters", {}).get(kind, {})
