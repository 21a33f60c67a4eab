"""The two longer measurements: a three-column run against one plain generate, and training's share of the machine's GEMM rate."""

import tempfile
from contextlib import contextmanager
from pathlib import Path

import torch

from glp_core.files import write_json, write_tensors
from glp_core.speed.packed import StepLinear
from glp_core.steering.generation import Arm, Sampling, generate
from glp_core.training.plan import TrainConfig
from glp_core.training.trainer import Trainer, flops_per_activation
from tests.bench.timing import interleaved

TOKENS = 64


def compare_vs_generate(site, projected, repeats=3):
    """Return how many plain 64-token generates (transformers' and torch's own, same model and dtype) a three-column run takes.

    By the third column's name in `projected`, and the median seconds of each run; the second column is pushed as the third, unprojected.
    """
    llm = site.llm
    ids = llm.encode("The weather this week has been")

    llm.stop_ids = frozenset()  # every arm writes all its tokens, as the plain run does with min_new_tokens

    def three_columns(arm):
        arms = [Arm("unsteered"), Arm("steered", arm.vector, arm.strength), arm]
        steps = sum(1 for _ in generate(site, ids, arms, Sampling(max_tokens=TOKENS)))
        assert steps == TOKENS * len(arms), f"an arm stopped early: {steps} tokens"

    def plain():
        with torch.inference_mode(), torchs_own_products(llm.model):
            llm.model.generate(
                torch.tensor([ids]), max_new_tokens=TOKENS, min_new_tokens=TOKENS, do_sample=False, pad_token_id=llm.first_id
            )

    runs = {name: lambda arm=arm: three_columns(arm) for name, arm in projected.items()}
    seconds = interleaved(runs | {"plain": plain}, repeats)
    return {name: round(seconds[name] / seconds["plain"], 2) for name in runs}, {
        name: round(value, 2) for name, value in seconds.items()
    }


@contextmanager
def torchs_own_products(model):
    """Leave the second layouts of a model's weights unused."""
    steps = {id(module.step): module.step for module in model.modules() if isinstance(module, StepLinear)}.values()
    layouts = [(step, step.halves, step.packed) for step in steps]
    for step in steps:
        step.halves = step.packed = None
    try:
        yield
    finally:
        for step, halves, packed in layouts:
            step.halves, step.packed = halves, packed


def train_fraction_of_gemm(glp, dtype, steps=12):
    """Return a training step's rate as a share of the GEMM rate: counted as 6 N D (the paper's), and as arithmetic done.

    Embedding the noise level once a group saves arithmetic that 6 N D counts.
    """
    config = TrainConfig(d_model=glp.config.d_model, d_mlp=glp.config.d_mlp, n_layers=glp.n_layers, activations=10_000_000)
    with tempfile.TemporaryDirectory() as folder:
        trainer = Trainer(config, random_store(Path(folder) / "store", glp.d_input), Path(folder) / "run", dtype=dtype)
        acts = torch.randn(config.batch, glp.d_input).bfloat16()
        a, b = torch.randn(2048, 2048).to(dtype), torch.randn(2048, 2048).to(dtype)
        seconds = interleaved({"step": lambda: trainer._train_step(acts), "gemm": lambda: a @ b}, steps)
    rate = 2 * 2048**3 / seconds["gemm"]
    counted = flops_per_activation(glp) * config.batch
    conditioning = 6 * sum(p.numel() for name, p in glp.network.named_parameters() if "time_" in name)
    done = counted - conditioning * (config.batch - config.sigma_groups)
    return {
        "counted": round(counted / seconds["step"] / rate, 3),
        "done": round(done / seconds["step"] / rate, 3),
        "step_seconds": round(seconds["step"], 4),
        "gemm_gflops": round(rate / 1e9),
    }


def random_store(folder, width):
    """Write the smallest store that a Trainer starts from."""
    from glp_core.data.store import ActivationStore

    acts = torch.randn(2048, width)
    write_tensors(folder / "train-00000.safetensors", {"acts": acts.bfloat16()})
    write_tensors(folder / "validation.safetensors", {"acts": acts.bfloat16()})
    write_tensors(
        folder / "statistics.safetensors", {"mean": acts.mean(0), "var": acts.var(0), "covariance": acts.T.cov().contiguous()}
    )
    shard = {"file": "train-00000.safetensors", "activations": len(acts)}
    write_json(folder / "manifest.json", {"llm": "random", "layer": 0, "median_norm": 1.0, "shards": [shard]})
    return ActivationStore(folder)
