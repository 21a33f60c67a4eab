"""Describe neurons offline, from what their extreme texts have in common and others have not; marked "automatic".

A side's description lists its most frequent peak tokens, and words or word pairs around the peaks that are rare elsewhere in the
corpus. The best task is named when its test AUC is high. Nothing is made up: a side without anything in common says so.
"""

import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from glp_core.files import write_json
from glp_core.neuron_index.neuron_data import Snippet
from glp_core.neuron_index.reader import NeuronIndex
from glp_core.progress import Progress, quiet

AUTOMATIC = "automatic"
HIGH_AUC = 0.85
NEAR = 8
"""Tokens on either side of the peak that are searched for words."""
SHARED_TEXTS = 4
"""Texts of a side that must share a word."""
LIFT = 6.0
"""How much more frequent it must be than in the corpus."""
RARE = 30.0
"""Rarer phrases are not more telling; single words then come before pairs."""
MOST_TOKENS = 3
MOST_PHRASES = 2
SAME_SOURCE = 0.7
WORD = re.compile(r"\w[\w'’-]*")


class Background:
    """In how many of the index's documents each word and pair of words stands."""

    def __init__(self, texts: Sequence[str]) -> None:
        self.n = max(1, len(texts))
        self._count: Counter[str] = Counter()
        for text in texts:
            self._count.update(phrases(text))

    def share(self, phrase: str) -> float:
        """Return the share of documents that hold the phrase; one of none counts as half a document."""
        return max(0.5, self._count[phrase]) / self.n


def phrases(text: str) -> set[str]:
    """Return the words, and pairs of neighbouring words, of a text in small letters."""
    words = WORD.findall(text.casefold())
    return {word for word in words if len(word) > 1} | {f"{a} {b}" for a, b in zip(words, words[1:], strict=False)}


def describe_automatically(index: NeuronIndex, *, progress: Progress = quiet) -> list[tuple[str, str]]:
    """Return for every neuron its description and "automatic"."""
    background = Background(index.all_texts())
    made = []
    for number in range(index.n_neurons):
        neuron = index.neuron(*divmod(number, index.d_mlp))
        parts = [f"high: {describe_side(neuron.top, background)}", f"low: {describe_side(neuron.bottom, background)}"]
        if neuron.best_task and neuron.best_auc is not None and neuron.best_auc >= HIGH_AUC:
            parts.append(f"task: {neuron.best_task.split('_', 1)[-1].replace('_', ' ')} (AUC {neuron.best_auc:.2f})")
        made.append(("; ".join(parts), AUTOMATIC))
        progress(number + 1, index.n_neurons, "neurons described")
    return made


def describe_side(snippets: Sequence[Snippet], background: Background) -> str:
    """Return what one side's texts have in common, in a few words."""
    if not snippets:
        return "nothing"
    peaks = Counter(word for s in snippets if (word := s.pieces[s.peak].strip()))
    tokens = [word for word, count in peaks.most_common(MOST_TOKENS) if count > 1]
    near = distinctive([_around(s) for s in snippets], background)
    near = [phrase for phrase in near if not any(token.casefold() in phrase.split() for token in tokens)][:MOST_PHRASES]
    parts = [", ".join(f"“{token}”" for token in tokens)] if tokens else []
    parts += [f"near {', '.join(f'“{phrase}”' for phrase in near)}"] if near else []
    source, count = Counter(s.source for s in snippets).most_common(1)[0]
    if count >= SAME_SOURCE * len(snippets):
        parts.append(f"in {source.split('_', 1)[-1].replace('_', ' ')}")
    return " ".join(parts) or "no common token"


def distinctive(texts: Sequence[str], background: Background) -> list[str]:
    """Return the phrases that several of the texts share and few documents of the corpus hold, most telling first."""
    counted = Counter(phrase for text in texts for phrase in phrases(text))
    lift = {phrase: count / len(texts) / background.share(phrase) for phrase, count in counted.items() if count >= SHARED_TEXTS}
    ranked = sorted((p for p in lift if lift[p] >= LIFT), key=lambda p: (-counted[p] * min(lift[p], RARE), p.count(" "), p))
    found: list[str] = []
    for phrase in ranked:
        if not any(phrase in other or other in phrase for other in found):
            found.append(phrase)
    return found


def save_descriptions(folder: Path, neurons: Sequence[tuple[str, str]]) -> None:
    """Write every neuron's description and author to the index folder."""
    write_json(folder / "descriptions.json", {"units": [list(entry) for entry in neurons]})


def _around(snippet: Snippet) -> str:
    return "".join(snippet.pieces[max(0, snippet.peak - NEAR) : snippet.peak + NEAR + 1])
