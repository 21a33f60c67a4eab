"""Can a measure tell real activations from ones that are off? AUROC for each measure and each way of being off.

Knows activations and measures; reads and writes no files.
"""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from glp_core.errors import GlpError
from glp_core.evaluation.measures import Measures
from glp_core.files import Json
from glp_core.llm.site import Site
from glp_core.progress import Progress, quiet

STRENGTHS = (0.25, 0.5, 1.0, 1.5)
RATES = tuple(round(i / 40, 3) for i in range(41))
"""False alarms, as shares of the real activations, at which a ROC curve is stored."""


class Auroc(NamedTuple):
    """Chance that an off activation measures larger than a real one."""

    value: float
    low: float
    """Of the 95% interval by Hanley and McNeil's standard error."""
    high: float


class Off(NamedTuple):
    """Activations that are not real ones, with the document that each was made from."""

    acts: Tensor
    """(n, d)."""
    documents: Tensor
    """(n,), numbered as the bank's: a neighbour from the own document would give the answer away."""


def auroc(off: NDArray[np.float64], real: NDArray[np.float64]) -> Auroc:
    """Return the AUROC of values of off (n,) and real (m,) activations; ties count half."""
    n, m = len(off), len(real)
    if not n or not m:
        raise GlpError(f"Got {n} off and {m} real values, wanted some of each.")
    order = np.searchsorted(np.sort(real), off, side="left") + np.searchsorted(np.sort(real), off, side="right")
    a = float(order.mean() / (2 * m))
    q1, q2 = a / (2 - a), 2 * a * a / (1 + a)
    variance = (a * (1 - a) + (n - 1) * (q1 - a * a) + (m - 1) * (q2 - a * a)) / (n * m)
    half = 1.96 * math.sqrt(max(variance, 0.0))
    return Auroc(a, max(0.0, a - half), min(1.0, a + half))


def roc(off: NDArray[np.float64], real: NDArray[np.float64]) -> list[float]:
    """Return the share of off values (n,) that are found at each of RATES, on the straight-line ROC curve through all thresholds."""
    thresholds = np.unique(np.concatenate([off, real]))[::-1]
    found = (np.sort(off), np.sort(real))
    shares = [1 - np.searchsorted(values, thresholds, side="left") / len(values) for values in found]
    hits, alarms = (np.concatenate([[0.0], share]) for share in shares)
    _, last = np.unique(alarms[::-1], return_index=True)  # of thresholds with the same false alarms, the one that finds most
    keep = np.sort(len(alarms) - 1 - last)
    return np.interp(RATES, alarms[keep], hits[keep]).round(4).tolist()


def shifted(acts: Tensor, vectors: Sequence[Tensor], strength: float, median_norm: float) -> Tensor:
    """Return activations (n, d) pushed along `vectors` (unit), one after another, by strength x median norm."""
    push = torch.stack([vectors[i % len(vectors)] for i in range(len(acts))]).float()
    return acts.float() + strength * median_norm * push


def random_directions(n: int, d: int, seed: int = 0) -> list[Tensor]:
    """Return n random unit vectors."""
    drawn = torch.randn(n, d, generator=torch.Generator().manual_seed(seed))
    return list(drawn / drawn.norm(dim=1, keepdim=True))


def other_activations(site: Site, texts: Sequence[str], n: int, *, shuffled: bool = False, seed: int = 0) -> "Off":
    """Return n activations of the site over texts, first tokens and massive ones left out; `shuffled`: tokens in random order."""
    rng = np.random.default_rng(seed)
    rows = [site.llm.encode(text, max_tokens=64) for text in texts]
    if shuffled:
        rows = [[row[0], *rng.permutation(row[1:]).tolist()] for row in rows]
    parts = []
    for start in range(0, len(rows), 16):
        parts += [acts[1:].float().cpu() for acts in site.activations(rows[start : start + 16])]
    acts = torch.cat(parts)
    documents = torch.cat([torch.full((len(part),), i) for i, part in enumerate(parts)])
    kept = ~site.is_massive(acts)
    acts, documents = acts[kept], documents[kept]
    if len(acts) < n:
        raise GlpError(f"The texts give {len(acts)} activations, wanted {n}: give more texts.")
    chosen = torch.from_numpy(rng.permutation(len(acts))[:n])
    return Off(acts[chosen], documents[chosen])


def detection_report(
    measures: Measures,
    kinds: Mapping[str, Off],
    real: Tensor,
    own: Tensor,
    names: Sequence[str],
    *,
    most: Mapping[str, int] | None = None,
    progress: Progress = quiet,
) -> Json:
    """Return AUROC and ROC curve of each measure for each kind of off activations against real ones (m, d) of documents `own` (m,).

    Args:
        most: how many activations a slow measure is given, of each kind and of the real ones; spread evenly.
    """
    table: list[Json] = []
    for i, name in enumerate(names):
        limit = (most or {}).get(name, len(real))
        kept = _spread(len(real), limit)
        base = measures.of(name, real[kept], own=own[kept]).numpy()
        for j, (kind, off) in enumerate(kinds.items()):
            progress(i * len(kinds) + j, len(names) * len(kinds), f"{name}, {kind}")
            rows = _spread(len(off.acts), limit)
            values = measures.of(name, off.acts[rows], own=off.documents[rows]).numpy()
            found = auroc(values, base)
            row = {"kind": kind, "measure": name, "auroc": found.value, "ci": [found.low, found.high], "n": len(rows)}
            table.append(row | {"n_real": len(kept), "roc": roc(values, base)})
    progress(1, 1, "")
    return {"rows": table, "n_real": len(real), "rates": list(RATES)}


def _spread(n: int, most: int) -> Tensor:
    return torch.linspace(0, n - 1, min(n, most)).long()
