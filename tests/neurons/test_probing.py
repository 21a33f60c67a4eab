"""One-dimensional probes against scikit-learn, the protocol on planted data, and the search for a person's own concept."""

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from glp_core.data.corpus import Task, split_of
from glp_core.data.probe_activations import (
    Caps,
    ProbeActivations,
    collect_probe_activations,
    digest,
    last_token_activations,
    mlp_neurons,
    sampled_rows,
)
from glp_core.errors import GlpError
from glp_core.llm.site import Site
from glp_core.neuron_index.neuron_data import Reading
from glp_core.neuron_index.reading import read_neurons
from glp_core.neurons.over_text import read_text
from glp_core.neurons.probes import fit_logistic, standardised_difference
from glp_core.neurons.probing import TaskRows, neuron_concepts, probe_task, summary, task_scores, validation_auc
from glp_core.neurons.search import find_neurons, held_out_auc, rank_neurons
from tests.support import tiny
from tests.support.second_device import second_device


def planted(n=300, m=40, seed=0, strength=1.5):
    """Features of noise, of which number 7 is higher and number 11 lower on the positive class."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 2, n)
    x = rng.standard_normal((n, m)) * rng.uniform(0.01, 30, m) + rng.standard_normal(m)
    x[:, 7] += strength * labels * x[:, 7].std()
    x[:, 11] -= 0.6 * labels * x[:, 11].std()
    return x.astype(np.float32), labels


def test_logistic_fits_are_those_of_scikit_learn():
    x, labels = planted()
    x[:, 3] = labels + 0.001 * x[:, 3]  # separable
    fits = fit_logistic(x, labels)
    for j in (0, 3, 7, 11, 20):
        z = (x[:, j : j + 1] - x[:, j].mean()) / x[:, j].std()
        reference = LogisticRegression(C=1.0, tol=1e-10, max_iter=1000).fit(z, labels)
        ours = fits.slope[j] * x[:, j] + fits.intercept[j]
        np.testing.assert_allclose(ours, reference.decision_function(z), atol=2e-3)
        assert roc_auc_score(labels, ours) == pytest.approx(roc_auc_score(labels, reference.predict_proba(z)[:, 1]), abs=1e-3)


def test_difference_is_in_pooled_standard_deviations():
    x = np.array([[0.0], [2.0], [10.0], [12.0]])
    assert standardised_difference(x, np.array([0, 0, 1, 1]))[0] == pytest.approx(10.0)


def rows_of(labels, seed=0):
    splits = np.random.default_rng(100 + seed).choice(["train", "validation", "test"], len(labels))
    return TaskRows.of(pd.DataFrame({"split": splits, "label": labels}), np.arange(len(labels)))


def test_protocol_finds_the_planted_feature_without_looking_at_test_rows():
    x, labels = planted(1500)
    rows = rows_of(labels)
    asked = []

    def features(which):
        asked.append(which)
        return x[which]

    result = probe_task(features, rows)
    assert (result.feature, result.sign) == (7, 1)
    assert result.test_auc == pytest.approx(roc_auc_score(labels[rows.test], x[rows.test, 7]))
    assert result.validation_auc == pytest.approx(roc_auc_score(labels[rows.validation], x[rows.validation, 7]))
    assert np.array_equal(asked[-1], rows.test) and not any(np.array_equal(a, rows.test) for a in asked[:-1])
    asked.clear()
    crossed = validation_auc(features, [rows])  # the planted feature is the best on either half, so both measure it
    assert abs(crossed - result.validation_auc) < 0.03
    assert not any(np.array_equal(a, rows.test) for a in asked)
    with pytest.raises(GlpError, match="one class only"):
        rows_of(np.zeros(90, int))


def test_summary_pairs_the_sets_task_by_task():
    x, labels = planted(900)
    weak = np.random.default_rng(5).standard_normal(x.shape).astype(np.float32)
    rows = {f"{i}_a_b": rows_of(labels, seed=i) for i in range(4)}
    every = [Task(name, "asks", "") for name in rows]
    results = {
        "glp": {name: probe_task(lambda w: x[w], mine) for name, mine in rows.items()},
        "mlp": {name: probe_task(lambda w: weak[w], mine) for name, mine in rows.items()},
    }
    report = summary(every, rows, results, d_mlp=5)
    differences = [results["glp"][n].test_auc - results["mlp"][n].test_auc for n in rows]
    assert report["paired_difference"] == pytest.approx(np.mean(differences))
    assert report["best_baseline"] == "mlp" and report["n_tasks"] == 4
    assert (
        min(differences)
        <= report["paired_difference_ci"][0]
        <= report["paired_difference"]
        <= report["paired_difference_ci"][1]
    )
    assert (report["rows"][0]["glp"]["layer"], report["rows"][0]["glp"]["unit"]) == (1, 2)
    assert report["rows"][0]["title"] == "a b"


def test_best_task_of_a_neuron_is_chosen_on_validation_and_measured_on_test():
    x, labels = planted(1200)
    rows = rows_of(labels)
    noise = rows_of(np.random.default_rng(9).integers(0, 2, 1200))
    found = neuron_concepts(lambda w: x[w], [noise, rows])
    assert found.best_task[7] == 1 and found.best_task[11] == 1
    assert found.best_auc[7] == pytest.approx(roc_auc_score(labels[rows.test], x[rows.test, 7]))
    assert found.best_auc[11] == pytest.approx(1 - roc_auc_score(labels[rows.test], x[rows.test, 11]))
    np.testing.assert_allclose(found.profile[1], standardised_difference(x[rows.train], labels[rows.train]))


def test_rows_are_balanced_capped_and_keep_their_split(monkeypatch):
    texts = [f"text number {i}" for i in range(400)]
    frame = pd.DataFrame({"text": texts, "label": [int(i % 4 == 0) for i in range(400)], "split": [split_of(t) for t in texts]})
    monkeypatch.setattr("glp_core.data.probe_activations.task_rows", lambda _task: frame.copy())
    rows = sampled_rows(Task("1_x", "", ""), Caps(train=40, validation=20, test=30))
    counts = rows.groupby(["split", "label"]).size()
    assert (
        counts["train"].tolist() == [20, 20]
        and counts["validation"].tolist() == [10, 10]
        and counts["test"].tolist() == [15, 15]
    )
    assert all(split_of(row.text) == row.split and digest(row.text) == row.key for row in rows.itertuples())
    fewer = sampled_rows(Task("1_x", "", ""), Caps(train=20, validation=20, test=30))
    assert set(fewer["text"]) < set(rows["text"])


def test_last_token_activations_are_those_of_each_text_alone(tiny_llm, tmp_path):
    texts = ["The cat sat", "on the mat and looked at the rain, then again at the mat", "a"]
    found = last_token_activations(Site(tiny_llm, 2, 1e9), texts, max_tokens=12)
    block = tiny_llm.model.model.layers[2]
    for i, text in enumerate(texts):
        ids = torch.tensor([tiny_llm.encode(text, max_tokens=12)])
        seen = []
        handle = block.mlp.register_forward_hook(lambda _m, _i, output, seen=seen: seen.append(output))
        states = tiny_llm.model(ids, output_hidden_states=True).hidden_states
        handle.remove()
        torch.testing.assert_close(found["layer"][i], states[3][0, -1], atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(block.mlp.down_proj(found["mlp"][i]), seen[0][0, -1], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("kind", ["gpt2", "gpt_neox", "opt", "opt_350m", "mpt", "gemma2", "falcon_h1"])
def test_last_token_activations_are_rows_of_neurons_in_every_family(kind):
    llm, texts = tiny.make_tiny_llm(kind), ["The cat sat", "on the mat and looked at the rain"]
    found = last_token_activations(Site(llm, 2, 1e9), texts, max_tokens=12)
    with mlp_neurons(llm.model, 2) as seen:
        llm.model(torch.tensor([llm.encode(texts[1], max_tokens=12)]), use_cache=False)
    torch.testing.assert_close(found["mlp"][1], seen[0].reshape(-1, seen[0].shape[-1])[-1], atol=1e-5, rtol=1e-4)
    assert found["mlp"].shape == (2, seen[0].shape[-1]) and found["layer"].shape == (2, tiny.WIDTH)


@pytest.mark.parametrize(("kind", "neurons"), [("mixtral", False), ("mamba", False), ("qwen3_next", True)])
def test_of_a_layer_without_an_mlp_for_all_tokens_no_neurons_are_read(kind, neurons):
    llm = tiny.make_tiny_llm(kind)
    found = last_token_activations(Site(llm, 2, 1e9), ["The cat sat", "a"], max_tokens=12)
    assert found["layer"].shape == (2, tiny.WIDTH) and len(found["mlp"]) == 2 and bool(found["mlp"].shape[1]) == neurons


def test_last_token_activations_may_come_from_another_device_than_the_texts(tiny_llm, monkeypatch):
    texts = ["The cat sat", "on the mat and looked at the rain"]
    whole = last_token_activations(Site(tiny_llm, 2, 1e9), texts, max_tokens=12)
    spread = tiny.make_tiny_llm()
    spread.model.register_forward_pre_hook(
        lambda _model, args, kwargs: (args, {name: v.cpu() if torch.is_tensor(v) else v for name, v in kwargs.items()}),
        with_kwargs=True,
    )
    with second_device() as second:
        monkeypatch.setattr(spread, "pad", lambda rows: tuple(one.to(second) for one in tiny_llm.pad(rows)))
        found = last_token_activations(Site(spread, 2, 1e9), texts, max_tokens=12)
    assert torch.equal(found["mlp"], whole["mlp"]) and torch.equal(found["layer"], whole["layer"])


def test_probe_activations_go_on_where_they_were(tiny_llm, tmp_path, monkeypatch):
    monkeypatch.setattr("glp_core.data.probe_activations.TEXTS_PER_PART", {"cpu": 2})
    rows = pd.DataFrame({"text": ["one cat", "two cats", "three", "one cat", "five"], "rank": [0, 0, 1, 0, 1]})
    rows["key"] = [digest(t) for t in rows["text"]]

    def die(done, _total, _words):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        collect_probe_activations(Site(tiny_llm, 2, 1e9), rows, tmp_path, max_tokens=16, progress=die)
    assert len(ProbeActivations(tmp_path).row) == 2
    steps = []
    have = collect_probe_activations(
        Site(tiny_llm, 2, 1e9), rows, tmp_path, max_tokens=16, progress=lambda *s: steps.append(s[:2])
    )
    assert steps == [(4, 4)] and len(have.row) == 4
    place = have.rows([digest("three")])
    with pytest.raises(GlpError, match="Choose another folder"):
        collect_probe_activations(Site(tiny_llm, 1, 1e9), rows, tmp_path, max_tokens=16)
    alone = last_token_activations(Site(tiny_llm, 2, 1e9), ["three"], max_tokens=16)
    torch.testing.assert_close(have.layer[place], alone["layer"], atol=1e-5, rtol=1e-4)


def test_search_finds_a_planted_neuron_and_says_how_sure_it_is():
    x, labels = planted(60, m=500, strength=3.0)
    order = np.argsort(-labels, kind="stable")
    found = rank_neurons(x[order], labels[order], [""] * 60, 100, k=10, folds=5, permutations=200, seed=0)
    best = found.neurons[0]
    assert (best.layer, best.neuron, best.sign) == (0, 7, 1)
    assert best.auc == pytest.approx(roc_auc_score(labels, x[:, 7]))
    assert best.p_value == pytest.approx(1 / 201) and found.p_value == best.p_value
    assert best.folds >= 4 and found.cross_validated.low <= found.cross_validated.value <= found.cross_validated.high
    assert found.cross_validated.value > 0.9


def test_search_in_noise_finds_nothing():
    rng = np.random.default_rng(3)
    p_values, scores = [], []
    for seed in range(8):
        found = rank_neurons(
            rng.standard_normal((40, 300)), np.repeat([1, 0], 20), [""] * 40, 300, k=3, folds=5, permutations=99, seed=seed
        )
        assert found.neurons[0].auc > 0.7  # looks good, as the best of 300 does
        p_values.append(found.p_value)
        scores.append(found.cross_validated.value)
    assert np.mean(p_values) > 0.2 and 0.35 < np.mean(scores) < 0.65


def test_find_neurons_reads_last_tokens_and_refuses_bad_groups(tiny_llm, tiny_glp):
    positive = [f"the cat sat on mat {i}" for i in range(6)]
    negative = [f"she said that film was dull {i}" for i in range(7)]
    reading = Reading()
    found = find_neurons(Site(tiny_llm, 2, 1e9), tiny_glp, [*positive, " "], negative, reading, permutations=50)
    assert (found.n_positive, found.n_negative, len(found.neurons), len(found.labels)) == (6, 7, 10, 13)
    best = found.neurons[0]
    acts = tiny_llm.activations([tiny_llm.encode(positive[0])], 2)[0][-1:]
    expected = read_neurons(tiny_glp, acts, reading)[0, best.layer * tiny_glp.d_mlp + best.neuron]
    assert best.values[0] == pytest.approx(float(expected), abs=1e-4)
    with pytest.raises(GlpError, match="wanted at least 5"):
        find_neurons(Site(tiny_llm, 2, 1e9), tiny_glp, positive[:4], negative, reading)
    with pytest.raises(GlpError, match="stand in both groups"):
        find_neurons(Site(tiny_llm, 2, 1e9), tiny_glp, positive, [*negative, positive[0]], reading)
    with pytest.raises(GlpError, match="Stopped"):
        find_neurons(Site(tiny_llm, 2, 1e9), tiny_glp, positive, negative, reading, cancelled=lambda: True)


def test_neurons_over_text_equal_the_glp_and_rank_both_signs(tiny_llm, tiny_glp):
    text = "the naïve cat 🙂 sat on the mat"
    neurons = read_text(Site(tiny_llm, 2, 1e9), tiny_glp, text, Reading())
    acts = tiny_llm.activations([tiny_llm.encode(text)], 2)[0][1:]
    expected = tiny_glp.neurons(acts, sigma=0.2, noise=0).flatten(1)
    np.testing.assert_allclose(neurons.values, expected.numpy(), atol=1e-5)
    assert "".join(neurons.pieces) == text and len(neurons.ids) == len(acts)
    assert np.abs(neurons.normalised).max() == pytest.approx(1.0)
    tail = np.full(128, 2.0, np.float32)
    tail[5] = 0
    scaled = read_text(Site(tiny_llm, 2, 1e9), tiny_glp, text, Reading(), tail=tail)
    with pytest.raises(GlpError, match="The index is of 100 neurons, the prior has 128: it was made with another one"):
        read_text(Site(tiny_llm, 2, 1e9), tiny_glp, text, Reading(), tail=tail[:100])
    v = expected.numpy()
    by_hand = v / 2
    by_hand[:, 5] = 0
    np.testing.assert_allclose(scaled.normalised, by_hand, atol=1e-6)
    first = scaled.strongest([2, 4], k=3)
    strength = np.abs(by_hand[[2, 4]].mean(0))
    assert [f.layer * 64 + f.neuron for f in first] == np.argsort(-strength)[:3].tolist()
    hidden = np.zeros(128, bool)
    hidden[first[0].layer * 64 + first[0].neuron] = True
    assert first[0] not in scaled.strongest([2, 4], k=128, hidden=hidden)
    assert {f.layer for f in scaled.strongest(k=20, layers=[1])} == {1}
    each = scaled.per_token(k=4)
    assert [f.layer * 64 + f.neuron for f in each[3]] == np.argsort(-np.abs(by_hand[3]))[:4].tolist()


def test_massive_tokens_have_no_values(tiny_llm, tiny_glp):
    text = "the cat sat on the mat"
    acts = tiny_llm.activations([tiny_llm.encode(text)], 2)[0][1:]
    norm = float(acts.norm(dim=-1).median())
    neurons = read_text(Site(tiny_llm, 2, norm / 10), tiny_glp, text, Reading())
    assert neurons.massive.any() and not neurons.massive.all()
    assert np.isnan(neurons.values[neurons.massive]).all() and np.isfinite(neurons.values[~neurons.massive]).all()
    assert neurons.per_token()[int(neurons.massive.argmax())] == []
    assert neurons.strongest([int(neurons.massive.argmax())]) == []
    with pytest.raises(GlpError, match="no tokens"):
        read_text(Site(tiny_llm, 2, 1.0), tiny_glp, "", Reading())


def test_scores_that_were_not_made_are_asked_for(tmp_path):
    class Empty:
        neurons = tmp_path

    with pytest.raises(GlpError, match="python -m glp_core probe"):
        task_scores(Empty(), "1_x")
    frame = pd.DataFrame({"task": ["1_x", "2_y", "1_x"], "value": [1.0, 2.0, 3.0], "label": [1, 0, 0]})
    frame.astype({"task": "category"}).to_parquet(tmp_path / "task_scores.parquet")
    scores = task_scores(Empty(), "1_x")
    assert scores.values.tolist() == [1.0, 3.0] and scores.labels.tolist() == [1, 0]
    with pytest.raises(GlpError, match="was not probed"):
        task_scores(Empty(), "3_z")


def test_texts_that_are_told_apart_perfectly_still_have_an_interval():
    values = np.repeat([1.0, 0.0], 12)[:, None] + 0.01 * np.random.default_rng(0).standard_normal((24, 5))
    found = rank_neurons(values, np.repeat([1, 0], 12), [""] * 24, 5, k=2, folds=4, permutations=20, seed=0)
    assert found.cross_validated.value == 1 == found.cross_validated.high and 0.7 < found.cross_validated.low < 0.99


def test_combined_neurons_tell_apart_what_one_alone_cannot():
    rng = np.random.default_rng(0)
    labels = np.repeat([1, 0], 60)
    neurons = rng.standard_normal((120, 30))
    neurons[:, 3] += 1.5 * labels  # three weak neurons, one of them low on the positive texts
    neurons[:, 8] -= 1.5 * labels
    neurons[:, 20] += 1.5 * labels
    alone, three = held_out_auc(neurons, labels), held_out_auc(neurons, labels, 3)
    assert 0.6 < alone.value < three.value and three.value > 0.9
    assert held_out_auc(rng.standard_normal((120, 30)), labels, 3).low < 0.5  # labels at random
