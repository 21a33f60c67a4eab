"""Train the sparse autoencoder on the GLP's own activation store; dead latents are kept alive by the auxiliary loss (Gao et al.).

The state is saved about once a minute, and a killed training goes on from there to the same weights.
"""

import json
import math
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from glp_core.checked.tensors import check_tensors, read_tensors
from glp_core.data.store import ActivationStore
from glp_core.errors import GlpError
from glp_core.files import Json, write_tensors
from glp_core.progress import Progress, quiet
from glp_core.training.sae import Sae, SaeConfig

SECONDS_BETWEEN_SAVES = 60.0
AGAIN = "Remove it and start again."
MIXED = 16
"""Batches that are in memory together at least: shards of a large model may hold few activations."""
MOMENTS = ("exp_avg", "exp_avg_sq", "step")


class _Training:
    """Weights, optimiser and place in the store."""

    def __init__(self, store: ActivationStore, config: SaeConfig, device: str) -> None:
        self.store, self.config = store, config
        statistics = store.statistics()
        d = len(statistics["mean"])
        scale = math.sqrt(float(statistics["var"].sum()) / d)
        self.sae = Sae(d, config.expansion * d, config.k, statistics["mean"], scale, config.seed).to(device)
        self.optimiser = torch.optim.Adam(self.sae.parameters(), lr=config.learning_rate, betas=(0.9, 0.999), fused=True)
        self.quiet_for = torch.zeros(len(self.sae.encoder), dtype=torch.long, device=device)
        self.step, self.epoch, self.in_epoch = 0, 0, 0
        of = store.manifest.get("source", store.manifest["llm"])
        self.identity = json.dumps({"config": asdict(config), "llm": of, "activations": store.n_activations})

    def save(self, path: Path) -> None:
        """Write everything that the rest of the training depends on."""
        tensors = {"quiet_for": self.quiet_for, "place": torch.tensor([self.step, self.epoch, self.in_epoch])}
        for name, parameter in self.sae.named_parameters():
            tensors[f"weight.{name}"] = parameter.detach()
            tensors |= {f"{moment}.{name}": self.optimiser.state[parameter][moment] for moment in MOMENTS}
        write_tensors(path, tensors, {"training": self.identity})

    def load(self, path: Path) -> None:
        """Read what `save` wrote; raise GlpError when it is the state of another training."""
        identity = check_tensors(path, {}, again=AGAIN).metadata.get("training")
        if identity != self.identity:
            raise GlpError(f"{path} is the state of another training: {identity}. Remove it, or ask for the same as before.")
        wanted = {"quiet_for": f"whole {len(self.quiet_for)}", "place": "whole 3"}
        for name, parameter in self.sae.named_parameters():
            sizes = " ".join(map(str, parameter.shape))
            wanted |= {f"{part}.{name}": f"float {'' if part == 'step' else sizes}" for part in ("weight", *MOMENTS)}
        tensors, _ = read_tensors(path, wanted, again=AGAIN)
        self.quiet_for = tensors["quiet_for"].to(self.quiet_for.device)
        self.step, self.epoch, self.in_epoch = tensors["place"].tolist()
        for name, parameter in self.sae.named_parameters():
            parameter.data.copy_(tensors[f"weight.{name}"])
            self.optimiser.state[parameter] = {moment: tensors[f"{moment}.{name}"].to(parameter.device) for moment in MOMENTS}

    def make_step(self, acts: Tensor) -> float:
        """Make one step; return the share of variance that is not explained."""
        for group in self.optimiser.param_groups:
            group["lr"] = self.config.rate(self.step)
        error = _step(self.sae, self.optimiser, acts.to(self.quiet_for.device), self.quiet_for, self.config)
        self.step += 1
        self.in_epoch += 1
        return error

    def facts(self) -> Json:
        """Return what is to be known of the finished autoencoder."""
        return {
            "config": asdict(self.config),
            "n_latents": len(self.sae.encoder),
            "unexplained_variance": self.sae.unexplained(self.store.validation(8192)),
            "dead_latents": int((self.quiet_for > self.config.dead_after).sum()),
            "llm": self.store.manifest["llm"],
            "layer": self.store.manifest["layer"],
            "distinct_activations": self.store.n_activations,
        }


def train_sae(
    store: ActivationStore,
    config: SaeConfig,
    *,
    device: str = "cpu",
    state: Path | None = None,
    progress: Progress = quiet,
    cancelled: Callable[[], bool] = lambda: False,
) -> tuple[Sae, Json] | None:
    """Train on a store; return the autoencoder and what is to be known of it, or None when cancelled.

    Args:
        state: file from which an interrupted training goes on, and where this one is saved, at its end too: whoever has kept the
            result removes it.
    """
    training = _Training(store, config, device)
    if state is not None and state.is_file():
        training.load(state)
    saved, window = time.monotonic(), max(8, store.shards_within(MIXED * config.batch))
    while training.step < config.steps:
        for acts in store.batches(config.batch, epoch=training.epoch, window=window, skip=training.in_epoch):
            if cancelled():
                if state is not None and training.step:
                    training.save(state)
                return None
            error = training.make_step(acts)
            progress(training.step * config.batch, config.activations, f"activations, unexplained variance {error:.3f}")
            if training.step == config.steps:
                break
            if state is not None and time.monotonic() - saved > SECONDS_BETWEEN_SAVES:
                training.save(state)
                saved = time.monotonic()
        else:
            if not training.in_epoch:
                raise GlpError(f"The store holds fewer than one batch of {config.batch} activations: choose a smaller batch.")
            training.epoch, training.in_epoch = training.epoch + 1, 0
    if state is not None:
        training.save(state)
    facts = training.facts()
    return training.sae.cpu(), facts


def _step(sae: Sae, optimiser: torch.optim.Optimizer, acts: Tensor, quiet_for: Tensor, config: SaeConfig) -> float:
    x = sae.enter(acts)
    with torch.autocast(x.device.type, torch.bfloat16):
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
