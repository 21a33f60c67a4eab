"""Train a GLP: AdamW, warm-up, plateau and decay, averaged weights, checkpoints, exact resume; one process or several.

Where activations come from is the supply's matter. On an accelerator batches, order, noise, loss and averaged weights stay there.
"""

import math
import time
from collections.abc import Callable
from copy import deepcopy
from dataclasses import asdict
from pathlib import Path

import torch
from torch import Tensor

from glp_core.data.store import ActivationStore
from glp_core.errors import GlpError
from glp_core.files import Json
from glp_core.prior.checkpoint import read_statistics, save_glp
from glp_core.prior.glp import GLP
from glp_core.prior.network import DenoiserConfig
from glp_core.progress import Progress, Saves, quiet
from glp_core.training.held_out import HeldOut
from glp_core.training.kept_weights import kept_checkpoints
from glp_core.training.loss import CompiledLoss, Loss, flow_loss, stratified_sigmas
from glp_core.training.plan import Extension, TrainConfig, learning_rate
from glp_core.training.ranks import Ranks
from glp_core.training.run_folder import AGAIN, RunFolder
from glp_core.training.start import Start
from glp_core.training.supply import StoreSupply, Supply

OWN = "statistics."
"""Begins the names of the run's mean and variance in its state."""
AVERAGE_EVERY = 8
"""Steps between updates of the averaged weights."""


def flops_per_activation(glp: GLP) -> int:
    """Return 6 N, the paper's count of a training step's arithmetic for one activation."""
    return 6 * sum(p.numel() for p in glp.network.parameters())


def _random_glp(config: TrainConfig, statistics: dict[str, Tensor]) -> GLP:
    """Return a GLP with the random weights of the configuration's seed; the global generator stays as it was."""
    torch_state = torch.random.get_rng_state()
    torch.manual_seed(config.seed)
    shape = DenoiserConfig(len(statistics["mean"]), config.d_model, config.d_mlp, config.n_layers)
    glp = GLP(shape, statistics["mean"], statistics["var"])
    torch.random.set_rng_state(torch_state)
    return glp


class Trainer:
    """One training run in a folder; call `run`, kill it, make it again and call `run`: it goes on where it was."""

    def __init__(
        self,
        config: TrainConfig,
        supply: Supply | ActivationStore,
        folder: Path,
        *,
        dtype: torch.dtype = torch.bfloat16,
        device: torch.device | str = "cpu",
        compiled: bool | None = None,
        start: Start | None = None,
        ranks: Ranks | None = None,
    ) -> None:
        """Make a run, or take up the one that the folder holds.

        Args:
            compiled: whether torch.compile fuses the loss; None: on CUDA.
            start: weights and statistics to go on from; None: random weights, the supply's statistics.
            ranks: this process among those that train together; None: alone.
        """
        self.config, self.folder, self.dtype = config, RunFolder(folder), dtype
        self.device, self.start, self.ranks = torch.device(device), start, ranks or Ranks()
        if isinstance(supply, ActivationStore):
            supply = StoreSupply(supply, self.device, beside=config.memory(supply.width, dtype, self.ranks.size))
        self.supply = supply
        self.ranks.check(batch=config.batch, sigma_groups=config.sigma_groups)
        stored = self.folder.configuration(self._identity())
        saved = self.folder.state()
        place = self.folder.supply(self.ranks.rank, int(saved["step"])) if saved else None
        wanted = bool(saved) and self.supply.keeps_place
        self.ranks.check_shared(folder, int(saved["step"]) if saved else 0, place=place is not None, wanted=wanted)
        if place:
            self.supply.restore(place)
        kept = bool(saved["resident"]) if saved and "resident" in saved else None
        self.supply.settle(kept, self.ranks)
        self.statistics = start.statistics if start else self._statistics(saved)
        if len(self.statistics["mean"]) != (width := self.supply.width):
            raise GlpError(
                f"The given GLP is for activations of width {len(self.statistics['mean'])}, these have width {width}."
            )
        self.glp = (start.glp(config) if start else _random_glp(config, self.statistics)).to(self.device)
        compiled = self.device.type == "cuda" if compiled is None else compiled
        self._loss: Loss = CompiledLoss(self._plain_loss) if compiled else self._plain_loss
        self.params = dict(self.glp.network.named_parameters())
        self.average = {name: p.detach().clone() for name, p in self.params.items()}
        self.optimizer = torch.optim.AdamW(
            self.params.values(),
            lr=config.learning_rate,
            betas=(0.9, config.beta2),
            weight_decay=config.weight_decay,
            fused=True,
        )
        self.step = 0
        self.seconds = 0.0
        self.losses: list[Tensor] = []
        """Of the steps since the last row of train.csv."""
        self.extension: Extension | None = None
        self._go_on(stored, saved)

    def run(self, *, progress: Progress = quiet, stop: Callable[[], bool] = lambda: False, save_every: float = 240.0) -> GLP:
        """Train to the end (or until `stop` says so, state saved) and return the averaged model."""
        held_out = self.supply.held_out(self.config.validation, self.device) if self.ranks.first else None
        saves, started = Saves(save_every), time.monotonic() - self.seconds
        config = self.config
        batches = self.supply.batches(config.batch, self.step, config.seed, self.ranks)
        if self.step == config.steps and kept_checkpoints(self.folder.path).get(self.step * config.batch) != "final":
            self._keep(self._mean_loss() if self.losses else math.nan, held_out)  # made shorter, to where it had stopped
        while self.step < config.steps:
            self.losses.append(self._train_step(next(batches)))
            self.seconds = time.monotonic() - started
            if config.keeps(self.step):
                self._keep(self._mean_loss(), held_out)
            elif self.step % config.log_every == 0:
                loss = self._mean_loss()
                self._log(loss, None)
                progress(self.step, config.steps, f"loss {loss:.4f}{self._slower()}")
            ending = self.ranks.any(self.step == config.steps or stop())
            if ending or self.ranks.any(saves.due):
                with saves.saving():
                    self._save()
            if ending:
                break
        return self.averaged()

    def _save(self) -> None:
        """Save every process's place in its supply, then what all share: that file makes the save count."""
        if place := self.supply.state():
            self.folder.save_supply(self.ranks.rank, self.step, place)
        self.ranks.wait()
        if self.ranks.first:
            self.folder.save_state(self._state())
            self.folder.drop_supplies_but(self.step)
        self.ranks.wait()  # a process that goes on from here finds the state

    def _mean_loss(self) -> float:
        """Return the mean training loss since the last row and start anew."""
        loss = float(torch.stack(self.losses).mean())
        self.losses = []
        if not math.isfinite(loss):
            raise GlpError(
                f"The loss is {loss} at step {self.step}: training diverged. Use a lower learning rate in a new run."
            )
        return loss

    def _rate(self, step: int) -> float:
        return learning_rate(self.config, self.extension, step)

    def averaged(self) -> GLP:
        """Return a copy of the model with the averaged weights, for inference."""
        glp = deepcopy(self.glp)
        begun = self.config.ema and self.step >= AVERAGE_EVERY  # before, the average is still of the start alone
        glp.network.load_state_dict(self.average if begun else self.params)
        return glp

    def _slower(self) -> str:
        why = self._loss.failure if isinstance(self._loss, CompiledLoss) else ""
        return f"; slower, for nothing can be compiled here ({why})" if why else ""

    def _plain_loss(self, acts: Tensor, sigmas: Tensor, eps: Tensor) -> Tensor:
        return flow_loss(self.glp, self.glp.normalize(acts), sigmas, eps)

    def _train_step(self, acts: Tensor) -> Tensor:
        config = self.config
        generator = torch.Generator(self.device).manual_seed(config.seed * 1_000_000_007 + self.step)
        eps = self.ranks.share(torch.randn(config.batch, acts.shape[1], generator=generator, device=self.device))
        sigmas = self.ranks.share(stratified_sigmas(config.sigma_groups, generator))
        for group in self.optimizer.param_groups:
            group["lr"] = self._rate(self.step)
        with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.dtype == torch.bfloat16):
            loss = self._loss(acts.to(self.device), sigmas, eps)
        loss.backward()
        loss = loss.detach()
        self.ranks.average([loss, *(p.grad for p in self.params.values() if p.grad is not None)])
        torch.nn.utils.clip_grad_norm_(self.params.values(), config.clip)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.step += 1
        if config.ema and self.step % AVERAGE_EVERY == 0:
            decay = min(config.ema, (1 + self.step) / (10 + self.step)) ** AVERAGE_EVERY
            torch._foreach_lerp_(list(self.average.values()), [p.detach() for p in self.params.values()], 1 - decay)
        return loss

    def _keep(self, train_loss: float, held_out: HeldOut | None) -> None:
        """Measure and write a checkpoint, in the process that has the held-out activations."""
        facts = self.supply.facts()
        if held_out is None:
            return
        glp = self.averaged()
        checks = held_out.check(glp, self.dtype if self.dtype == torch.bfloat16 else None)
        self._log(train_loss, checks["text"])
        seen = self.step * self.config.batch
        self.folder.log_check(step=self.step, activations=seen, values=checks)
        name = "final" if self.step == self.config.steps else f"checkpoints/activations_{seen}"
        glp.network.to(self.dtype)
        before = self.start.activations_seen if self.start else 0
        about = facts | {"activations_seen": before + seen, "validation_loss": checks["text"]}
        about |= {"went_on_from": self.start.facts} if self.start else {}
        save_glp(glp, self.folder.path, checkpoint=name, about=about, covariance=self.statistics.get("covariance"))

    def _log(self, train_loss: float, validation: float | None) -> None:
        if not self.ranks.first:
            return
        seen = self.step * self.config.batch
        self.folder.log(
            step=self.step,
            activations=seen,
            flops=seen * flops_per_activation(self.glp),
            loss=train_loss,
            validation=validation,
            rate=self._rate(self.step - 1),
            seconds=self.seconds,
        )

    def _identity(self) -> Json:
        """Return what makes this run another one when it changes."""
        identity: Json = {"train": asdict(self.config), "dtype": str(self.dtype).removeprefix("torch.")}
        identity |= {"start": self.start.facts} if self.start else {}
        return identity | ({"supply": self.supply.settings} if self.supply.settings else {})

    def _statistics(self, saved: dict[str, Tensor] | None) -> dict[str, Tensor]:
        """Return the run's own statistics where it goes on, whatever its activations have become since, else the supply's."""
        kept = {name.removeprefix(OWN): tensor for name, tensor in (saved or {}).items() if name.startswith(OWN)}
        if saved and not kept and (self.folder.path / "statistics.safetensors").is_file():  # an earlier version's run
            return read_statistics(self.folder.path)
        return kept or self.supply.statistics()

    def _go_on(self, stored: Json | None, saved: dict[str, Tensor] | None) -> None:
        """Take up the run that the folder holds, or start one there; note where it was made longer or shorter."""
        identity = self._identity()
        if saved:
            self._restore(saved)
        if stored and self.step:
            if "extension" in stored:
                self.extension = Extension(**stored["extension"])
            if stored["train"] != identity["train"]:
                fallen_to = learning_rate(TrainConfig(**stored["train"]), self.extension, self.step - 1)
                self.extension = Extension(self.step, fallen_to)
        if self.ranks.first:
            self.folder.write_configuration(identity | ({"extension": asdict(self.extension)} if self.extension else {}))
            self.folder.drop_rows_after(self.step)

    def _state(self) -> dict[str, Tensor]:
        tensors: dict[str, Tensor] = {"step": torch.tensor(self.step), "seconds": torch.tensor(self.seconds)}
        if self.supply.resident is not None:
            tensors["resident"] = torch.tensor(int(self.supply.resident))
        tensors["losses"] = torch.stack(self.losses) if self.losses else torch.zeros(0)
        tensors |= {OWN + name: tensor for name, tensor in self.statistics.items()}
        for name, p in self.params.items():
            state = self.optimizer.state[p]
            tensors |= {f"p.{name}": p.detach(), f"a.{name}": self.average[name]}
            tensors |= {f"m.{name}": state["exp_avg"], f"v.{name}": state["exp_avg_sq"]}
        return tensors

    @torch.no_grad()
    def _restore(self, tensors: dict[str, Tensor]) -> None:
        parts = {f"{part}.{name}": p.shape for name, p in self.params.items() for part in "pamv"}
        wrong = next((name for name, shape in parts.items() if name not in tensors or tensors[name].shape != shape), "")
        if wrong:
            raise GlpError(f"{self.folder.path}: {wrong} in state.safetensors is not this network's. {AGAIN}")
        self.step, self.seconds = int(tensors["step"]), float(tensors["seconds"])
        self.losses = list(tensors.get("losses", torch.zeros(0)).to(self.device))
        for name, p in self.params.items():
            p.copy_(tensors[f"p.{name}"])
            self.average[name].copy_(tensors[f"a.{name}"])
            self.optimizer.state[p] = {
                "step": torch.tensor(float(self.step), device=self.device),
                "exp_avg": tensors[f"m.{name}"].to(self.device),
                "exp_avg_sq": tensors[f"v.{name}"].to(self.device),
            }
        if self.step > self.config.steps:
            raise GlpError(
                f"{self.folder.path} has trained {self.step:,} steps already, more than the {self.config.steps:,} asked for."
            )
