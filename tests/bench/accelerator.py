"""`python -m tests.bench.accelerator`: what an accelerator does against its targets; writes reports/accelerator.json.

Every row stands by itself: one that fails says why, one that cannot be measured here says "not measured", and no row starts once the
time is up. On a CPU nothing is measured, and the table at the end says so. Weights of large models are random: only their shapes
matter for time.
"""

import argparse
import json
import statistics
import sys
import time
from dataclasses import dataclass

import torch
from torch import nn

from glp_core.devices import choose_device, device_title, native_dtype
from glp_core.llm.model import Llm
from glp_core.llm.site import Site
from glp_core.prior.glp import GLP
from glp_core.prior.network import DenoiserConfig
from glp_core.prior.projection import make_projector
from glp_core.prior.walk import WalkRule, WalkSettings
from glp_core.steering.generation import Arm, Sampling, generate
from glp_core.workspace import DEMO, Workspace
from tests.bench.at_scale import collect_row, train_row
from tests.bench.targets import table, targets_of

SECONDS = 200
NOISE_LEVEL, STEPS = 0.5, 20
"""Of the released schedule: 10 network calls."""
LARGE = {"hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32, "num_attention_heads": 32}
LARGE |= {"num_key_value_heads": 8, "vocab_size": 128_256, "max_position_embeddings": 8192}
"""Shape of an 8 B Llama."""
LARGE_PRIOR = DenoiserConfig(4096, 8192, 16384, 6)
"""Shape of its released prior, 3.4 B."""
LARGE_NEEDS = 40e9
"""Bytes free for both."""


@dataclass
class Bench:
    """What all rows share."""

    device: torch.device
    workspace: Workspace

    def milliseconds(self, function, repeats: int = 30, warmup: int = 4) -> float:
        """Return the median time of a function, the device's work included."""
        for _ in range(warmup):
            function()
        times = []
        for _ in range(repeats):
            self.wait()
            start = time.perf_counter()
            function()
            self.wait()
            times.append(1000 * (time.perf_counter() - start))
        return statistics.median(times)

    def wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        elif self.device.type == "mps":
            torch.mps.synchronize()


def projection_rows(bench: Bench, batch: int) -> dict:
    """Return a projection's time and how much faster than the plain network it is, 10 calls, demo shape."""
    glp = bench.workspace.load_glp()
    acts = glp.denormalize(torch.randn(batch, glp.d_input, device=bench.device))
    noise = torch.randn(batch, glp.d_input, device=bench.device)
    ours = bench.milliseconds(lambda: glp.project(acts, NOISE_LEVEL, STEPS, noise=noise))
    glp._fast = glp._replays = None
    plain = bench.milliseconds(lambda: glp.project(acts, NOISE_LEVEL, STEPS, noise=noise), repeats=15)
    return {"ms": round(ours, 3), "plain_ms": round(plain, 3), "times_faster": round(plain / ours, 2)}


def walk_row(bench: Bench) -> dict:
    """Return the time of the default walk of four rows: 16 parts, no bound; that of the pages is in a step of three columns."""
    glp = bench.workspace.load_glp()
    projector = make_projector("walk", glp=glp)
    clean = glp.denormalize(torch.randn(4, glp.d_input, device=bench.device))
    noise = torch.randn(projector.draws, 4, glp.d_input, device=bench.device)
    ours = bench.milliseconds(lambda: projector(clean * 2, clean, noise=noise))
    return {"ms": round(ours, 3), "calls": projector.settings.pushes, "failures": glp._replays.failures if glp._replays else []}


def columns_row(bench: Bench, site: Site, glp: GLP, walk: WalkRule | WalkSettings | None = None, tokens: int = 48) -> dict:
    """Return the time of a step of three columns: unsteered, raw, walk; and of the plain model's own step."""
    direction = nn.functional.normalize(torch.randn(glp.d_input, generator=torch.Generator().manual_seed(0)), dim=0)
    arms = [
        Arm("unsteered"),
        Arm("raw", direction, 1.0),
        Arm("walk", direction, 1.0, make_projector("walk", glp=glp, walk=walk)),
    ]
    site.llm.stop_ids = frozenset()
    ids = [1, *range(100, 116)]

    def steps(columns) -> list[float]:
        by_step = {}
        for step in generate(site, ids, columns, Sampling(tokens)):
            by_step[step.step] = 1000 * step.seconds
        return list(by_step.values())

    steps(arms)  # recordings are made
    found = {
        name: round(statistics.median(steps(columns)[8:]), 3) for name, columns in {"ms": arms, "one_ms": arms[:1]}.items()
    }
    return found | {"failures": site.llm.fixed_steps.failures}


def demo_columns(bench: Bench) -> dict:
    """Measure three columns of the demo."""
    workspace = bench.workspace
    return columns_row(bench, workspace.site(workspace.load_llm()), workspace.load_glp(), workspace.walk())


def large_columns(bench: Bench) -> dict:
    """Measure three columns of a random 8 B model with a prior of its released shape, against the time to read its weights."""
    if bench.device.type != "cuda" or torch.cuda.mem_get_info(bench.device)[0] < LARGE_NEEDS:
        return {"not_measured": f"needs a CUDA device with {LARGE_NEEDS / 1e9:.0f} GB free"}
    site, glp = large_site(bench), large_prior(bench)
    rate = bandwidth(bench)
    read = 1000 * weights_bytes(site.llm.model) / rate
    calls = make_projector("walk", glp=glp).settings.pushes
    walk = read + 1000 * calls * sum(p.numel() * p.element_size() for p in glp.network.parameters()) / rate
    found = columns_row(bench, site, glp, tokens=24)
    found |= {"read_ms": round(read, 3), "times_read": round(found["ms"] / read, 2)}
    return found | {"read_with_walk_ms": round(walk, 3), "times_read_with_walk": round(found["ms"] / walk, 2)}


def large_site(bench: Bench) -> Site:
    """Return a random Llama of 8 B, made on the device."""
    from transformers import AutoModelForCausalLM, LlamaConfig

    torch.set_default_dtype(torch.bfloat16)
    try:
        with torch.device(bench.device):
            model = AutoModelForCausalLM.from_config(LlamaConfig(**LARGE), attn_implementation="sdpa", dtype=torch.bfloat16)
    finally:
        torch.set_default_dtype(torch.float32)
    small_weights(model)
    tokenizer = bench.workspace.load_llm().tokenizer
    return Site(Llm(model.to(bench.device), tokenizer, "random 8 B"), 15, 10.0)


def large_prior(bench: Bench) -> GLP:
    """Return a random prior of the released shape for 8 B, made on the device."""
    torch.set_default_dtype(torch.bfloat16)
    try:
        with torch.device(bench.device):
            glp = GLP(LARGE_PRIOR, torch.zeros(4096), torch.ones(4096))
    finally:
        torch.set_default_dtype(torch.float32)
    small_weights(glp.network)
    glp.normalizer.float()
    return glp.prepare()


def small_weights(model: nn.Module) -> None:
    """Fill weights with small numbers: random enough for timing, and finite whatever is multiplied."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.01) if parameter.ndim > 1 else parameter.fill_(1.0)


def weights_bytes(model: nn.Module) -> int:
    """Return the bytes that a step reads: every parameter but the embedding, of which it takes a row."""
    embedding = model.get_input_embeddings().weight
    tied = model.get_output_embeddings().weight is embedding
    return sum(p.numel() * p.element_size() for p in model.parameters() if tied or p is not embedding)


def bandwidth(bench: Bench) -> float:
    """Return the device's measured rate of reading memory, bytes a second."""
    block = torch.empty(4 << 30, dtype=torch.uint8, device=bench.device).view(torch.int64)
    return block.numel() * 8 / (bench.milliseconds(lambda: block.sum(), repeats=7) / 1000)


ROWS = {
    "project_1": (lambda bench: projection_rows(bench, 1), "10 calls at batch 1"),
    "project_1024": (lambda bench: projection_rows(bench, 1024), "10 calls at batch 1,024"),
    "walk_4": (walk_row, "the default walk, 16 parts without a bound, of four rows"),
    "three_columns": (demo_columns, "a step of three columns, demo"),
    "three_columns_8b": (large_columns, "a step of three columns, random 8 B"),
    "train": (train_row, "training, batch 16,384"),
    "collect": (collect_row, "collecting the demo's layer"),
}
"""Name to how it is measured, and what it is; `targets` says what is wanted of it."""


def measured(bench: Bench, name: str, end: float) -> dict:
    """Return one row, whatever happens."""
    measure, words = ROWS[name]
    wanted = targets_of(name, device_title(bench.device))
    row = {"what": words, "targets": {one.key: one.wanted for one in wanted}}
    if time.monotonic() > end:
        return row | {"not_measured": "the time was up"}
    start = time.monotonic()
    try:
        found = measure(bench)
    except Exception as error:  # a row that fails is reported, and the others are measured
        found = {"failed": f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"[:300]}
    met = {one.key: one.met(found[one.key]) for one in wanted if one.key in found}
    if bench.device.type == "cuda":
        torch.cuda.empty_cache()
    return row | found | {"met": met, "took_seconds": round(time.monotonic() - start, 1)}


def main(argv=None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workspace", default=DEMO)
    parser.add_argument("--device", default=None)
    parser.add_argument("--seconds", type=float, default=SECONDS, help="no row starts later (default: %(default)s)")
    parser.add_argument("--only", nargs="+", choices=ROWS, default=list(ROWS))
    args = parser.parse_args(argv)
    device = choose_device(args.device)
    workspace = Workspace.open(args.workspace, str(device))
    if device.type == "cpu" and (workspace.report("accelerator") or {}).get("rows"):
        sys.stdout.write("No accelerator here: the report of another machine stays.\n")
        report = None
    elif device.type == "cpu":
        report = {"not_measured": "no accelerator here", "rows": {}}
    else:
        bench, end = Bench(device, workspace), time.monotonic() + args.seconds
        report = {"rows": {}}
        for name in args.only:
            report["rows"][name] = measured(bench, name, end)
            sys.stdout.write(json.dumps({name: report["rows"][name]}) + "\n")
            sys.stdout.flush()
            save(workspace, report, device)
    if report is not None:
        save(workspace, report, device)
    sys.stdout.write(table(workspace.report("accelerator")) + "\n")
    return 0


def save(workspace: Workspace, report: dict, device: torch.device) -> None:
    """Write the report so far."""
    about = {
        "device": device_title(device),
        "dtype": str(native_dtype(device)).removeprefix("torch."),
        "torch": torch.__version__,
    }
    workspace.save_report("accelerator", about | report)


if __name__ == "__main__":
    sys.exit(main())
