"""Train a GLP on an activation store: AdamW, warm-up, plateau and decay, averaged weights, checkpoints, exact resume.

On the CPU the store is read a window at a time, so that memory stays bounded however much was collected. On an accelerator it is
loaded once when it fits, and batches, order, noise, loss and averaged weights stay there.
"""

import math
import time
from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import asdict
from pathlib import Path

import torch
from torch import Tensor

from glp_core.data.resident import ResidentActivations, resident_if_it_fits
from glp_core.data.store import ActivationStore
from glp_core.errors import GlpError
from glp_core.files import Json
from glp_core.prior.checkpoint import save_glp
from glp_core.prior.glp import GLP
from glp_core.prior.network import DenoiserConfig
from glp_core.progress import Progress, quiet
from glp_core.training.held_out import HeldOut
from glp_core.training.loss import flow_loss, stratified_sigmas
from glp_core.training.plan import Extension, TrainConfig, learning_rate
from glp_core.training.run_folder import RunFolder
from glp_core.training.start import Start

WINDOW = 4_000_000
"""Activations in memory, mixed with one another: 4.6 GB at width 576 in bfloat16."""


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
        store: ActivationStore,
        folder: Path,
        *,
        dtype: torch.dtype = torch.bfloat16,
        device: torch.device | str = "cpu",
        compiled: bool | None = None,
        resident: bool | None = None,
        start: Start | None = None,
    ) -> None:
        """Make a run, or take up the one that the folder holds.

        Args:
            compiled: whether torch.compile fuses the loss; None: on CUDA.
            resident: whether the whole store is loaded to the device; None: on an accelerator where it fits.
            start: weights and statistics to go on from; None: random weights, the store's statistics.
        """
        self.config, self.store, self.folder, self.dtype = config, store, RunFolder(folder), dtype
        self.device, self.start, self.resident = torch.device(device), start, resident
        self.statistics = start.statistics if start else store.statistics()
        if len(self.statistics["mean"]) != (width := store.width):
            raise GlpError(
                f"The given GLP is for activations of width {len(self.statistics['mean'])}, these have width {width}."
            )
        self.glp = (start.glp(config) if start else _random_glp(config, self.statistics)).to(self.device)
        compiled = self.device.type == "cuda" if compiled is None else compiled
        self._loss: Callable[[Tensor, Tensor, Tensor], Tensor] = (
            torch.compile(self._plain_loss, dynamic=False) if compiled else self._plain_loss
        )
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
        self._go_on()

    def run(self, *, progress: Progress = quiet, stop: Callable[[], bool] = lambda: False, save_every: float = 240.0) -> GLP:
        """Train to the end (or until `stop` says so, state saved) and return the averaged model."""
        held_out = HeldOut.of(self.store, self.config.validation, self.device)
        since_save, started = time.monotonic(), time.monotonic() - self.seconds
        batches = self._batches() if self.step < self.config.steps else iter(())
        for acts in batches:
            self.losses.append(self._train_step(acts))
            self.seconds = time.monotonic() - started
            done = self.step == self.config.steps
            if self.config.keeps(self.step):
                self._keep(self._mean_loss(), held_out)
            elif self.step % self.config.log_every == 0:
                loss = self._mean_loss()
                self._log(loss, None)
                progress(self.step, self.config.steps, f"loss {loss:.4f}")
            if done or stop() or time.monotonic() - since_save > save_every:
                self.folder.save_state(self._state())
                since_save = time.monotonic()
            if done or stop():
                break
        return self.averaged()

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
        glp.network.load_state_dict(self.average if self.config.ema else self.params)
        return glp

    def _batches(self) -> Iterator[Tensor]:
        """Yield the batches from the present step on, epoch after epoch, as if the earlier ones had been read too."""
        size, window = self.config.batch, self.store.shards_within(WINDOW)
        source = resident_if_it_fits(self.store, self.device) if self.resident is None else None
        if self.resident:
            source = ResidentActivations(self.store, self.device)
        epoch, skip = 0, self.step
        while True:
            if source is not None:
                n = source.n_batches(size)
            else:
                n = self.store.n_batches(size, epoch=epoch, window=window)
            if n == 0:
                raise GlpError(f"The store holds fewer activations than one batch of {size}: collect more.")
            if skip < n and source is not None:
                yield from source.batches(size, epoch=epoch, skip=skip)
            elif skip < n:
                yield from self.store.batches(size, epoch=epoch, skip=skip, window=window)
            epoch, skip = epoch + 1, max(0, skip - n)

    def _plain_loss(self, acts: Tensor, sigmas: Tensor, eps: Tensor) -> Tensor:
        return flow_loss(self.glp, self.glp.normalize(acts), sigmas, eps)

    def _train_step(self, acts: Tensor) -> Tensor:
        config = self.config
        generator = torch.Generator(self.device).manual_seed(config.seed * 1_000_000_007 + self.step)
        eps = torch.randn(acts.shape, generator=generator, device=self.device)
        sigmas = stratified_sigmas(config.sigma_groups, generator)
        for group in self.optimizer.param_groups:
            group["lr"] = self._rate(self.step)
        with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.dtype == torch.bfloat16):
            loss = self._loss(acts.to(self.device, non_blocking=True), sigmas, eps)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.params.values(), config.clip)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.step += 1
        if config.ema and self.step % 8 == 0:
            decay = min(config.ema, (1 + self.step) / (10 + self.step)) ** 8
            torch._foreach_lerp_(list(self.average.values()), [p.detach() for p in self.params.values()], 1 - decay)
        return loss.detach()

    def _keep(self, train_loss: float, held_out: HeldOut) -> None:
        glp = self.averaged()
        checks = held_out.check(glp, self.dtype if self.dtype == torch.bfloat16 else None)
        loss = checks["text"]
        self._log(train_loss, loss)
        seen = self.step * self.config.batch
        self.folder.log_check(step=self.step, activations=seen, values=checks)
        name = "final" if self.step == self.config.steps else f"checkpoints/activations_{seen}"
        glp.network.to(self.dtype)
        before = self.start.activations_seen if self.start else 0
        about = {"llm": self.store.manifest["llm"], "layer": self.store.manifest["layer"], "activations_seen": before + seen}
        about |= {
            "distinct_activations": self.store.n_activations,
            "median_norm": self.store.median_norm,
            "validation_loss": loss,
        }
        about |= {"chat_activations": self.store.n_chat} if self.store.n_chat else {}
        about |= {"went_on_from": self.start.facts} if self.start else {}
        save_glp(glp, self.folder.path, checkpoint=name, about=about, covariance=self.statistics.get("covariance"))

    def _log(self, train_loss: float, validation: float | None) -> None:
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

    def _go_on(self) -> None:
        """Take up the run that the folder holds, or start one there; note where it was made longer or shorter."""
        mine: Json = {"train": asdict(self.config), "dtype": str(self.dtype).removeprefix("torch.")}
        mine |= {"start": self.start.facts} if self.start else {}
        kept = self.folder.configuration(mine)
        if tensors := self.folder.state():
            self._restore(tensors)
        if kept and self.step:
            if "extension" in kept:
                self.extension = Extension(**kept["extension"])
            if kept["train"] != mine["train"]:
                fallen_to = learning_rate(TrainConfig(**kept["train"]), self.extension, self.step - 1)
                self.extension = Extension(self.step, fallen_to)
        self.folder.write_configuration(mine | ({"extension": asdict(self.extension)} if self.extension else {}))
        self.folder.drop_rows_after(self.step)

    def _state(self) -> dict[str, Tensor]:
        tensors: dict[str, Tensor] = {"step": torch.tensor(self.step), "seconds": torch.tensor(self.seconds)}
        tensors["losses"] = torch.stack(self.losses) if self.losses else torch.zeros(0)
        for name, p in self.params.items():
            state = self.optimizer.state[p]
            tensors |= {f"p.{name}": p.detach(), f"a.{name}": self.average[name]}
            tensors |= {f"m.{name}": state["exp_avg"], f"v.{name}": state["exp_avg_sq"]}
        return tensors

    @torch.no_grad()
    def _restore(self, tensors: dict[str, Tensor]) -> None:
        self.step, self.seconds = int(tensors["step"]), float(tensors["seconds"])
        self.losses = list(tensors.get("losses", torch.zeros(0)))
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
