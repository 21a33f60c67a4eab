"""Train a GLP on an activation store: flow matching, AdamW, warm-up, plateau and decay, EMA, logs, checkpoints, exact resume.

Noise levels are stratified over the batch and shared by groups of rows, so that the time conditioning, a quarter of the
network's arithmetic, is computed once a group and every batch covers [0, 1] evenly.
"""

import csv
import math
import time
from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor

from glp_core.activations import ActivationStore
from glp_core.checkpoint import save_glp
from glp_core.errors import GlpError
from glp_core.files import Progress, quiet, read_json, replacing, write_json, write_tensors
from glp_core.flow import add_noise
from glp_core.model import GLP, DenoiserConfig

COLUMNS = ("step", "activations", "flops", "train_loss", "validation_loss", "learning_rate", "seconds")


@dataclass(frozen=True)
class TrainConfig:
    """How a GLP is trained."""

    d_model: int = 1152
    """Width; the paper uses twice the activation's."""
    d_mlp: int = 2304
    """Hidden units a block; the paper uses twice d_model."""
    n_layers: int = 3
    """Blocks."""
    activations: int = 10_000_000
    """Activations to see; the store is repeated when it holds fewer."""
    batch: int = 1024
    """Activations a step."""
    sigma_groups: int = 128
    """Distinct noise levels a batch."""
    learning_rate: float = 2e-3
    """Peak of the schedule."""
    final_factor: float = 0.01
    """Learning rate at the end, as a share of the peak."""
    warmup: int = 150_000
    """Activations over which the rate rises."""
    decay: float = 0.35
    """Share of the run, at its end, in which the rate falls in a cosine; before it a run may be made longer or shorter."""
    beta2: float = 0.99
    """AdamW's memory of squared gradients."""
    weight_decay: float = 0.0
    """AdamW's decay."""
    clip: float = 1.0
    """Largest gradient norm."""
    ema: float = 0.998
    """Decay a step of the averaged weights that are evaluated and saved; 0 keeps the raw ones."""
    seed: int = 0
    """Of weights, noise and order."""
    first_checkpoint: int = 32
    """Steps to the first kept checkpoint; the others follow at its doublings, and the end."""
    log_every: int = 50
    """Steps between rows of train.csv."""
    validation: int = 16_384
    """Held-out activations of the validation loss."""

    def __post_init__(self) -> None:
        if self.batch % self.sigma_groups:
            raise GlpError(f"batch {self.batch} is no multiple of sigma_groups {self.sigma_groups}.")
        if self.activations < self.batch:
            raise GlpError(f"activations {self.activations} is less than one batch ({self.batch}).")

    @property
    def steps(self) -> int:
        return self.activations // self.batch

    def rate(self, step: int) -> float:
        """Return the learning rate of a step: linear warm-up, plateau, then a cosine to final_factor."""
        rising = min(self.warmup, self.activations / 10) / self.batch
        if step < rising:
            return self.learning_rate * (step + 1) / (rising + 1)
        falling = self.steps * self.decay
        share = max(0.0, (step + falling - self.steps) / max(1.0, falling))
        return self.learning_rate * (self.final_factor + (1 - self.final_factor) * 0.5 * (1 + math.cos(math.pi * share)))

    def keeps(self, step: int) -> bool:
        """Say whether the checkpoint after `step` steps is kept."""
        doublings, rest = divmod(step, self.first_checkpoint)
        return step == self.steps or (rest == 0 and doublings.bit_count() == 1)


def stratified_sigmas(groups: int, generator: torch.Generator) -> Tensor:
    """Return one uniform noise level in each of `groups` equal parts of [0, 1], in random order."""
    levels = (torch.arange(groups) + torch.rand(groups, generator=generator)) / groups
    return levels[torch.randperm(groups, generator=generator)]


def flow_loss(glp: GLP, z: Tensor, sigmas: Tensor, eps: Tensor) -> Tensor:
    """Return the mean squared velocity error; row i of z (n, d) has noise level sigmas[i // (n / groups)] (paper, training)."""
    noisy = add_noise(z, eps, sigmas.repeat_interleave(len(z) // len(sigmas)))
    return (glp.network(noisy, glp.network.embed(sigmas)).float() - (eps - z)).square().mean()


@torch.no_grad()
def validation_loss(glp: GLP, acts: Tensor, *, seed: int = 0, batch: int = 2048, dtype: torch.dtype | None = None) -> float:
    """Return the flow-matching loss on held-out activations (n, d): one stratified noise level and one draw each, seeded."""
    generator = torch.Generator().manual_seed(seed)
    total = 0.0
    with torch.autocast("cpu", dtype=dtype or torch.bfloat16, enabled=dtype is not None):
        for part in acts.split(batch):
            z = glp.normalize(part)
            eps = torch.randn(z.shape, generator=generator)
            total += float(flow_loss(glp, z, stratified_sigmas(len(z), generator), eps)) * len(z)
    return total / len(acts)


def flops_per_activation(glp: GLP) -> int:
    """Return 6 N, the paper's count of a training step's arithmetic for one activation."""
    return 6 * sum(p.numel() for p in glp.network.parameters())


class Trainer:
    """One training run in a folder; call `run`, kill it, make it again and call `run`: it goes on where it was."""

    def __init__(
        self, config: TrainConfig, store: ActivationStore, folder: Path, *, dtype: torch.dtype = torch.bfloat16
    ) -> None:
        self.config, self.store, self.folder, self.dtype = config, store, folder, dtype
        self.statistics = store.statistics()
        torch_state = torch.random.get_rng_state()
        torch.manual_seed(config.seed)
        shape = DenoiserConfig(len(self.statistics["mean"]), config.d_model, config.d_mlp, config.n_layers)
        self.glp = GLP(shape, self.statistics["mean"], self.statistics["var"])
        torch.random.set_rng_state(torch_state)
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
        self._check_folder()
        if self._state_path.is_file():
            self._load_state()
        self._drop_later_rows()

    @property
    def _state_path(self) -> Path:
        return self.folder / "state.safetensors"

    def run(self, *, progress: Progress = quiet, stop: Callable[[], bool] = lambda: False, save_every: float = 240.0) -> GLP:
        """Train to the end (or until `stop` says so, state saved) and return the averaged model."""
        held_out = self.store.validation(self.config.validation)
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
                self._save_state()
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

    def averaged(self) -> GLP:
        """Return a copy of the model with the averaged weights, for inference."""
        glp = deepcopy(self.glp)
        glp.network.load_state_dict(self.average if self.config.ema else self.params)
        return glp

    def _batches(self) -> Iterator[Tensor]:
        per_epoch = sum(1 for _ in self._batch_sizes())
        if per_epoch == 0:
            raise GlpError(f"The store holds fewer activations than one batch of {self.config.batch}: collect more.")
        while True:
            epoch, skip = divmod(self.step, per_epoch)
            yield from self.store.batches(self.config.batch, epoch=epoch, skip=skip, window=len(self.store.shards))

    def _batch_sizes(self) -> range:
        return range(self.store.n_activations // self.config.batch)

    def _train_step(self, acts: Tensor) -> Tensor:
        config = self.config
        generator = torch.Generator().manual_seed(config.seed * 1_000_000_007 + self.step)
        z = self.glp.normalize(acts)
        eps = torch.randn(z.shape, generator=generator)
        for group in self.optimizer.param_groups:
            group["lr"] = config.rate(self.step)
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=self.dtype == torch.bfloat16):
            loss = flow_loss(self.glp, z, stratified_sigmas(config.sigma_groups, generator), eps)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.params.values(), config.clip)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.step += 1
        if config.ema and self.step % 8 == 0:
            decay = min(config.ema, (1 + self.step) / (10 + self.step)) ** 8
            torch._foreach_lerp_(list(self.average.values()), [p.detach() for p in self.params.values()], 1 - decay)
        return loss.detach()

    def _keep(self, train_loss: float, held_out: Tensor) -> None:
        glp = self.averaged()
        loss = validation_loss(glp, held_out, dtype=self.dtype if self.dtype == torch.bfloat16 else None)
        self._log(train_loss, loss)
        seen = self.step * self.config.batch
        name = "final" if self.step == self.config.steps else f"checkpoints/activations_{seen}"
        glp.network.to(self.dtype)
        about = {"llm": self.store.manifest["llm"], "layer": self.store.manifest["layer"], "activations_seen": seen}
        about |= {
            "distinct_activations": self.store.n_activations,
            "median_norm": self.store.median_norm,
            "validation_loss": loss,
        }
        save_glp(glp, self.folder, checkpoint=name, about=about, covariance=self.statistics["covariance"])

    def _log(self, train_loss: float, validation: float | None) -> None:
        path = self.folder / "train.csv"
        new = not path.is_file() or path.stat().st_size == 0
        seen = self.step * self.config.batch
        rate = self.config.rate(self.step - 1)
        valid = "" if validation is None else f"{validation:.5f}"
        row = [
            self.step,
            seen,
            seen * flops_per_activation(self.glp),
            f"{train_loss:.5f}",
            valid,
            f"{rate:.3e}",
            f"{self.seconds:.1f}",
        ]
        with path.open("a", newline="") as file:
            writer = csv.writer(file)
            if new:
                writer.writerow(COLUMNS)
            writer.writerow(row)

    def _check_folder(self) -> None:
        """Write the run's configuration; a run that goes on may only change how many activations it is to see."""
        path = self.folder / "run.json"
        mine = {"train": asdict(self.config), "dtype": str(self.dtype).removeprefix("torch.")}
        if path.is_file():
            kept = read_json(path)
            same = kept | {"train": kept["train"] | {"activations": self.config.activations}}
            if same != mine:
                raise GlpError(
                    f"{self.folder} holds a run with another configuration. Choose another --run, or remove that folder."
                )
        write_json(path, mine)

    def _save_state(self) -> None:
        tensors: dict[str, Tensor] = {"step": torch.tensor(self.step), "seconds": torch.tensor(self.seconds)}
        tensors["losses"] = torch.stack(self.losses) if self.losses else torch.zeros(0)
        for name, p in self.params.items():
            state = self.optimizer.state[p]
            tensors |= {f"p.{name}": p.detach(), f"a.{name}": self.average[name]}
            tensors |= {f"m.{name}": state["exp_avg"], f"v.{name}": state["exp_avg_sq"]}
        write_tensors(self._state_path, tensors)

    @torch.no_grad()
    def _load_state(self) -> None:
        tensors = load_file(self._state_path)
        self.step, self.seconds = int(tensors["step"]), float(tensors["seconds"])
        self.losses = list(tensors.get("losses", torch.zeros(0)))
        for name, p in self.params.items():
            p.copy_(tensors[f"p.{name}"])
            self.average[name].copy_(tensors[f"a.{name}"])
            self.optimizer.state[p] = {
                "step": torch.tensor(float(self.step)),
                "exp_avg": tensors[f"m.{name}"],
                "exp_avg_sq": tensors[f"v.{name}"],
            }
        if self.step > self.config.steps:
            raise GlpError(
                f"{self.folder} has trained {self.step:,} steps already, more than the {self.config.steps:,} asked for."
            )

    def _drop_later_rows(self) -> None:
        """Leave out rows of train.csv that were written after the state was saved, or only in part; they are made again."""
        path = self.folder / "train.csv"
        if not path.is_file():
            return
        whole = [line for line in path.read_text().splitlines(keepends=True) if line.endswith("\n")]
        rows = [row for row in whole[1:] if row.count(",") == len(COLUMNS) - 1 and int(row.split(",", 1)[0]) <= self.step]
        with replacing(path) as scratch:
            scratch.write_text("".join(whole[:1] + rows))
