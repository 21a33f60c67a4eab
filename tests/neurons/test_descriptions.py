"""Automatic descriptions from planted texts."""

import json

import numpy as np
import pytest

from glp_core.neuron_index.neuron_data import (
    NOISE_FREE,
    HeldOutFiring,
    HeldOutTokens,
    Neuron,
    SideEvidence,
    Snippet,
    StoredDocument,
)
from glp_core.neurons.descriptions import Description, HeldOutTraits, describe_automatically, describe_side, save_descriptions
from glp_core.neurons.traits import Trait, TraitKind, in_words, traits

WORDS = [
    "the",
    "rain",
    "fell",
    "on",
    "a",
    "town",
    "where",
    "she",
    "said",
    "it",
    "was",
    "late",
    "and",
    "they",
    "looked",
    "at",
    "sea",
    "model",
    "mind",
]


def planted(seed=0, n=120):
    """Return documents of random words with "security" now and then, in half of the cases after "social"."""
    rng = np.random.default_rng(seed)
    documents = []
    for _ in range(n):
        words = rng.choice(WORDS, 20).tolist()
        place = int(rng.integers(1, 20))
        words[place] = "security"
        if rng.random() < 0.5:
            words[place - 1] = "social"
        documents.append([(" " if i else "") + word for i, word in enumerate(words)])
    return documents


def held_out_tokens(documents):
    document = np.repeat(np.arange(len(documents)), [len(pieces) for pieces in documents])
    position = np.concatenate([np.arange(len(pieces)) for pieces in documents])
    pieces = [piece for one in documents for piece in one]
    return HeldOutTokens([1000 + i for i in range(len(documents))], pieces, document, position)


def snippet(text, peak_word, source="set_a", value=1.0):
    pieces = [(" " if i else "") + word for i, word in enumerate(text.split())]
    peak = next(i for i, piece in enumerate(pieces) if piece.strip() == peak_word)
    return Snippet(0, source, value, peak, pieces, np.zeros(len(pieces), np.float32), 0, len(pieces))


def neuron(number=0, **changes):
    top = [snippet(f"they said social security is late {i}", "security") for i in range(8)]
    low = [snippet(text, text.split()[1]) for text in ("the rain fell", "she said it", "a model of", "they looked at")]
    fields = {
        "layer": number // 4, "neuron": number % 4, "index": number, "description": "", "described_by": "", "mean": 0.0, "std": 1.0,
        "skewness": 0.0, "kurtosis": 3.0, "noise_share": 0.1, "counts": np.zeros(50), "edges": np.zeros(51), "quantiles": [],
        "top": top, "bottom": low, "intervals": [], "promoted": [], "suppressed": [], "nearest_write": [], "nearest_activation": [],
        "scale": 1.0, "tail": 1.0, "repeated": 0.0, "best_task": "92_glue_sst2", "best_auc": 0.9, "tasks": [],
    }  # fmt: skip
    return Neuron(**fields | changes)


class FakeIndex:
    n_neurons, d_mlp = 8, 4
    reading = NOISE_FREE

    def __init__(self, glp="0123"):
        self.texts, self.facts = planted(), {"glp": glp}

    def neuron(self, layer, number):
        return neuron(layer * 4 + number)

    def held_out(self):
        return held_out_tokens(self.texts)

    def document(self, number):
        return StoredDocument("set_a", self.texts[number - 1000])

    def firing(self, _number):
        return HeldOutFiring(*firing_after_social(self.held_out()))


def firing_after_social(tokens):
    """Return rows and signs of a made-up neuron: high on "security" after "social"."""
    before = ["", *tokens.pieces[:-1]]
    rows = [i for i, piece in enumerate(tokens.pieces) if piece == " security" and before[i].strip() == "social"]
    return np.array(rows), np.ones(len(rows), int)


def test_traits_name_the_token_what_is_before_it_and_what_it_looks_like():
    pieces = ["The", " social", " Sec", "urity", " of", " 12", ",", "\n", " Rome"]
    found = set(traits(pieces, 2))
    assert {
        (TraitKind.TOKEN, "sec"),
        (TraitKind.AFTER, "social"),
        (TraitKind.PAIR, "social sec"),
        (TraitKind.SHAPE, "capitalised words"),
    } <= found
    assert (TraitKind.SHAPE, "later parts of words") in traits(pieces, 3) and (TraitKind.PAIR, "security") in traits(pieces, 3)
    assert (TraitKind.NEAR, "social") in traits(pieces, 4) and (TraitKind.NEAR, "social") not in traits(pieces, 2)
    assert (TraitKind.SHAPE, "numbers") in traits(pieces, 5) and (TraitKind.SHAPE, "punctuation") in traits(pieces, 6)
    assert (TraitKind.SHAPE, "line breaks") in traits(pieces, 7) and (TraitKind.SHAPE, "the first word of a text") in traits(
        pieces, 0
    )
    assert (
        in_words([Trait(TraitKind.AFTER, "a"), Trait(TraitKind.TOKEN, "b"), Trait(TraitKind.TOKEN, "c")])
        == "“b”, “c”; after “a”"
    )


def test_a_side_says_what_its_tokens_share_and_its_precision_and_recall_are_those_of_a_count():
    tokens = held_out_tokens(planted())
    held_out = HeldOutTraits(tokens, planted())
    rows, _ = firing_after_social(tokens)
    side = describe_side(neuron().top, rows, held_out, beyond=len(rows))
    assert side.words == "“social security”" and side.precision == side.recall == 1.0
    loose = [row for row, piece in enumerate(tokens.pieces) if piece == " security"]
    missed = np.sort(np.concatenate([rows, rows[::2] - 3]))  # tokens that share nothing, which the words miss
    side = describe_side(neuron().top, missed, held_out, beyond=len(missed))
    odd = tokens.document % 2 == 1
    named = [r for r in loose if odd[r] and r in set(rows)]
    assert side.precision == pytest.approx(1.0) and side.recall == pytest.approx(len(named) / odd[missed].sum(), abs=0.05)
    assert side.named == len(named) and side.firing == odd[missed].sum()


def test_a_side_whose_tokens_share_nothing_says_so():
    tokens = held_out_tokens(planted())
    held_out = HeldOutTraits(tokens, planted())
    few = np.random.default_rng(1).choice(len(tokens.pieces), 3, replace=False)
    side = describe_side(neuron().bottom, np.sort(few), held_out, beyond=3)
    assert side.words.startswith("nothing in common (strongest on") and side.keys == [] and side.readability == 0
    assert describe_side([], few[:0], held_out, beyond=0).words == "nothing in common"


def test_a_side_that_hardly_reaches_the_tail_says_so_whatever_its_texts_are_like():
    tokens = held_out_tokens(planted())
    held_out = HeldOutTraits(tokens, planted())
    rows, _ = firing_after_social(tokens)
    side = describe_side(neuron().top, rows[:2], held_out, beyond=41)
    assert side.words == "hardly fires (2 of 41 tokens beyond its tail)" and side.keys == [] and side.precision is None
    assert "security" in describe_side(neuron().top, rows[:2], held_out, beyond=40).words


def test_what_does_not_hold_on_the_other_half_is_not_said():
    tokens = held_out_tokens(planted())
    rows, _ = firing_after_social(tokens)
    odd = tokens.document % 2 == 1
    elsewhere = np.flatnonzero(odd & np.array([piece.strip() == "rain" for piece in tokens.pieces]))[:12]
    firing = np.sort(np.concatenate([rows[~odd[rows]], elsewhere]))
    side = describe_side(neuron().top, firing, HeldOutTraits(tokens, planted()), beyond=len(firing))
    assert side.words.startswith("nothing in common") and side.keys == [] and side.firing == 12


def test_the_task_is_named_only_when_its_auc_is_high(monkeypatch):
    index = FakeIndex()
    first = describe_automatically(index)[0]
    assert first.words.startswith(
        "high: “social security” · task: Film review phrase: favourable (AUC 0.90) · low: hardly fires (0 of"
    )
    phrase = {"best_task": "70_prime-factors", "best_sign": -1}
    monkeypatch.setattr(FakeIndex, "neuron", lambda self, layer, number: neuron(**phrase))
    assert describe_automatically(index)[0].words.split(" · ")[1] == "task: The phrase “prime factors” (AUC 0.90)"
    monkeypatch.setattr(FakeIndex, "neuron", lambda self, layer, number: neuron(best_task="129_arith_mc_A", best_sign=-1))
    assert "task: low on “Arithmetic: A is right”" in describe_automatically(index)[0].words
    monkeypatch.setattr(FakeIndex, "neuron", lambda self, layer, number: neuron(best_tells=False))
    assert "task" not in describe_automatically(index)[0].words
    monkeypatch.setattr(FakeIndex, "neuron", lambda self, layer, number: neuron(best_auc=0.6))
    made = describe_automatically(index)
    assert "task" not in made[0].words and made[0].by == "automatic" and len(made) == 8


def test_descriptions_are_written_in_order_with_their_evidence(tmp_path):
    side = SideEvidence("“a”", ["a"], 0.5, 0.5, 4, 4)
    save_descriptions(tmp_path, [Description("a <b>", "automatic", side, None), Description("c", "m")])
    stored = json.loads((tmp_path / "descriptions.json").read_text())
    assert stored["units"] == [["a <b>", "automatic"], ["c", "m"]]
    assert stored["sides"] == [[side.to_json(), None], [None, None]]
