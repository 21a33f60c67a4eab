"""Measurements of a GLP against closed forms and hand-made computations."""

import math
from itertools import combinations

import numpy as np
import pytest
import torch

from glp_core import GlpError, load_glp
from glp_core.evaluation import fidelity, solver_error
from glp_core.evaluation.fidelity import Rows, document_losses, frechet_distance, mean_by
from glp_core.llm.hooks import layer_at
from glp_core.llm.site import Site
from glp_core.prior.gaussian import GaussianPrior, gaussian_loss, latent_covariance
from tests.bench.projection import quickest
from tests.support.reference import write_released_folder
from tests.support.tiny import tiny_glp


def covariance_of(d, seed=0):
    mixing = torch.randn(d, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return mixing @ mixing.T / d + 0.1 * torch.eye(d, dtype=torch.float64)


def sample_with(mean, covariance, n=500):
    """Return a sample whose mean and covariance are exactly the given ones."""
    x = torch.randn(n, len(mean), generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    x = x - x.mean(0)
    whitened = x @ torch.linalg.inv(torch.linalg.cholesky(x.T.cov())).T
    return whitened @ torch.linalg.cholesky(covariance).T + mean


def test_frechet_of_commuting_covariances_is_the_closed_form():
    variances, others = torch.tensor([1.0, 4.0, 0.25]).double(), torch.tensor([9.0, 1.0, 0.25]).double()
    mean, other_mean = torch.zeros(3).double(), torch.tensor([1.0, -2.0, 0.5]).double()
    wanted = (1 + 4 + 0.25) + float((variances.sqrt() - others.sqrt()).square().sum())
    got = frechet_distance(sample_with(mean, variances.diag()), sample_with(other_mean, others.diag()))
    assert got == pytest.approx(wanted, rel=1e-9)


def test_frechet_of_any_covariances_is_scipys():
    from scipy.linalg import sqrtm

    first, second = covariance_of(5, 1), covariance_of(5, 2)
    mean = torch.arange(5).double()
    root = torch.from_numpy(sqrtm((first @ second).numpy()).real)
    wanted = float(mean.square().sum() + (first + second - 2 * root).trace())
    assert frechet_distance(sample_with(mean * 0, first), sample_with(mean, second)) == pytest.approx(wanted, rel=1e-8)


def test_frechet_is_zero_for_the_same_sample_and_works_with_fewer_rows_than_dimensions():
    sample = torch.randn(6, 20, generator=torch.Generator().manual_seed(0))
    assert frechet_distance(sample, sample) == pytest.approx(0, abs=1e-5)
    assert math.isfinite(frechet_distance(sample, sample[:3]))
    with pytest.raises(GlpError, match="one width"):
        frechet_distance(sample, sample[:, :5])


def test_the_gaussian_loss_is_that_of_the_best_linear_denoiser_found_by_least_squares():
    covariance = covariance_of(8)
    generator = torch.Generator().manual_seed(0)
    z = sample_with(torch.zeros(8).double(), covariance, 20_000)
    losses = []
    for sigma in torch.linspace(0, 1, 41, dtype=torch.float64).tolist():
        eps = torch.randn(z.shape, generator=generator, dtype=torch.float64)
        noisy, wanted = (1 - sigma) * z + sigma * eps, eps - z
        fitted = torch.linalg.lstsq(noisy, wanted).solution
        losses.append(float((noisy @ fitted - wanted).square().mean()))
    integral = (sum(losses) - (losses[0] + losses[-1]) / 2) / 40
    assert gaussian_loss(covariance) == pytest.approx(integral, rel=0.01)


def test_latent_covariance_has_ones_on_its_diagonal():
    covariance = covariance_of(6)
    latent = latent_covariance({"var": covariance.diagonal(), "covariance": covariance})
    torch.testing.assert_close(latent.diagonal(), torch.ones(6, dtype=torch.float64))


def test_the_posterior_is_bayes_for_a_joint_normal():
    """Mean and spread of the posterior, compared with conditioning a joint normal by matrix inversion."""
    covariance, mean, sigma = covariance_of(4), torch.tensor([1.0, -2.0, 0.0, 3.0]), 0.4
    std = covariance.diagonal().sqrt()
    latent = covariance / torch.outer(std, std)
    prior = GaussianPrior(mean, covariance.float())
    acts, noise = torch.randn(1, 4), torch.randn(1, 4)
    noisy = (1 - sigma) * (acts - mean) / std.float() + sigma * noise
    observed = (1 - sigma) ** 2 * latent + sigma**2 * torch.eye(4).double()
    gain = (1 - sigma) * latent @ torch.linalg.inv(observed)
    wanted = mean + std.float() * (noisy.double() @ gain.T).float()
    torch.testing.assert_close(prior.posterior_mean(acts, sigma, noise), wanted, rtol=1e-4, atol=1e-4)
    many = prior.posterior_sample(acts.expand(40_000, 4), sigma, noise.expand(40_000, 4), torch.Generator().manual_seed(0))
    spread = (latent - gain @ ((1 - sigma) * latent)) * torch.outer(std, std)
    torch.testing.assert_close(many.T.cov().double(), spread, rtol=0.05, atol=0.02)
    torch.testing.assert_close(many.mean(0), wanted[0], rtol=0.02, atol=0.02)


def test_samples_of_the_prior_have_its_mean_and_covariance():
    covariance, mean = covariance_of(4).float(), torch.tensor([1.0, -2.0, 0.0, 3.0])
    drawn = GaussianPrior(mean, covariance).sample(60_000, torch.Generator().manual_seed(0))
    torch.testing.assert_close(drawn.mean(0), mean, rtol=0.02, atol=0.02)
    torch.testing.assert_close(drawn.T.cov(), covariance, rtol=0.05, atol=0.02)


def test_mean_by_group():
    values, groups = torch.tensor([1.0, 3.0, 10.0, 5.0]), torch.tensor([7, 7, 2, 2])
    assert mean_by(values, groups).tolist() == [7.5, 2.0]


@pytest.fixture
def ids(tiny_llm):
    return torch.randint(3, 300, (3, 12), generator=torch.Generator().manual_seed(0))


def test_document_losses_are_transformers_own(tiny_llm, ids):
    wanted = [float(tiny_llm.model(input_ids=row[None], labels=row[None]).loss) for row in ids]
    assert document_losses(Site(tiny_llm, 2, 1.0), ids, None).tolist() == pytest.approx(wanted, rel=1e-5)


def test_mean_ablation_is_a_hand_made_hook(tiny_llm, ids):
    glp = tiny_glp(tiny_llm.d_model)
    got = document_losses(Site(tiny_llm, 2, 1e9), ids, fidelity.mean_ablation(glp))

    def hook(_module, _inputs, output):
        replaced = output.clone()
        replaced[:, 1:] = glp.normalizer.mean[0]
        return replaced

    handle = layer_at(tiny_llm.model, 2).register_forward_hook(hook)
    try:
        wanted = [float(tiny_llm.model(input_ids=row[None], labels=row[None]).loss) for row in ids]
    finally:
        handle.remove()
    assert got.tolist() == pytest.approx(wanted, rel=1e-5)
    assert got.tolist() != pytest.approx(document_losses(Site(tiny_llm, 2, 1e9), ids, None).tolist(), rel=1e-3)


def test_massive_and_first_tokens_pass_untouched_and_noise_is_the_same_for_every_method(tiny_llm, ids):
    seen = []

    def keep(acts, noise):
        seen.append(noise)
        return acts * 100

    assert torch.equal(document_losses(Site(tiny_llm, 2, 1e-9), ids, keep), document_losses(Site(tiny_llm, 2, 1.0), ids, None))
    assert all(len(noise) == 0 for noise in seen)
    seen.clear()
    document_losses(Site(tiny_llm, 2, 1e9), ids, keep)
    document_losses(Site(tiny_llm, 2, 1e9), ids, keep)
    assert seen[0].shape == (3 * 11, tiny_llm.d_model) and torch.equal(seen[0], seen[1])


def test_the_delta_lm_report_has_every_method_at_every_level(tiny_llm, ids):
    glp = tiny_glp(tiny_llm.d_model)
    prior = GaussianPrior(glp.normalizer.mean[0], torch.eye(tiny_llm.d_model))
    report = fidelity.delta_lm_report(Site(tiny_llm, 2, 1e9), glp, prior, ids, noise_levels=(0.0, 0.5))
    assert set(report["by_noise_level"]) == {"0", "0.5"}
    for found in report["by_noise_level"].values():
        assert set(found) == {"glp", "gaussian_mean", "gaussian_sample"}
    assert report["by_noise_level"]["0"]["glp"]["value"] == pytest.approx(0, abs=1e-6)
    assert report["by_noise_level"]["0"]["gaussian_mean"]["value"] == pytest.approx(0, abs=1e-4)
    assert report["glp"] == report["by_noise_level"]["0.5"]["glp"]["value"]
    assert report["documents"] == 3 and report["tokens"] == 12


def test_each_methods_rise_of_the_loss_is_that_under_a_hand_made_hook(tiny_llm, ids):
    """The Gaussian's posterior by its textbook formula, from the noise level at which 20 steps begin the projection."""
    d, sigma = tiny_llm.d_model, 1 - 10 / 19 * 0.999
    glp, covariance = tiny_glp(d), covariance_of(d, 4)
    mean, scale = glp.normalizer.mean[0].double(), (glp.normalizer.var[0].double() / covariance.diagonal()).sqrt()
    covariance = covariance * torch.outer(scale, scale)
    noise = torch.randn(3, 12, d, generator=torch.Generator().manual_seed(0))[:, 1:]
    std = covariance.diagonal().sqrt()
    z_covariance = covariance / torch.outer(std, std)
    gain = (1 - sigma) * z_covariance @ torch.linalg.inv((1 - sigma) ** 2 * z_covariance + sigma**2 * torch.eye(d).double())
    values, vectors = torch.linalg.eigh(z_covariance)
    spread = (sigma**2 * values / ((1 - sigma) ** 2 * values + sigma**2)).sqrt()

    def posterior_mean(acts):
        return mean + std * (((1 - sigma) * (acts.double() - mean) / std + sigma * noise.double()) @ gain.T)

    def posterior_sample(acts):
        drawn = torch.randn(33, d, generator=torch.Generator().manual_seed(2)).view(3, 11, d).double()
        return posterior_mean(acts) + std * ((spread * drawn) @ vectors.T)

    ways = {"glp": lambda acts: glp.project(acts, 0.5, 20, noise), "gaussian_mean": posterior_mean}
    ways["gaussian_sample"] = posterior_sample

    def losses():
        return torch.tensor([float(tiny_llm.model(input_ids=row[None], labels=row[None]).loss) for row in ids])

    def hooked(way):
        handle = layer_at(tiny_llm.model, 2).register_forward_hook(
            lambda _module, _inputs, out: torch.cat([out[:, :1], way(out[:, 1:]).to(out)], 1)
        )
        with torch.no_grad():
            logits = tiny_llm.model(ids).logits[:, :-1].log_softmax(-1)
        handle.remove()
        return -logits.gather(2, ids[:, 1:, None]).mean((1, 2))

    prior = GaussianPrior(glp.normalizer.mean[0], covariance.float())
    report = fidelity.delta_lm_report(Site(tiny_llm, 2, 1e9), glp, prior, ids, noise_levels=(0.25, 0.5))
    wanted = {name: float((hooked(way) - losses()).mean()) for name, way in ways.items()}
    assert {name: report[name] for name in ways} == pytest.approx(wanted, rel=2e-3, abs=2e-4)
    assert min(abs(wanted[one] - wanted[other]) for one, other in combinations(ways, 2)) > 0.01
    assert max(map(abs, wanted.values())) > 0.05 and report["base_loss"] == pytest.approx(float(losses().mean()), rel=1e-5)


def test_the_frechet_report_says_its_size_and_leaves_massive_samples_out():
    glp = tiny_glp(8)
    held_out = torch.randn(300, 8, generator=torch.Generator().manual_seed(0)) * glp.normalizer.std + glp.normalizer.mean
    prior = GaussianPrior(glp.normalizer.mean[0], torch.diag(glp.normalizer.var[0]))
    report = fidelity.frechet_report(glp, prior, Rows(held_out, torch.arange(300) // 2), 1e9, n=10_000)
    assert report["n"] == 150 and report["splits"] == 3
    assert report["gaussian_real"] < 1 and report["real_real"] < 1
    assert len(fidelity.generated_latents(glp, 50, 2, 1e-9)) == 0


def test_the_frechet_reports_distances_are_scipys_of_samples_drawn_here(tmp_path, monkeypatch):
    from scipy.linalg import sqrtm

    glp, n = load_glp(write_released_folder(tmp_path, d_input=8, seed=2)), 150
    mean, std = glp.normalizer.mean[0], glp.normalizer.var[0].sqrt()
    held_out = torch.randn(300, 8, generator=torch.Generator().manual_seed(0)) * std + mean
    prior = GaussianPrior(mean, torch.diag(std.square()))
    documents = torch.arange(300) // 3
    monkeypatch.setattr(fidelity, "SPLITS", 1)
    report = fidelity.frechet_report(glp, prior, Rows(held_out, documents), 1e9)
    rebuilt, real = fidelity.halves(held_out, documents, n)
    assert not torch.isin(rebuilt.groups, real.groups).any() and len(rebuilt.groups.unique()) == len(real.groups.unique()) == 50

    def distance_to_real(acts, of=real.acts):
        one, other = (((x - mean) / std).double().numpy() for x in (acts, of))
        covariances = np.cov(one.T), np.cov(other.T)
        root = sqrtm(covariances[0] @ covariances[1]).real
        return ((one.mean(0) - other.mean(0)) ** 2).sum() + np.trace(covariances[0] + covariances[1] - 2 * root)

    noise = torch.randn(n, 8, generator=torch.Generator().manual_seed(0))
    wanted = {steps: distance_to_real(glp.sample(noise, steps)) for steps in (1, 20, 50)}
    assert [report[f"generated_real_{steps}_steps"] for steps in wanted] == pytest.approx(list(wanted.values()), rel=1e-3)
    assert min(abs(a / b - 1) for a, b in combinations(wanted.values(), 2)) > 0.01
    second_order = distance_to_real(glp.sample(noise, 50, solver="ab2"))
    assert report["generated_real"] == pytest.approx(second_order, rel=1e-3) and (report["steps"], report["solver"]) == (
        50,
        "ab2",
    )
    assert report["real_real"] == pytest.approx(distance_to_real(rebuilt.acts), rel=1e-4)


def test_halves_of_documents_that_differ_are_farther_apart_than_random_halves():
    centres = torch.randn(40, 1, 4, generator=torch.Generator().manual_seed(0))
    acts = (centres + 0.1 * torch.randn(40, 20, 4, generator=torch.Generator().manual_seed(1))).flatten(0, 1)
    glp, prior = tiny_glp(4), GaussianPrior(torch.zeros(4), torch.eye(4))
    by_document = fidelity.frechet_report(glp, prior, Rows(acts, torch.arange(800) // 20), 1e9)
    at_random = fidelity.frechet_report(glp, prior, Rows(acts, torch.arange(800)), 1e9)
    assert by_document["real_real"] > 3 * at_random["real_real"]


def test_held_out_errors_average_to_the_loss_whatever_the_draws():
    glp = tiny_glp(8)
    acts = torch.randn(512, 8, generator=torch.Generator().manual_seed(0))
    one, many = (fidelity.held_out_errors(glp, acts, draws=n, seed=n) for n in (1, 8))
    assert one.shape == (512,) and many.mean().item() == pytest.approx(one.mean().item(), rel=0.15)
    assert many.std() < one.std()


def test_texts_that_are_too_short_are_skipped(tiny_llm):
    rows = tiny_llm.long_rows(["a", "a long enough text " * 5, "b"], 2, 16)
    assert rows.shape == (1, 16) and rows[0, 0] == tiny_llm.first_id


def test_where_no_text_is_long_enough_as_many_tokens_are_read_as_half_of_them_have(tiny_llm):
    texts = ["a", *(f"{'the cat sat on a mat ' * n}" for n in (2, 3, 4))]
    lengths = [len(tiny_llm.encode(text)) for text in texts]
    rows = tiny_llm.long_rows(texts, 8, 1000)
    assert rows.shape == (2, lengths[2]) and rows.tolist() == [tiny_llm.encode(text)[: lengths[2]] for text in texts[2:]]
    assert tiny_llm.long_rows(texts, 1, 1000).shape == (1, lengths[2])
    for short in (["a"], ["a", "b", texts[3]], []):
        with pytest.raises(GlpError, match=f"Half of {len(short)} texts have fewer than 8 tokens"):
            tiny_llm.long_rows(short, 2, 1000)


def test_the_fitted_two_call_step_beats_every_other_with_two_calls():
    glp = tiny_glp(8)
    acts = torch.randn(128, 8, generator=torch.Generator().manual_seed(0)) * 2
    glp.fitted_steps = (solver_error.fit_two_calls(solver_error.Trial.make(glp, acts[:64], 0.474, calls=60)),)
    table = solver_error.table(glp, acts[64:], most=4)
    error = {(row["solver"], row["calls"]): row["error"] for row in table["rows"]}
    assert error["fitted", 2] < min(error[name, 2] for name in ("euler", "midpoint", "ab2"))
    assert error["radau", 3] < error["euler", 3]
    assert 0 < table["two_call_bound"] < error["fitted", 2]  # the bound knows each activation's exact solution


@pytest.mark.parametrize(("fitted", "radau", "wanted"), [(0.06, 0.03, "fitted"), (0.08, 0.03, "radau"), (0.08, 0.09, "fitted")])
def test_the_benchmarks_few_call_solver_is_the_quickest_that_is_exact_enough(fitted, radau, wanted):
    few = {"radau": {"calls": 3, "error": radau}, "fitted": {"calls": 2, "error": fitted}}
    assert quickest({"few_calls": few, "euler10_error": 0.07}) == wanted
