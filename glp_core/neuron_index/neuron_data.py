"""What a page shows of one neuron, and how neurons are read, as plain values; needs no torch, so that a page can open an index at once."""

from dataclasses import asdict, dataclass

import numpy as np

from glp_core.errors import GlpError
from glp_core.files import Json

MOST_DRAWS = 64


@dataclass(frozen=True)
class Reading:
    """One way to read the neurons of a GLP."""

    sigma: float = 0.2
    """Noise level of the one forward."""
    draws: int = 0
    """0: no noise is added, z_sigma = (1 - sigma) z; otherwise the mean over this many fixed draws."""
    seed: int = 0
    """Of the draws."""

    def __post_init__(self) -> None:
        if not 0 <= self.sigma <= 1:
            raise GlpError(f"A reading at sigma {self.sigma} is out of range: sigma goes from 0 (clean) to 1 (pure noise).")
        if not 0 <= self.draws <= MOST_DRAWS:
            raise GlpError(f"A reading with {self.draws} draws is out of range: use 0 (no noise) to {MOST_DRAWS}.")

    @property
    def title(self) -> str:
        """The reading in words."""
        draws = {0: "no noise", 1: "one draw"}.get(self.draws, f"mean of {self.draws} draws")
        return f"sigma {self.sigma:g}, {draws}"

    def to_json(self) -> Json:
        return asdict(self)

    @staticmethod
    def from_json(value: Json) -> "Reading":
        return Reading(float(value["sigma"]), int(value["draws"]), int(value["seed"]))


PAPER = Reading(sigma=0.1, draws=1)
"""As the paper reads them: sigma 0.1, one draw."""
NOISE_FREE = Reading(sigma=0.2)


@dataclass(frozen=True)
class Snippet:
    """One text on a neuron's page."""

    document: int
    """Its number in the corpus."""
    source: str
    """Its data set."""
    value: float
    """The neuron's value at the peak token."""
    peak: int
    """Index of that token in pieces."""
    pieces: list[str]
    """The document's tokens; joined they are its text."""
    values: np.ndarray
    """The neuron's values (len(pieces),), float32; nan where they were not kept."""
    start: int
    """First piece of the kept window."""
    stop: int
    """End of the kept window."""


@dataclass(frozen=True)
class ValueRange:
    """Random texts with values between two quantiles."""

    low_quantile: float
    high_quantile: float
    low: float
    high: float
    texts: list[Snippet]


@dataclass(frozen=True)
class Neighbour:
    """A similar neuron."""

    layer: int
    neuron: int
    similarity: float
    """Cosine or correlation, signed."""


@dataclass(frozen=True)
class TokenEffect:
    """A token of the LLM that a neuron promotes or suppresses."""

    text: str
    score: float


@dataclass(frozen=True)
class SideEvidence:
    """What the tokens of one side have in common, and how true that is on held-out tokens."""

    words: str
    keys: list[str]
    """The words and shapes that the description names; empty when the tokens have nothing in common."""
    precision: float | None
    """Of the held-out tokens that it names, the share above the neuron's tail; None where too few are above it."""
    recall: float | None
    """Of the held-out tokens above the tail on this side, the share that it names."""
    named: int
    firing: int
    """Held-out tokens above the tail."""

    @property
    def readability(self) -> float:
        """Harmonic mean of precision and recall, 0 to 1; 0 where they are not measured."""
        if not self.precision or not self.recall:
            return 0.0
        return 2 * self.precision * self.recall / (self.precision + self.recall)

    def to_json(self) -> Json:
        return asdict(self)

    @staticmethod
    def from_json(value: Json) -> "SideEvidence":
        return SideEvidence(*(value[name] for name in ("words", "keys", "precision", "recall", "named", "firing")))


@dataclass(frozen=True)
class ReadableSide:
    """One side of a neuron that its description tells well."""

    layer: int
    neuron: int
    side: str
    """"high" or "low"."""
    evidence: SideEvidence


@dataclass(frozen=True)
class Neuron:
    """All that a neuron's page shows."""

    layer: int
    neuron: int
    index: int
    description: str
    described_by: str
    """"automatic", or the model that wrote it."""
    mean: float
    std: float
    skewness: float
    kurtosis: float
    """Excess: 0 for a normal distribution."""
    noise_share: float
    """Share of variance due to the noise seed at sigma 0.1 with one draw."""
    counts: np.ndarray
    """Tokens in each of 50 bins, int64; their sum is the tokens seen."""
    edges: np.ndarray
    """Of the bins (51,), equal on a signed logarithmic scale."""
    tail: float
    """The absolute value that one token in a thousand reaches."""
    repeated: float
    """Share of tokens at values that repeat, such as exactly 0; the intervals are over the others."""
    quantiles: list[tuple[float, float]]
    top: list[Snippet]
    bottom: list[Snippet]
    intervals: list[ValueRange]
    promoted: list[TokenEffect]
    suppressed: list[TokenEffect]
    nearest_write: list[Neighbour]
    nearest_activation: list[Neighbour]
    scale: float
    """Largest absolute value kept: the colour scale that all its texts share."""
    best_task: str | None
    best_auc: float | None
    """Of the best task, on the side that the neuron is high on."""
    tasks: list[tuple[str, float]]
    """The ten tasks with the most extreme test AUC."""
    high: SideEvidence | None = None
    """What its highest tokens have in common; None where the description is not automatic, or older."""
    low: SideEvidence | None = None
    best_sign: int = 1
    """1 where it is higher on the positive texts of its best task, -1 where lower."""
    best_tells: bool = True
    """Whether the best task says something of it: few other neurons tell the task apart as well."""


@dataclass(frozen=True)
class StoredDocument:
    """One text of the index."""

    source: str
    pieces: list[str]


@dataclass(frozen=True)
class HeldOutTokens:
    """The tokens of the sampled documents, on which descriptions are tested."""

    documents: list[int]
    """Their numbers in the corpus."""
    pieces: list[str]
    """Every token that was read (n,)."""
    document: np.ndarray
    """Place among `documents` of each token (n,)."""
    position: np.ndarray
    """Of each token among its document's pieces, counted from 0 (n,)."""


@dataclass(frozen=True)
class HeldOutFiring:
    """The held-out tokens on which one neuron's absolute value is above its tail."""

    rows: np.ndarray
    """Of the held-out tokens, ascending."""
    signs: np.ndarray
    """Of the neuron's values there: 1 or -1."""
