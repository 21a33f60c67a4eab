"""Directions against their definitions written out, rank formulas and sklearn; personas on a tiny model; files that are none."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from glp_core.data import corpus
from glp_core.data.text_activations import TextReading
from glp_core.errors import GlpError
from glp_core.llm.site import Site
from glp_core.steering.directions import Direction
from glp_core.steering.origins.fitting import diff_mean, direction_from, fit_probe
from glp_core.steering.origins.personas import ANSWER_TOKENS, make_persona
from glp_core.steering.origins.recipes import PERSONAS, RECIPES, Persona, PoolReader, make
from tests.support import tiny

LAYER = 1
GOOD = [f"She said that the film was wonderful {i}" for i in range(12)]
BAD = [f"He said that it was dull {i}" for i in range(12)]


def seeded(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module")
def direction(tiny_llm):
    return diff_mean(Site(tiny_llm, LAYER, 4.0), GOOD[:8], BAD[:8], name="good", test=(GOOD[8:], BAD[8:]))


def last_tokens(llm, texts):
    return torch.stack([llm.activations([llm.encode(text)], LAYER)[0][-1] for text in texts])


def test_a_direction_is_the_difference_of_mean_last_token_activations(tiny_llm, direction):
    difference = last_tokens(tiny_llm, GOOD[:8]).mean(0) - last_tokens(tiny_llm, BAD[:8]).mean(0)
    torch.testing.assert_close(direction.vector, difference / difference.norm(), atol=1e-4, rtol=1e-3)
    assert (direction.n_train, direction.n_test, direction.layer, direction.median_norm) == (16, 8, LAYER, 4.0)


def test_auroc_is_the_share_of_pairs_in_the_right_order(tiny_llm, direction):
    good, bad = (last_tokens(tiny_llm, texts) @ direction.vector for texts in (GOOD[8:], BAD[8:]))
    pairs = (good[:, None] > bad[None]).float().mean()
    assert direction.auroc == pytest.approx(float(pairs))


def test_auroc_is_measured_on_rows_that_the_vector_was_not_made_from():
    """The held-out rows point the other way, so a direction that knew them would not score 0."""
    acts = torch.cat([torch.eye(3)[:1].repeat(5, 1), -torch.eye(3)[:1].repeat(5, 1)])
    labels = np.repeat([1, 0], 5)
    made = direction_from(
        torch.cat([acts, -acts]),
        torch.cat([acts, acts]) + 0.1 * seeded(20, 3),
        np.concatenate([labels, labels]),
        n_train=10,
        name="x",
        title="x",
        layer=0,
        median_norm=1.0,
        how="",
    )
    assert made.auroc == 0.0
    assert made.probe_auroc == 1.0


def test_means_leave_out_the_first_token_and_massive_activations(tiny_llm):
    text = GOOD[0]
    acts = tiny_llm.activations([tiny_llm.encode(text)], LAYER)[0][1:]
    torch.testing.assert_close(TextReading.of(Site(tiny_llm, LAYER, 4.0), [text]).mean[0], acts.mean(0), atol=1e-4, rtol=1e-3)


def test_texts_of_massive_activations_alone_are_left_out(tiny_llm, monkeypatch):
    monkeypatch.setattr(Site, "is_massive", lambda _site, acts: torch.full((len(acts),), len(acts) == 1))
    lone = tiny_llm.tokenizer.decode([9])
    reading = TextReading.of(Site(tiny_llm, LAYER, 4.0), [GOOD[0], lone])
    assert reading.mean[1].isnan().all() and torch.isfinite(reading.mean[0]).all()
    made = diff_mean(Site(tiny_llm, LAYER, 4.0), [*GOOD[:8], lone], BAD[:8], test=(GOOD[8:], BAD[8:]))
    assert made.n_train == 16 and torch.isfinite(made.vector).all()


def test_reading_many_texts_at_once_is_reading_each(tiny_llm, monkeypatch):
    texts = ["He", *GOOD[:3], "A model of the mind is not the mind, but it may be useful."]
    together = TextReading.of(Site(tiny_llm, LAYER, 4.0), texts)
    monkeypatch.setattr("glp_core.llm.site.tokens_per_forward", lambda _device, _width: 1)
    alone = TextReading.of(Site(tiny_llm, LAYER, 4.0), texts)
    torch.testing.assert_close(together.last, alone.last, atol=1e-4, rtol=1e-3)
    torch.testing.assert_close(together.mean, alone.mean, atol=1e-4, rtol=1e-3)


def test_the_probe_in_activation_space_is_sklearns_on_standardised_activations():
    labels = np.repeat([0, 1], 40)
    means = seeded(80, 6) * torch.tensor([0.1, 1, 10, 1, 1, 1]) + torch.tensor([5.0, 0, 0, 0, -3, 0])
    means[40:, 1] += 1.5
    weight, bias = fit_probe(means, labels, l2=2.0)
    classifier = LogisticRegression(C=0.25, class_weight="balanced", max_iter=2000)
    pipeline = make_pipeline(StandardScaler(), classifier).fit(means.numpy(), labels)
    got = torch.sigmoid(means @ weight + bias)
    np.testing.assert_allclose(got.numpy(), pipeline.predict_proba(means.numpy())[:, 1], atol=1e-3)
    assert roc_auc_score(labels, got.numpy()) > 0.8


def test_a_stored_direction_comes_back_the_same(direction, tmp_path):
    back = Direction.load(direction.save(tmp_path))
    assert torch.equal(back.vector, direction.vector) and torch.equal(back.probe_weight, direction.probe_weight)
    assert back.probe_bias == pytest.approx(direction.probe_bias)
    for name in ("name", "title", "layer", "median_norm", "auroc", "how", "n_train", "n_test", "probe_auroc"):
        assert getattr(back, name) == getattr(direction, name)
    acts = seeded(3, tiny.WIDTH)
    torch.testing.assert_close(back.concept(acts), direction.concept(acts))
    assert ((back.concept(acts) > 0) & (back.concept(acts) < 1)).all()


@pytest.mark.parametrize("damage", ["missing", "pickle", "other tensors", "no facts", "nan", "not json"])
def test_files_that_are_no_direction_are_refused(direction, tmp_path, damage):
    path = tmp_path / "d.safetensors"
    tensors = {"vector": torch.ones(4), "probe_weight": torch.ones(4), "probe_bias": torch.zeros(1)}
    if damage == "pickle":
        torch.save(tensors, path)
    elif damage == "other tensors":
        save_file({"x": torch.ones(3)}, path)
    elif damage == "no facts":
        save_file(tensors, path)
    elif damage == "nan":
        path = direction.save(tmp_path)
        facts = {
            "direction": json.dumps({k: getattr(direction, k) for k in ("name", "title", "layer", "median_norm", "auroc")})
        }
        save_file(tensors | {"vector": torch.full((4,), torch.nan)}, path, metadata=facts)
    elif damage == "not json":
        save_file(tensors, path, metadata={"direction": "{"})
    with pytest.raises(GlpError):
        Direction.load(path)


def test_a_quarter_is_held_out_when_no_test_texts_are_given(tiny_llm):
    made = diff_mean(Site(tiny_llm, LAYER, 4.0), GOOD, BAD)
    assert (made.n_train, made.n_test) == (18, 6)
    assert torch.equal(made.vector, diff_mean(Site(tiny_llm, LAYER, 4.0), GOOD, BAD).vector)


@pytest.mark.parametrize(
    ("positive", "negative", "words"),
    [(GOOD[:1], BAD, "at least two"), ([*GOOD, ""], BAD, "no tokens"), (GOOD, GOOD, "texts of both are the same")],
)
def test_texts_that_make_no_direction_are_refused(tiny_llm, positive, negative, words):
    with pytest.raises(GlpError, match=words):
        diff_mean(Site(tiny_llm, LAYER, 4.0), positive, negative, test=(GOOD[:2], BAD[:2]))


def test_a_persona_is_the_difference_of_mean_answer_activations(tiny_llm):
    persona = Persona("odd", "Odd", "You are a cat.", "You are a film.", "Write as a cat.")
    questions = [f"What of {word}?" for word in ("rain", "mat", "mind", "film", "cat", "model")]
    made = make_persona(Site(tiny_llm, LAYER, 4.0), persona, questions=questions)
    means = []
    for system in (persona.system, persona.opposite):
        spans = []
        for question in [q for i, q in enumerate(questions) if i % 3 != 2]:
            messages = [{"role": "system", "content": system}, {"role": "user", "content": question}]
            ids = tiny_llm.encode_chat(messages)
            written = tiny_llm.model.generate(torch.tensor([ids]), do_sample=False, max_new_tokens=ANSWER_TOKENS)[0]
            ended = [i for i, t in enumerate(written.tolist()) if i > len(ids) and t in tiny_llm.stop_ids]
            written = written[: ended[0]] if ended else written
            spans.append(tiny_llm.activations([written.tolist()], LAYER)[0][len(ids) :].mean(0))
        means.append(torch.stack(spans).mean(0))
    difference = means[0] - means[1]
    torch.testing.assert_close(made.vector, difference / difference.norm(), atol=1e-3, rtol=1e-2)
    assert (made.n_train, made.n_test) == (8, 4)


def test_every_shipped_direction_has_its_recipe_and_tells_its_classes_apart(demo):
    assert set(demo.direction_names()) == {one.name for one in (*RECIPES, *PERSONAS)}
    for name in demo.direction_names():
        shipped = demo.direction(name)
        assert (shipped.layer, shipped.median_norm) == (demo.layer, pytest.approx(demo.median_norm))
        assert float(shipped.vector.norm()) == pytest.approx(1, abs=1e-4)
        assert shipped.auroc > 0.7 and shipped.probe_auroc > 0.7 and shipped.n_test >= 30


def test_recipes_have_names_of_their_own_and_tasks_that_exist():
    names = [one.name for one in (*RECIPES, *PERSONAS)]
    assert len(set(names)) == len(names) and len(RECIPES) >= 7 and len(PERSONAS) >= 3
    known = {one.name for one in corpus.tasks()}
    assert {pool.task for recipe in RECIPES for pool in (*recipe.positive, *recipe.negative)} <= known


def test_a_recipe_reads_train_rows_to_make_and_test_rows_to_measure(tiny_llm, monkeypatch):
    read = []
    reading_of = TextReading.of
    monkeypatch.setattr(TextReading, "of", lambda site, texts, **kw: read.append(list(texts)) or reading_of(site, texts))
    recipe = replace(next(one for one in RECIPES if one.name == "positive-sentiment"), n_train=12, n_test=6)
    made = make(recipe, PoolReader(Site(tiny_llm, LAYER, 4.0)))
    one = corpus.task("92_glue_sst2")
    for texts, split, label in zip(read, ("train", "train", "test", "test"), (1, 0, 1, 0), strict=True):
        rows = corpus.task_rows(one, split)
        assert set(texts) <= set(rows["text"][rows["label"] == label])
    assert (made.n_train, made.n_test) == (24, 12)
    assert made.vector.norm() == pytest.approx(1, abs=1e-5)
