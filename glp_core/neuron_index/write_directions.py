"""Where a neuron pushes the denoised activation, and which of the LLM's tokens that direction favours: a linear approximation.

The neuron's column of `down_proj` goes through the GLP's final norm weights and `out_proj` (not its rescaling), is taken with a minus
sign, because the denoised activation is z_sigma - sigma * velocity, and is denormalised into activation space.
"""

import numpy as np
import torch
from torch import Tensor, nn

from glp_core.errors import GlpError
from glp_core.llm.model import Llm
from glp_core.prior.glp import GLP

FINAL_NORMS = ("model.norm", "transformer.ln_f", "gpt_neox.final_layer_norm", "model.language_model.norm")
PROJECTED_OUT = "model.decoder.project_out"
"""Where models whose layers are wider than their embedding (OPT-350m) keep the way from the one to the other."""


@torch.no_grad()
def write_directions(glp: GLP) -> Tensor:
    """Return every neuron's direction in activation space (n_layers * d_mlp, d), float32, unit norm."""
    return _written(glp, torch.cat([block.down_proj.weight.float().T for block in glp.network.layers]))


def _written(glp: GLP, columns: Tensor) -> Tensor:
    """Return the unit directions (n, d) that columns (n, d_model) of `down_proj` write."""
    network = glp.network
    out = network.out_proj.weight.float() * network.ln.weight.float()
    directions = -(columns @ out.T) * glp.normalizer.std[-1]
    return directions / directions.norm(dim=1, keepdim=True).clamp_min(1e-12)


@torch.no_grad()
def write_direction(glp: GLP, layer: int, neuron: int) -> np.ndarray:
    """Return one neuron's direction in activation space (d,), unit norm: what to steer along to do what the neuron does."""
    if not (0 <= layer < glp.n_layers and 0 <= neuron < glp.d_mlp):
        raise GlpError(f"There is no neuron {layer}/{neuron}: layers go to {glp.n_layers - 1}, neurons to {glp.d_mlp - 1}.")
    column = glp.network.layers[layer].down_proj.weight[:, neuron].float()
    return _written(glp, column[None])[0].cpu().numpy()


@torch.no_grad()
def token_effects(llm: Llm, directions: Tensor, k: int = 10, *, at_once: int = 512) -> tuple[Tensor, Tensor]:
    """Return the tokens (n, 2, k) that directions (n, d) promote and suppress most, and their scores, mean over tokens taken off."""
    head = llm.model.get_output_embeddings()
    weight = _in_stream(llm.model, head.weight.float()).to(directions.device)
    weight = weight - weight.mean(0)
    tokens, scores = [], []
    for part in directions.split(at_once):
        logits = part @ weight.T
        best, worst = logits.topk(k), logits.topk(k, largest=False)
        tokens.append(torch.stack([best.indices, worst.indices], dim=1))
        scores.append(torch.stack([best.values, worst.values], dim=1))
    return torch.cat(tokens), torch.cat(scores)


def _in_stream(model: nn.Module, head: Tensor) -> Tensor:
    """Return the head's rows (vocabulary, width of the embedding) as what they read of the last layer's output (vocabulary, d)."""
    head = head * _final_norm_weight(model)
    out = _weight_at(model, PROJECTED_OUT)
    return head if out is None else head @ out


def _weight_at(model: nn.Module, path: str) -> Tensor | None:
    """Return the weight of the module at a path, float32; None where there is none."""
    module: object = model
    for name in path.split("."):
        module = getattr(module, name, None)
    weight = getattr(module, "weight", None)
    return weight.float() if isinstance(weight, Tensor) else None


def _final_norm_weight(model: nn.Module) -> Tensor | float:
    found = (_weight_at(model, path) for path in FINAL_NORMS)
    return next((weight for weight in found if weight is not None), 1.0)
