"""The manifold walk against a Gaussian prior's closed form, against the formula written out, and row against row."""

from dataclasses import asdict, replace

import pytest
import torch

from glp_core import GlpError, load_glp
from glp_core.prior.distance import ManifoldMeter, make_reference
from glp_core.prior.flow import fixed_noise
from glp_core.prior.gaussian import GaussianPrior
from glp_core.prior.projection import make_projector
from glp_core.prior.reference import Reference
from glp_core.prior.walk import Bound, WalkRule, WalkSettings, walk
from tests.support import tiny
from tests.support.reference import write_released_folder

D, N = 6, 40_000


def asked_one_by_one(velocity):
    return lambda asked: [velocity(z, sigma) for z, sigma in asked]


def seeded(*shape, seed=0, dtype=torch.float32):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


@pytest.fixture(scope="module")
def covariance():
    """Of latents: unit variances, strong correlations."""
    factor = seeded(D, D, seed=2, dtype=torch.float64)
    raw = factor @ factor.T
    return raw / torch.outer(raw.diagonal().sqrt(), raw.diagonal().sqrt())


@pytest.fixture(scope="module")
def prior(covariance):
    return GaussianPrior(torch.zeros(D), covariance)


@pytest.mark.parametrize("fresh", [True, False])
def test_under_a_gaussian_prior_the_walk_has_its_exact_mean_and_covariance(prior, covariance, fresh):
    """One part maps z to A (z + p / K) + B eps: A = (1 - s) G, B = s G, with G the Wiener filter of the noised latent."""
    s, parts = 0.3, 5
    z, push = seeded(1, D, seed=3, dtype=torch.float64), 4 * seeded(1, D, seed=4, dtype=torch.float64)
    eye = torch.eye(D, dtype=torch.float64)
    filtered = (1 - s) * covariance @ torch.linalg.inv((1 - s) ** 2 * covariance + s**2 * eye)
    a, b = (1 - s) * filtered, s * filtered
    mean, spread, shared = z[0], torch.zeros(D, D, dtype=torch.float64), torch.zeros(D, D, dtype=torch.float64)
    for _ in range(parts):
        mean, spread, shared = a @ (mean + push[0] / parts), a @ spread @ a.T + b @ b.T, a @ shared + b
    settings = WalkSettings(s, parts, fresh=fresh)
    noise = seeded(settings.draws, N, D, seed=5)
    final = walk(asked_one_by_one(prior.velocity), z.float().expand(N, D), push.float().expand(N, D), noise, settings).double()
    torch.testing.assert_close(final.mean(0), mean, atol=0.02, rtol=0)
    torch.testing.assert_close(torch.cov(final.T), spread if fresh else shared @ shared.T, atol=0.02, rtol=0.03)


def test_the_glps_walk_is_its_formula(tiny_glp):
    acts, push = seeded(4, tiny.WIDTH), 3 * seeded(4, tiny.WIDTH, seed=1)
    noise = seeded(3, 4, tiny.WIDTH, seed=2)
    std = tiny_glp.normalizer.var[0].sqrt()
    z = (acts - tiny_glp.normalizer.mean[0]) / std
    for k in range(3):
        x = 0.8 * (z + push / std / 3) + 0.2 * noise[k]
        z = x - 0.2 * tiny_glp.velocity(x, 0.2)
    got = tiny_glp.walk(acts, push, 0.2, 3, noise)
    torch.testing.assert_close(got, z * std + tiny_glp.normalizer.mean[0], atol=1e-4, rtol=1e-4)


def test_a_multi_layer_prior_walks_in_its_layers_space(tmp_path):
    glp = load_glp(write_released_folder(tmp_path, multi=6, statistics="layered"))
    acts, push, noise = seeded(3, 24), seeded(3, 24, seed=1), seeded(1, 3, 24, seed=2)
    mean, std = glp.normalizer.mean[4], glp.normalizer.var[4].sqrt()
    x = 0.7 * (acts + push - mean) / std + 0.3 * noise[0]
    expected = (x - 0.3 * glp.velocity(x, 0.3, 4)) * std + mean
    torch.testing.assert_close(glp.walk(acts, push, 0.3, 1, noise, layer=4), expected, atol=1e-4, rtol=1e-4)
    projector = make_projector("walk", glp=glp, layer=4, walk=WalkSettings(0.3, 1))
    torch.testing.assert_close(projector(acts + push, acts, noise=noise), expected, atol=1e-3, rtol=1e-3)
    with pytest.raises(GlpError, match="layers"):
        glp.walk(acts, push)


def test_rows_do_not_know_one_another(tiny_glp):
    acts, push, noise = seeded(4, tiny.WIDTH), seeded(4, tiny.WIDTH, seed=1), seeded(5, 4, tiny.WIDTH, seed=2)
    settings = WalkSettings(0.25, 5, hold=0.5, part=0.8, tilt=0.5, enough=0.9)
    together = tiny_glp.walk_by(settings, acts, push, noise)
    for i in range(4):
        alone = tiny_glp.walk_by(settings, acts[i], push[i], noise[:, i])
        torch.testing.assert_close(alone, together[i], atol=1e-4, rtol=1e-4)


def test_the_same_seed_walks_the_same_way_and_another_does_not(tiny_glp):
    acts, push = seeded(2, 3, tiny.WIDTH), seeded(2, 3, tiny.WIDTH, seed=1)
    first, again, other = (tiny_glp.walk(acts, push, generator=torch.Generator().manual_seed(s)) for s in (1, 1, 2))
    assert torch.equal(first, again) and not torch.equal(first, other)


def test_without_noise_a_walk_is_the_whole_push(tiny_glp):
    acts, push = seeded(4, tiny.WIDTH), seeded(4, tiny.WIDTH, seed=1)
    torch.testing.assert_close(tiny_glp.walk(acts, push, 0.0), acts + push, atol=1e-4, rtol=1e-4)


def test_a_walk_that_is_held_keeps_the_push_and_half_held_keeps_more_than_free(prior):
    z, push = seeded(200, D, seed=3), 5 * seeded(200, D, seed=4)
    noise = seeded(8, 200, D, seed=5)

    def share(hold):
        moved = walk(asked_one_by_one(prior.velocity), z, push, noise, WalkSettings(0.3, 8, hold=hold)) - z
        return (moved * push).sum(-1) / push.square().sum(-1)

    torch.testing.assert_close(share(1.0), torch.ones(200), atol=1e-4, rtol=1e-4)
    assert share(0.0).mean() < share(0.5).mean() < 0.99


def test_the_glps_walk_holds_the_push_as_its_settings_do(tiny_glp):
    acts, push, noise = seeded(9, tiny.WIDTH), 3 * seeded(9, tiny.WIDTH, seed=1), seeded(6, 9, tiny.WIDTH, seed=2)
    held = tiny_glp.walk(acts, push, 0.3, 6, noise, hold=1.0)
    moved, along = ((x / tiny_glp.normalizer.var[0].sqrt()) for x in (held - acts, push))
    torch.testing.assert_close((moved * along).sum(1) / along.square().sum(1), torch.ones(9), atol=1e-4, rtol=1e-4)
    assert torch.equal(held, tiny_glp.walk_by(WalkSettings(0.3, 6, hold=1.0), acts, push, noise))
    assert not torch.allclose(held, acts + push, atol=0.1), "the rest is the prior's"


def test_longer_pushes_take_more_parts(prior):
    """A push of 2.5 with parts of at most 1 is a walk of three; one of 100 is one of all eight."""
    noise = seeded(8, 2, D, seed=5)
    z, along = seeded(2, D, seed=3), torch.nn.functional.normalize(seeded(2, D, seed=4))
    for length, parts in ((2.5, 3), (100.0, 8), (0.5, 1)):
        by_rule = walk(asked_one_by_one(prior.velocity), z, length * along, noise, WalkSettings(0.3, 8, part=1.0))
        fixed = walk(asked_one_by_one(prior.velocity), z, length * along, noise[:parts], WalkSettings(0.3, parts))
        torch.testing.assert_close(by_rule, fixed)


def test_a_walk_ends_where_it_has_gone_far_enough(prior):
    z, push = seeded(50, D, seed=3), 5 * seeded(50, D, seed=4)
    noise = seeded(8, 50, D, seed=5)

    def share(final):
        return ((final - z) * push).sum(-1) / push.square().sum(-1)

    ended = walk(asked_one_by_one(prior.velocity), z, push, noise, WalkSettings(0.05, 8, enough=0.5))
    prefixes = [walk(asked_one_by_one(prior.velocity), z, push * k / 8, noise[:k], WalkSettings(0.05, k)) for k in range(1, 9)]
    for row in range(50):
        reached = [k for k in range(8) if share(prefixes[k])[row] >= 0.5]
        torch.testing.assert_close(ended[row], prefixes[reached[0] if reached else 7][row], atol=1e-4, rtol=1e-4)


def test_a_walk_with_a_bound_ends_before_the_part_that_would_leave_it(prior):
    z, push = seeded(60, D, seed=3), 12 * seeded(60, D, seed=4)
    z[0] = 20.0  # begins beyond the bound, which then lies where it begins
    noise, fixed = seeded(8, 60, D, seed=5), fixed_noise(D, 7)
    bound = Bound(0.9, error=0.6, sigma=0.4, noise_seed=7)
    ended = walk(asked_one_by_one(prior.velocity), z, push, noise, WalkSettings(0.05, 8, bound=bound), fixed)
    prefixes = [
        z,
        *(walk(asked_one_by_one(prior.velocity), z, push * k / 8, noise[:k], WalkSettings(0.05, k)) for k in range(1, 9)),
    ]
    errors = [(prior.velocity(0.6 * one + 0.4 * fixed, 0.4) - (fixed - one)).square().mean(-1) for one in prefixes]
    parts = []
    for row in range(60):
        left = [k for k in range(9) if errors[k][row] > max(bound.error, float(errors[0][row]))]
        parts.append(left[0] - 1 if left else 8)
        torch.testing.assert_close(ended[row], prefixes[parts[-1]][row], atol=1e-4, rtol=1e-4)
    assert len(set(parts)) > 4, "some end early, some late"
    asked = []

    def counted(queries):
        asked.append(len(queries[0][0]))
        return asked_one_by_one(prior.velocity)(queries)

    for part in (slice(0, 21), slice(21, 60, 2)):
        few = walk(counted, z[part], push[part], noise[:, part], WalkSettings(0.05, 8, bound=bound), fixed)
        torch.testing.assert_close(few, ended[part], atol=1e-5, rtol=1e-5)
        assert asked[0] > asked[-1] == 4, "those that have ended are not computed on"
        asked.clear()
    walk(counted, z[1:], 1e4 * push[1:], noise[:, 1:], WalkSettings(0.05, 8, bound=bound), fixed)
    assert len(asked) == 2, "where all have ended, however many they are, nothing more is asked"
    with pytest.raises(GlpError, match="fixed noise"):
        walk(asked_one_by_one(prior.velocity), z, push, noise, WalkSettings(0.05, 8, bound=bound))


def test_the_glp_s_bound_is_the_error_that_its_meter_knows(tiny_glp):
    acts, push = seeded(40, tiny.WIDTH), 30 * seeded(40, tiny.WIDTH, seed=1)
    reference = Reference(make_reference(tiny_glp, seeded(400, tiny.WIDTH, seed=2), sigma=0.3, seed=4))
    meter = ManifoldMeter(tiny_glp, make_reference(tiny_glp, seeded(400, tiny.WIDTH, seed=2), sigma=0.3, seed=4))
    settings = WalkSettings(0.1, 8, hold=0.5, bound=Bound.at(reference, 0.95))
    elsewhere = WalkRule(WalkSettings(0.1, 2), replace(settings, bound=Bound(0.95, 9.0)), 1.0)
    assert elsewhere.bounded_by(reference) == replace(elsewhere, long=settings)
    after = tiny_glp.walk_by(settings, acts, push, generator=torch.Generator().manual_seed(0))
    furthest = meter.distance(acts).clamp_min(reference.distance_at(0.95))
    free = tiny_glp.walk_by(replace(settings, bound=None), acts, push, generator=torch.Generator().manual_seed(0))
    assert (meter.distance(after) <= furthest + 1e-4).all() and (meter.distance(free) > furthest).any()
    assert WalkSettings.of(asdict(settings)) == settings and WalkSettings.of(asdict(WalkSettings())) == WalkSettings()


def test_noise_levels_of_a_tilted_walk_run_from_low_to_high():
    assert WalkSettings(0.2, 3, tilt=0.5).levels() == pytest.approx([0.1, 0.2, 0.3])
    assert WalkSettings(0.2, 3).levels() == [0.2] * 3


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"noise_level": 1.5}, "out of range"),
        ({"noise_level": float("nan")}, "out of range"),
        ({"pushes": 0}, "at least 1"),
        ({"pushes": 2.5}, "whole number"),
        ({"hold": 1.2}, "share from 0 to 1"),
        ({"part": float("nan")}, "above 0"),
        ({"noise_level": 0.7, "tilt": 0.9}, "leaves the range"),
        ({"bound": {"share": 0.9, "error": float("nan")}}, "number above 0"),
        ({"bound": {"share": 1.5, "error": 0.5}}, "up to 1"),
        ({"bound": {"share": 0.9, "error": 0.5, "sigma": 2.0}}, "out of range"),
    ],
)
def test_settings_that_are_no_walk_are_refused(options, words):
    with pytest.raises(GlpError, match=words):
        WalkSettings.of(options)


def test_inputs_that_do_not_fit_are_named(tiny_glp):
    acts = seeded(4, tiny.WIDTH)
    with pytest.raises(GlpError, match="push has shape"):
        tiny_glp.walk(acts, acts[:2])
    with pytest.raises(GlpError, match="NaN"):
        tiny_glp.walk(acts, torch.full_like(acts, torch.inf))
    with pytest.raises(GlpError, match="noise has shape"):
        tiny_glp.walk(acts, acts, noise=acts)


def test_a_rule_takes_each_row_by_the_length_of_its_push(tiny_glp):
    generator = torch.Generator().manual_seed(3)
    acts, push = torch.randn(6, tiny.WIDTH, generator=generator), torch.randn(6, tiny.WIDTH, generator=generator)
    push = push * torch.tensor([0.1, 3.0, 0.1, 3.0, 3.0, 0.1])[:, None]
    rule = WalkRule(WalkSettings(0.1, 2, hold=0.5), WalkSettings(0.3, 4, tilt=-0.6), border=0.0)
    lengths = (tiny_glp.normalize(acts + push) - tiny_glp.normalize(acts)).norm(dim=-1) / tiny.WIDTH**0.5
    rule = replace(rule, border=float(lengths.median()))
    noise = torch.randn(rule.draws, 6, tiny.WIDTH, generator=generator)
    after = tiny_glp.walk_by(rule, acts, push, noise)
    for i, length in enumerate(lengths):
        one = rule.long if length > rule.border else rule.short
        assert torch.allclose(after[i], tiny_glp.walk_by(one, acts[i], push[i], noise[: one.draws, i]), atol=1e-5)
    assert WalkRule.of(asdict(rule)) == rule
    alike = WalkRule(rule.long, rule.long, rule.border)
    assert torch.equal(tiny_glp.walk_by(alike, acts, push, noise), tiny_glp.walk_by(rule.long, acts, push, noise))


def test_a_border_below_zero_is_refused():
    with pytest.raises(GlpError, match="border"):
        WalkRule(WalkSettings(), WalkSettings(), -1.0)


def test_few_rows_of_a_batch_that_go_another_way_are_not_computed_as_few_rows_are():
    rule = WalkRule(WalkSettings(pushes=2), WalkSettings(pushes=3), border=1.0)
    push = torch.tensor([[0.1], [5.0], [5.0], [5.0], [5.0]]) * torch.ones(5, 16)
    (short, _), (long, _) = rule.parts(push)
    assert short.tolist() == [0] * 4 and long.tolist() == [1, 2, 3, 4]
    assert [places.tolist() for places, _ in rule.parts(push[:2])] == [[0, 0], [1, 1]], "two rows are computed as two"
