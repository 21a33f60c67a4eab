"""How well a prior knows conversations: its denoising error on user turns, on the model's own answers and on the template's tokens,
beside that on plain text.

Knows documents, a layer and a GLP; knows no files.
"""

from collections.abc import Sequence

import numpy as np
import torch

from glp_core.data.conversations import conversations, template_lengths
from glp_core.data.corpus import Document
from glp_core.data.readings import PARTS, TextRow, Tokens, read, text_rows, without_massive
from glp_core.data.store import TOKENS_PER_DOCUMENT
from glp_core.errors import GlpError
from glp_core.files import Json
from glp_core.llm.site import Site
from glp_core.prior.glp import GLP
from glp_core.progress import Progress, quiet
from glp_core.stats import Floats, Interval, percentiles, resample_counts

CONVERSATIONS = 128
SIGMA = 0.3
"""Noise level of the error: at it, what the prior has not seen stands out."""
DRAWS = 1000
AT_ONCE = 32
"""Conversations that are answered and read together."""
BATCH = 2048


def conversation_report(
    site: Site, glp: GLP, documents: Sequence[Document], *, sigma: float = SIGMA, seed: int = 0, progress: Progress = quiet
) -> Json:
    """Return the prior's median denoising error on each part of conversations, in multiples of that on the same documents as text.

    The beginning of each document is a user's turn, which the model answers. First tokens and massive activations are left out.

    Returns:
        `text_error`, the median on text; `ratios` of all conversation tokens and of each part of PARTS but text: value and 95%
        interval, bootstrapped over documents; `tokens` of each; `conversations`, `sigma`, `seed`.
    Raises:
        GlpError: the model has no chat template, or there is no document.
    """
    template_lengths(site.llm)  # refuses a model without a template before any work
    if not documents:
        raise GlpError("There is no held-out document to make a conversation of.")
    generator = torch.Generator().manual_seed(seed)
    errors, parts, owners = [], [], []
    for first in range(0, len(documents), AT_ONCE):
        some = documents[first : first + AT_ONCE]
        for rows in (text_rows(site.llm, some, first, TOKENS_PER_DOCUMENT), conversations(site.llm, some, first)):
            tokens = _content(site, rows)
            errors.append(_errors(glp, tokens, sigma, generator))
            parts.append(tokens.parts.numpy())
            owners.append(tokens.documents.numpy())
        progress(first + len(some), len(documents), "conversations")
    error, part, owner = (np.concatenate(one) for one in (errors, parts, owners))
    groups = {"text": part == 0, "all": part > 0} | {name: part == i for i, name in enumerate(PARTS) if i}
    counts = resample_counts(len(documents), draws=DRAWS, seed=seed)
    medians = {name: _medians(error[here], owner[here], counts) for name, here in groups.items() if here.any()}
    text, drawn = medians.pop("text")
    return {
        "text_error": text,
        "ratios": {
            name: Interval(value / text, *percentiles(draws / drawn)).to_json() for name, (value, draws) in medians.items()
        },
        "tokens": {name: int(here.sum()) for name, here in groups.items()},
        "conversations": len(documents),
        "sigma": sigma,
        "seed": seed,
    }


def _content(site: Site, rows: Sequence[TextRow]) -> Tokens:
    return without_massive(read(site.llm, site.layer, rows), site.median_norm)[0]


def _errors(glp: GLP, tokens: Tokens, sigma: float, generator: torch.Generator) -> Floats:
    """Return the denoising error of each token (n,), under noise of its own."""
    errors = [
        glp.denoising_error(acts.float(), sigma, torch.randn(acts.shape, generator=generator)).cpu().double()
        for acts in tokens.acts.split(BATCH)
    ]
    return torch.cat(errors).numpy()


def _medians(values: Floats, owners: np.ndarray, counts: Floats) -> tuple[float, Floats]:
    """Return the median of values (n,), and that of every resample (k,) in which an owner counts so often, counts (k, owners)."""
    order = np.argsort(values)
    ordered, owners = values[order], owners[order]
    drawn = []
    for count in counts:
        reached = np.cumsum(count[owners])
        drawn.append(ordered[np.searchsorted(reached, reached[-1] / 2)] if reached[-1] else np.nan)
    return float(np.median(values)), np.array(drawn)
