"""The decode loop against transformers' own generate and full forwards, against hand calculations, and against itself run solo."""

import math
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
import torch
from scipy.stats import chisquare

from glp_core.errors import GlpError
from glp_core.llm.decoding import ROWS, Context, choose, draw, filled
from glp_core.llm.site import MASSIVE, Site
from glp_core.llm.text_stream import TextStream
from glp_core.prior.distance import ManifoldMeter, make_reference
from glp_core.prior.projection import make_projector
from glp_core.steering import generation
from glp_core.steering import loop as loop_module
from glp_core.steering.edit import EditedRow, NoiseStreams, SteeringEdit
from glp_core.steering.generation import (
    Arm,
    Row,
    Sampling,
    SharedBatch,
    Step,
    clean_reading,
    decode,
    generate,
    mean_activation,
    read_texts,
)
from glp_core.steering.loop import Loop
from glp_core.steering.where import Where
from tests.support import tiny

LAYER, NORM = 1, 4.0
PROMPT = "The cat sat on the mat and"
GREEDY = Sampling(12)
SAMPLED = Sampling(12, temperature=1.1, seed=7)


@pytest.fixture(scope="module")
def direction():
    vector = torch.randn(tiny.WIDTH, generator=torch.Generator().manual_seed(3))
    return vector / vector.norm()


@pytest.fixture(scope="module")
def meter(tiny_glp):
    acts = tiny_glp.denormalize(torch.randn(200, tiny.WIDTH, generator=torch.Generator().manual_seed(0)))
    return ManifoldMeter(tiny_glp, make_reference(tiny_glp, acts))


@pytest.fixture(scope="module")
def arms(direction, tiny_glp):
    projector = make_projector("glp", glp=tiny_glp)
    return [
        Arm("unsteered"),
        Arm("raw", direction, 1.5),
        Arm("glp", direction, 1.5, projector),
        Arm("norm", direction, 1.5, make_projector("norm")),
        Arm("walk", direction, 1.5, make_projector("walk", glp=tiny_glp)),
    ]


def run(llm, arms, sampling, meter=None, prompt=PROMPT) -> dict[str, list[Step]]:
    steps: dict[str, list[Step]] = {arm.name: [] for arm in arms}
    for step in generate(Site(llm, LAYER, NORM), llm.encode(prompt), arms, sampling, meter=meter):
        steps[step.arm].append(step)
    return steps


class Close(float):
    """A number that equals others up to float32 rounding (thread counts change the order of sums), and nan equals nan."""

    __hash__ = float.__hash__

    def __eq__(self, other):
        return (math.isnan(self) and math.isnan(other)) or math.isclose(self, other, rel_tol=1e-4, abs_tol=1e-4)

    def __ne__(self, other):
        return not self == other


def numbers(steps):
    """Everything but the time: tokens and texts exactly, numbers up to rounding."""
    return [tuple(Close(v) if isinstance(v, float) else v for v in s._replace(seconds=0.0)) for s in steps]


@pytest.mark.parametrize("family", ["llama", "gpt2", "gpt_neox", "qwen2", "gemma2"])
def test_without_edits_it_writes_what_transformers_generate_writes(family):
    llm = tiny.make_tiny_llm(family)
    ids = llm.encode(PROMPT)
    expected = llm.model.generate(torch.tensor([ids]), do_sample=False, max_new_tokens=20)[0, len(ids) :].tolist()
    tokens = [step.token for step in generate(Site(llm, LAYER, NORM), ids, [Arm("plain")], Sampling(20))]
    assert tokens == expected


@pytest.mark.parametrize("sampling", [GREEDY, SAMPLED], ids=["greedy", "sampled"])
def test_each_arm_alone_writes_exactly_what_it_writes_in_a_comparison(tiny_llm, arms, meter, sampling):
    together = run(tiny_llm, arms, sampling, meter)
    assert len({tuple(s.token for s in steps) for steps in together.values()}) > 1, "the arms must differ to show anything"
    for arm in arms:
        assert numbers(run(tiny_llm, [arm], sampling, meter)[arm.name]) == numbers(together[arm.name])
    turned = run(tiny_llm, arms[::-1], sampling, meter)
    assert {name: numbers(steps) for name, steps in turned.items()} == {n: numbers(s) for n, s in together.items()}


def test_it_does_so_in_bfloat16_too(arms, meter, tiny_llm):
    llm = tiny.make_tiny_llm()
    llm.model.to(torch.bfloat16)
    together = run(llm, arms, SAMPLED, meter)
    for arm in arms:
        assert numbers(run(llm, [arm], SAMPLED, meter)[arm.name]) == numbers(together[arm.name])


def test_two_threads_at_once_each_write_what_they_write_alone(tiny_llm, arms, meter):
    alone = [numbers(run(tiny_llm, [arm], SAMPLED, meter)[arm.name]) for arm in arms[:3]]
    with ThreadPoolExecutor(3) as pool:
        for _ in range(3):
            at_once = list(pool.map(lambda arm: numbers(run(tiny_llm, [arm], SAMPLED, meter)[arm.name]), arms[:3]))
            assert at_once == alone


def test_two_generators_taken_in_turns_do_not_mix(tiny_llm, arms):
    alone = [numbers(run(tiny_llm, [arm], GREEDY)[arm.name]) for arm in arms[1:3]]
    ids = tiny_llm.encode(PROMPT)
    open_ones = [generate(Site(tiny_llm, LAYER, NORM), ids, [arm], GREEDY) for arm in arms[1:3]]
    turns = list(zip(*open_ones, strict=True))
    assert [numbers(steps) for steps in zip(*turns, strict=True)] == alone


def test_zero_strength_is_the_unsteered_text_even_with_a_projector(tiny_llm, direction, tiny_glp):
    projector = make_projector("glp", glp=tiny_glp)
    arms = [Arm("unsteered"), Arm("zero", direction, 0.0), Arm("zero glp", direction, 0.0, projector)]
    first, *others = (numbers([s._replace(arm="") for s in steps]) for steps in run(tiny_llm, arms, SAMPLED).values())
    assert all(other == first for other in others)


def test_a_projector_without_a_vector_projects_the_models_own_activations(tiny_llm, tiny_glp):
    arms = [Arm("plain"), Arm("projected", projector=make_projector("glp", glp=tiny_glp))]
    steps = run(tiny_llm, arms, GREEDY)
    assert [s.log_probability for s in steps["plain"]] != [s.log_probability for s in steps["projected"]]


def test_steering_equals_a_hook_on_the_last_position_of_a_full_forward(tiny_llm, direction):
    """Replays the raw arm without a cache: at each step all earlier positions from the prompt's last on are edited."""
    ids, strength = tiny_llm.encode(PROMPT), 1.5
    steps = run(tiny_llm, [Arm("raw", direction, strength)], GREEDY)["raw"]
    seen, start = list(ids), len(ids) - 1

    def push(_layer, _inputs, output):
        hidden = output[0] if isinstance(output, tuple) else output
        edited = torch.cat([hidden[:, :start], hidden[:, start:] + strength * NORM * direction], dim=1)
        return (edited, *output[1:]) if isinstance(output, tuple) else edited

    model = tiny.make_tiny_llm().model
    handle = model.model.layers[LAYER].register_forward_hook(push)
    for step in steps:
        log_probabilities = model(torch.tensor([seen])).logits[0, -1].log_softmax(-1)
        assert int(log_probabilities.argmax()) == step.token
        assert float(log_probabilities[step.token]) == pytest.approx(step.log_probability, abs=1e-4)
        seen.append(step.token)
    handle.remove()


def test_distances_and_kept_push_are_those_of_the_activations_before_and_after(tiny_llm, direction, tiny_glp, meter):
    """Read off one recorded position: the prompt's last."""
    ids = tiny_llm.encode(PROMPT)
    clean = tiny_llm.activations([ids], LAYER)[0][-1:]
    arms = [Arm("raw", direction, 1.5), Arm("norm", direction, 1.5, make_projector("norm"))]
    raw, norm = (steps[0] for steps in run(tiny_llm, arms, Sampling(1), meter).values())
    pushed = clean + 1.5 * NORM * direction
    final = pushed * clean.norm() / pushed.norm()
    assert raw.distance_before == pytest.approx(float(meter.distance(clean)), rel=1e-4)
    assert raw.distance_after == pytest.approx(float(meter.distance(pushed)), rel=1e-4)
    assert norm.distance_after == pytest.approx(float(meter.distance(final)), rel=1e-4)
    assert norm.distance_pushed == pytest.approx(float(meter.distance(pushed)), rel=1e-4) == raw.distance_pushed
    moved = (final - clean)[0]
    assert norm.kept_push == pytest.approx(float(moved @ direction / (1.5 * NORM)), rel=1e-4)
    assert norm.cosine == pytest.approx(float(torch.cosine_similarity(moved, direction, dim=0)), rel=1e-4)
    assert norm.correction == pytest.approx(float((moved - (moved @ direction) * direction).norm()) / NORM, rel=1e-3)
    assert math.isnan(raw.kept_push) and math.isnan(raw.cosine) and math.isnan(raw.correction)


def test_an_edit_is_read_after_its_layer_has_run(tiny_llm, direction):
    steering = SteeringEdit(Site(tiny_llm, LAYER, NORM), [EditedRow(Arm("raw", direction, 1.0), 0, NoiseStreams())])
    once = steering.start(torch.ones(ROWS, dtype=torch.long))
    with pytest.raises(RuntimeError, match="has not run"):
        once.read()


def edit_once(llm, arm, hidden, *, first=False):
    steering = SteeringEdit(Site(llm, LAYER, NORM), [EditedRow(arm, 0, NoiseStreams())])
    return steering.start(torch.full((ROWS,), 0 if first else 5))(hidden)


@pytest.mark.parametrize("kind", ["glp", "walk"])
def test_massive_activations_and_the_first_token_pass_untouched(tiny_llm, direction, tiny_glp, kind):
    arm = Arm(kind, direction, 1.5, make_projector(kind, glp=tiny_glp))
    hidden = torch.randn(ROWS, 3, tiny.WIDTH, generator=torch.Generator().manual_seed(0))
    edited = edit_once(tiny_llm, arm, hidden)
    assert not torch.equal(edited[0, -1], hidden[0, -1])
    assert torch.equal(edited[0, :-1], hidden[0, :-1]), "only the last position is edited"
    assert torch.equal(edited[1:], hidden[1:]), "rows without an edit stay bit-equal"
    assert torch.equal(edit_once(tiny_llm, arm, hidden, first=True), hidden)
    massive = hidden * (1.01 * MASSIVE * NORM / hidden[0, -1].norm())
    assert torch.equal(edit_once(tiny_llm, arm, massive), massive)


def test_rows_with_prompts_of_their_own_write_what_they_write_alone(tiny_llm, arms):
    prompts = ["The cat", "A model of the mind is not the mind, but", "She said", "He", "It was dull and he said that"]
    rows = [Row(tiny_llm.encode(prompt), arm, i) for i, prompt in enumerate(prompts) for arm in arms]
    texts: list[list[int]] = [[] for _ in rows]
    for row, step in decode(Site(tiny_llm, LAYER, NORM), rows, GREEDY):
        texts[row].append(step.token)
    for row, text in zip(rows, texts, strict=True):
        assert text == [step.token for _, step in decode(Site(tiny_llm, LAYER, NORM), [row], GREEDY)]


def test_a_prompt_of_the_first_token_alone_is_gone_on_from(tiny_llm, direction):
    plain = [s.token for s in generate(Site(tiny_llm, LAYER, NORM), [1], [Arm("plain")], GREEDY)]
    steered = [s.token for s in generate(Site(tiny_llm, LAYER, NORM), [1], [Arm("raw", direction, 2.0)], GREEDY)]
    assert plain == tiny_llm.model.generate(torch.tensor([[1]]), do_sample=False, max_new_tokens=12)[0, 1:].tolist()
    assert steered[0] == plain[0], "the first token is never edited"


def test_a_stop_token_ends_its_row_and_not_the_others(tiny_llm, arms, monkeypatch):
    free = run(tiny_llm, arms[:2], GREEDY)
    stop = free["raw"][3].token
    monkeypatch.setattr(tiny_llm, "stop_ids", frozenset({stop}))
    stopped = run(tiny_llm, arms[:2], GREEDY)
    at = [s.token for s in free["raw"]].index(stop)
    assert [s.finished for s in stopped["raw"]] == [False] * at + [True]
    assert stopped["raw"][-1].token == stop
    tokens = [s.token for s in free["unsteered"]]
    expected = tokens[: tokens.index(stop) + 1] if stop in tokens else tokens
    assert [s.token for s in stopped["unsteered"]] == expected
    assert stopped["unsteered"][-1].finished


def test_cancel_stops_before_the_next_step(tiny_llm, arms):
    asked = iter([False, False, False, True])
    ids = tiny_llm.encode(PROMPT)
    steps = list(generate(Site(tiny_llm, LAYER, NORM), ids, arms, GREEDY, cancelled=lambda: next(asked)))
    assert {step.step for step in steps} == {0, 1}, "asked once before the prompt is read and once before each step"


def test_log_probabilities_and_activations_of_a_clean_reading_equal_a_full_forward(tiny_llm, arms):
    ids = tiny_llm.encode(PROMPT)
    continuations = [[s.token for s in steps] for steps in run(tiny_llm, arms, GREEDY).values()]
    continuations[1] = continuations[1][:5]
    read, means = clean_reading(Site(tiny_llm, LAYER, NORM), ids, continuations)
    for continuation, got, mean in zip(continuations, read, means, strict=True):
        whole = torch.tensor([[*ids, *continuation]])
        expected = tiny_llm.model(whole).logits[0].log_softmax(-1)
        wanted = [float(expected[len(ids) - 1 + i, token]) for i, token in enumerate(continuation)]
        assert got == pytest.approx(wanted, abs=1e-4)
        acts = tiny_llm.activations(whole.tolist(), LAYER)[0][len(ids) :]
        torch.testing.assert_close(mean, acts.mean(0), atol=1e-4, rtol=1e-4)
        alone = mean_activation(Site(tiny_llm, LAYER, NORM), ids, continuation)
        torch.testing.assert_close(alone[0], acts.mean(0), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("prompt", [PROMPT, ""])
def test_texts_are_read_on_from_what_was_read_of_their_prompt_before_they_were_written(tiny_llm, arms, prompt, monkeypatch):
    site, batch, ids = Site(tiny_llm, LAYER, NORM), SharedBatch(), tiny_llm.encode(prompt)
    rows = [Row(ids, arm) for arm in arms]
    with batch.writing(site, [Row(tiny_llm.encode("Someone else began"), arms[0])], GREEDY, None) as other:
        other.next()
        with batch.writing(site, rows, GREEDY, None) as writer:
            written = [[] for _ in rows]
            while writer.open:
                for row, step in writer.next():
                    written[row].append(step.token)
    wanted, means = clean_reading(site, ids, written)
    monkeypatch.setattr(generation, "Context", None)  # the prompt is read by nobody
    read, again = clean_reading(site, ids, written, writer.read)
    assert read == wanted and torch.equal(means, again)


def test_what_was_read_of_a_prompt_is_kept_where_that_helps(tiny_llm, arms, monkeypatch):
    site, ids = Site(tiny_llm, LAYER, NORM), tiny_llm.encode(PROMPT)
    pushed = replace(next(arm for arm in arms if arm.edits), where=Where(span=(0, len(ids))))
    assert Loop(site, [Row(ids, arms[0])], GREEDY).unedited() is not None
    assert len(Loop(site, [Row(ids, arm) for arm in arms], GREEDY).unedited().lengths) == 1
    assert Loop(site, [Row(ids, pushed)], GREEDY).unedited() is None, "its prompt is edited"
    assert Loop(site, [Row(ids, arms[0]), Row(ids[:-1], arms[0])], GREEDY).unedited() is None, "there are two prompts"
    monkeypatch.setattr(loop_module, "KEPT_PROMPT", len(ids) - 2)
    assert Loop(site, [Row(ids, arms[0])], GREEDY).unedited() is None, "it is long"


def test_a_prompt_that_is_too_long_to_be_read_with_every_text_is_read_once(tiny_llm, monkeypatch):
    site, ids = Site(tiny_llm, LAYER, NORM), tiny_llm.encode("The cat sat on the mat and looked at the rain. " * 3)
    continuations = [ids[2:9], ids[4:8], ids[1:3]]
    wanted, means = clean_reading(site, ids, continuations)
    monkeypatch.setitem(generation.TOKENS_PER_READING, "cpu", len(ids))
    monkeypatch.setattr(generation, "VOCABULARY", tiny_llm.model.get_input_embeddings().num_embeddings)
    read_tokens = []
    handle = tiny_llm.model.model.layers[0].register_forward_hook(
        lambda _m, inputs, _o: read_tokens.append(inputs[0].shape[:2])
    )
    read, again = clean_reading(site, ids, continuations)
    handle.remove()
    assert [tuple(shape) for shape in read_tokens] == [(1, len(ids) - 1), (3, 8)], "the prompt once, then the texts after it"
    for one, other in zip(read, wanted, strict=True):
        assert one == pytest.approx(other, abs=1e-4)
    torch.testing.assert_close(again, means, atol=1e-4, rtol=1e-4)


def test_an_unsteered_texts_clean_reading_is_its_own_log_probability(tiny_llm):
    ids = tiny_llm.encode(PROMPT)
    steps = run(tiny_llm, [Arm("plain")], SAMPLED)["plain"]
    (read,), _ = clean_reading(Site(tiny_llm, LAYER, NORM), ids, [[s.token for s in steps]])
    assert read == pytest.approx([s.log_probability for s in steps], abs=1e-4)


def test_reading_texts_in_batches_of_different_prompts_changes_nothing(tiny_llm, monkeypatch):
    prompts = [tiny_llm.encode(text) for text in ("The cat", "She said that the film", "He")]
    continuations = [[20, 30, 40], [50, 60], []]
    read, means = read_texts(Site(tiny_llm, LAYER, NORM), prompts, continuations)
    assert read[2] == [] and means[2].isnan().all()
    monkeypatch.setitem(generation.TOKENS_PER_READING, "cpu", 1)
    again, means_again = read_texts(Site(tiny_llm, LAYER, NORM), prompts, continuations)
    assert again[0] == pytest.approx(read[0], abs=1e-4) and again[1] == pytest.approx(read[1], abs=1e-4)
    torch.testing.assert_close(means, means_again, atol=1e-4, rtol=1e-4, equal_nan=True)


def test_prompts_that_rows_share_are_read_once(tiny_llm):
    lengths = []
    handle = tiny_llm.model.base_model.register_forward_pre_hook(
        lambda _m, _a, kwargs: lengths.append(tuple(kwargs["input_ids"].shape)), with_kwargs=True
    )
    Context(tiny_llm, [[1, 5, 6, 7]] * 8)
    handle.remove()
    assert lengths == [(1, 3)]


def drawn(logits, sampling, n, seed=0):
    """Return how often each token was chosen, as shares of n."""
    generator, vocabulary = torch.Generator().manual_seed(seed), logits.shape[-1]
    noise = torch.stack([draw(generator, vocabulary) for _ in range(n)])
    return choose(logits.expand(n, vocabulary), sampling, noise).bincount(minlength=vocabulary).double() / n


def test_temperature_sharpens_as_softmax_does():
    shares = drawn(torch.tensor([0.0, 1.0]), Sampling(1, temperature=0.5), 20_000)
    torch.testing.assert_close(shares, torch.tensor([0.0, 2.0]).double().softmax(-1), atol=0.012, rtol=0)


def test_sampled_tokens_follow_the_distribution():
    probabilities = torch.tensor([0.1, 0.2, 0.3, 0.4], dtype=torch.float64)
    shares = drawn(probabilities.log(), Sampling(1, temperature=1.0), 20_000)
    torch.testing.assert_close(shares, probabilities, atol=0.012, rtol=0)


def test_tokens_of_a_large_vocabulary_follow_the_distribution():
    """700 tokens are three blocks, the last one not full; the masked ones are never chosen."""
    logits = torch.randn(700, generator=torch.Generator().manual_seed(1)) * 2
    logits[::7] = -torch.inf
    n = 30_000
    expected = logits.double().softmax(-1) * n
    seen = drawn(logits, Sampling(1, temperature=1.0), n) * n
    assert (seen[::7] == 0).all()
    common = expected > 5
    assert chisquare([*seen[common], seen[~common].sum()], [*expected[common], expected[~common].sum()]).pvalue > 1e-4


def test_a_rounding_of_the_logits_does_not_change_a_sampled_text():
    """What else is in the batch moves a row's log-probabilities by about 1e-5 in float32."""
    generator = torch.Generator().manual_seed(2)
    logits = torch.randn(1_000, 20_000, generator=generator) * 3
    noise = torch.stack([draw(generator, 20_000) for _ in range(1_000)])
    sampling = Sampling(1, temperature=1.0)
    rounded = logits + 1e-5 * torch.rand(logits.shape, generator=generator)
    torch.testing.assert_close(choose(logits, sampling, noise), choose(rounded, sampling, noise))


def test_text_is_held_back_until_a_character_is_whole(tiny_llm):
    text = "naïve 😀!"
    ids = tiny_llm.tokenizer.encode(text, add_special_tokens=False)
    stream = TextStream(tiny_llm.tokenizer, tiny_llm.encode("So "))
    pieces = [stream.push(token) for token in ids]
    assert "".join(pieces) == text
    assert "" in pieces and "😀" in pieces, "the four bytes of the smiley are four tokens here"
    assert all("\ufffd" not in piece for piece in pieces)
    assert stream.flush() == ""


def test_an_unfinished_character_is_shown_at_the_end(tiny_llm):
    ids = tiny_llm.tokenizer.encode("😀", add_special_tokens=False)[:2]
    stream = TextStream(tiny_llm.tokenizer)
    assert [stream.push(token) for token in ids] == ["", ""]
    assert set(stream.flush()) == {"\ufffd"}


def test_pieces_joined_are_the_text(tiny_llm, arms):
    for steps in run(tiny_llm, arms, Sampling(40, temperature=1.5, seed=1)).values():
        ids = [s.token for s in steps if s.token not in tiny_llm.stop_ids]
        whole = tiny_llm.tokenizer.decode([*tiny_llm.encode(PROMPT), *ids])
        assert whole == tiny_llm.tokenizer.decode(tiny_llm.encode(PROMPT)) + "".join(s.text for s in steps)


def test_batches_are_filled_to_whole_blocks():
    assert [filled(n) for n in (1, 3, 4, 5)] == [4, 4, 4, 8]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"ids": []}, "prompt is empty"),
        ({"ids": [1] * 250}, "reads at most 244"),
        ({"layer": 9}, "Layer 9 does not exist"),
        ({"arms": []}, "at least one arm"),
        ({"strength": float("nan")}, "strength of 'raw' is nan"),
        ({"strength": float("inf")}, "strength of 'raw' is inf"),
        ({"strength": 1e38}, "reduce the strength"),
        ({"vector": torch.ones(5)}, "wanted \\(32,\\)"),
        ({"vector": torch.ones(32)}, "wanted a unit vector"),
    ],
)
def test_what_a_user_can_get_wrong_is_said(tiny_llm, direction, change, words):
    arm = Arm("raw", change.get("vector", direction), change.get("strength", 1.0))
    ids = change.get("ids", tiny_llm.encode(PROMPT))
    with pytest.raises(GlpError, match=words):
        list(generate(Site(tiny_llm, change.get("layer", LAYER), NORM), ids, change.get("arms", [arm]), GREEDY))


@pytest.mark.parametrize("wrong", [{"max_tokens": 0}, {"temperature": math.nan}, {"temperature": -1.0}, {"seed": -1}])
def test_sampling_that_makes_no_sense_is_refused(wrong):
    with pytest.raises(GlpError, match="wanted"):
        Sampling(**wrong)


def test_logits_that_are_no_numbers_are_reported_as_too_strong_steering(direction):
    llm = tiny.make_tiny_llm()
    llm.model.lm_head.weight.data.fill_(float("nan"))
    with pytest.raises(GlpError, match="steering that is too strong"):
        list(generate(Site(llm, LAYER, NORM), llm.encode(PROMPT), [Arm("raw", direction, 1.0)], GREEDY))


def test_the_coldest_temperature_chooses_the_likeliest_token():
    logits, noise = torch.randn(3, 1000), draw(torch.Generator().manual_seed(0), 1000).expand(3, -1)
    assert torch.equal(choose(logits, Sampling(1, 1e-40), noise), logits.argmax(-1))


def test_texts_are_read_in_parts_that_fit_whatever_the_prompts_and_the_vocabulary(tiny_llm, monkeypatch):
    sizes, site = [], Site(tiny_llm, LAYER, NORM)
    whole = generation._read_batch
    monkeypatch.setattr(generation, "_read_batch", lambda site, *rows: sizes.append(len(rows[0])) or whole(site, *rows))
    monkeypatch.setattr(generation, "TOKENS_PER_READING", {"cpu": 100, "accelerator": 100})
    prompts, texts = [[1, *range(4, 12)]] * 10, [[5, 6]] * 10
    expected = generation.read_texts(site, prompts, texts)
    assert sizes == [9, 1], "11 tokens a row"
    monkeypatch.setattr(generation, "VOCABULARY", tiny.VOCABULARY // 4)
    again = generation.read_texts(site, prompts, texts)
    assert sizes[2:] == [2] * 5 and torch.allclose(again[1], expected[1], atol=1e-5)
