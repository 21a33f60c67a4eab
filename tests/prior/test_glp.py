"""Our GLP gives the reference implementation's numbers on released folders, in every call of the public API."""

import pytest
import torch

from glp_core import GlpError, load_glp
from glp_core.prior.likelihood import velocity_of
from glp_core.prior.network import DenoiserConfig
from tests.support.reference import ReferenceGlp, write_released_folder

FOLDERS = {
    "single layer": {},
    "single layer, broad statistics": {"statistics": "broad"},
    "odd width": {"d_model": 49, "d_mlp": 97, "d_input": 23},
    "one block": {"n_layers": 1},
    "multi-layer, layered statistics": {"multi": 6, "statistics": "layered"},
    "multi-layer, flat statistics": {"multi": 6, "statistics": "flat"},
}


@pytest.fixture(params=FOLDERS, ids=str)
def pair(request, tmp_path):
    options = FOLDERS[request.param]
    folder = write_released_folder(tmp_path, **options)
    return load_glp(folder), ReferenceGlp.read(folder), 4 if options.get("multi") else None


def numbers(d, n=7, seed=1):
    generator = torch.Generator().manual_seed(seed)
    return 5 * torch.randn(n, d, generator=generator), torch.randn(n, d, generator=generator)


def close(got, wanted):
    assert got.shape == wanted.shape
    assert (got - wanted).norm() <= 1e-5 * wanted.norm()
    assert (got - wanted).abs().max() <= 1e-4 * wanted.abs().max()


@pytest.mark.parametrize("sigma", [0.0, 0.1, 0.474, 0.999, 1.0])
def test_velocity_is_the_references(pair, sigma):
    glp, reference, layer = pair
    z, _ = numbers(glp.d_input)
    close(glp.velocity(z, sigma, layer), reference.velocity(z, sigma, layer))


def test_velocity_with_a_noise_level_for_each_row(pair):
    glp, reference, layer = pair
    z, _ = numbers(glp.d_input)
    sigma = torch.linspace(0, 1, len(z))
    close(glp.velocity(z, sigma, layer), reference.velocity(z, sigma, layer))


def test_normalize_and_back(pair):
    glp, reference, layer = pair
    acts, _ = numbers(glp.d_input)
    close(glp.normalize(acts, layer), reference.normalize(acts, layer))
    close(glp.denormalize(glp.normalize(acts, layer), layer), acts)


@pytest.mark.parametrize("steps", [1, 2, 20])
def test_sample_is_the_references(pair, steps):
    glp, reference, layer = pair
    _, noise = numbers(glp.d_input)
    close(glp.sample(noise, steps, layer), reference.sample(noise, steps, layer))


@pytest.mark.parametrize(("noise_level", "steps"), [(0.5, 20), (0.25, 20), (0.7, 10), (1.0, 5), (0.3, 50), (0.01, 1000)])
def test_project_is_the_references(pair, noise_level, steps):
    glp, reference, layer = pair
    acts, noise = numbers(glp.d_input)
    close(glp.project(acts, noise_level, steps, noise, layer=layer), reference.project(acts, noise_level, steps, noise, layer))


def test_neurons_and_error_are_the_references(pair):
    glp, reference, layer = pair
    acts, noise = numbers(glp.d_input)
    for sigma in (0.1, 0.6):
        close(glp.neurons(acts, sigma, noise, layer=layer), reference.neurons(acts, sigma, noise, layer))
        close(glp.denoising_error(acts, sigma, noise, layer=layer), reference.denoising_error(acts, sigma, noise, layer))


def test_leading_shapes_are_kept(tmp_path):
    glp = load_glp(write_released_folder(tmp_path))
    acts, noise = numbers(glp.d_input, 12)
    folded, folded_noise = acts.reshape(3, 4, -1), noise.reshape(3, 4, -1)
    assert glp.neurons(folded, noise=folded_noise).shape == (3, 4, glp.n_layers, glp.d_mlp)
    assert torch.equal(glp.project(folded, noise=folded_noise).reshape(12, -1), glp.project(acts, noise=noise))
    error = glp.denoising_error(acts, 0.5, noise)
    assert torch.equal(glp.denoising_error(folded, 0.5, folded_noise), error.reshape(3, 4))
    assert glp.project(acts[0], noise=noise[0]).shape == (glp.d_input,)
    assert glp.project(acts[:0]).shape == (0, glp.d_input)


def test_one_noise_level_a_row_in_denoising_error(tmp_path):
    glp = load_glp(write_released_folder(tmp_path))
    acts, noise = numbers(glp.d_input)
    sigma = torch.linspace(0.1, 0.9, len(acts))
    each = torch.stack([glp.denoising_error(acts[i], float(sigma[i]), noise[i]) for i in range(len(acts))])
    torch.testing.assert_close(glp.denoising_error(acts, sigma, noise), each, rtol=1e-5, atol=1e-6)


def test_a_generator_makes_noise_repeatable_and_no_global_seed_is_touched(tmp_path):
    glp = load_glp(write_released_folder(tmp_path))
    acts, _ = numbers(glp.d_input)
    torch.manual_seed(0)
    state = torch.random.get_rng_state()
    first = glp.project(acts, generator=torch.Generator().manual_seed(3))
    assert torch.equal(first, glp.project(acts, generator=torch.Generator().manual_seed(3)))
    assert torch.equal(state, torch.random.get_rng_state())
    drawn = torch.randn(acts.shape, generator=torch.Generator().manual_seed(3))
    assert torch.equal(first, glp.project(acts, noise=drawn))


def test_noise_zero_is_the_noise_free_reading(tmp_path):
    glp = load_glp(write_released_folder(tmp_path))
    acts, _ = numbers(glp.d_input)
    assert torch.equal(glp.neurons(acts, 0.2, noise=0), glp.neurons(acts, 0.2, noise=torch.zeros_like(acts)))


def test_bfloat16_stays_near_float32(tmp_path):
    folder = write_released_folder(tmp_path)
    exact, coarse = load_glp(folder), load_glp(folder, dtype=torch.bfloat16)
    acts, noise = numbers(exact.d_input, 64)
    moved = exact.project(acts, noise=noise) - acts
    assert (coarse.project(acts, noise=noise) - acts - moved).norm() <= 0.03 * moved.norm()
    assert coarse.project(acts, noise=noise).dtype == torch.float32
    assert coarse.project(acts.bfloat16(), noise=noise).dtype == torch.bfloat16


def test_noise_level_zero_changes_nothing(tmp_path):
    glp = load_glp(write_released_folder(tmp_path))
    acts, _ = numbers(glp.d_input)
    assert torch.equal(glp.project(acts, 0.0), acts)


def test_the_callers_tensors_are_not_written_to(tmp_path):
    glp = load_glp(write_released_folder(tmp_path))
    acts, noise = numbers(glp.d_input)
    before = acts.clone(), noise.clone()
    glp.project(acts, noise=noise), glp.neurons(acts, noise=noise), glp.sample(noise), glp.velocity(acts, 0.5)
    assert torch.equal(acts, before[0]) and torch.equal(noise, before[1])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda g, a: g.project(a[:, :-1]), "wanted .*24"),
        (lambda g, a: g.velocity(a[:, :-1], 0.5), "wanted .*24"),
        (lambda g, a: g.sample(a[:, :-1]), "wanted .*24"),
        (lambda g, a: g.project(torch.full_like(a, float("nan"))), "NaN"),
        (lambda g, a: g.neurons(torch.full_like(a, float("inf"))), "NaN"),
        (lambda g, a: g.denoising_error(a * float("nan"), 0.5), "NaN"),
        (lambda g, a: g.project(a, 1.5), "0 .*to 1"),
        (lambda g, a: g.project(a, float("nan")), "0 .*to 1"),
        (lambda g, a: g.velocity(a, -0.1), "0 .*to 1"),
        (lambda g, a: g.velocity(a, torch.full((len(a),), 1.5)), "0 .*to 1"),
        (lambda g, a: g.velocity(a, torch.rand(3)), "noise levels"),
        (lambda g, a: g.project(a, steps=0), "steps"),
        (lambda g, a: g.project(a, noise=a[:2]), "noise has shape"),
        (lambda g, a: g.project(a, solver="rk45"), "euler"),
    ],
)
def test_bad_input_is_named(tmp_path, call, message):
    glp = load_glp(write_released_folder(tmp_path))
    acts, _ = numbers(glp.d_input)
    with pytest.raises(GlpError, match=message):
        call(glp, acts)


def test_a_multi_layer_glp_wants_a_layer(tmp_path):
    glp = load_glp(write_released_folder(tmp_path, multi=6, statistics="layered"))
    acts, _ = numbers(glp.d_input)
    for wrong in (None, 6, -1, torch.tensor([0, 6])):
        with pytest.raises(GlpError, match="layers"):
            glp.project(acts, layer=wrong)
    with pytest.raises(GlpError, match="layers"):
        glp.normalize(acts, 9)


def test_layers_may_differ_by_row(tmp_path):
    folder = write_released_folder(tmp_path, multi=6, statistics="layered")
    glp, reference = load_glp(folder), ReferenceGlp.read(folder)
    z, _ = numbers(glp.d_input, 6)
    layers = torch.tensor([0, 5, 1, 4, 2, 3])
    close(glp.velocity(z, 0.3, layers), reference.velocity(z, 0.3, layers))


# one layer of many


@pytest.fixture
def several(tmp_path):
    return write_released_folder(tmp_path, multi=6, statistics="layered")


def test_a_layer_of_a_multi_layer_glp_is_the_reference_at_that_layer(several):
    whole, reference = load_glp(several), ReferenceGlp.read(several)
    acts, noise = numbers(24)
    assert whole.layers == (0, 1, 2, 3, 4, 5)
    for layer in (0, 4):
        one = whole.at(layer)
        assert one.config.multi_layer_n_layers is None and one.layers == () and one.at(2) is one
        close(one.velocity(noise, 0.3), reference.velocity(noise, 0.3, layer))
        close(one.project(acts, noise=noise), reference.project(acts, 0.5, 20, noise, layer))
        close(one.neurons(acts, 0.1, noise), reference.neurons(acts, 0.1, noise, layer))
        close(one.sample(noise), reference.sample(noise, 20, layer))
        assert torch.equal(
            one.walk(acts, acts, noise=noise.expand(16, -1, -1)),
            one.walk(acts, acts, noise=noise.expand(16, -1, -1), layer=layer),
        )
    with pytest.raises(GlpError, match="serves layers 0 to 5"):
        whole.at(6)


def test_a_layer_shares_the_weights_and_can_be_differentiated_wherever_it_was_made(several):
    whole = load_glp(several)
    with torch.inference_mode():
        one = whole.at(3)
    assert one.network.in_proj is whole.network.in_proj and one.network.layers[0] is whole.network.layers[0]
    z = torch.randn(2, 24, requires_grad=True)
    velocity_of(one)(z, 0.4).sum().backward()
    assert z.grad.abs().sum() > 0


def test_layers_without_statistics_are_not_served(several):
    statistics = torch.load(several / "rep_statistics.pt")
    statistics["mean"][[0, 3]] = float("nan")
    torch.save(statistics, several / "rep_statistics.pt")
    glp = load_glp(several)
    assert glp.layers == (1, 2, 4, 5)
    for ask in (lambda: glp.at(3), lambda: glp.normalize(torch.zeros(2, 24), 0)):
        with pytest.raises(GlpError, match="serves layers 1, 2, 4, 5"):
            ask()


@pytest.mark.parametrize("change", [{"d_input": 2**63}, {"d_mlp": 2**40}, {"n_layers": 10**9}, {"multi_layer_n_layers": 2**70}])
def test_a_shape_that_no_network_has_is_refused_before_anything_is_built(change):
    with pytest.raises(GlpError, match="wanted a whole number from"):
        DenoiserConfig(**{"d_input": 24, "d_model": 48, "d_mlp": 96, "n_layers": 2} | change)
