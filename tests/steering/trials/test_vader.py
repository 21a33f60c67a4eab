"""VADER as the outside judge: glad texts score higher, arms are paired by prefix."""

import pytest

from tests.bench import vader


def test_glad_texts_score_higher_and_are_compared_by_prefix():
    said = {"raw": ["it is a table.", "it is terrible."], "walk": ["a wonderful, happy day!", "it is terrible."]}
    texts = [
        {"direction": "positive-sentiment", "arm": arm, "strength": 1.0, "prefix": i, "text": text}
        for arm, listed in said.items()
        for i, text in reversed(list(enumerate(listed)))
    ]
    raw, walk = vader.judged([*texts, texts[0] | {"direction": "law"}])
    assert raw["vader"] < 0 < walk["vader"] and raw["n"] == 2
    assert walk["over_raw"] == pytest.approx(walk["vader"] - raw["vader"])
    assert walk["over_raw_ci"][0] == 0, "the second prefix's texts are the same"
    assert vader.markdown([raw, walk]).splitlines()[2].startswith("| 1 | -0.2")
