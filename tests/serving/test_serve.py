"""`serve` as a client of OpenAI's package sees it: texts are the core's, streamed or whole, alone or three at once; errors in its shape."""

import asyncio
import json
import re
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import openai
import pytest
import torch
import uvicorn
from openai.types import Completion
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from glp_core import memory
from glp_core.__main__ import main
from glp_core.jobs.runner import JobRunner
from glp_core.prior.projection import make_projector
from glp_core.serving.app import _Following, make_app
from glp_core.serving.asked import Steering
from glp_core.serving.writing import Host
from glp_core.steering.generation import Arm, Sampling, generate
from glp_core.workspace import Workspace
from tests.support import pages

NAME = "Tiny <b>LLM</b>"
ASK = {"model": NAME, "messages": [{"role": "user", "content": "The cat"}], "max_tokens": 8, "temperature": 0}
STEERED = {"direction": "up", "strength": 0.8, "projection": "walk"}


@pytest.fixture(scope="module")
def host(tmp_path_factory):
    return Host(pages.make_whole_workspace(tmp_path_factory.mktemp("serve") / "workspace"))


@pytest.fixture(scope="module")
def runner():
    return JobRunner(context=torch.inference_mode, max_waiting=3, told=memory.told)


@pytest.fixture(scope="module")
def address(host, runner):
    app = make_app(host, runner, ["127.0.0.1"])
    listening = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app, log_level="error"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
    thread.start()
    yield f"http://127.0.0.1:{listening.getsockname()[1]}/v1"
    server.should_exit = True
    thread.join(10)


@pytest.fixture(scope="module")
def client(address):
    with openai.OpenAI(base_url=address, api_key="none", max_retries=0, timeout=30) as client:
        yield client


def written(host, ids, arm=None, sampling=None):
    """Return what the core writes, text and number of tokens."""
    steps = list(generate(host.site, ids, [arm or Arm("plain")], sampling or Sampling(8), meter=host.meter))
    return "".join(step.text for step in steps), len(steps)


def steered(host, strength=0.8):
    walk = make_projector("walk", glp=host.glp, walk=host.workspace.walk())
    return Arm("walk", host.workspace.direction("up").vector, strength, walk)


def test_what_is_asked_of_a_walk_stands_in_the_place_of_the_workspace_s_own(host):
    own = host.workspace.walk()
    assert host._walk(None, None) == own
    asked = host._walk(0.3, 7)
    assert asked == replace(own, noise_level=0.3, pushes=7) and asked.bound == own.bound


def test_the_gaussian_s_covariance_is_read_once_until_it_is_made_anew(host, monkeypatch):
    read, covariance = [], torch.eye(host.llm.d_model)
    monkeypatch.setattr(Workspace, "covariance", lambda self: read.append(self) or covariance)
    steering = Steering("up", 0.5, "gaussian")
    first = host._projector(steering)
    assert host._projector(steering) is first and len(read) == 1
    assert host._projector(replace(steering, noise_level=0.25)) != first and len(read) == 2
    covariance = 2 * covariance
    host.workspace.keep_covariance(covariance)
    assert host._projector(steering) != first and len(read) == 3


def test_a_chat_s_answer_is_the_core_s_text(client, host):
    ids = host.llm.encode_chat(ASK["messages"])
    answer = client.chat.completions.create(**ASK)
    assert isinstance(answer, ChatCompletion) and answer.model == NAME
    text, tokens = written(host, ids)
    assert answer.choices[0].message.content == text and answer.choices[0].finish_reason in ("stop", "length")
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (len(ids), tokens)


def test_a_steered_answer_streams_in_pieces_that_are_the_whole(client, host):
    ids = host.llm.encode_chat(ASK["messages"])
    text, _ = written(host, ids, steered(host))
    stream = client.chat.completions.create(**ASK, stream=True, stream_options={"include_usage": True}, extra_body=STEERED)
    parts = list(stream)
    assert all(isinstance(part, ChatCompletionChunk) for part in parts)
    pieces = [part.choices[0].delta.content or "" for part in parts if part.choices]
    assert "".join(pieces) == text != written(host, ids)[0] and len([p for p in pieces if p]) > 2
    assert parts[0].choices[0].delta.role == "assistant" and parts[-2].choices[0].finish_reason in ("stop", "length")
    assert parts[-1].usage.total_tokens == len(ids) + parts[-1].usage.completion_tokens
    facts = parts[-2].choices[0].glp
    assert facts["direction"] == "up" and facts["projection"] == "walk" and 0 < facts["distance"] < 100


def test_three_at_once_get_what_each_gets_alone(client):
    asks = [
        ASK | {"extra_body": STEERED},
        ASK | {"temperature": 0.9, "seed": 4, "max_tokens": 20},
        ASK
        | {
            "messages": [{"role": "user", "content": "A longer question"}],
            "extra_body": STEERED | {"projection": "glp"},
        },
    ]

    def answer(ask):
        parts = client.chat.completions.create(**ask, stream=True)
        return "".join(part.choices[0].delta.content or "" for part in parts)

    alone = [answer(ask) for ask in asks]
    with ThreadPoolExecutor(3) as pool:
        for _ in range(3):
            assert list(pool.map(answer, asks)) == alone
    assert len(set(alone)) == 3


def test_texts_are_gone_on_with_each_prompt_and_choice_in_turn(client, host):
    answer = client.completions.create(
        model=NAME, prompt=["The cat", "He"], n=2, max_tokens=6, temperature=0.8, seed=3, logprobs=1
    )
    assert isinstance(answer, Completion) and [choice.index for choice in answer.choices] == [0, 1, 2, 3]
    wanted = [
        written(host, host.llm.encode(prompt), sampling=Sampling(6, 0.8, seed))[0]
        for prompt in ("The cat", "He")
        for seed in (3, 4)
    ]
    assert [choice.text for choice in answer.choices] == wanted
    assert all(number <= 0 for number in answer.choices[0].logprobs.token_logprobs)
    bare = client.completions.create(model=NAME, prompt="The cat", max_tokens=2, temperature=0, logprobs=0)
    assert len(bare.choices[0].logprobs.token_logprobs) == 2


def test_a_stop_text_ends_the_answer_and_is_not_in_it(client, host, monkeypatch):
    monkeypatch.setattr(host.llm, "stop_ids", frozenset())
    whole = client.completions.create(model=NAME, prompt="The cat", max_tokens=20, temperature=0).choices[0].text
    stop = whole[5:8]
    parts = list(
        client.completions.create(model=NAME, prompt="The cat", max_tokens=20, temperature=0, stop=[stop], stream=True)
    )
    assert "".join(part.choices[0].text for part in parts) == whole[: whole.index(stop)]
    assert parts[-1].choices[0].finish_reason == "stop"


def test_a_stream_has_the_log_probabilities_of_all_tokens(client, host, monkeypatch):
    monkeypatch.setattr(host.llm, "stop_ids", frozenset())
    text = client.chat.completions.create(**ASK | {"max_tokens": 20}).choices[0].message.content
    ask = ASK | {"max_tokens": 20, "logprobs": True, "stop": [f"{text[5:9]} and never this"]}  # its beginning is held back
    whole = client.chat.completions.create(**ask).choices[0].logprobs.content
    shown = [part.choices[0].logprobs for part in client.chat.completions.create(**ask, stream=True)]
    assert [one for part in shown if part for one in part.content] == whole and len(whole) == 20


def test_the_client_of_the_document_gets_its_answer(address, host, capsys, monkeypatch):
    monkeypatch.setattr(host.llm, "stop_ids", frozenset())  # a random model may end at once
    text = (Path(__file__).parents[2] / "glp_core/README.md").read_text()
    [code] = re.findall(r"^```python client\n(.*?)^```$", text, re.M | re.S)
    exec(code.replace("http://127.0.0.1:8601/v1", address).replace("positive-sentiment", "positive"), {})
    assert capsys.readouterr().out


def test_the_model_and_its_directions_are_listed(client):
    [model] = client.models.list().data
    assert model.id == NAME and model.directions == ["positive", "up"]
    assert client.models.retrieve(NAME).id == NAME


@pytest.mark.parametrize(
    ("change", "kind", "words", "parameter"),
    [
        ({"model": "gpt-4"}, openai.NotFoundError, "There is no model 'gpt-4' here", "model"),
        ({"extra_body": {"direction": "down"}}, openai.NotFoundError, "No direction 'down'.*it has positive, up", "direction"),
        (
            {"extra_body": STEERED | {"strength": "much"}},
            openai.BadRequestError,
            "strength is 'much', wanted a number",
            "strength",
        ),
        ({"extra_body": STEERED | {"projection": "up"}}, openai.BadRequestError, "wanted none, walk, glp", "projection"),
        ({"extra_body": {"strength": 1}}, openai.BadRequestError, "strength without a direction", "strength"),
        (
            {"extra_body": STEERED | {"projection": "norm", "noise_level": 0.5}},
            openai.BadRequestError,
            "noise_level changes nothing with the projection 'norm'",
            "noise_level",
        ),
        (
            {"extra_body": {"direction": "", "strength": 1}},
            openai.BadRequestError,
            "strength without a direction",
            "strength",
        ),
        ({"extra_body": {"strenght": 1}}, openai.BadRequestError, "'strenght' is not known", "strenght"),
        ({"temperature": 3}, openai.BadRequestError, "temperature is 3, wanted a number from 0 to 2", "temperature"),
        ({"top_p": 0.5}, openai.BadRequestError, "can do 1 only", "top_p"),
        ({"messages": []}, openai.BadRequestError, "wanted a list of messages", "messages"),
        ({"messages": [{"role": "tool", "content": "x"}]}, openai.BadRequestError, "wanted a role of system", "messages.0"),
        ({"messages": [{"role": ["user"], "content": "x"}]}, openai.BadRequestError, "wanted a role of system", "messages.0"),
        ({"extra_body": STEERED | {"strength": 10**400}}, openai.BadRequestError, "wanted a number from", "strength"),
        ({"max_tokens": 400}, openai.BadRequestError, "reads at most", None),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
def test_what_is_wrong_is_told_in_openai_s_shape(client, change, kind, words, parameter, stream):
    with pytest.raises(kind, match=words) as caught:
        client.chat.completions.create(**ASK | change, stream=stream)
    assert caught.value.param == parameter and caught.value.type == "invalid_request_error"


def plain(address, body, **headers):
    """Send bytes as they are; return the status and the answer."""
    import urllib.error
    import urllib.request

    request = urllib.request.Request(f"{address}/completions", body, {"Content-Type": "application/json"} | headers)
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


@pytest.mark.parametrize(
    ("body", "headers", "status", "words"),
    [
        (b"{", {}, 400, "no JSON"),
        (b"[" * 50_000, {}, 400, "no JSON"),
        (b"[]", {}, 400, "must be a JSON object"),
        (b'"' + b"x" * 1_100_000 + b'"', {}, 413, "larger than"),
        (b"{}", {"Content-Type": "text/plain"}, 415, "wanted application/json"),
        (b"{}", {"Host": "evil.example"}, 403, "--allow-host NAME"),
    ],
)
def test_bodies_and_names_that_do_not_fit_are_refused(address, body, headers, status, words):
    found, answer = plain(address, body, **headers)
    assert found == status and words in answer["error"]["message"]


def test_steering_that_breaks_the_model_ends_the_stream_with_an_error(client, monkeypatch, host):
    last = host.llm.model.model.norm.weight
    monkeypatch.setattr(last, "data", torch.full_like(last, torch.nan))
    with pytest.raises(openai.APIError, match="steering that is too strong"):
        list(client.chat.completions.create(**ASK, stream=True))


def test_what_a_job_adds_as_it_ends_is_told():
    class Ending:
        """A job that adds its last events and ends between two looks at it."""

        events, looks = ["begun"], 0

        @property
        def live(self):
            self.looks += 1
            if self.looks == 2:
                self.events += ["the end"]
            return self.looks < 2

        def result(self):
            pass

        stop = result

    class Staying:
        async def is_disconnected(self):
            return False

    async def told():
        following = _Following()
        following.news()
        return [event async for event in following.events(Ending(), Staying())]

    with ThreadPoolExecutor(1) as pool:  # a thread without a running loop, whatever ran before
        assert pool.submit(asyncio.run, told()).result() == ["begun", "the end"]


def test_who_goes_away_frees_the_rows(client, host, monkeypatch):
    monkeypatch.setattr(host.llm, "stop_ids", frozenset())
    stream = client.completions.create(model=NAME, prompt="The cat", max_tokens=240, stream=True)
    next(iter(stream))
    assert host.batch.rows == 1
    stream.close()
    until = time.monotonic() + 2
    while host.batch.rows and time.monotonic() < until:
        time.sleep(0.02)
    assert host.batch.rows == 0


def test_a_full_queue_is_told(client, host, runner, monkeypatch):
    monkeypatch.setattr(host.llm, "stop_ids", frozenset())
    ask = {"model": NAME, "prompt": ["The cat"] * 4, "n": 8, "max_tokens": 100}
    running = []
    with ThreadPoolExecutor(4) as pool:
        for waiting in range(4):  # the first one begins before the others come: four at once would be one too many
            running.append(pool.submit(client.completions.create, **ask))
            until = time.monotonic() + 5
            while runner.load() != (1, waiting) and time.monotonic() < until:
                time.sleep(0.001)
        with pytest.raises(openai.RateLimitError, match="3 requests are waiting"):
            client.completions.create(**ask)
    assert all(len(one.result().choices) == 32 for one in running)


def test_a_full_memory_is_told(client, host, monkeypatch):
    def full(*_args, **_options):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.")

    monkeypatch.setattr(host.batch, "writing", full)
    with pytest.raises(openai.BadRequestError, match="memory is full. CUDA out of memory. Tried .* fewer or shorter texts"):
        client.completions.create(model=NAME, prompt="The cat")


def test_it_listens_to_others_only_under_a_name_and_says_a_busy_port_at_once(capsys):
    assert main(["serve", "--host", "0.0.0.0"]) == 1
    assert "--allow-host NAME" in capsys.readouterr().err
    with socket.create_server(("127.0.0.1", 0)) as busy:
        assert main(["serve", "--port", str(busy.getsockname()[1])]) == 1
    assert "Choose another with --port" in capsys.readouterr().err


def test_a_direction_that_is_made_again_is_the_one_that_is_written_along(host):
    before = host.direction("up")
    assert host.direction("up") is before
    folder = host.workspace.folder / "directions"
    replace(before, vector=-before.vector).save(folder)
    try:
        assert torch.equal(host.direction("up").vector, -before.vector)
    finally:
        before.save(folder)
