"""What is asked of models on a device that is not the CPU: nothing mixes devices, and the numbers are the CPU's."""

import pytest
import torch

from glp_core.evaluation.solver_error import Trial, two_call_bound
from glp_core.llm.decoding import Sampling
from glp_core.llm.hooks import layers_of, record
from glp_core.llm.site import Site
from glp_core.neuron_index.neuron_data import Reading
from glp_core.neuron_index.reading import noise_axis, read_neurons
from glp_core.prior.flow import TwoCalls
from glp_core.prior.gaussian import GaussianPrior
from glp_core.prior.likelihood import log_likelihood, velocity_of
from glp_core.prior.projection import make_projector
from glp_core.prior.walk import WalkSettings
from glp_core.speed.replay import Replays
from glp_core.steering.generation import Arm, Row, decode, generate
from tests.support import tiny
from tests.support.second_device import NAME, SecondTensor, second_device


def test_the_second_device_refuses_what_cuda_and_an_apple_gpu_refuse():
    with second_device():
        here, there = torch.ones(3), torch.ones(3, device=NAME)
        assert isinstance(there, SecondTensor) and there.device.type == NAME and (there + 1).device.type == NAME
        with pytest.raises(RuntimeError, match="same device"):
            here + there
        with pytest.raises(RuntimeError, match="same device"):
            torch.zeros(3, device=NAME)[torch.tensor([True, False, True])] = torch.ones(2)
        with pytest.raises(TypeError, match="numpy"):
            there.numpy()
        with pytest.raises(TypeError, match="no float64"):
            there.double()
        assert there.cpu().double().dtype == torch.float64 and (there / 3).dtype == torch.float32
        with pytest.raises(RuntimeError, match="generator"):
            torch.randn(3, device=NAME, generator=torch.Generator())
        assert torch.equal(there.cpu(), here) and there.tolist() == [1, 1, 1]


def test_the_bound_of_two_calls_is_found_where_there_are_no_least_squares():
    glp, acts, step = tiny.tiny_glp(), torch.randn(6, tiny.WIDTH), TwoCalls(0.474, 0.6, 0.0, 1.0, 0.0, (1.0, 0.0))
    expected = two_call_bound(Trial.make(glp, acts, 0.474, calls=20), step)
    with second_device():
        glp.to(NAME)
        trial = Trial.make(glp, acts.to(NAME), 0.474, calls=20)
        assert two_call_bound(trial, step) == pytest.approx(expected, rel=1e-4)


def test_what_is_asked_of_a_prior_gives_the_cpu_s_numbers():
    glp, acts, noise = tiny.tiny_glp(), torch.randn(5, tiny.WIDTH), torch.randn(5, tiny.WIDTH)
    push, draws = torch.randn(5, tiny.WIDTH), torch.randn(16, 5, tiny.WIDTH)

    def answers():
        seeded = {"generator": torch.Generator().manual_seed(3)}
        yield glp.project(acts, noise=noise)
        yield glp.project(acts, **seeded)
        yield glp.walk(acts, push, noise=draws)
        yield glp.sample(noise, 5)
        yield glp.neurons(acts, noise=0)
        yield glp.denoising_error(acts, torch.rand(5, generator=torch.Generator().manual_seed(0)), noise)
        yield read_neurons(glp, acts, Reading(0.3, draws=3))
        yield torch.from_numpy(noise_axis(glp, acts, 1, 2).values)
        yield log_likelihood(velocity_of(glp), glp.normalize(acts), probes=None, intervals=3).value

    expected = [answer.clone() for answer in answers()]
    with second_device():
        glp.to(NAME)
        assert glp.device.type == NAME
        for one, other in zip(answers(), expected, strict=True):
            torch.testing.assert_close(one.cpu(), other)


def test_a_projection_and_a_walk_are_replayed_from_the_second_time_on_with_the_numbers_of_the_cpu():
    glp, ran = tiny.tiny_glp(), []
    settings = (WalkSettings(0.3, 4, hold=0.5), WalkSettings(0.3, 6, part=2.0, enough=0.5))
    generator = torch.Generator().manual_seed(0)
    inputs = [[torch.randn(n, 3, tiny.WIDTH, generator=generator) for n in (1, 1, 4, 6)] for _ in range(4)]

    def answers(acts, push, *draws):
        yield glp.project(acts, 0.5, 8, noise=push, solver="ab2")
        for one, noise in zip(settings, draws, strict=True):
            yield glp.walk_by(one, acts, 3 * push, noise[:, None])

    expected = [[answer.clone() for answer in answers(*tensors)] for tensors in inputs]
    with second_device():
        glp.to(NAME)
        whole = glp._fast.velocity
        glp._fast.velocity = lambda *args, **how: ran.append(len(ran)) or whole(*args, **how)
        for times, (tensors, wanted) in enumerate(zip(inputs, expected, strict=True)):
            before = len(ran)
            for one, other in zip(answers(*tensors), wanted, strict=True):
                torch.testing.assert_close(one.cpu(), other)
            assert (len(ran) > before) == (times < 2), "first it runs, then it is recorded, then replayed"
        assert glp._replays.failures == []


def test_what_cannot_be_recorded_runs_and_is_reported():
    replays = Replays()
    with second_device():
        for _ in range(3):
            x = torch.ones(2, 3, device=NAME)
            found = replays.run("key", lambda x: x * 2 if float(x.sum()) > 0 else x, x)
            assert found.tolist() == [[2.0] * 3] * 2
    assert replays.failures and "not permitted" in replays.failures[0]


def test_only_so_many_recordings_are_kept():
    replays = Replays(most=2)
    with second_device():
        for key in "abcabc":
            replays.run(key, lambda x: x + 1, torch.ones(2, 3, device=NAME))
    assert len(replays._kept) == 2


def texts_of(llm, glp, tokens=9):
    """Return what a fixed request writes, rows with prompts of unlike length among them."""
    vector = torch.nn.functional.normalize(torch.ones(tiny.WIDTH), dim=0)
    arms = [
        Arm("plain"),
        Arm("raw", vector, 1.0),
        Arm("walk", vector, 1.0, make_projector("walk", glp=glp, walk=WalkSettings(0.3, 3))),
    ]
    rows = [Row(llm.encode("The cat sat on"[: 4 + 5 * i]), arm, seed=i) for i, arm in enumerate(arms)]
    found = [[] for _ in rows]
    for row, step in decode(Site(llm, 2, 5.0), rows, Sampling(tokens, temperature=0.7, seed=1)):
        found[row].append((step.token, round(step.log_probability, 3)))
    return found


@pytest.mark.parametrize("kind", ["llama", "qwen2", "qwen3", "gemma", "gpt_neox", "gpt2"])
def test_decoding_is_replayed_in_two_parts_around_the_edited_layer_with_the_cpu_s_texts(kind):
    llm, glp = tiny.make_tiny_llm(kind), tiny.tiny_glp()
    llm.stop_ids = frozenset()
    expected = texts_of(llm, glp)
    ran = []
    with second_device():
        llm.model.to(NAME), glp.to(NAME)
        layers_of(llm.model)[0].register_forward_hook(lambda *_: ran.append(1))
        for time in range(3):
            assert texts_of(llm, glp) == expected
            assert llm.fixed_steps.failures == []
            if time == 0:
                first = len(ran)
        assert len(ran) - first == 2, "later requests run the model for their prompts only"


def test_requests_that_take_turns_do_not_meet_on_the_fixed_buffers():
    llm = tiny.make_tiny_llm()
    llm.stop_ids = frozenset()
    prompts = [llm.encode("The cat sat"), llm.encode("A model of the mind")]
    expected = [[s.token for s in generate(Site(llm, 2, 5.0), ids, [Arm("plain")], Sampling(8))] for ids in prompts]
    with second_device():
        llm.model.to(NAME)
        for _ in range(2):
            runs = [generate(Site(llm, 2, 5.0), ids, [Arm("plain")], Sampling(8)) for ids in prompts]
            taken = [[one.token, other.token] for one, other in zip(*runs, strict=True)]
            assert [list(column) for column in zip(*taken, strict=True)] == expected
        assert llm.fixed_steps.failures == []


def test_a_step_that_cannot_be_recorded_decodes_as_ever_and_says_why(monkeypatch):
    llm = tiny.make_tiny_llm()
    ids, arms = llm.encode("The cat sat"), [Arm("plain")]
    expected = [s.token for s in generate(Site(llm, 2, 5.0), ids, arms, Sampling(6))]
    with second_device():
        llm.model.to(NAME)
        layers_of(llm.model)[1].register_forward_hook(
            lambda *_: None if torch.ones(1, device=NAME).item() else None
        )  # waits for the device
        assert [s.token for s in generate(Site(llm, 2, 5.0), ids, arms, Sampling(6))] == expected
    assert len(llm.fixed_steps.failures) == 1 and "not permitted" in llm.fixed_steps.failures[0]


def test_a_model_whose_cache_forgets_decodes_as_ever():
    llm = tiny.make_tiny_llm("gemma2")
    ids = llm.encode("The cat sat")
    expected = [s.token for s in generate(Site(llm, 2, 5.0), ids, [Arm("plain")], Sampling(6))]
    with second_device():
        llm.model.to(NAME)
        assert [s.token for s in generate(Site(llm, 2, 5.0), ids, [Arm("plain")], Sampling(6))] == expected


def test_an_edit_draws_its_noise_once_whether_or_not_its_step_can_be_recorded(monkeypatch):
    llm, glp = tiny.make_tiny_llm(), tiny.tiny_glp()
    llm.stop_ids = frozenset()
    expected = texts_of(llm, glp)

    def unlike(*_):
        raise RuntimeError("the model in two parts is not the whole model")

    monkeypatch.setattr("glp_core.llm.fixed_step.FixedStep._check", unlike)
    with second_device():
        llm.model.to(NAME), glp.to(NAME)
        assert [texts_of(llm, glp) for _ in range(3)] == [expected] * 3
    failure = "RuntimeError: the model in two parts is not the whole model"
    assert llm.fixed_steps.failures == [failure] * 2, "a second request tries again, a third does not"


def test_one_request_s_own_taps_and_errors_do_not_end_replayed_decoding():
    class Broken:
        name, draws = "norm", 0

        def __call__(self, *_args, **_options):
            raise TypeError("mine")

    llm, glp = tiny.make_tiny_llm(), tiny.tiny_glp()
    llm.stop_ids = frozenset()
    expected = texts_of(llm, glp)
    vector = torch.nn.functional.normalize(torch.ones(tiny.WIDTH), dim=0)
    with second_device():
        llm.model.to(NAME), glp.to(NAME)
        with record(llm.model, [3]) as seen:
            assert texts_of(llm, glp) == expected
        assert seen[3].shape[-1] == tiny.WIDTH
        with pytest.raises(TypeError, match="mine"):
            list(generate(Site(llm, 2, 5.0), llm.encode("The cat"), [Arm("own", vector, 1.0, Broken())], Sampling(4)))
        assert llm.fixed_steps.failures == [] and texts_of(llm, glp) == expected


def test_a_gaussian_prior_on_a_device_without_float64_projects_as_on_the_cpu():
    acts, noise = torch.randn(5, tiny.WIDTH), torch.randn(5, tiny.WIDTH)
    root = torch.randn(tiny.WIDTH, tiny.WIDTH)
    mean, covariance = torch.randn(tiny.WIDTH), root @ root.T
    expected = GaussianPrior(mean, covariance).posterior_mean(acts, 0.5, noise)
    with second_device(), pytest.MonkeyPatch.context() as patch:
        patch.setattr(SecondTensor, "double", lambda _: pytest.fail("this device has no float64"))
        found = GaussianPrior(mean.to(NAME), covariance.to(NAME)).posterior_mean(acts.to(NAME), 0.5, noise.to(NAME))
        torch.testing.assert_close(found.cpu(), expected)
