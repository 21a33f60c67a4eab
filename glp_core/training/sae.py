"""A TopK sparse autoencoder over activations (Gao et al. 2024): the baseline that meta-neurons are compared with.

Knows activations only; training is in sae_training.py.
"""

import json
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from glp_core.checked.shapes import Limits, check
from glp_core.checked.tensors import read_tensors
from glp_core.errors import GlpError
from glp_core.files import Json, parse_json, write_tensors

AGAIN = "Make it with `python -m glp_core sae`."


@dataclass(frozen=True)
class SaeConfig:
    """How a sparse autoencoder is made."""

    expansion: int = 16
    """Latents for each dimension of the activation."""
    k: int = 32
    """Latents that may be active on a token."""
    activations: int = 2_500_000
    """Activations to see; the store is repeated when it holds fewer."""
    batch: int = 4096
    """Activations a step."""
    learning_rate: float = 1e-3
    """Adam's; linear warm-up over a twentieth of the steps, linear decay over the last fifth."""
    auxiliary: float = 1 / 32
    """Weight of the dead latents' reconstruction of the error."""
    dead_after: int = 100_000
    """Activations without firing after which a latent counts as dead."""
    seed: int = 0
    """Of the weights."""

    def __post_init__(self) -> None:
        if min(self.expansion, self.k, self.batch) < 1 or self.activations < self.batch:
            raise GlpError(f"{self} cannot be trained: all counts must be at least 1, and activations at least one batch.")

    @property
    def steps(self) -> int:
        return self.activations // self.batch

    def rate(self, step: int) -> float:
        """Return the learning rate of a step."""
        rising, falling = max(1, self.steps // 20), max(1, self.steps // 5)
        return self.learning_rate * min(1.0, (step + 1) / rising, (self.steps - step) / falling)


class Sae(nn.Module):
    """Encode activations, scaled to norm sqrt(d) on average around their mean, into k active latents and back."""

    mean: Tensor
    scale: Tensor

    def __init__(self, d_input: int, n_latents: int, k: int, mean: Tensor, scale: float, seed: int = 0) -> None:
        super().__init__()
        if k > n_latents:
            raise GlpError(f"k is {k}, but there are only {n_latents} latents.")
        generator = torch.Generator().manual_seed(seed)
        decoder = F.normalize(torch.randn(n_latents, d_input, generator=generator), dim=1)
        self.k = k
        self.encoder = nn.Parameter(decoder.clone())
        self.encoder_bias = nn.Parameter(torch.zeros(n_latents))
        self.decoder = nn.Parameter(decoder)
        self.bias = nn.Parameter(torch.zeros(d_input))
        self.register_buffer("mean", mean.float().clone())
        self.register_buffer("scale", torch.tensor(float(scale)))

    def enter(self, acts: Tensor) -> Tensor:
        """Centre and scale activations (n, d)."""
        return (acts.to(self.mean.device).float() - self.mean) / self.scale

    def before_topk(self, x: Tensor) -> Tensor:
        """Return all latents (n, m) of scaled activations before any is dropped."""
        # the bias goes through the weights, so that training needs no gradient of x, which is a third of its products
        return F.linear(x, self.encoder, self.encoder_bias - self.encoder @ self.bias)

    def decode(self, values: Tensor, which: Tensor) -> Tensor:
        """Return scaled reconstructions (n, d) of active latents (n, k)."""
        return F.embedding_bag(which, self.decoder, per_sample_weights=values, mode="sum") + self.bias

    @torch.no_grad()
    def latents(self, acts: Tensor) -> Tensor:
        """Return the latents (n, m), float32: k at most above 0, the others 0."""
        dense = self.before_topk(self.enter(acts))
        values, which = dense.topk(self.k, dim=1)
        return torch.zeros_like(dense).scatter_(1, which, values.clamp_min(0))

    @torch.no_grad()
    def reconstruct(self, acts: Tensor) -> Tensor:
        """Return the reconstruction of activations (n, d) from their active latents, as activations."""
        values, which = self.before_topk(self.enter(acts)).topk(self.k, dim=1)
        return (self.decode(values.clamp_min(0), which) * self.scale + self.mean).to(acts)

    @torch.no_grad()
    def unexplained(self, acts: Tensor) -> float:
        """Return the share of the variance of activations (n, d) that the reconstruction misses."""
        x = self.enter(acts)
        values, which = self.before_topk(x).topk(self.k, dim=1)
        error = x - self.decode(values.clamp_min(0), which)
        return float(error.square().sum() / (x - x.mean(0)).square().sum())


def save_sae(sae: Sae, path: Path, facts: Json) -> None:
    """Write weights in float16, with the facts in the metadata."""
    tensors = {
        name: tensor.detach().half() if tensor.ndim > 1 else tensor.detach() for name, tensor in sae.state_dict().items()
    }
    write_tensors(path, tensors, {"sae": json.dumps(facts | {"k": sae.k})})


def load_sae(path: Path, *, layer: int | None = None, width: int = 0) -> tuple[Sae, Json]:
    """Read an autoencoder and its facts: of this layer and of activations of this width, where they are given.

    Raises:
        GlpError: the file is missing, is none, or is of another layer or width.
    """
    if not path.is_file():
        raise GlpError(f"No sparse autoencoder at {path}. Make it with `python -m glp_core sae`.")
    stored, metadata = read_tensors(path, {"encoder": "float m d", "mean": "float d", "scale": "float"}, again=AGAIN)
    try:
        facts = check(
            parse_json(metadata["sae"]),
            {"k": Limits(int, 1, len(stored["encoder"])), "layer?": Limits(int, 0, 10_000)},
            f"{path.name} is no autoencoder",
        )
        tensors = {name: tensor.float() for name, tensor in stored.items()}
        sae = Sae(tensors["encoder"].shape[1], len(tensors["encoder"]), facts["k"], tensors["mean"], float(tensors["scale"]))
        sae.load_state_dict(tensors)
    except GlpError:
        raise
    except (KeyError, ValueError, RuntimeError, RecursionError) as error:
        raise GlpError(f"{path.name} is no sparse autoencoder ({error}). {AGAIN}") from error
    way = "Make one with `python -m glp_core sae`, or name another with --sae."
    if layer is not None and facts.get("layer", layer) != layer:
        raise GlpError(f"{path} is of layer {facts['layer']}, the workspace models layer {layer}. {way}")
    if width and len(sae.mean) != width:
        raise GlpError(f"{path} is of activations of width {len(sae.mean)}, the workspace's have width {width}. {way}")
    return sae.eval().requires_grad_(False), facts
