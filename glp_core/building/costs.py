"""What a build's stages take, in seconds and bytes: from a measurement of a few seconds on this machine, and from their sizes.

Coarse: within a factor of two on an idle machine.
"""

import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor

from glp_core.building.sizes import Sizes
from glp_core.building.stages import Stage, direction_names, narrower_priors, prior_width
from glp_core.building.subject import Subject
from glp_core.data.conversations import ANSWER_TOKENS
from glp_core.errors import GlpError
from glp_core.files import Json
from glp_core.llm.decoding import Context
from glp_core.llm.model import Llm
from glp_core.llm.sources import cache_folder
from glp_core.memory import gigabytes
from glp_core.prior.checkpoint import glp_folder
from glp_core.prior.network import DenoiserConfig, Network
from glp_core.steering.trials import tuning

TOKENS = 55
"""Of a text of the corpus, in the mean."""
HELD_OUT = 2000 * TOKENS
ANSWERED = 0.6
"""Tokens that are written for an activation of a conversation."""
ROWS, LENGTH, STEPS = 16, 48, 6
"""Of the short measurement."""
BYTES_SPARE = 500_000_000
"""That are left free on a disk."""
IN_CACHE = ("collect", "prior", "scaling", "sae", "probing")
"""Stages that write most into the cache folder, not into the workspace."""


@dataclass(frozen=True)
class Rates:
    """Seconds for one of each on this machine."""

    read: float
    """Token read by the LLM up to the layer."""
    written: float
    """Token written, in a batch of texts, and read back."""
    called: float
    """Activation in one call of the prior."""
    trained: float
    """Activation that the prior is trained on."""

    def to_json(self) -> Json:
        """Return the rates as plain numbers."""
        return asdict(self)


def measure(llm: Llm, subject: Subject, sizes: Sizes) -> Rates:
    """Measure this machine with the LLM, and with a prior of random weights of the planned shape; takes some seconds."""
    device, dtype = llm.device, llm.dtype
    rows = torch.randint(0, 200, (ROWS, LENGTH), generator=torch.Generator().manual_seed(0)).tolist()
    read = _seconds(lambda: llm.activations(rows, subject.workspace.layer), device) / (ROWS * LENGTH)
    written = _seconds(lambda: _write(llm, rows), device) / (ROWS * STEPS)
    width = prior_width(subject, sizes)
    network = Network(DenoiserConfig(subject.width, width, 2 * width, sizes.blocks)).to(device, dtype)
    z, sigma = torch.randn(512, subject.width, device=device, dtype=dtype), torch.rand(512, device=device, dtype=dtype)

    def call() -> Tensor:
        return network(z, network.embed(sigma))

    with torch.no_grad():
        called = _seconds(call, device) / len(z)
    trained = _seconds(lambda: call().float().square().mean().backward(), device) / len(z)
    return Rates(read, written, called, trained)


@torch.inference_mode()
def _write(llm: Llm, rows: Sequence[list[int]]) -> None:
    context = Context(llm, rows, room=STEPS)
    for _ in range(STEPS):
        context.feed(torch.ones(len(rows), 1, dtype=torch.long, device=llm.device), keep=1)


def _seconds(work: Callable[[], object], device: torch.device) -> float:
    """Return how long work takes the second time."""
    taken = 0.0
    for _ in range(2):
        start = time.monotonic()
        work()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        elif device.type == "mps":
            torch.mps.synchronize()
        taken = time.monotonic() - start
    return taken


@dataclass(frozen=True)
class Work:
    """What a stage does, in the units of the rates, and seconds that no model takes."""

    read: float = 0
    written: float = 0
    called: float = 0
    trained: float = 0
    fixed: float = 5
    """The start of a command, with its model."""


def seconds(stage: Stage, subject: Subject, sizes: Sizes, rates: Rates) -> float:
    """Return about how long a stage takes."""
    work = _work(subject, sizes).get(stage.name, Work())
    spent = work.read * rates.read + work.written * rates.written + work.called * rates.called + work.trained * rates.trained
    return work.fixed + spent


def _work(subject: Subject, sizes: Sizes) -> dict[str, Work]:
    """Return about what each stage does."""
    names = direction_names(subject, sizes)
    ways = 3  # of steering that are written side by side, walks of some sixteen calls among them
    strengths = len(sizes.strengths) or 12
    advice = sizes.advice * sizes.written * len(names) * (2 * strengths + 4)
    steered = sizes.steered * sizes.written * len(names) * (5 * (len(sizes.steering_strengths) or 11) + 5)
    zones = sizes.written * (200 + sizes.zones * len(names) // 2 * 10)
    delta = 12 * sizes.documents * sizes.tokens
    rows = 113 * sum(sizes.rows) * TOKENS * 0.8
    narrow = sum(1 / n**2 for n in narrower_priors(subject, sizes))
    forms = len(tuning.names()) * len(tuning.STRENGTHS)
    return {
        "collect": Work(read=sizes.activations + HELD_OUT, written=ANSWERED * sizes.chat * subject.chat * sizes.activations),
        "prior": Work(trained=0 if subject.glp else sizes.trained),
        "evaluate": Work(
            read=3 * delta,
            called=10 * delta + 2 * sizes.held_out + 40 * sizes.samples,
            written=ANSWER_TOKENS * sizes.documents * subject.chat,
        ),
        "directions": Work(read=TOKENS * (1_300 + 560 * len(names)), fixed=10),
        "index": Work(called=sizes.activations, fixed=40),
        "bank": Work(called=400 * sizes.reference, fixed=40),
        "tuning": Work(
            written=sizes.tuned * sizes.written * len(names) * forms, called=sizes.tuned * 24 * len(names) * forms * 14
        ),
        "strengths": Work(written=advice, called=8 * advice, fixed=10),
        "sae": Work(fixed=10 + 8 * sizes.sae_activations * sizes.sae_expansion * subject.width**2 / 1e11),
        "probing": Work(read=rows, called=4 * rows / TOKENS, fixed=40),
        "map": Work(fixed=60),
        "detection": Work(called=sizes.detected * 12 * (400 + 2_000 * bool(sizes.likelihood)), fixed=10),
        "zones": Work(written=zones, called=5 * zones, fixed=10),
        "steering": Work(written=steered, called=ways * 8 * steered, fixed=10),
        "scorecard": Work(read=5 * delta, called=20 * delta + 40 * sizes.samples, fixed=20),
        "solvers": Work(called=40_000 * sizes.solver_rows, fixed=10),
        "scaling": Work(trained=sizes.trained * narrow, called=240 * sizes.score_samples, fixed=20),
    }


def disk(stage: Stage, subject: Subject, sizes: Sizes) -> int:
    """Return about how many bytes a stage adds on disk."""
    width = prior_width(subject, sizes)
    parameters = sizes.blocks * 8 * width**2 + 2 * width * subject.width + 2 * width**2
    neurons = sizes.blocks * 2 * width
    number = subject.workspace.torch_dtype.itemsize
    needed = {
        "collect": number * subject.width * (sizes.activations + HELD_OUT),
        # the run's state, checkpoints at doublings, and the prior
        "prior": _size(subject.glp) if subject.glp else parameters * (4 * 5 + 4 * 12),
        "scaling": sum(parameters // n**2 for n in narrower_priors(subject, sizes)) * 4 * 16,
        "sae": 4 * 4 * 2 * sizes.sae_expansion * subject.width**2,
        "probing": 113 * sum(sizes.rows) * number * 5 * subject.width + 500 * neurons,
        "index": 8_000 * neurons + 20_000_000,
        "bank": number * subject.width * sizes.bank,
    }
    return needed.get(stage.name, 1_000_000)


def _size(glp: str) -> int:
    """Return the bytes of a GLP's final weights."""
    return (glp_folder(glp) / "final.safetensors").stat().st_size


def check_disk(disk: Mapping[str, int], folder: Path, *, installed: bool = False) -> None:
    """Raise GlpError when the disk of the workspace, or that of the cache folder, has less to spare than stages add there, in bytes.

    Args:
        installed: the prior is copied into the workspace, not trained in the cache folder.
    """
    cached = sum(size for name, size in disk.items() if name in IN_CACHE and not (installed and name == "prior"))
    needed: dict[int, int] = {}
    for place, size in ((folder, sum(disk.values()) - cached), (cache_folder(), cached)):
        if not size:
            continue
        there = next(path for path in (place.resolve(), *place.resolve().parents) if path.exists())
        device, free = there.stat().st_dev, shutil.disk_usage(there).free
        needed[device] = needed.get(device, 0) + size
        if free < needed[device] + BYTES_SPARE:
            raise GlpError(
                f"{gigabytes(needed[device])} are needed in {place}, with {gigabytes(BYTES_SPARE)} to spare; {gigabytes(free)} are free. "
                "Free some space, or choose another place: --workspace for the workspace, $GLP_EXPLORER_CACHE for the activations."
            )
