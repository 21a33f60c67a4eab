"""Directions against their definitions written out, rank formulas and sklearn; personas on a tiny model; files that are none."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from glp_core.data import corpus
from glp_core.data.text_activations import TextReading
from glp_core.errors import GlpError
from glp_core.files import tensor_header
from glp_core.llm.site import Site
from glp_core.steering.direction_facts import DirectionFacts
from glp_core.steering.directions import Direction
from glp_core.steering.origins.fitting import direction_from, fit_probe
from glp_core.steering.origins.from_texts import direction_of_texts
from glp_core.steering.origins.personas import direction_of_instructions, make_persona
from glp_core.steering.origins.questions import ANSWER_TOKENS
from glp_core.steering.origins.recipes import PERSONAS, RECIPES, Persona, PoolReader, make
from tests.support import tiny

LAYER = 1
GOOD = [f"She said that the film was wonderful {i}" for i in range(12)]
BAD = [f"He said that it was dull {i}" for i in range(12)]


def seeded(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module")
def direction(tiny_llm):
    return direction_of_texts(Site(tiny_llm, LAYER, 4.0), GOOD, BAD, name="good").direction


def last_tokens(llm, texts):
    return torch.stack([llm.activations([llm.encode(text)], LAYER)[0][-1] for text in texts])


def test_a_direction_is_the_difference_of_mean_last_token_activations(tiny_llm, direction):
    difference = last_tokens(tiny_llm, GOOD).mean(0) - last_tokens(tiny_llm, BAD).mean(0)
    torch.testing.assert_close(direction.vector, difference / difference.norm(), atol=1e-4, rtol=1e-3)
    assert (direction.n_train, direction.n_test, direction.layer, direction.median_norm) == (24, 24, LAYER, 4.0)


def test_a_direction_of_mean_activations_is_that(tiny_llm):
    made = direction_of_texts(Site(tiny_llm, LAYER, 4.0), GOOD, BAD, pooling="mean", labels=("good", "bad"))
    means = [TextReading.of(Site(tiny_llm, LAYER, 4.0), texts).mean.mean(0) for texts in (GOOD, BAD)]
    difference = means[0] - means[1]
    torch.testing.assert_close(made.direction.vector, difference / difference.norm(), atol=1e-4, rtol=1e-3)
    assert made.direction.about["pooling"] == "mean"
    assert made.direction.about["classes"][0] == {"label": "good", "n": 12, "examples": GOOD[:3]}


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


def test_means_leave_out_the_first_token_and_massive_activations(tiny_llm, monkeypatch):
    text = GOOD[0]
    acts = tiny_llm.activations([tiny_llm.encode(text)], LAYER)[0][1:]
    torch.testing.assert_close(TextReading.of(Site(tiny_llm, LAYER, 4.0), [text]).mean[0], acts.mean(0), atol=1e-4, rtol=1e-3)
    massive = acts[:, 0] >= acts[-1, 0] - 1e-3
    assert massive[-1] and 2 <= massive.sum() <= len(massive) - 2
    monkeypatch.setattr(Site, "is_massive", lambda _site, found: found[..., 0] >= acts[-1, 0] - 1e-3)
    reading = TextReading.of(Site(tiny_llm, LAYER, 4.0), [text])
    torch.testing.assert_close(reading.mean[0], acts[~massive].mean(0), atol=1e-4, rtol=1e-3)
    torch.testing.assert_close(reading.last[0], acts[~massive][-1], atol=1e-4, rtol=1e-3)


def test_texts_of_massive_activations_alone_are_left_out(tiny_llm, monkeypatch):
    monkeypatch.setattr(Site, "is_massive", lambda _site, acts: torch.full((len(acts),), len(acts) == 1))
    lone = tiny_llm.tokenizer.decode([9])
    reading = TextReading.of(Site(tiny_llm, LAYER, 4.0), [GOOD[0], lone])
    assert reading.mean[1].isnan().all() and torch.isfinite(reading.mean[0]).all()
    made = direction_of_texts(Site(tiny_llm, LAYER, 4.0), [*GOOD, lone], BAD).direction
    assert made.n_train == 24 and torch.isfinite(made.vector).all()


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
    for name in ("name", "title", "layer", "median_norm", "auroc", "how", "n_train", "n_test", "probe_auroc", "about"):
        assert getattr(back, name) == getattr(direction, name)
    acts = seeded(3, tiny.WIDTH)
    torch.testing.assert_close(back.concept(acts), direction.concept(acts))
    assert ((back.concept(acts) > 0) & (back.concept(acts) < 1)).all()


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        ("missing", "No direction at"),
        ("pickle", "is a pickle"),
        ("other tensors", "has no vector: it has x"),
        ("no facts", "does not say its direction \\(KeyError"),
        ("not json", "does not say its direction \\(JSONDecodeError"),
        ("nan", "vector holds values that are not finite"),
        ("half a probe", "the probe holds values that are not finite"),
    ],
)
def test_files_that_are_no_direction_are_refused(direction, tmp_path, damage, words):
    path = direction.save(tmp_path)
    tensors, facts = load_file(path), tensor_header(path).metadata
    save_file(tensors, path, metadata=facts)
    assert torch.equal(Direction.load(path).vector, direction.vector), "what is damaged below is whole before"
    if damage == "missing":
        path.unlink()
    elif damage == "pickle":
        torch.save(tensors, path)
    elif damage == "other tensors":
        save_file({"x": torch.ones(3)}, path, metadata=facts)
    elif damage == "no facts":
        save_file(tensors, path)
    elif damage == "not json":
        save_file(tensors, path, metadata={"direction": "{"})
    elif damage == "nan":
        save_file(tensors | {"vector": tensors["vector"].index_fill(0, torch.tensor([1]), torch.nan)}, path, metadata=facts)
    elif damage == "half a probe":
        save_file(tensors | {"probe_bias": torch.tensor([torch.nan])}, path, metadata=facts)
    with pytest.raises(GlpError, match=words):
        Direction.load(path)


def test_what_the_file_says_of_a_direction_is_read_without_torch_and_a_garbled_interval_is_refused(direction, tmp_path):
    facts = DirectionFacts.read(direction.save(tmp_path))
    assert list(facts.interval) == direction.about["auroc_ci"] and facts.about["classes"][1]["n"] == 12
    for interval in ([0.2, "x"], [0.9, 0.1], [0.1], "ab", 7):
        path = replace(direction, about={"auroc_ci": interval}).save(tmp_path)
        with pytest.raises(GlpError, match="is no direction"):
            DirectionFacts.read(path)


@pytest.mark.parametrize(
    ("positive", "negative", "words"),
    [
        (GOOD[:3], BAD, "at least 4 texts of each class"),
        ([*GOOD, ""], BAD, "no tokens"),
        (GOOD, GOOD, "texts of both are the same"),
    ],
)
def test_texts_that_make_no_direction_are_refused(tiny_llm, positive, negative, words):
    with pytest.raises(GlpError, match=words):
        direction_of_texts(Site(tiny_llm, LAYER, 4.0), positive, negative)


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


def test_a_direction_of_instructions_is_made_from_all_answers_and_keeps_some(tiny_llm):
    site, questions = Site(tiny_llm, LAYER, 4.0), [f"What of {word}?" for word in ("rain", "mat", "mind", "film", "cat")]
    made = direction_of_instructions(site, "You are a cat.", "You are a film.", questions, tokens=6)
    asked = [[{"role": "system", "content": "You are a cat."}, {"role": "user", "content": question}] for question in questions]
    wanted = tiny_llm.model.generate(torch.tensor([tiny_llm.encode_chat(asked[0])]), do_sample=False, max_new_tokens=6)
    [first] = wanted[:, len(tiny_llm.encode_chat(asked[0])) :].tolist()
    [kept, opposite] = made.direction.about["classes"]
    assert kept["label"] == "You are a cat." and opposite["label"] == "You are a film." and kept["n"] == 5
    assert kept["examples"][0] == tiny_llm.tokenizer.decode([one for one in first if one not in tiny_llm.stop_ids])
    assert (made.direction.n_train, len(made.evidence.scores)) == (10, 10)
    with pytest.raises(GlpError, match="Got 3 questions, wanted at least 4"):
        direction_of_instructions(site, "a", "b", questions[:3])
    with pytest.raises(GlpError, match="are the same"):
        direction_of_instructions(site, "a", " a ", questions)


def test_a_direction_of_long_instructions_can_be_kept_and_read(tiny_llm, tmp_path, monkeypatch):
    monkeypatch.setattr(tiny_llm.model.config, "max_position_embeddings", 2048)
    questions = [f"What of {word}?" for word in ("rain", "mat", "mind", "film")]
    systems = [f"You are a {word}. " + "the cat sat on a mat " * 55 for word in ("cat", "film")]
    made = direction_of_instructions(Site(tiny_llm, LAYER, 4.0), *systems, questions, tokens=3).direction
    kept = Direction.load(made.save(tmp_path))
    assert kept.how.count("You are a") == 2 and "…" in kept.how
    with pytest.raises(GlpError, match="wanted at most 2,000 characters"):
        replace(made, how="x" * 2001).save(tmp_path)


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
