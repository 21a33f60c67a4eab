"""The corpus and the probing tasks: all there, and no test text on the training side."""

import hashlib
from collections import Counter

import pandas as pd
import pytest

from glp_core import GlpError
from glp_core.data import corpus
from glp_core.data.corpus import HELD_OUT, SHORTEST, documents, split_of, task, task_rows, tasks


@pytest.fixture(scope="module")
def all_documents():
    return documents("train") + documents("validation")


@pytest.fixture(scope="module")
def all_rows():
    return {one.name: task_rows(one) for one in tasks()}


def test_there_are_113_tasks_with_two_classes_each(all_rows):
    assert len(tasks()) == len(all_rows) == 113
    assert len({one.title for one in tasks()}) > 100
    for name, rows in all_rows.items():
        assert set(rows["label"]) == {0, 1}, name
        assert not rows["text"].duplicated().any(), name
        assert set(rows["split"]) <= {"train", "validation", "test"}


def test_every_task_has_rows_of_both_classes_in_every_split(all_rows):
    for name, rows in all_rows.items():
        counts = rows.groupby(["split", "label"]).size()
        assert counts.min() >= 2 and len(counts) == 6, name


def test_no_test_text_of_any_task_is_trained_on_or_held_out_for_losses(all_documents, all_rows):
    known = {one.text for one in all_documents}
    for name, rows in all_rows.items():
        tests = rows.loc[rows["split"] == "test", "text"]
        assert len(tests) > 0
        assert not known & set(tests), name


def test_documents_are_distinct_long_enough_and_many(all_documents):
    texts = [one.text for one in all_documents]
    assert len(texts) == len(set(texts)) > 140_000
    assert min(map(len, texts)) >= SHORTEST
    assert len({one.source for one in all_documents}) > 50


def test_documents_for_losses_are_apart_and_of_the_same_kind(all_documents):
    train, held_out = documents("train"), documents("validation")
    assert len(held_out) == HELD_OUT
    assert not {one.text for one in train} & {one.text for one in held_out}
    most = Counter(one.source for one in train).most_common(1)[0][0]
    assert any(one.source == most for one in held_out)


def test_the_order_is_the_same_everywhere():
    """Stored activations and the demo GLP were made from this order."""
    digest = hashlib.sha256("\n".join(one.text for one in documents("train")[:1000]).encode("utf-8", "replace"))
    assert digest.hexdigest() == "231de6ff6afc9b203d66457e920b12e886437606049e496f1545e091503c0910"


def test_a_text_has_one_split_and_splits_have_their_shares():
    splits = Counter(split_of(f"text number {i}") for i in range(20_000))
    assert splits["test"] / 20_000 == pytest.approx(0.2, abs=0.02)
    assert splits["validation"] / 20_000 == pytest.approx(0.2, abs=0.02)
    assert split_of("\ud800 a lone surrogate") in splits


def test_rows_of_one_split_only(all_rows):
    one = task("92_glue_sst2")
    assert one.title == "Film review phrase: favourable" and "unfavourable" in one.positive
    rows = task_rows(one, "test")
    assert set(rows["split"]) == {"test"}
    assert len(rows) == (all_rows[one.name]["split"] == "test").sum()


def test_positive_reviews_are_labelled_positive():
    rows = task_rows(task("92_glue_sst2"))
    good = rows["text"].str.contains("wonderful|delightful", case=False)
    bad = rows["text"].str.contains("dull|tedious", case=False)
    assert rows.loc[good, "label"].mean() > 0.8
    assert rows.loc[bad, "label"].mean() < 0.2


def test_an_unknown_task_is_said():
    with pytest.raises(GlpError, match="no_such_task.*113"):
        task("no_such_task")


def test_labels_that_are_not_two_are_refused():
    with pytest.raises(GlpError, match="3 label values"):
        corpus._binary(pd.Series(["a", "b", "c"]), "made")


def test_the_packages_files_are_the_pinned_ones(monkeypatch):
    assert corpus.check_files() == 155
    monkeypatch.setattr(corpus, "TABLES_SHA256", "0" * 64)
    with pytest.raises(GlpError, match="not those of the pinned release"):
        corpus.check_files()
