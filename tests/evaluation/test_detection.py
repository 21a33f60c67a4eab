"""Two-sample tests, AUROC, the bank and the five measures, on samples whose answer is known."""

import math

import numpy as np
import pytest
import torch

from glp_core.data.bank import Bank, nearest, spread
from glp_core.errors import GlpError
from glp_core.evaluation import detection
from glp_core.evaluation.measures import NAMES, Measures, percentiles, reference
from glp_core.evaluation.two_sample import logistic_test, neighbour_test
from glp_core.llm.site import Site
from glp_core.prior.distance import ManifoldMeter, make_reference
from tests.support import tiny


@pytest.fixture(scope="module")
def measures():
    glp = tiny.tiny_glp()
    acts = glp.denormalize(torch.randn(200, glp.d_input, generator=torch.Generator().manual_seed(0)))
    bank = Bank(acts.half().float(), torch.arange(200) // 4, [("a", f"t{i}", "b") for i in range(200)], {"llm": "tiny"})
    covariance = torch.diag(glp.normalizer.var[0])
    return Measures(ManifoldMeter(glp, make_reference(glp, acts)), covariance, bank)


def test_equal_samples_cannot_be_told_apart_and_shifted_ones_can():
    rng = np.random.default_rng(0)
    one, same, other = rng.normal(size=(400, 10)), rng.normal(size=(400, 10)), rng.normal(size=(400, 10)) + 1.0
    for test in (logistic_test, neighbour_test):
        found = test(one, same)
        assert found.share.low <= 0.5 <= found.share.high
        assert test(one, other).share.low > 0.75
    collapsed = neighbour_test(0.05 * one, other)
    assert collapsed.first > 0.95


def test_what_has_the_same_mean_and_covariance_is_found_by_neighbours_only():
    """Frechet distance and a linear classifier are blind to shape: points on a sphere against a normal distribution."""
    rng = np.random.default_rng(1)
    normal, sphere = rng.normal(size=(2, 600, 5))
    sphere *= math.sqrt(5) / np.linalg.norm(sphere, axis=1, keepdims=True)
    linear = logistic_test(sphere, normal)
    assert linear.share.low <= 0.53
    assert neighbour_test(sphere, normal).share.low > 0.53


def test_the_interval_covers_chance_under_no_difference():
    covered = 0
    for seed in range(150):
        rng = np.random.default_rng(seed)
        found = logistic_test(rng.normal(size=(100, 3)), rng.normal(size=(100, 3)), seed=seed)
        covered += found.share.low <= 0.5 <= found.share.high
    assert covered >= 132  # 95% would be 142; its standard deviation is 2.7


def test_samples_that_cannot_be_tested_are_refused():
    with pytest.raises(GlpError, match="at least 20"):
        logistic_test(np.zeros((5, 3)), np.zeros((5, 3)))
    with pytest.raises(GlpError, match="one width"):
        neighbour_test(np.zeros((50, 3)), np.zeros((50, 4)))
    with pytest.raises(GlpError, match="not finite"):
        neighbour_test(np.full((50, 3), np.nan), np.zeros((50, 3)))


def test_a_push_has_the_length_that_it_says():
    acts = torch.randn(10, 32)
    vectors = detection.random_directions(3, 32)
    moved = detection.shifted(acts, vectors, 1.5, 4.0) - acts
    assert torch.allclose(moved.norm(dim=1), torch.full((10,), 6.0), atol=1e-4)
    assert torch.allclose(moved[0], moved[3], atol=1e-5)


def test_nearest_neighbours_leave_out_the_own_document(measures):
    bank, glp = measures.bank, measures.meter.glp
    assert torch.allclose(nearest(glp, bank, bank.acts), torch.zeros(200), atol=2e-3)
    found = nearest(glp, bank, bank.acts[:5], own=bank.documents[:5])
    z = glp.normalize(bank.acts)
    for i in range(5):
        others = z[bank.documents != bank.documents[i]]
        assert found[i] == pytest.approx(float((others - z[i]).norm(dim=1).min()) / 32**0.5, rel=1e-4)


def test_every_measure_is_repeatable_and_larger_far_away(measures):
    acts = measures.bank.acts[:20]
    far = acts + 12 * measures.meter.glp.normalizer.std[0]
    for name in NAMES:
        near = measures.of(name, acts)
        assert torch.equal(near, measures.of(name, acts))
        if name != "displacement":  # a random network need not pull anything back
            assert float(measures.of(name, far).median()) > float(near.median()), name
        assert measures.of(name, acts[:0]).shape == (0,)
    with pytest.raises(GlpError, match="not known"):
        measures.of("taste", acts)


def test_displacement_is_how_far_the_projection_with_one_fixed_noise_moves_the_latent(measures):
    glp, acts = measures.meter.glp, measures.bank.acts[:9]
    noise = torch.randn(tiny.WIDTH, generator=torch.Generator().manual_seed(0)).expand(9, -1)
    moved = (glp.project(acts, 0.5, 20, noise=noise) - acts) / glp.normalizer.var[0].sqrt()
    torch.testing.assert_close(measures.of("displacement", acts), moved.square().mean(1).sqrt(), atol=1e-5, rtol=1e-3)


def test_mahalanobis_of_a_diagonal_covariance_is_the_root_mean_square_latent(measures):
    acts = measures.bank.acts[:9]
    z = measures.meter.glp.normalize(acts)
    assert torch.allclose(measures.of("mahalanobis", acts), z.square().mean(1).sqrt(), atol=1e-4)


def test_percentiles_of_the_reference_itself_are_uniform(measures):
    found = reference(measures, ("error", "neighbour"), n=200)
    shares = percentiles(measures.of("error", measures.bank.acts), found["error"])
    assert np.sort(shares) == pytest.approx(np.linspace(0, 1, 200), abs=0.02)
    assert percentiles(torch.tensor([0.0, 1e9]), found["neighbour"]).tolist() == [0.0, 1.0]
    with pytest.raises(GlpError, match="glp_core bank"):
        percentiles(torch.ones(2), None)


def test_the_detection_table_finds_strong_pushes_and_not_real_ones(measures):
    bank = measures.bank
    real, own = bank.acts[::2], bank.documents[::2]
    pushed = real + 10 * measures.meter.glp.normalizer.std[0]
    kinds = {"same": detection.Off(bank.acts[1::2], bank.documents[1::2]), "pushed": detection.Off(pushed, own)}
    report = detection.detection_report(measures, kinds, real, own, ("error", "mahalanobis"))
    found = {(row["kind"], row["measure"]): row for row in report["rows"]}
    assert found["pushed", "mahalanobis"]["auroc"] > 0.99
    low, high = found["same", "mahalanobis"]["ci"]
    assert low <= 0.55 and high >= 0.45


def test_a_tiny_push_is_not_nearer_than_the_real_one_that_it_came_from(measures):
    """Its own original is in the bank; if that counted, it would look nearer than any real activation."""
    real, own = measures.bank.acts, measures.bank.documents
    kinds = {"hardly pushed": detection.Off(real + 1e-3, own)}
    (row,) = detection.detection_report(measures, kinds, real, own, ("neighbour",))["rows"]
    assert row["auroc"] == pytest.approx(0.5, abs=0.02)


def test_a_slow_measure_gets_fewer_activations(measures):
    real, own = measures.bank.acts, measures.bank.documents
    kinds = {"pushed": detection.Off(real + 10 * measures.meter.glp.normalizer.std[0], own)}
    report = detection.detection_report(measures, kinds, real, own, ("error", "likelihood"), most={"likelihood": 20})
    counts = {row["measure"]: (row["n"], row["n_real"]) for row in report["rows"]}
    assert counts == {"error": (200, 200), "likelihood": (20, 20)}
    assert report["rows"][1]["auroc"] > 0.9 and len(report["rows"][1]["roc"]) == len(report["rates"])


def test_a_bank_keeps_activations_that_16_bits_do_not_hold(tmp_path):
    acts = torch.tensor([[1.0, 2.0], [70_000.0, -3e6]])
    Bank(acts, torch.arange(2), [("", "a", "")] * 2, {}).save(tmp_path)
    assert torch.equal(Bank.load(tmp_path).acts, acts)


def test_samples_of_a_bank_s_halves_share_no_document(measures):
    one, other = measures.bank.halves()
    assert sorted([*one.tolist(), *other.tolist()]) == list(range(len(measures.bank)))
    documents = [set(measures.bank.documents[places].tolist()) for places in (one, other)]
    assert not documents[0] & documents[1] and len(documents[0]) == len(documents[1]) == 25
    assert spread(one, 3).tolist() == [one[0], one[(len(one) - 1) // 2], one[-1]] and torch.equal(spread(one, 10**6), one)


def test_a_bank_survives_its_files_and_damage_is_told(measures, tmp_path):
    measures.bank.save(tmp_path)
    again = Bank.load(tmp_path)
    assert torch.equal(again.acts, measures.bank.acts)
    assert again.contexts == measures.bank.contexts
    (tmp_path / "bank.json").write_text('{"contexts": []}')
    with pytest.raises(GlpError, match="do not belong together"):
        Bank.load(tmp_path)
    with pytest.raises(GlpError, match="glp_core bank"):
        Bank.load(tmp_path / "nowhere")


def test_shuffled_and_other_texts_leave_first_tokens_out():
    llm = tiny.make_tiny_llm()
    texts = ["The cat sat on the mat.", "A model of the mind is not the mind."] * 4
    straight = detection.other_activations(Site(llm, 1, 1e9), texts, 30)
    shuffled = detection.other_activations(Site(llm, 1, 1e9), texts, 30, shuffled=True)
    assert straight.acts.shape == shuffled.acts.shape == (30, tiny.WIDTH)
    assert not torch.allclose(straight.acts, shuffled.acts)
    assert set(straight.documents.tolist()) <= set(range(8))
    first = llm.activations([llm.encode(texts[0])], 1)[0][0]
    assert (torch.cdist(first[None].float(), straight.acts) > 1e-3).all()
    with pytest.raises(GlpError, match="give more texts"):
        detection.other_activations(Site(llm, 1, 1e9), texts, 10_000)
