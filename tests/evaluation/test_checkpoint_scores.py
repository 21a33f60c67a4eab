"""Scores of checkpoints: what each is, that none is computed twice, and that values measured in two ways never mix."""

import numpy as np
import pandas as pd
import pytest
import torch

from glp_core.data.collecting import collect
from glp_core.data.corpus import Document, Task
from glp_core.data.probe_activations import Caps, ProbeActivations, digest, last_token_activations
from glp_core.errors import GlpError
from glp_core.evaluation import checkpoint_scores
from glp_core.evaluation.checkpoint_scores import Scorer, score_run
from glp_core.files import write_json
from glp_core.llm.site import Site
from glp_core.neuron_index.neuron_data import NOISE_FREE
from glp_core.neuron_index.reading import read_neurons
from glp_core.neurons import probing_score
from glp_core.prior.checkpoint import load_glp, save_glp
from glp_core.prior.projection import make_projector
from glp_core.stats import repeated_share
from glp_core.steering.generation import Arm, Sampling, clean_reading, generate
from glp_core.steering.trials import text_scores
from glp_core.steering.trials.outcomes import UNSTEERED, Outcome
from tests.support import pages, tiny

DOCUMENTS = [Document(f"The cat number {i} sat on the mat and looked at rain {i * i}.", "made up") for i in range(120)]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A workspace, its tiny LLM, a store, and a training folder with two checkpoints."""
    home = tmp_path_factory.mktemp("scores")
    workspace, llm = pages.make_workspace(home / "workspace"), tiny.make_tiny_llm()
    store = collect(llm, workspace.layer, DOCUMENTS[:60], DOCUMENTS[60:], home / "store", n_activations=500)
    folder = home / "run"
    covariance = store.statistics()["covariance"]
    for seed, (name, seen) in enumerate([("checkpoints/activations_1024", 1024), ("final", 2048)]):
        save_glp(tiny.tiny_glp(seed=seed), folder, checkpoint=name, about={"activations_seen": seen}, covariance=covariance)
    return workspace, llm, store, folder


@pytest.fixture
def scorer(made, monkeypatch, tmp_path):
    workspace, llm, store, folder = made
    monkeypatch.setattr(type(workspace), "load_llm", lambda _self: llm)
    monkeypatch.setattr(type(workspace), "documents", lambda _self, _split: DOCUMENTS[60:])
    for name in ("evals.csv", "evals.json"):
        (folder / name).unlink(missing_ok=True)
    more = {"samples": 100, "n_documents": 4, "tokens": 12, "probing": tmp_path / "probing"}
    return Scorer(workspace, store, direction="positive", prefixes=3, strengths=(1.5,), **more)


def test_every_checkpoint_gets_every_score_once(made, scorer, monkeypatch):
    folder = made[3]
    monkeypatch.setattr(Scorer, "probing_set", planted_set())
    score_run(folder, scorer, list(checkpoint_scores.WAYS))
    table = pd.read_csv(folder / "evals.csv").set_index("activations")
    assert table.index.tolist() == [1024, 2048] and table.notna().all().all()
    assert (table["frechet"] > 0).all() and table["real_real"].nunique() == 1
    assert table["steering"].between(0, 1).all() and table["probing"].between(0.4, 1).all()
    for name in checkpoint_scores.WAYS:
        monkeypatch.setitem(checkpoint_scores.WAYS, name, lambda *_: pytest.fail("scored twice"))
    score_run(folder, scorer, list(checkpoint_scores.WAYS))


def test_a_killed_scoring_keeps_what_was_measured_and_goes_on(made, scorer, monkeypatch):
    folder, asked = made[3], []

    def dies_once(_scorer, glp):
        asked.append(glp)
        if len(asked) == 2:
            raise KeyboardInterrupt
        return {"delta_lm": float(len(asked))}

    monkeypatch.setitem(checkpoint_scores.WAYS, "delta_lm", dies_once)
    with pytest.raises(KeyboardInterrupt):
        score_run(folder, scorer, ["delta_lm"])
    assert pd.read_csv(folder / "evals.csv")["delta_lm"].tolist() == [1.0]
    score_run(folder, scorer, ["delta_lm"])
    assert pd.read_csv(folder / "evals.csv")["delta_lm"].tolist() == [1.0, 3.0]


def test_values_measured_otherwise_are_refused_or_measured_again(made, scorer, monkeypatch):
    folder, workspace, store = made[3], made[0], made[2]
    monkeypatch.setitem(checkpoint_scores.WAYS, "frechet", lambda one, _glp: {"frechet": float(one.samples), "real_real": 1.0})
    score_run(folder, scorer, ["frechet"])
    other = Scorer(workspace, store, samples=50)
    with pytest.raises(GlpError, match="'samples': 100.*--again"):
        score_run(folder, other, ["frechet"])
    score_run(folder, other, ["frechet"], again=True)
    assert pd.read_csv(folder / "evals.csv")["frechet"].tolist() == [50.0, 50.0]
    (folder / "evals.json").unlink()
    with pytest.raises(GlpError, match="were not recorded"):
        score_run(folder, other, ["frechet"])
    with pytest.raises(GlpError, match="not known"):
        score_run(folder, other, ["beauty"])


def planted_set(n=240, informative=True):
    """Return a probing set of two tasks over random activations: the labels follow one neuron of the tiny GLP, or nothing."""
    rng = np.random.default_rng(0)
    acts = torch.from_numpy(3 * rng.standard_normal((n, tiny.WIDTH))).float()
    neurons = read_neurons(tiny.tiny_glp(), acts, NOISE_FREE)
    rows = []
    for task in range(2):
        labels = (
            (neurons[:, 7 + task] > neurons[:, 7 + task].median()).numpy().astype(int) if informative else rng.integers(0, 2, n)
        )
        places = np.split(np.arange(n), [n // 2, 3 * n // 4])
        rows.append(probing_score.TaskRows(*(part for place in places for part in (place, labels[place]))))
    return probing_score.ProbingSet(acts, rows)


def test_the_probing_score_is_the_test_auc_of_the_neuron_that_validation_chooses():
    glp = tiny.tiny_glp()
    found = planted_set()
    neurons = read_neurons(glp, found.acts, NOISE_FREE).bfloat16().float().numpy()
    expected = []
    for rows in found.rows:
        train = neurons[rows.train]
        signs = np.sign(train[rows.train_labels == 1].mean(0) - train[rows.train_labels == 0].mean(0))
        auc = [brute_auc(neurons[rows.validation, j] * signs[j], rows.validation_labels) for j in range(neurons.shape[1])]
        best = int(np.argmax(auc))
        expected.append(brute_auc(neurons[rows.test, best] * signs[best], rows.test_labels))
    score = probing_score.mean_auc(glp, found)
    assert score == pytest.approx(np.mean(expected), abs=1e-6)
    assert score > 0.95 and probing_score.mean_auc(glp, planted_set(informative=False)) < 0.7


def brute_auc(values, labels):
    positive, negative = values[labels == 1][:, None], values[labels == 0][None]
    return float((positive > negative).mean() + 0.5 * (positive == negative).mean())


def test_the_subset_is_at_least_20_of_the_113_tasks_and_always_the_same():
    names = [task.name for task in probing_score.subset()]
    assert len(names) == len(set(names)) == 23
    assert names[0] == "5_hist_fig_ismale" and names[-1] == "161_agnews_0"


def test_the_probing_set_runs_only_texts_that_the_folder_lacks(tiny_llm, tmp_path, monkeypatch):
    texts = [f"text number {i} on {'cats' if i % 2 else 'rain'}" for i in range(24)]
    splits = ["train"] * 12 + ["validation"] * 6 + ["test"] * 6
    frame = pd.DataFrame({"text": texts, "label": [i % 2 for i in range(24)], "split": splits, "rank": range(24)})
    frame["key"] = [digest(text) for text in texts]
    monkeypatch.setattr(probing_score, "subset", lambda: (Task("1_a", "a", "a.csv"), Task("2_b", "b", "b.csv")))
    monkeypatch.setattr(probing_score, "sampled_rows", lambda task, _caps: frame if task.name == "1_a" else frame.iloc[::-1])
    found = probing_score.probing_set(tmp_path, lambda: Site(tiny_llm, 2, 1e9), caps=Caps(12, 6, 6))
    assert len(found.acts) == 24 and len(ProbeActivations(tmp_path).row) == 24
    alone = last_token_activations(Site(tiny_llm, 2, 1e9), [texts[13]], max_tokens=128)["layer"]
    place = found.rows[0].validation[1]
    torch.testing.assert_close(found.acts[place : place + 1], alone, atol=1e-5, rtol=1e-4)
    again = probing_score.probing_set(tmp_path, lambda: pytest.fail("the LLM is not needed"), caps=Caps(12, 6, 6))
    assert again.acts.equal(found.acts) and (again.rows[1].test == found.rows[1].test).all()


def outcome(arm, strength, concept, log_probability, repeated):
    return Outcome(0, arm, strength, "", concept, log_probability, 0.0, repeated, 0.0, 0.0)


@pytest.mark.parametrize(
    ("steered", "wanted"),
    [
        ((0.2, -2.0, 0.1), 0.5),  # the push was undone
        ((1.0, -2.0, 0.1), 1.0),  # all concept, text as likely and as new
        ((0.6, -2.0, 0.1), 0.75),
        ((1.0, -0.1, 1.0), 0.5),  # likely because it repeats itself
        ((0.2, -2.0 - np.log(2), 0.1), 0.25),  # half as likely a token
        ((0.0, -50.0, 1.0), 0.0),
        ((np.nan, np.nan, 1.0), 0.0),  # no text at all
    ],
)
def test_the_steering_score_by_hand(steered, wanted):
    plain = outcome(UNSTEERED, 0.0, 0.2, -2.0, 0.1)
    assert text_scores.score([plain, outcome("glp", 1.5, *steered)]) == pytest.approx(wanted)


def test_strengths_count_equally_and_prefixes_within_them():
    outcomes = [outcome(UNSTEERED, 0.0, 0.0, -2.0, 0.0), outcome(UNSTEERED, 0.0, 0.0, -2.0, 0.0)]
    outcomes += [outcome("glp", 1.2, 1.0, -2.0, 0.0)] * 2
    outcomes += [outcome("glp", 1.6, 0.0, -2.0, 1.0), outcome("glp", 1.6, 1.0, -2.0, 1.0)]
    assert text_scores.score(outcomes) == pytest.approx((1.0 + 0.25) / 2)


def test_the_steering_score_is_of_texts_written_with_the_checkpoint(made, scorer):
    workspace, llm, _, folder = made
    glp, direction = load_glp(folder), workspace.direction("positive")
    projector = make_projector("glp", glp=glp, noise_level=0.5, steps=3, solver="radau")
    cells = {}
    for name, arm in (("plain", Arm("a")), ("glp", Arm("a", direction.vector, 1.5, projector))):
        numbers = []
        for i, prefix in enumerate(scorer.texts):
            ids = llm.encode(prefix)
            steps = list(generate(direction.site(llm), ids, [arm], Sampling(24, seed=i)))
            tokens = [step.token for step in steps if step.token not in llm.stop_ids]
            (read,), mean = clean_reading(direction.site(llm), ids, [tokens])
            numbers.append((float(direction.concept(mean)), np.mean(read), repeated_share(tokens, 2)))
        cells[name] = np.mean(numbers, axis=0)
    (c0, l0, r0), (c1, l1, r1) = cells["plain"], cells["glp"]
    concept = min(1, max(0, (c1 - c0) / (1 - c0)))
    fluency = min(1, np.exp(l1 - l0)) * min(1, (1 - r1) / (1 - r0))
    assert scorer.steering(glp)["steering"] == pytest.approx((concept + fluency) / 2, abs=2e-3)
    assert [(one.arm, one.prefix) for one in scorer.unsteered] == [(UNSTEERED, 0), (UNSTEERED, 1), (UNSTEERED, 2)]


def test_senseless_steering_settings_are_refused(made, scorer, tmp_path):
    workspace, llm, store, folder = made
    with pytest.raises(GlpError, match="above 1, got 0.8"):
        text_scores.steering_score(llm, workspace.direction("up"), load_glp(folder), ["The"], [], strengths=(1.5, 0.8))
    with pytest.raises(GlpError, match="--prefixes is 101"):
        _ = Scorer(workspace, store, prefixes=101).texts
    own = pages.make_workspace(tmp_path / "own")
    write_json(own.folder / "prefixes.json", ["the cat", "a film", "rain"])
    assert Scorer(own, store, prefixes=2).texts == ["the cat", "a film"], "not the demo's"
    with pytest.raises(GlpError, match="No direction"):
        _ = Scorer(workspace, store, direction="nowhere").steered_direction


def test_delta_lm_of_a_checkpoint_is_a_rise_that_repeats(made, scorer):
    glp = load_glp(made[3])
    found = scorer.delta_lm(glp)["delta_lm"]
    assert found == scorer.delta_lm(glp)["delta_lm"] != 0
    assert torch.isfinite(scorer.base).all()
