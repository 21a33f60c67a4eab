"""Describe neurons offline: in plain words what the tokens have in common on which a neuron fires, and how true that is elsewhere.

A side's description is a short list of traits, chosen on its most extreme texts and on half of the index's held-out documents so that
it names many of the tokens above the neuron's tail and few others. Its precision and recall are measured on the other half. Nothing
is made up: a side whose tokens share nothing says so, and one that hardly reaches the tail says that.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from glp_core.data.task_words import task_words
from glp_core.files import Json, write_json
from glp_core.neuron_index.neuron_data import HeldOutFiring, HeldOutTokens, Neuron, SideEvidence, Snippet
from glp_core.neuron_index.reader import NeuronIndex
from glp_core.neurons.traits import Trait, in_words, traits
from glp_core.progress import Progress, quiet

AUTOMATIC = "automatic"
HIGH_AUC = 0.85
MOST_TRAITS = 4
LEAST_SHARED = 3
"""Tokens that must share a trait."""
LEAST_F1 = 0.05
"""Of all traits on the choosing tokens; below it they say nothing."""
LEAST_GAIN = 0.01
"""In F1 by each further trait."""
CANDIDATES = 24
MOST_ROWS = 100
"""Traits of more held-out tokens than this for each one above the tail say nothing."""
LEAST_FIRING = 8
"""Held-out tokens above the tail without which a side is not measured."""
LEAST_SHARE = 0.05
"""Of a neuron's held-out tokens above its tail; a side with a smaller share hardly fires, whatever its most extreme texts are like."""
HARDLY = "hardly fires"


@dataclass(frozen=True)
class Description:
    """One neuron in words."""

    words: str
    by: str
    """"automatic", or the model that wrote it."""
    high: SideEvidence | None = None
    low: SideEvidence | None = None


class HeldOutTraits:
    """Which held-out tokens have which traits; documents of even place choose, those of odd place measure."""

    def __init__(self, tokens: HeldOutTokens, texts: Sequence[Sequence[str]]) -> None:
        """Take the tokens, and the pieces of each of their documents."""
        self.documents = set(tokens.documents)
        self.measures = tokens.document % 2 == 1
        self._number: dict[Trait, int] = {}
        self._names: list[Trait] = []
        numbers, counts = [], []
        for document, position in zip(tokens.document.tolist(), tokens.position.tolist(), strict=True):
            own = [self._numbered(trait) for trait in traits(texts[document], position)]
            numbers.extend(own)
            counts.append(len(own))
        self._starts = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
        self._traits = np.array(numbers, np.int64)
        rows = np.repeat(np.arange(len(counts)), counts)
        order = np.argsort(self._traits, kind="stable")
        self._rows = rows[order]
        self._ends = np.cumsum(np.bincount(self._traits, minlength=len(self._names)))

    def _numbered(self, trait: Trait) -> int:
        if trait not in self._number:
            self._number[trait] = len(self._names)
            self._names.append(trait)
        return self._number[trait]

    def known(self, found: Iterable[Trait]) -> list[int]:
        """Return the numbers of those traits that some held-out token has."""
        return [self._number[trait] for trait in found if trait in self._number]

    def of(self, row: int) -> list[int]:
        """Return the numbers of a token's traits."""
        return self._traits[self._starts[row] : self._starts[row + 1]].tolist()

    def rows(self, number: int) -> np.ndarray:
        """Return the tokens that have a trait, ascending."""
        return self._rows[self._ends[number - 1] if number else 0 : self._ends[number]]

    def trait(self, number: int) -> Trait:
        """Return a trait by its number."""
        return self._names[number]


def describe_automatically(index: NeuronIndex, *, progress: Progress = quiet) -> list[Description]:
    """Return the description of every neuron; raise GlpError for an index of format 1, which has no held-out tokens."""
    tokens = index.held_out()
    held_out = HeldOutTraits(tokens, [index.document(number).pieces for number in tokens.documents])
    made = []
    for number in range(index.n_neurons):
        made.append(describe(index.neuron(*divmod(number, index.d_mlp)), index.firing(number), held_out))
        progress(number + 1, index.n_neurons, "neurons described")
    return made


def describe(neuron: Neuron, firing: HeldOutFiring, held_out: HeldOutTraits) -> Description:
    """Return one neuron's description."""
    sides = [
        describe_side(snippets, firing.rows[firing.signs == sign], held_out, beyond=len(firing.rows))
        for snippets, sign in ((neuron.top, 1), (neuron.bottom, -1))
    ]
    parts = [f"{name}: {side.words}" for name, side in zip(("high", "low"), sides, strict=True)]
    if neuron.best_task and neuron.best_tells and neuron.best_auc is not None and neuron.best_auc >= HIGH_AUC:
        parts.append(f"task: {task_words(neuron.best_task).high_on(neuron.best_sign)} (AUC {neuron.best_auc:.2f})")
    parts.sort(key=lambda part: f": {HARDLY} (" in part)
    return Description(" · ".join(parts), AUTOMATIC, *sides)


def describe_side(snippets: Sequence[Snippet], firing: np.ndarray, held_out: HeldOutTraits, *, beyond: int) -> SideEvidence:
    """Return what one side's tokens have in common, or that it hardly fires.

    Args:
        firing: held-out tokens above the neuron's tail on this side.
        beyond: how many there are on both sides.
    """
    measured = held_out.measures[firing]
    choosing, measuring = firing[~measured].tolist(), firing[measured]
    if len(firing) < LEAST_SHARE * beyond:
        words = f"{HARDLY} ({len(firing)} of {beyond} tokens beyond its tail)"
        return SideEvidence(words, [], None, None, 0, len(measuring))
    others = [s for s in snippets if s.document not in held_out.documents]
    examples = [held_out.known(traits(s.pieces, s.peak)) for s in others]
    chosen = _choose([(row, held_out.of(row)) for row in choosing], examples, held_out)
    shared = [held_out.trait(number) for number in chosen]
    if not shared:
        return SideEvidence(_peaks(snippets), [], None, None, 0, len(measuring))
    named = np.unique(np.concatenate([held_out.rows(number) for number in chosen]))
    named = named[held_out.measures[named]]
    both = len(np.intersect1d(named, measuring))
    enough = len(measuring) >= LEAST_FIRING
    if enough and not both:  # what the choosing half shared is not so elsewhere
        return SideEvidence(_peaks(snippets), [], None, None, 0, len(measuring))
    return SideEvidence(
        in_words(shared),
        [trait.words for trait in shared],
        both / max(1, len(named)) if enough else None,
        both / len(measuring) if enough else None,
        len(named),
        len(measuring),
    )


def _choose(choosing: Sequence[tuple[int, list[int]]], examples: Sequence[list[int]], held_out: HeldOutTraits) -> list[int]:
    """Return the traits that together have the best F1 on the choosing tokens and examples, added one by one.

    An example counts as a token above the tail; tokens that have a trait and are neither lower its precision.
    """
    counted = Counter(number for _, own in choosing for number in own)
    counted.update(number for own in examples for number in own)
    everything = len(choosing) + len(examples)
    hits = {number: {row for row, own in choosing if number in own} for number, n in counted.items() if n >= LEAST_SHARED}
    shown = {number: {-1 - i for i, own in enumerate(examples) if number in own} for number in hits}
    rows = {number: held_out.rows(number) for number in hits}
    named = {number: set(r[~held_out.measures[r]].tolist()) for number, r in rows.items() if len(r) < MOST_ROWS * everything}
    scored = {
        number: _f1(len(hits[number] | shown[number]), len(named[number] | shown[number]), everything) for number in named
    }
    ranked = sorted(scored, key=lambda number: (-scored[number], held_out.trait(number)))[:CANDIDATES]
    chosen: list[int] = []
    covered: set[int] = set()
    claimed: set[int] = set()
    best = 0.0
    while len(chosen) < MOST_TRAITS:
        scores = {
            n: _f1(len(covered | hits[n] | shown[n]), len(claimed | named[n] | shown[n]), everything)
            for n in ranked
            if n not in chosen
        }
        top = max(scores, key=lambda n: scores[n], default=None)
        if top is None or scores[top] < best + LEAST_GAIN:
            break
        chosen.append(top)
        best = scores[top]
        covered |= hits[top] | shown[top]
        claimed |= named[top] | shown[top]
    return chosen if best >= LEAST_F1 else []


def _f1(both: int, named: int, firing: int) -> float:
    return 2 * both / (named + firing) if named + firing else 0.0


def _peaks(snippets: Sequence[Snippet]) -> str:
    """Return the tokens where the most extreme texts have their peak, when they share nothing."""
    peaks = Counter(word for s in snippets if (word := s.pieces[s.peak].strip()))
    most = ", ".join(f"“{word}”" for word, _ in peaks.most_common(2))
    return f"nothing in common (strongest on {most})" if most else "nothing in common"


def save_descriptions(folder: Path, descriptions: Sequence[Description]) -> None:
    """Write every neuron's description, author and evidence to the index folder."""
    units = [[one.words, one.by] for one in descriptions]
    write_json(folder / "descriptions.json", {"units": units, "sides": [_sides(one) for one in descriptions]})


def _sides(one: Description) -> list[Json | None]:
    return [None if side is None else side.to_json() for side in (one.high, one.low)]
