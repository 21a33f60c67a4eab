"""Requests that share a decode batch write, token by token, what each writes alone, whoever comes, goes or breaks beside them."""

from concurrent.futures import ThreadPoolExecutor
from itertools import zip_longest

import pytest
import torch

from glp_core.errors import GlpError
from glp_core.llm.hooks import layers_of
from glp_core.llm.site import Site
from glp_core.prior.distance import ManifoldMeter, make_reference
from glp_core.prior.projection import make_projector
from glp_core.prior.walk import WalkRule, WalkSettings
from glp_core.steering import shared_batch
from glp_core.steering.generation import Arm, Row, Sampling, SharedBatch, decode, generate
from glp_core.steering.loop import Loop
from glp_core.steering.where import Where
from tests.support import tiny
from tests.support.second_device import NAME, second_device

LAYER, NORM = 2, 4.0
TEXTS = ("The cat sat on the mat and looked at the rain. A model", "He", "She said that the film", "A model of the mind is not")


@pytest.fixture(scope="module")
def vector():
    return torch.nn.functional.normalize(torch.randn(tiny.WIDTH, generator=torch.Generator().manual_seed(3)), dim=0)


@pytest.fixture(scope="module")
def requests(vector, tiny_glp):
    """What four visitors ask for: arms, sampling and meter of their own."""
    acts = tiny_glp.denormalize(torch.randn(200, tiny.WIDTH, generator=torch.Generator().manual_seed(0)))
    meter = ManifoldMeter(tiny_glp, make_reference(tiny_glp, acts))
    rule = WalkRule(WalkSettings(0.3, 3, hold=0.5), WalkSettings(0.2, 5), border=0.8)
    walk, glp = (make_projector(kind, glp=tiny_glp, walk=rule) for kind in ("walk", "glp"))
    return [
        ([Arm("plain"), Arm("raw", vector, 1.5), Arm("walk", vector, 1.5, walk)], Sampling(14), meter),
        ([Arm("glp", -vector, 1.0, glp), Arm("short walk", vector, 0.3, walk)], Sampling(5, 0.9, seed=2), None),
        ([Arm("walk", vector, 1.5, walk), Arm("norm", vector, 2.0, make_projector("norm"))], Sampling(9, 1.2, seed=1), meter),
        ([Arm("plain")], Sampling(11, 0.9, seed=2), None),
    ]


def opened(llm, requests, number, batch=None):
    """Begin what a visitor asks for."""
    arms, sampling, meter = requests[number]
    rows = [Row(llm.encode(TEXTS[number]), arm, sampling.seed) for arm in arms]
    return decode(Site(llm, LAYER, NORM), rows, sampling, meter=meter, batch=batch)


def seen(steps):
    """Return tokens and texts exactly, numbers up to rounding."""
    return [(row, s.step, s.token, s.text, s.finished, *(round(v, 2) for v in s[5:8])) for row, s in steps]


def taken(runs, *, beginning=(0, 3, 4, 9)):
    """Take the requests in turn, each beginning at a turn of its own; return what each wrote."""
    written, waiting = [[] for _ in runs], dict(enumerate(runs))
    turn = 0
    while waiting:
        for number, run in list(waiting.items()):
            if turn >= beginning[number]:
                step = next(run, None)
                if step is None:
                    del waiting[number]
                else:
                    written[number].append(step)
        turn += 1
    return [repr(seen(steps)) for steps in written]


@pytest.mark.parametrize("kind", ["llama", "gpt2", "gemma3_text", "mpt", "falcon_h1"])
def test_requests_that_come_and_go_write_what_each_writes_alone(kind, requests):
    llm = tiny.make_tiny_llm(kind)
    alone = [repr(seen(opened(llm, requests, number))) for number in range(4)]
    batch = SharedBatch()
    assert taken([opened(llm, requests, number, batch) for number in range(4)]) == alone
    assert batch.rows == 0 and not batch._writers


def test_visitors_of_the_demo_write_together_what_each_writes_alone(demo, demo_llm, demo_glp):
    vector = demo.direction("positive-sentiment").vector
    walk = make_projector("walk", glp=demo_glp, walk=demo.walk())
    arms = [Arm("plain"), Arm("raw", vector, 0.5), Arm("walk", vector, 0.5, walk)]

    def tokens(prompt, batch=None):
        for step in generate(demo.site(demo_llm), demo_llm.encode(prompt), arms, Sampling(5), batch=batch):
            yield step.token

    prompts, batch = demo.prefixes()[:3], SharedBatch()
    alone = [list(tokens(prompt)) for prompt in prompts]
    runs = [tokens(prompt, batch) for prompt in prompts]
    first = [next(runs[0]) for _ in range(4)]  # the others come later
    together = [list(filter(None, column)) for column in zip(*zip_longest(*runs), strict=True)]
    assert [first + together[0], *together[1:]] == alone


def test_a_step_of_all_is_one_forward(tiny_llm, requests):
    rows = []
    handle = layers_of(tiny_llm.model)[0].register_forward_hook(lambda _m, args, _o: rows.append(tuple(args[0].shape[:2])))
    taken(
        [opened(tiny_llm, requests, number, batch) for batch in [SharedBatch()] for number in range(4)], beginning=(0, 0, 0, 0)
    )
    handle.remove()
    steps = [n for n, tokens in rows if tokens == 1]
    assert max(steps) == 8 and steps[-1] == 4, "eight rows at once, and fewer when visitors have gone"
    assert len(steps) <= 14 + 4, "as many steps as the longest text, besides prompts of one token"


def test_threads_that_share_a_batch_write_what_they_write_alone(tiny_llm, requests):
    alone = [repr(seen(opened(tiny_llm, requests, number))) for number in range(4)]
    for _ in range(3):
        batch = SharedBatch()
        with ThreadPoolExecutor(4) as pool:
            assert list(pool.map(lambda n, batch=batch: repr(seen(opened(tiny_llm, requests, n, batch))), range(4))) == alone


def test_a_short_text_beside_a_long_one_takes_no_more_steps_than_its_own(tiny_llm, monkeypatch):
    monkeypatch.setattr(tiny_llm, "stop_ids", frozenset())
    batch, site, ids = SharedBatch(), Site(tiny_llm, LAYER, NORM), tiny_llm.encode("The cat")
    long = generate(site, ids, [Arm("long")], Sampling(200), batch=batch)
    next(long)
    short = generate(site, ids, [Arm("short")], Sampling(16), batch=batch)
    pairs = [(one.step, other.step) for one, other in zip(short, long, strict=False)]
    assert pairs == [(i, i + 1) for i in range(16)]
    long.close()
    assert batch.rows == 0


def test_who_was_passed_by_others_has_all_that_was_written_meanwhile_at_once(tiny_llm, monkeypatch):
    monkeypatch.setattr(tiny_llm, "stop_ids", frozenset())
    site, batch, ids = Site(tiny_llm, LAYER, NORM), SharedBatch(), tiny_llm.encode("The cat")
    with (
        batch.writing(site, [Row(ids, Arm("slow"))], Sampling(9), None) as slow,
        batch.writing(site, [Row(ids, Arm("quick"))], Sampling(9), None) as quick,
    ):
        steps = [[step.step for _, step in writer.next()] for writer in (slow, quick, quick, quick, slow, slow, quick)]
    assert steps == [[0], [0], [1], [2], [1, 2], [3], [3]]


def test_a_long_prompt_is_read_in_parts_between_the_steps_of_others(tiny_llm, monkeypatch):
    monkeypatch.setattr(tiny_llm, "stop_ids", frozenset())
    site, batch = Site(tiny_llm, LAYER, NORM), SharedBatch()
    ids = tiny_llm.encode("The cat sat on the mat. " * 12)
    whole = tiny_llm.model.generate(torch.tensor([ids]), do_sample=False, max_new_tokens=9, eos_token_id=None)[
        0, len(ids) :
    ].tolist()
    monkeypatch.setattr(shared_batch, "READ_AT_ONCE", 20)
    beside = generate(site, tiny_llm.encode("He"), [Arm("beside")], Sampling(30), batch=batch)
    next(beside)
    rows = [Row(ids, Arm(name)) for name in ("a", "b")]
    with batch.writing(site, rows, Sampling(9), None) as writer:
        turns = [(len(writer.next()), next(beside).step) for _ in range(12)]
        assert [n for n, _ in turns[: len(ids) // 20]] == [0] * (len(ids) // 20) and turns[-1] == (2, 12)
        written = [
            step.token for steps in iter(lambda: writer.next() if writer.open else None, None) for row, step in steps if row
        ]
    assert whole[-len(written) :] == written


def test_who_leaves_takes_the_rows_along(tiny_llm, requests):
    alone = repr(seen(opened(tiny_llm, requests, 0)))
    batch = SharedBatch()
    stays, leaves = opened(tiny_llm, requests, 0, batch), opened(tiny_llm, requests, 2, batch)
    written = [next(stays)]
    for _ in range(3):
        next(leaves)
    assert batch.rows == 5
    leaves.close()
    assert batch.rows == 3
    assert repr(seen([*written, *stays])) == alone


def test_what_breaks_is_told_to_its_own_request_only(tiny_llm, requests, vector, tiny_glp):
    class Bad:
        name, draws = "bad", 0

        def __call__(self, edited, clean, generator=None, *, noise=None):
            return edited * torch.nan

    site, ids, batch = Site(tiny_llm, LAYER, NORM), tiny_llm.encode("He said"), SharedBatch()
    alone = repr(seen(opened(tiny_llm, requests, 0)))
    good = opened(tiny_llm, requests, 0, batch)
    written = [next(good)]
    with pytest.raises(GlpError, match="steering that is too strong"):
        list(generate(site, ids, [Arm("bad", vector, 1.0, Bad())], Sampling(4), batch=batch))
    with pytest.raises(GlpError, match="reduce the strength"):
        list(generate(site, ids, [Arm("raw", vector, 1e38)], Sampling(4), batch=batch))
    assert repr(seen([*written, *good])) == alone


def test_an_error_in_a_step_ends_all_whose_step_it_was_and_no_later_request(tiny_llm, requests):
    class Bug:
        name, draws = "bug", 0

        def __call__(self, edited, clean, generator=None, *, noise=None):
            raise ZeroDivisionError("a bug")

    batch, site = SharedBatch(), Site(tiny_llm, LAYER, NORM)
    beside = opened(tiny_llm, requests, 0, batch)
    next(beside)
    with pytest.raises(ZeroDivisionError):
        list(generate(site, tiny_llm.encode("He"), [Arm("bug", None, 0.0, Bug())], Sampling(4), batch=batch))
    with pytest.raises(ZeroDivisionError):
        list(beside)
    assert batch.rows == 0
    assert repr(seen(opened(tiny_llm, requests, 1, batch))) == repr(seen(opened(tiny_llm, requests, 1)))


@pytest.mark.parametrize("broken", ["join", "keep"])
def test_a_loop_whose_rows_could_not_come_or_go_ends_for_all_and_no_later_request(tiny_llm, requests, monkeypatch, broken):
    batch = SharedBatch()
    first, second = (opened(tiny_llm, requests, number, batch) for number in (0, 1))
    next(first)
    errors = []
    with monkeypatch.context() as patch:
        patch.setattr(Loop, broken, lambda *_: (_ for _ in ()).throw(MemoryError("no room")))
        if broken == "join":
            with pytest.raises(MemoryError):
                next(second)
        else:
            next(second)
            first.close()  # its rows leave
    for left in (first, second):
        try:
            list(left)
        except MemoryError as error:
            errors.append(error)
    assert len(errors) == 1 and batch.rows == 0
    assert repr(seen(opened(tiny_llm, requests, 1, batch))) == repr(seen(opened(tiny_llm, requests, 1)))


def test_requests_whose_shared_step_failed_have_an_error_each(tiny_llm, requests, monkeypatch):
    batch = SharedBatch()
    both = [opened(tiny_llm, requests, number, batch) for number in (0, 1)]
    for one in both:
        next(one)
    monkeypatch.setattr(Loop, "advance_all", lambda _loop: 1 / 0)
    errors = []
    for one in both:
        with pytest.raises(ZeroDivisionError) as raised:
            list(one)
        errors.append(raised.value)
    assert errors[0] is not errors[1]


def test_rows_of_very_unlike_length_and_too_many_rows_have_loops_of_their_own(tiny_llm, monkeypatch):
    monkeypatch.setattr(shared_batch, "SHORT", 20)
    batch, site = SharedBatch(), Site(tiny_llm, LAYER, NORM)
    prompts = [[1, *[5] * n] for n in (100, 3, 4, 90)]
    runs = [generate(site, ids, [Arm("a"), Arm("b")], Sampling(9), batch=batch) for ids in prompts]
    for run in runs:
        next(run)
    assert [len(loop.lines) for loop in batch._loops()] == [6, 2], "the third would have been padding mostly"
    monkeypatch.setattr(shared_batch, "MOST_ROWS", 3)
    more = generate(site, prompts[1], [Arm("a"), Arm("b")], Sampling(9), batch=batch)
    next(more)
    assert [len(loop.lines) for loop in batch._loops()] == [6, 2, 2]


def test_on_a_device_that_replays_steps_few_loops_stay_apart_and_more_fall_back_with_the_same_texts(requests):
    llm = tiny.make_tiny_llm()
    llm.stop_ids = frozenset()
    plain = [requests[number][0][:2] for number in (0, 3)]
    prompts = [llm.encode(text) for text in TEXTS]

    def texts(number, batch=None):
        arms = [arm for arm in plain[number % 2] if arm.projector is None]
        for step in generate(Site(llm, LAYER, NORM), prompts[number], arms, Sampling(6 + number), batch=batch):
            yield step.arm, step.token

    alone = [list(texts(number)) for number in range(4)]
    with second_device():
        llm.model.to(NAME)
        batch = SharedBatch()
        turns = zip_longest(*[texts(number, batch) for number in range(4)])
        taken_in_turn = [list(filter(None, column)) for column in zip(*turns, strict=True)]
        assert llm.fixed_steps.failures == []
    assert taken_in_turn == alone


@pytest.mark.parametrize("kind", ["raw", "walk"])
def test_an_edited_prompt_that_is_read_in_parts_goes_on_as_one_that_is_read_whole(
    tiny_llm, tiny_glp, vector, monkeypatch, kind
):
    ids, walk = tiny_llm.encode(" ".join(TEXTS)), make_projector("walk", glp=tiny_glp, walk=WalkSettings(0.2, 3))
    arms = [Arm("plain"), Arm(kind, vector, 0.7, walk if kind == "walk" else None, Where(span=(0, len(ids))))]
    alone = [step.token for step in generate(Site(tiny_llm, LAYER, NORM), ids, arms, Sampling(6))]
    monkeypatch.setattr(shared_batch, "READ_AT_ONCE", 24)
    with SharedBatch().writing(Site(tiny_llm, LAYER, NORM), [Row(ids, arm) for arm in arms], Sampling(6), None) as writer:
        parts, written = 0, []
        while writer.open:
            parts += writer.reading
            written += [step.token for _, step in writer.next()]
    assert written == alone and parts >= len(ids) // 12 - 1
