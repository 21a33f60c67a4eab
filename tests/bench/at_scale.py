"""Rates of collecting and training on a device, by the product's own functions: what `tests.bench.accelerator` sets against targets."""

import tempfile
import time
from dataclasses import asdict
from pathlib import Path

import torch

from glp_core.data.collecting import collect
from glp_core.prior.checkpoint import read_config, read_statistics
from glp_core.training.held_out import HeldOut
from glp_core.training.plan import TrainConfig
from glp_core.training.trainer import Trainer, flops_per_activation

BATCH, STEPS = 16_384, 600
RESIDENT = 1_000_000
"""Activations that batches are drawn from."""
COLLECTED = 4_000_000
MEMORY = Path("/dev/shm")
"""A folder in main memory, where there is one: the rate is the device's, not the disk's."""


class RandomSupply:
    """Activations with a prior's own mean and variance, on the device, given in random order as a resident store gives them."""

    settings: dict = {}
    resident = None

    def __init__(self, glp, n, dtype, device):
        self.mean, self.var = (read_statistics(glp)[name].float() for name in ("mean", "var"))
        self.width = len(self.mean)
        noise = torch.randn(n, self.width, dtype=dtype, device=device)
        self.acts = noise * self.var.sqrt().to(device, dtype) + self.mean.to(device, dtype)

    def facts(self):
        return {"llm": "none", "layer": 0, "median_norm": 1.0, "distinct_activations": len(self.acts)}

    def statistics(self):
        return {"mean": self.mean, "var": self.var}

    def held_out(self, n, device):
        return HeldOut({"text": self.acts[:n]})

    def batches(self, size, step, seed, ranks):
        while True:
            order = torch.randperm(len(self.acts), device=self.acts.device)
            yield from (self.acts[places] for places in order.split(size) if len(places) == size)

    def state(self):
        return {}

    def restore(self, tensors):
        pass

    def settle(self, kept, ranks):
        pass


def train_row(bench, *, batch=BATCH, steps=STEPS, resident=RESIDENT):
    """Return the rate of training a GLP of the workspace's shape, compilation left out."""
    shape = asdict(read_config(bench.workspace.folder / "glp"))
    sizes = {name: shape[name] for name in ("d_model", "d_mlp", "n_layers")}
    every = max(1, steps // 6)
    config = TrainConfig(
        **sizes, activations=steps * batch, batch=batch, first_checkpoint=steps, log_every=every, validation=min(batch, 4096)
    )
    supply = RandomSupply(bench.workspace.folder / "glp", resident, bench.workspace.torch_dtype, bench.device)
    with tempfile.TemporaryDirectory(prefix="glp-bench-") as folder:
        trainer = Trainer(config, supply, Path(folder), dtype=bench.workspace.torch_dtype, device=bench.device)
        times = []
        trainer.run(progress=lambda step, _of, _words: times.append((step, time.perf_counter())))
    (first, begun), *_, (last, ended) = times  # the steps before the first compile
    rate = batch * (last - first) / (ended - begun)
    flops = flops_per_activation(trainer.glp)
    return {"activations_per_second": round(rate), "tflops": round(rate * flops / 1e12, 1), "parameters": flops // 6}


def collect_row(bench, *, n=COLLECTED):
    """Return the rate of collecting the workspace's layer into a store in memory, its statistics included."""
    llm, layer = bench.workspace.load_llm(), bench.workspace.layer
    train, held_out = bench.workspace.documents("train"), bench.workspace.documents("validation")[:64]
    where = MEMORY if MEMORY.is_dir() else None
    with tempfile.TemporaryDirectory(prefix="glp-bench-", dir=where) as folder:
        begun = collect(llm, layer, train, held_out, Path(folder), n_activations=max(1, n // 20)).n_activations
        bench.wait()
        start = time.perf_counter()
        there = collect(llm, layer, train, held_out, Path(folder), n_activations=n).n_activations
        seconds = time.perf_counter() - start
    return {"tokens_per_second": round((there - begun) / seconds), "activations": there - begun}
