"""Where a neuron pushes the denoised activation, and which of the LLM's tokens that direction favours: a linear approximation.

The neuron's column of `down_proj` goes through the GLP's final norm weights and `out_proj` (not its rescaling), is taken with a minus
sign, because the denoised activation is z_sigma - sigma * velocity, and is denormalised into activation space.
"""

import numpy as np
import torch
from accelerate.utils import align_module_device
from torch import Tensor, nn

from glp_core.errors import GlpError
from glp_core.llm.model import Llm
from glp_core.prior.glp import GLP

FINAL_NORMS = (
    *("model.norm", "model.language_model.norm", "model.final_layernorm", "model.embedding_norm", "model.final_norm"),
    *(
        "transformer.ln_f",
        "transformer.norm_f",
        "backbone.norm_f",
        "gpt_neox.final_layer_norm",
        "model.decoder.final_layer_norm",
    ),
)
"""Where models of known families keep the norm that their head reads."""
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
    weight = _read_of_stream(llm.model, llm.model.get_output_embeddings()).to(directions.device)
    weight = weight - weight.mean(0)
    tokens, scores = [], []
    for part in directions.split(at_once):
        logits = part @ weight.T
        best, worst = logits.topk(k), logits.topk(k, largest=False)
        tokens.append(torch.stack([best.indices, worst.indices], dim=1))
        scores.append(torch.stack([best.values, worst.values], dim=1))
    return torch.cat(tokens), torch.cat(scores)


def _read_of_stream(model: nn.Module, head: nn.Module) -> Tensor:
    """Return what each token's row of a model's head reads of the last layer's output (vocabulary, d), float32."""
    rows = _weight(head)
    if (out := _module_at(model, PROJECTED_OUT)) is not None:
        rows = rows @ _weight(out).to(rows.device)
    norm = next((found for path in FINAL_NORMS if (found := _module_at(model, path)) is not None), None)
    return rows if norm is None else rows * _gain(norm).to(rows.device)


def _module_at(model: nn.Module, path: str) -> nn.Module | None:
    """Return the module at a path that has a weight, or None."""
    module: object = model
    for name in path.split("."):
        module = getattr(module, name, None)
    return module if isinstance(module, nn.Module) and isinstance(getattr(module, "weight", None), Tensor) else None


def _weight(module: nn.Module) -> Tensor:
    """Return a module's weight, float32; one that lies in main memory or on the disk while it is not used is fetched."""
    with align_module_device(module):
        return module.get_parameter("weight").detach().float()


def _gain(norm: nn.Module) -> Tensor:
    """Return by how much a norm multiplies each feature (d,): its weight, or 1 more in families that say so (Gemma, Qwen3-Next)."""
    weight = _weight(norm)
    signs = torch.ones_like(weight)
    signs[1::2] = -1  # every norm leaves it as it is
    signs = signs.to(norm.get_parameter("weight").dtype)
    shown = ((norm(signs) - norm(-signs)) / 2 * signs).to(weight.device)
    return min(weight, 1 + weight, key=lambda gain: float((gain - shown).abs().sum()))
