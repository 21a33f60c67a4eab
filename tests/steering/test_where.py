"""Where a push acts: spans of the prompt and conditions, against full forwards with a hook of the test's own; stacks of directions."""

import math

import pytest
import torch

from glp_core.errors import GlpError
from glp_core.llm.decoding import Sampling
from glp_core.llm.site import Site
from glp_core.neuron_index.neuron_data import NOISE_FREE
from glp_core.neuron_index.reading import NeuronFires, read_neurons
from glp_core.prior.projection import make_projector
from glp_core.steering.directions import Direction, stacked
from glp_core.steering.edit import Arm
from glp_core.steering.generation import Row, SharedBatch, decode
from glp_core.steering.where import ProbeFires, Where, span_of
from tests.support import tiny

LAYER, NORM, STRENGTH = 1, 4.0, 1.5
PROMPT = "The cat sat on the mat and"
TOKENS = Sampling(6)


@pytest.fixture(scope="module")
def direction():
    vector = torch.randn(tiny.WIDTH, generator=torch.Generator().manual_seed(3))
    return vector / vector.norm()


def write(llm, arms, *, prompt=PROMPT, batch=None):
    """Return each arm's steps."""
    rows = [Row(llm.encode(prompt), arm) for arm in arms]
    steps = [[] for _ in rows]
    for row, step in decode(Site(llm, LAYER, NORM), rows, TOKENS, batch=batch):
        steps[row].append(step)
    return steps


def replayed(llm, steps, edit):
    """Say whether full forwards, whose layer's output `edit` changes at positions (tokens, d), choose the same tokens alike."""
    model, seen = tiny.make_tiny_llm().model, llm.encode(PROMPT)
    handle = model.model.layers[LAYER].register_forward_hook(lambda _layer, _inputs, hidden: edit(hidden[0].clone())[None])
    alike = []
    for step in steps:
        log_probabilities = model(torch.tensor([seen])).logits[0, -1].log_softmax(-1)
        alike.append(int(log_probabilities.argmax()) == step.token)
        alike.append(math.isclose(float(log_probabilities[step.token]), step.log_probability, abs_tol=1e-4))
        seen.append(step.token)
    handle.remove()
    return all(alike)


def pushed_at(positions, direction, project=lambda pushed, clean: pushed):
    def edit(hidden):
        chosen = [position for position in positions if 0 < position < len(hidden)]
        hidden[chosen] = project(hidden[chosen] + STRENGTH * NORM * direction, hidden[chosen])
        return hidden

    return edit


@pytest.mark.parametrize(
    ("where", "positions"),
    [
        (Where(span=(0, 9)), range(1, 100)),
        (Where(generated=False, span=(2, 5)), range(2, 5)),
        (Where(generated=False, span=(3, 9)), range(3, 9)),
        (Where(span=(2, 4)), [2, 3, *range(8, 100)]),
        (Where(generated=False, span=(0, 1)), []),
    ],
)
def test_a_push_acts_where_it_is_told_to(tiny_llm, direction, where, positions):
    assert len(tiny_llm.encode(PROMPT)) == 9
    arm = Arm("raw", direction, STRENGTH, where=where)
    [steps] = write(tiny_llm, [arm])
    assert replayed(tiny_llm, steps, pushed_at(positions, direction))
    assert [step.edited for step in steps] == [8 + i in positions for i in range(len(steps))]


def test_a_prompt_is_projected_too(tiny_llm, direction):
    norm = make_projector("norm")
    [steps] = write(tiny_llm, [Arm("norm", direction, STRENGTH, norm, Where(span=(0, 9)))])
    assert replayed(tiny_llm, steps, pushed_at(range(1, 100), direction, norm))


def test_rows_with_edited_prompts_write_beside_others_what_they_write_alone(tiny_llm, direction, tiny_glp):
    walk = make_projector("walk", glp=tiny_glp)
    arms = [
        Arm("unsteered"),
        Arm("raw", direction, STRENGTH),
        Arm("all", direction, STRENGTH, walk, Where(span=(0, 9))),
        Arm("span", direction, STRENGTH, walk, Where(generated=False, span=(2, 5))),
        Arm("later", direction, STRENGTH, walk),
    ]
    together, batch = write(tiny_llm, arms), SharedBatch()
    for arm, steps in zip(arms, together, strict=True):
        [alone] = write(tiny_llm, [arm], batch=batch)
        assert [step.token for step in alone] == [step.token for step in steps]
        assert [step.log_probability for step in alone] == pytest.approx([step.log_probability for step in steps], abs=1e-4)


def test_a_probe_that_never_fires_leaves_the_text_alone_and_one_that_always_does_changes_nothing(tiny_llm, direction):
    def probe(bias):
        one = Direction.unmeasured(direction, name="x", title="x", layer=LAYER, median_norm=NORM, how="", about={})
        return ProbeFires(Direction(**{**vars(one), "probe_weight": torch.zeros(tiny.WIDTH), "probe_bias": bias}))

    arms = [
        Arm("plain"),
        Arm("never", direction, STRENGTH, where=Where(only=probe(-9.0))),
        Arm("always", direction, STRENGTH, where=Where(only=probe(9.0))),
        Arm("raw", direction, STRENGTH),
    ]
    plain, never, always, raw = ([(step.token, step.log_probability) for step in steps] for steps in write(tiny_llm, arms))
    assert never == plain and always == raw != plain


def test_a_neuron_lets_the_push_act_on_the_tokens_where_it_fires(tiny_llm, direction, tiny_glp):
    ids = tiny_llm.encode(PROMPT)
    values = read_neurons(tiny_glp, tiny_llm.activations([ids], LAYER)[0], NOISE_FREE)[:, 5]
    middle = values[1:].sort().values[len(values) // 2 - 1 :][:2]
    beyond = float(middle.mean())  # between two tokens' values: rounding moves none across
    for sign in (1, -1):
        fires = (
            NeuronFires(tiny_glp, NOISE_FREE, 0, 5, beyond)
            if sign > 0
            else NeuronFires(tiny_glp, NOISE_FREE, 0, 5, -abs(beyond))
        )
        wanted = [i for i in range(1, 9) if (values[i] > beyond if sign * beyond >= 0 else values[i] < -abs(beyond))]
        where = Where(generated=False, span=(0, 9), only=fires)
        [steps] = write(tiny_llm, [Arm("raw", direction, STRENGTH, where=where)])
        assert replayed(tiny_llm, steps, pushed_at([i for i in wanted if i < 8 or steps[0].edited], direction))
        assert steps[0].edited == (8 in wanted)


@pytest.mark.parametrize("span", [(-1, 3), (3, 3), (0, 10)])
def test_a_span_outside_the_prompt_is_refused(tiny_llm, direction, span):
    with pytest.raises(GlpError, match="is not within the prompt's 9 tokens"):
        write(tiny_llm, [Arm("raw", direction, STRENGTH, where=Where(span=span))])


def test_words_of_a_prompt_are_found_among_its_tokens():
    pieces = ["", "The", " cat", " s", "at", " on", " the", " cat"]
    assert span_of(pieces, "cat") == (2, 3)
    assert span_of(pieces, " cat sa ") == (2, 5)
    assert span_of(pieces, "The cat sat on the cat") == (1, 8)
    for words in ("dog", "", "  "):
        with pytest.raises(GlpError, match="is not in the prompt"):
            span_of(pieces, words)


def test_words_are_found_though_a_template_changed_the_text_that_they_are_looked_for_in():
    pieces = ["<s>", "user ", "hello", " world"]
    assert span_of(pieces, "world", within="hello  world") == (3, 4)


def test_a_stack_is_the_sum_of_its_pushes():
    x, y = torch.eye(4)[0], torch.eye(4)[1]
    vector, strength = stacked([(x, 3.0), (y, -4.0)])
    torch.testing.assert_close(vector * strength, torch.tensor([3.0, -4.0, 0, 0]))
    assert strength == pytest.approx(5) and vector.norm() == pytest.approx(1)
    assert stacked([(x, 1.0), (x, -1.0)])[1] == 0.0
    vector, strength = stacked([(x, -2.0)])
    torch.testing.assert_close((vector, strength), (-x, 2.0))
