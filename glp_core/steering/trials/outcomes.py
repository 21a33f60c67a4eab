"""What steering does to texts: prefixes x directions x arms x strengths, written greedily and read back by the unsteered model.

Knows models, directions and projectors; knows no files.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from torch import Tensor

from glp_core.errors import GlpError
from glp_core.llm.decoding import Sampling
from glp_core.llm.model import Llm
from glp_core.llm.site import Site
from glp_core.prior.distance import ManifoldMeter
from glp_core.prior.projection import Projector
from glp_core.progress import Progress, quiet, stages
from glp_core.stats import repeated_share
from glp_core.steering.directions import Direction
from glp_core.steering.edit import Arm
from glp_core.steering.generation import Row, read_texts
from glp_core.steering.origins.recipes import instruction
from glp_core.steering.trials.controls import asked
from glp_core.steering.trials.writing import WrittenText, write_texts

STRENGTHS = (0.1, 0.2, 0.3, 0.4, 0.6, 0.8, 1.0, 1.2, 1.4, 1.6, 2.0)
TOKENS = 24
GREEDY = Sampling(TOKENS)
UNSTEERED, PROMPTED, DRAWN = "unsteered", "prompted", "drawn"
DRAWS = 4
"""Texts at temperature 1 after every prefix."""


class Outcome(NamedTuple):
    """One continuation and what was measured on it."""

    prefix: int
    arm: str
    strength: float
    text: str
    concept: float
    """Probability of the concept, by the direction's probe on the unsteered model's reading of the text."""
    log_probability: float
    """Mean of the tokens under the unsteered model."""
    repetition: float
    """Share of tokens that occurred before (1 - distinct-1)."""
    repeated_bigrams: float
    """Share of bigrams that occurred before (1 - distinct-2)."""
    distance: float
    """Mean manifold distance of the activations that went on."""
    kept_push: float
    """Mean share of the push that the projection left."""
    asked_log_probability: float = float("nan")
    """Mean of the tokens under the unsteered model when an instruction before the prefix asks for the concept."""
    direction: str = ""
    """Name of the direction whose concept was read."""
    cosine: float = float("nan")
    """Mean cosine between the push and what the activation moved by in all."""
    correction: float = float("nan")
    """Mean length of what the projection did at right angles to the push, in median norms."""


@dataclass(frozen=True, eq=False)
class Condition:
    """What is done to every prefix: a direction, an arm and a strength."""

    direction: Direction
    """Also the concept that is read."""
    arm: str
    strength: float = 0.0
    projector: Projector | None = None

    @property
    def what(self) -> Arm:
        """What is done while a text is written."""
        return Arm(
            self.arm, self.direction.vector if self.strength else None, self.strength, self.projector if self.strength else None
        )


def conditions(
    direction: Direction,
    projectors: Mapping[str, Projector | None],
    strengths: Sequence[float] = STRENGTHS,
    *,
    prompted: bool = False,
) -> list[Condition]:
    """Return the unsteered texts, with `prompted` those that an instruction asks for, and every arm at every strength.

    Args:
        projectors: arm name to projector, for example {"raw": None, "glp": ...}.
    """
    plain = [UNSTEERED, *([PROMPTED] if prompted else [])]
    steered = [
        Condition(direction, arm, strength, projector) for strength in strengths for arm, projector in projectors.items()
    ]
    return [*(Condition(direction, arm) for arm in plain), *steered]


def measure(
    llm: Llm,
    planned: Sequence[Condition],
    prefixes: Sequence[str],
    *,
    sampling: Sampling = GREEDY,
    seeds: Sequence[int] | None = None,
    meter: ManifoldMeter | None = None,
    progress: Progress = quiet,
    cancelled: Callable[[], bool] = lambda: False,
) -> list[Outcome]:
    """Write and measure every prefix under every condition, in the order of `planned`.

    Unsteered texts are written once for all directions. Conditions that share a projector are written side by side.

    Args:
        seeds: of each prefix's projection noise and choice of tokens; its number when None.
        cancelled: asked before every token that is written.
    Raises:
        GlpError: there is nothing to measure, or as `generation.generate`.
        Stopped: `cancelled` said yes.
    """
    if not prefixes or not planned:
        raise GlpError("There is nothing to measure: give at least one prefix and one arm.")
    prompts = _Prompts(llm, prefixes)
    places: dict[object, list[int]] = {}
    for number, condition in enumerate(planned):
        key = (UNSTEERED, prompts.asked_by(condition)) if not condition.strength else number
        places.setdefault(key, []).append(number)
    ranks = _projector_ranks(planned)
    order = sorted(places.values(), key=lambda numbers: ranks[numbers[0]])
    rows = [
        Row(prompts.before(planned[numbers[0]], prefix), planned[numbers[0]].what, seed=seeds[prefix] if seeds else prefix)
        for numbers in order
        for prefix in range(len(prefixes))
    ]
    site = planned[0].direction.site(llm)
    texts = len(planned) * len(prefixes)
    writing, *reading = stages(progress, (len(rows), texts, texts))
    written = write_texts(site, rows, sampling, meter=meter, progress=writing, cancelled=cancelled)
    cells: dict[int, list[WrittenText]] = {}
    for place, numbers in enumerate(order):
        cells |= dict.fromkeys(numbers, written[place * len(prefixes) : (place + 1) * len(prefixes)])
    return _read_back(site, planned, prompts, [cells[number] for number in range(len(planned))], reading)


def own_texts(
    llm: Llm, directions: Sequence[Direction], prefixes: Sequence[str], *, tokens: int = TOKENS, draws: int = DRAWS
) -> list[Outcome]:
    """Write texts after every prefix at temperature 1, unsteered: how likely the model's own texts are. Their arm is `drawn`."""
    planned = [Condition(direction, UNSTEERED) for direction in directions]
    outcomes = measure(llm, planned, [*prefixes] * draws, sampling=Sampling(tokens, 1.0))
    return [one._replace(arm=DRAWN, prefix=one.prefix % len(prefixes)) for one in outcomes]


class _Prompts:
    """Token ids before a text: its prefix, alone or after an instruction that asks for the concept."""

    def __init__(self, llm: Llm, prefixes: Sequence[str]) -> None:
        self.llm, self.texts = llm, prefixes
        self.plain = [llm.encode(text) for text in prefixes]
        self._asked: dict[str, list[list[int]]] = {}

    def asked(self, direction: Direction) -> list[list[int]]:
        """Return the prefixes after the direction's instruction, as `controls.asked` has them."""
        words = instruction(direction)
        if words not in self._asked:
            self._asked[words] = [asked(self.llm, text, words) for text in self.texts]
        return self._asked[words]

    def asked_by(self, condition: Condition) -> str:
        """Return the instruction that a condition's texts follow; empty for none."""
        return instruction(condition.direction) if condition.arm == PROMPTED else ""

    def before(self, condition: Condition, prefix: int) -> list[int]:
        """Return what a condition's text is written after."""
        return self.asked(condition.direction)[prefix] if condition.arm == PROMPTED else self.plain[prefix]


def _projector_ranks(planned: Sequence[Condition]) -> list[int]:
    """Return for each condition the number of its projector among the different ones."""
    different: list[Projector | None] = []
    ranks = []
    for condition in planned:
        projector = condition.projector if condition.strength else None
        if projector not in different:
            different.append(projector)
        ranks.append(different.index(projector))
    return ranks


def _read_back(
    site: Site,
    planned: Sequence[Condition],
    prompts: _Prompts,
    cells: Sequence[Sequence[WrittenText]],
    progress: Sequence[Progress],
) -> list[Outcome]:
    """Read every text with the unsteered model, after its prefix and after the instruction too, each with a progress."""
    n = len(prompts.plain)
    ids = [text.tokens for cell in cells for text in cell]
    plain, means = _read(site, prompts.plain * len(planned), ids, progress[0])
    asked, _ = _read(site, [row for condition in planned for row in prompts.asked(condition.direction)], ids, progress[1])
    outcomes = []
    for number, (condition, cell) in enumerate(zip(planned, cells, strict=True)):
        concepts = condition.direction.concept(means[number * n : (number + 1) * n]).tolist()
        for prefix, text in enumerate(cell):
            row = number * n + prefix
            repeated = (repeated_share(text.tokens, 1), repeated_share(text.tokens, 2))
            outcomes.append(
                Outcome(
                    prefix,
                    condition.arm,
                    condition.strength,
                    text.text,
                    concepts[prefix],
                    _mean(plain[row]),
                    *repeated,
                    text.distance,
                    text.kept_push,
                    _mean(asked[row]),
                    condition.direction.name,
                    text.cosine,
                    text.correction,
                )
            )
    return outcomes


def _read(
    site: Site, prompts: Sequence[Sequence[int]], texts: Sequence[Sequence[int]], progress: Progress
) -> tuple[list[list[float]], Tensor]:
    """Do what `read_texts` does, reading equal texts once and those after one prompt side by side, so that it is read once."""
    rows = [(tuple(prompt), tuple(text)) for prompt, text in zip(prompts, texts, strict=True)]
    distinct = sorted(set(rows))
    read, means = read_texts(site, [prompt for prompt, _ in distinct], [text for _, text in distinct], progress=progress)
    places = {row: place for place, row in enumerate(distinct)}
    order = [places[row] for row in rows]
    return [read[place] for place in order], means[order]


def _mean(numbers: Sequence[float]) -> float:
    return float(np.mean(numbers)) if numbers else float("nan")
