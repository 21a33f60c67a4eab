"""A multi-layer prior at the LLM layers that it serves: what a page needs to steer and to measure distance at each of them.

Knows models and token ids; reads and writes no files.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from glp_core.evaluation.fidelity import held_out_errors
from glp_core.files import Json
from glp_core.llm.hooks import record
from glp_core.llm.model import Llm
from glp_core.llm.site import is_massive
from glp_core.prior.distance import make_reference
from glp_core.prior.glp import GLP
from glp_core.progress import Progress, quiet

DOCUMENTS = 32
"""Whose activations at all layers are held in memory together."""
DOCUMENTS_AT_ONCE = 8


def layers_report(
    llm: Llm, glp: GLP, ids: Tensor, layers: Sequence[int], *, n: int = 2000, progress: Progress = quiet
) -> dict[str, Json]:
    """Return for each of `layers` its median norm, the prior's held-out loss and the reference of manifold distance.

    Args:
        ids: held-out documents (documents, tokens); the first 32 are read, their first tokens and massive activations left out.
        n: activations of each layer at most, spread evenly.
    """
    acts = activations_at(llm, ids[:DOCUMENTS], layers)
    report: dict[str, Json] = {}
    for done, layer in enumerate(layers):
        progress(done, len(layers), f"layer {layer}")
        norm = acts[layer].norm(dim=1).median().item()
        ordinary = acts[layer][~is_massive(acts[layer], norm)]
        chosen = ordinary[torch.linspace(0, len(ordinary) - 1, min(n, len(ordinary))).long()]
        prior = glp.at(layer)
        loss = held_out_errors(prior, chosen).mean().item()
        report[str(layer)] = {
            "median_norm": norm,
            "validation_loss": loss,
            "n": len(chosen),
            "reference": make_reference(prior, chosen),
        }
    return report


@torch.inference_mode()
def activations_at(llm: Llm, ids: Tensor, layers: Sequence[int]) -> dict[int, Tensor]:
    """Return each layer's activations (n, d) of documents (documents, tokens), first tokens left out, float32 on the CPU."""
    parts: dict[int, list[Tensor]] = {layer: [] for layer in layers}
    for rows in ids.split(DOCUMENTS_AT_ONCE):
        with record(llm.model, list(layers), stop=True) as seen:
            llm.model(input_ids=rows, use_cache=False, logits_to_keep=1)
        for layer in layers:
            parts[layer].append(seen[layer][:, 1:].flatten(0, 1).float().cpu())
    return {layer: torch.cat(acts) for layer, acts in parts.items()}
