"""How large everything is that a build makes: few samples, to look around soon, or about the demo's."""

from dataclasses import dataclass, replace

from glp_core.data.store import TOKENS_PER_DOCUMENT
from glp_core.training.plan import TrainConfig


@dataclass(frozen=True)
class Sizes:
    """The sizes of one effort; each is written into the report that it shaped."""

    name: str
    """Of the effort; runs of training are named after it."""
    activations: int
    """Collected, and kept in the store."""
    chat: float
    """Share of them from conversations, of an LLM that can chat."""
    longest: int
    """Tokens of a text that is collected; a longer one is cut there."""
    trained: int
    """That the prior sees; the store is repeated when it holds fewer."""
    batch: int
    """Activations a step of training."""
    sigma_groups: int
    """Distinct noise levels a step."""
    warmup: int
    """Steps over which the learning rate rises; 0 for the command's own."""
    decay: float
    """Share of the training, at its end, in which it falls."""
    ema: float
    """Decay a step of the averaged weights."""
    width: int
    """The prior's width in widths of the LLM; its blocks have twice as many neurons."""
    blocks: int
    """Of the prior."""
    smaller: tuple[int, ...]
    """Further priors for the scaling law, as that many times narrower than the first."""
    scores: tuple[str, ...]
    """Of every kept checkpoint, beside its loss."""
    score_samples: int
    """Activations of each checkpoint's Frechet distance."""
    held_out: int
    """Held-out activations of a validation loss."""
    samples: int
    """Activations of a Frechet distance."""
    tested: int
    """Of them for two-sample tests."""
    documents: int
    """Held-out documents of the Delta LM loss."""
    tokens: int
    """Of each of these documents."""
    directions: tuple[str, ...]
    """Recipes that are made; empty for all, personas included where the LLM can chat."""
    bank: int
    """Real activations in the bank."""
    reference: int
    """Of them for each measure's quantiles."""
    solver_rows: int
    """Activations that the solver is fitted on; twice as many measure it."""
    advice: int
    """Validation prefixes that strengths are tried on."""
    strengths: tuple[float, ...]
    """That are tried there; empty for all."""
    written: int
    """Tokens of a text that is written to be measured."""
    sae_activations: int
    """That the sparse autoencoder sees."""
    sae_expansion: int
    """Latents of it for each dimension of the activation."""
    rows: tuple[int, int, int]
    """Of each probing task to train, validate and test."""
    probe_first: bool
    """Whether the index waits for probing to choose how neurons are read; else it takes the common reading, and is there sooner."""
    detected: int
    """Real activations, and off ones of each kind, that detection is measured on."""
    likelihood: int
    """Of them for the slow log-likelihood; 0 leaves it out."""
    zones: int
    """Prefixes that are steered to find the zones."""
    steered: int
    """Test prefixes that are steered along each direction."""
    steering_strengths: tuple[float, ...]
    """At which they are steered; empty for all."""
    elsewhere: int
    """Neutral texts that the cost of steering is measured on."""
    tuned: int
    """Validation prefixes that forms of the walk are tried on; 0 leaves the walk as it is."""


QUICK = Sizes(
    name="quick",
    activations=200_000,
    chat=0.0,
    longest=TOKENS_PER_DOCUMENT,
    trained=800_000,
    batch=1024,
    sigma_groups=TrainConfig.sigma_groups,
    warmup=0,
    decay=TrainConfig.decay,
    ema=TrainConfig.ema,
    width=1,
    blocks=3,
    smaller=(2,),
    scores=("frechet",),
    score_samples=400,
    held_out=4_096,
    samples=1_000,
    tested=400,
    documents=16,
    tokens=64,
    directions=("positive-sentiment", "sports", "film-reviews", "chatty"),
    bank=1_500,
    reference=500,
    solver_rows=64,
    advice=3,
    strengths=(0.2, 0.4, 0.6, 0.9, 1.3, 2.0),
    written=24,
    sae_activations=200_000,
    sae_expansion=4,
    rows=(24, 16, 24),
    probe_first=False,
    detected=150,
    likelihood=0,
    zones=4,
    steered=6,
    steering_strengths=(0.3, 0.6, 1.0, 1.6),
    elsewhere=8,
    tuned=0,
)
"""For a first look on a laptop: enough for every page to show something, with intervals as wide as the samples are few."""

FULL = Sizes(
    name="full",
    activations=5_200_000,
    chat=0.25,
    longest=512,
    trained=16_500_000,
    batch=2048,
    sigma_groups=256,
    warmup=300,
    decay=0.4,
    ema=0.999,
    width=2,
    blocks=3,
    smaller=(2, 4),
    scores=("frechet", "delta_lm", "probing", "steering"),
    score_samples=2_000,
    held_out=16_384,
    samples=10_000,
    tested=4_000,
    documents=128,
    tokens=128,
    directions=(),
    bank=3_800,
    reference=2_000,
    solver_rows=128,
    advice=10,
    strengths=(),
    written=24,
    sae_activations=2_000_000,
    sae_expansion=16,
    rows=(128, 96, 192),
    probe_first=True,
    detected=500,
    likelihood=64,
    zones=12,
    steered=100,
    steering_strengths=(),
    elsewhere=32,
    tuned=16,
)
"""The demo's recipe in one training: text and conversations from its first step, where the demo's prior read text first, then both,
and is a blend of the two (`train --from`, `blend`). It repeats 5.2 million activations; the demo's saw up to 13.8 million different ones.
Not made: choices by hand, such as the steering at each direction's best, and reports of `tests/bench`."""

EFFORTS = {"quick": QUICK, "full": FULL}


def sizes_of(effort: str, *, accelerator: bool) -> Sizes:
    """Return the sizes of an effort, quick or full; where an accelerator is there, the full one trains as long as the demo's prior."""
    sizes = EFFORTS[effort]
    return _at_scale(sizes) if accelerator else sizes


def on_other_device(sizes: Sizes) -> Sizes:
    """Return the sizes of the same effort on a device of the other kind: an accelerator, or the CPU."""
    here = EFFORTS[sizes.name]
    return _at_scale(sizes) if sizes.trained == here.trained else replace(sizes, trained=here.trained, batch=here.batch)


def _at_scale(sizes: Sizes) -> Sizes:
    return replace(sizes, trained=1_087_700_000, batch=16_384) if sizes.name == "full" else sizes
