"""Can a measure tell real activations from ones that are off? AUROC for each measure and each way of being off.

Knows activations and measures; reads and writes no files.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from glp_core.errors import GlpError
from glp_core.evaluation.measures import Measures
from glp_core.files import Json
from glp_core.llm.site import Site
from glp_core.progress import Progress, quiet
from glp_core.stats import auc_interval, roc

STRENGTHS = (0.25, 0.5, 1.0, 1.5)
LONGEST = 64
"""Tokens of a text."""
RATES = tuple(round(i / 40, 3) for i in range(41))
"""False alarms, as shares of the real activations, at which a ROC curve is stored."""


class Off(NamedTuple):
    """Activations that are not real ones, with the document that each was made from."""

    acts: Tensor
    """(n, d)."""
    documents: Tensor
    """(n,), numbered as the bank's: a neighbour from the own document would give the answer away."""


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
    rows = [site.llm.encode(text, max_tokens=LONGEST) for text in texts]
    if shuffled:
        rows = [[row[0], *rng.permutation(row[1:]).tolist()] for row in rows]
    parts = [acts[1:] for acts in site.read(rows)]
    acts = torch.cat(parts)
    documents = torch.cat([torch.full((len(part),), i) for i, part in enumerate(parts)])
    content = ~site.is_massive(acts)
    acts, documents = acts[content], documents[content]
    if len(acts) < n:
        raise GlpError(
            f"The texts give {len(acts)} activations, wanted {n}: give more texts, or ask for fewer with --activations."
        )
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
        places = _spread(len(real), limit)
        base = measures.of(name, real[places], own=own[places]).numpy()
        for j, (kind, off) in enumerate(kinds.items()):
            progress(i * len(kinds) + j, len(names) * len(kinds), f"{name}, {kind}")
            rows = _spread(len(off.acts), limit)
            values = measures.of(name, off.acts[rows], own=off.documents[rows]).numpy()
            curve = roc(np.concatenate([values, base]), np.repeat([1, 0], [len(values), len(base)]))
            area = auc_interval(curve.area, len(values), len(base))
            row = {"kind": kind, "measure": name, "auroc": area.value, "ci": area.ci, "n": len(rows), "n_real": len(places)}
            table.append(row | {"roc": curve.hits_at(RATES).round(4).tolist()})
    progress(1, 1, "")
    return {"rows": table, "n_real": len(real), "rates": list(RATES)}


def _spread(n: int, most: int) -> Tensor:
    return torch.linspace(0, n - 1, min(n, most)).long()
