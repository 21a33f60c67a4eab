"""What is drawn while texts are written: each row's projection noise and its choice of tokens, against streams drawn here."""

import pytest
import torch

from glp_core.llm.decoding import Sampling, choose, draw
from glp_core.llm.site import MASSIVE, Site
from glp_core.prior.distance import ManifoldMeter, make_reference
from glp_core.prior.projection import make_projector
from glp_core.prior.walk import WalkSettings
from glp_core.steering import prompt_edit
from glp_core.steering.edit import NOISE_STREAM, Arm, EditedRow, NoiseStreams
from glp_core.steering.generation import Row, decode, generate
from glp_core.steering.prompt_edit import PromptEdit
from glp_core.steering.where import Where
from tests.support import tiny

LAYER, NORM, STRENGTH = 1, 4.0, 1.5
PROMPT = "The cat sat on the mat and"


class Recorder:
    """A projector that adds its noise and keeps it."""

    name, draws = "recorder", 1

    def __init__(self):
        self.given = []

    def __call__(self, edited, clean, generator=None, *, noise=None):
        self.given.append(noise.clone())
        return edited + noise


def stream(seed):
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def direction():
    return torch.nn.functional.normalize(torch.randn(tiny.WIDTH, generator=stream(3)), dim=0)


@pytest.mark.parametrize("kind", ["glp", "walk"])
def test_a_prior_projects_the_push_from_the_clean_activation_with_the_rows_noise(tiny_llm, tiny_glp, direction, kind):
    ids, seed, settings = tiny_llm.encode(PROMPT), 5, WalkSettings(0.3, 4)
    meter = ManifoldMeter(
        tiny_glp, make_reference(tiny_glp, tiny_glp.denormalize(torch.randn(200, tiny.WIDTH, generator=stream(0))))
    )
    clean = tiny_llm.activations([ids], LAYER)[0][-1:].float()
    push = STRENGTH * NORM * direction[None]
    noise = torch.randn(settings.draws if kind == "walk" else 1, tiny.WIDTH, generator=stream(seed + NOISE_STREAM))
    if kind == "walk":
        final = tiny_glp.walk_by(settings, clean, push, noise[:, None])
    else:
        final = tiny_glp.project(clean + push, 0.5, 20, noise=noise)
    arm = Arm(kind, direction, STRENGTH, make_projector(kind, glp=tiny_glp, walk=settings))
    [step] = generate(Site(tiny_llm, LAYER, NORM), ids, [arm], Sampling(1, seed=seed), meter=meter)
    assert step.distance_before == pytest.approx(float(meter.distance(clean)), rel=1e-3)
    assert step.distance_pushed == pytest.approx(float(meter.distance(clean + push)), rel=1e-3)
    assert step.distance_after == pytest.approx(float(meter.distance(final)), rel=1e-3)
    assert step.kept_push == pytest.approx(float((final - clean)[0] @ direction) / (STRENGTH * NORM), rel=1e-3)


def test_projection_noise_is_new_at_every_token_and_shared_by_rows_of_one_seed(tiny_llm, direction, monkeypatch):
    monkeypatch.setattr(tiny_llm, "stop_ids", frozenset())
    recorder, ids = Recorder(), tiny_llm.encode(PROMPT)
    rows = [Row(ids, Arm(str(i), direction, STRENGTH + i, recorder), seed) for i, seed in enumerate((3, 3, 8))]
    list(decode(Site(tiny_llm, LAYER, NORM), rows, Sampling(4)))
    assert len(recorder.given) == 4
    streams = {seed: stream(seed + NOISE_STREAM) for seed in (3, 8)}
    for noise in recorder.given:
        one, other = (torch.randn(1, tiny.WIDTH, generator=streams[seed])[0] for seed in (3, 8))
        torch.testing.assert_close(noise[:3], torch.stack([one, one, other]))
    assert len(torch.stack(recorder.given)[:, :3].flatten(0, 1).unique(dim=0)) == 4 * 2


def test_a_sampled_text_is_chosen_from_full_forwards_by_one_stream_of_its_seed(tiny_llm, monkeypatch):
    monkeypatch.setattr(tiny_llm, "stop_ids", frozenset())
    ids, texts = tiny_llm.encode(PROMPT), []
    for seed in (4, 9):
        sampling, generator, seen = Sampling(8, temperature=1.1, seed=seed), stream(seed), list(ids)
        steps = generate(Site(tiny_llm, LAYER, NORM), ids, [Arm("plain")], sampling)
        texts.append([step.token for step in steps])
        for token in texts[-1]:
            with torch.no_grad():
                logits = tiny_llm.model(torch.tensor([seen])).logits[0, -1:]
            assert int(choose(logits, sampling, draw(generator, logits.shape[-1])[None])) == token
            seen.append(token)
    assert len(texts[0]) == 8 and texts[0] != texts[1]


def edited_prompt(llm, hidden, arm, seed=0):
    """Edit all tokens of a prompt (tokens, d) but its first."""
    row = EditedRow(arm, seed, NoiseStreams(), None, len(hidden) + 1)
    return PromptEdit(Site(llm, LAYER, NORM), [row])(hidden[None])[0]


def test_a_prompts_noise_differs_by_token_and_by_seed(tiny_llm, direction):
    hidden, recorder = torch.randn(7, tiny.WIDTH, generator=stream(1)), Recorder()
    arm = Arm("recorder", direction, STRENGTH, recorder, Where(span=(0, 8)))
    for seed in (2, 2, 6):
        edited = edited_prompt(tiny_llm, hidden, arm, seed)
        torch.testing.assert_close(edited[1:], hidden[1:] + STRENGTH * NORM * direction + recorder.given[-1])
        assert torch.equal(edited[0], hidden[0])
    one, again, other = recorder.given
    assert torch.equal(one, again) and len(torch.cat([one, other]).unique(dim=0)) == 2 * 6
    first = torch.randn(6, tiny.WIDTH, generator=stream(2 + prompt_edit.NOISE_STREAM))
    torch.testing.assert_close(one, first)


@pytest.mark.parametrize("span", [(0, 40), (3, 17), (20, 40), (0, 5)])
def test_a_prompt_that_is_read_in_parts_is_edited_as_one_that_is_read_whole(tiny_llm, tiny_glp, direction, span):
    hidden = torch.randn(2, 33, tiny.WIDTH, generator=stream(1))
    walk = make_projector("walk", glp=tiny_glp, walk=WalkSettings(0.2, 3))
    arm = Arm("walk", direction, STRENGTH, walk, Where(span=span))
    rows = [EditedRow(arm, seed, NoiseStreams(), None, length) for seed, length in ((0, 34), (4, 30))]
    whole = PromptEdit(Site(tiny_llm, LAYER, NORM), rows)(hidden)
    edit = PromptEdit(Site(tiny_llm, LAYER, NORM), rows)
    parts = torch.cat([edit(part) for part in hidden.split(8, dim=1)], 1)
    torch.testing.assert_close(parts, whole, atol=1e-5, rtol=1e-5)
    assert not torch.equal(whole, hidden)


@pytest.mark.parametrize("kind", ["none", "glp", "walk"])
def test_massive_activations_of_a_prompt_pass_untouched_and_their_neighbours_do_not(tiny_llm, tiny_glp, direction, kind):
    hidden = torch.randn(7, tiny.WIDTH, generator=stream(1))
    hidden[[2, 5]] *= 1.01 * MASSIVE * NORM / hidden[[2, 5]].norm(dim=1, keepdim=True)
    arm = Arm(kind, direction, STRENGTH, make_projector(kind, glp=tiny_glp), Where(span=(0, 8)))
    same = (edited_prompt(tiny_llm, hidden, arm) == hidden).all(1)
    assert same.tolist() == [True, False, True, False, False, True, False]
