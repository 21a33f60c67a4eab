"""The ten concepts of the acceptance table: enough texts of each, and a table that hostile texts cannot break."""

import json
from types import SimpleNamespace

import numpy as np

from glp_core.data.corpus import tasks
from glp_core.llm.batching import by_length
from glp_core.llm.site import Site
from glp_core.neuron_index.neuron_data import Reading
from glp_core.stats import Interval
from tests.bench import ten_concepts
from tests.support.neuron_fakes import FakeIndex


def test_five_tasks_exist_and_five_own_concepts_have_enough_texts():
    given = json.loads(ten_concepts.GIVEN.read_text(encoding="utf-8"))
    assert len(set(given["tasks"])) == 5 and set(given["tasks"]) <= {task.name for task in tasks()}
    assert len({own["name"] for own in given["own"]}) == 5
    every = [text for own in given["own"] for text in own["texts"]] + given["plain"]
    assert all(len(own["texts"]) >= 16 for own in given["own"]) and len(given["plain"]) >= 32
    assert len(set(every)) == len(every)


def test_the_table_shows_the_chosen_side_and_stays_a_table():
    best = SimpleNamespace(layer=1, neuron=3, sign=1, auc=0.9)
    found = SimpleNamespace(neurons=[best], n_positive=16, n_negative=32, cross_validated=Interval(0.8, 0.7, 0.9))
    found.p_value, found.permutations = 0.001, 1000
    row = ten_concepts.evidence(FakeIndex(), "a | b", "?", found)
    assert row["texts"][0] == "word0 word1 word2 **word3** word4 word5 word6 word7 word8 word9 word10 word11"
    best.sign = -1
    low = ten_concepts.evidence(FakeIndex(), "low", "?", found)
    table = ten_concepts.markdown([row, low]).splitlines()
    assert len(table) == 4 and all(line.replace("\\|", "").count("|") == 6 for line in table)
    assert "<img" not in table[2] and "| L1/3 |" in table[2] and "| −L1/3 |" in table[3]
    assert "0.800 (0.70 to 0.90)" in table[2]


def test_readings_are_compared_over_all_concepts(tiny_llm, tiny_glp):
    texts = [f"the cat sat on a mat {word}" for word in ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k", "l"]]
    labels = np.repeat([1, 0], 6)
    rows = ten_concepts.compared(Site(tiny_llm, 2, 1e9), tiny_glp, labels, texts, [Reading(0.1), Reading(0.2, 2)])
    assert [row["title"] for row in rows] == ["sigma 0.1, no noise", "sigma 0.2, mean of 2 draws"]
    assert all(0 <= row["auc"][str(count)]["value"] <= 1 for row in rows for count in (1, 2, 3))
    table = ten_concepts.comparison_table({"one": rows, "two": rows}).splitlines()
    mean = rows[0]["auc"]["3"]["value"]
    assert len(table) == 4 and f"{mean:.3f} ({2 * (mean >= 0.9)} of 2 clear)" in table[2]


def test_batches_hold_every_row_once_and_keep_to_their_size():
    lengths = [3, 50, 7, 7, 120, 1, 30, 8]
    batches = list(by_length(lengths, 60))
    assert sorted(place for batch in batches for place in batch) == list(range(8))
    assert batches[0] == [4]  # longer than a batch: alone
    assert all(len(batch) * max(lengths[place] for place in batch) <= 60 for batch in batches[1:])
    assert list(by_length([], 60)) == []
