"""A TopK sparse autoencoder over activations (Gao et al. 2024): the baseline that meta-neurons are compared with.

Trained on the same activation store as the GLP; dead latents are kept alive by the auxiliary loss. Knows activations only.
"""

import json
import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn
from torch.nn import functional as F

from glp_core.activations import ActivationStore
from glp_core.checkpoint import check_safetensors
from glp_core.errors import GlpError
from glp_core.files import Progress, quiet, write_tensors


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
        return (acts.float() - self.mean) / self.scale

    def before_topk(self, x: Tensor) -> Tensor:
        """Return all latents (n, m) of scaled activations before any is dropped."""
        return F.linear(x - self.bias, self.encoder, self.encoder_bias)

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
    def unexplained(self, acts: Tensor) -> float:
        """Return the share of the variance of activations (n, d) that the reconstruction misses."""
        x = self.enter(acts)
        values, which = self.before_topk(x).topk(self.k, dim=1)
        error = x - self.decode(values.clamp_min(0), which)
        return float(error.square().sum() / (x - x.mean(0)).square().sum())


def train_sae(
    store: ActivationStore, config: SaeConfig, *, progress: Progress = quiet, cancelled: Callable[[], bool] = lambda: False
) -> tuple[Sae, dict[str, Any]] | None:
    """Train on a store; return the autoencoder and what is to be known of it, or None when cancelled."""
    statistics = store.statistics()
    d = len(statistics["mean"])
    scale = math.sqrt(float(statistics["var"].sum()) / d)
    sae = Sae(d, config.expansion * d, config.k, statistics["mean"], scale, config.seed)
    optimiser = torch.optim.Adam(sae.parameters(), lr=config.learning_rate, betas=(0.9, 0.999), fused=True)
    quiet_for = torch.zeros(len(sae.encoder), dtype=torch.long)
    step, epoch = 0, 0
    while step < config.steps:
        for acts in store.batches(config.batch, epoch=epoch):
            if cancelled():
                return None
            for group in optimiser.param_groups:
                group["lr"] = config.rate(step)
            error = _step(sae, optimiser, acts, quiet_for, config)
            step += 1
            progress(step * config.batch, config.activations, f"activations, unexplained variance {error:.3f}")
            if step == config.steps:
                break
        else:
            epoch += 1
            if step == 0:
                raise GlpError(f"The store holds fewer than one batch of {config.batch} activations: choose a smaller batch.")
    facts = {
        "config": asdict(config),
        "n_latents": len(sae.encoder),
        "unexplained_variance": sae.unexplained(store.validation(8192)),
        "dead_latents": int((quiet_for > config.dead_after).sum()),
        "llm": store.manifest["llm"],
        "layer": store.manifest["layer"],
        "distinct_activations": store.n_activations,
    }
    return sae, facts


def _step(sae: Sae, optimiser: torch.optim.Optimizer, acts: Tensor, quiet_for: Tensor, config: SaeConfig) -> float:
    """Make one step; return the share of variance that is not explained."""
    x = sae.enter(acts)
    with torch.autocast("cpu", torch.bfloat16):
        dense = sae.before_topk(x)
    values, which = dense.topk(config.k, dim=1)
    values = values.float().clamp_min(0)
    error = x - sae.decode(values, which)
    total = (x - x.mean(0)).square().sum()
    loss = error.square().sum() / total
    quiet_for += len(x)
    quiet_for[which[values > 0]] = 0
    dead = (quiet_for > config.dead_after).nonzero()[:, 0]
    if len(dead):
        loss = loss + config.auxiliary * _dead_loss(sae, dense, dead, error.detach())
    optimiser.zero_grad()
    loss.backward()
    optimiser.step()
    with torch.no_grad():
        sae.decoder.copy_(F.normalize(sae.decoder, dim=1))
    return float(error.detach().square().sum() / total)


def _dead_loss(sae: Sae, dense: Tensor, dead: Tensor, error: Tensor) -> Tensor:
    """Return how badly the strongest dead latents reconstruct the error, as a share of its size (Gao et al., AuxK)."""
    values, which = dense[:, dead].float().topk(min(len(dead), error.shape[1] // 2), dim=1)
    guess = F.embedding_bag(dead[which], sae.decoder, per_sample_weights=values.clamp_min(0), mode="sum")
    return (error - guess).square().sum() / error.square().sum().clamp_min(1e-12)


def save_sae(sae: Sae, path: Path, facts: dict[str, Any]) -> None:
    """Write weights in float16, with the facts in the metadata."""
    tensors = {
        name: tensor.detach().half() if tensor.ndim > 1 else tensor.detach() for name, tensor in sae.state_dict().items()
    }
    write_tensors(path, tensors, {"sae": json.dumps(facts | {"k": sae.k})})


def load_sae(path: Path) -> tuple[Sae, dict[str, Any]]:
    """Read an autoencoder and its facts; raise GlpError when the file is missing or is none."""
    if not path.is_file():
        raise GlpError(f"No sparse autoencoder at {path}. Make it with `python -m glp_core sae`.")
    check_safetensors(path)
    try:
        with safe_open(path, "pt") as file:
            facts = json.loads((file.metadata() or {})["sae"])
            tensors = {name: file.get_tensor(name).float() for name in file.keys()}  # noqa: SIM118 - safe_open is no dict
        sae = Sae(tensors["encoder"].shape[1], len(tensors["encoder"]), facts["k"], tensors["mean"], float(tensors["scale"]))
        sae.load_state_dict(tensors)
    except (SafetensorError, KeyError, ValueError, RuntimeError) as error:
        raise GlpError(f"{path.name} is no sparse autoencoder ({error}). Make it with `python -m glp_core sae`.") from error
    return sae.eval().requires_grad_(False), facts
