"""A server that is asked for descriptions, and misbehaves in every way it can; whose answers are used, and what stays when it fails."""

import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace

import pytest

from glp_core.__main__ import main
from glp_core.chat_server import Server, ask_patiently, clean
from glp_core.cli.neurons import describe
from glp_core.errors import GlpError
from glp_core.neuron_index.neuron_data import PAPER
from glp_core.neurons.description_server import describe_by_server, parse_answer, prompt, read_answers
from tests.neurons.test_descriptions import FakeIndex, neuron, snippet

GOOD = json.dumps({"explanation": "verbs of throwing; plain prose", "consistency": 4, "complexity": 2})


class Misbehaving(BaseHTTPRequestHandler):
    """Answers request number i as `script[i]` says; the last entry repeats."""

    script: list = []
    seen: list = []

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        number = len(self.seen)
        self.seen.append({"path": self.path, "body": body, "auth": self.headers.get("Authorization")})
        what = self.script[min(number, len(self.script) - 1)]
        if what == "hang":
            self.server.release.wait(5)
            return
        if what == "drop":
            self.connection.close()
            return
        status, headers, content = what if isinstance(what, tuple) else (200, {}, what)
        raw = content if isinstance(content, bytes) else json.dumps({"choices": [{"message": {"content": content}}]}).encode()
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(raw)))
        self.end_headers()
        self.wfile.write(raw)

    def log_message(self, *_args):
        pass


@pytest.fixture
def serve():
    servers = []

    def start(*script):
        handler = type("Handler", (Misbehaving,), {"script": list(script), "seen": []})
        server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        server.release = threading.Event()
        threading.Thread(target=server.serve_forever, daemon=True).start()
        servers.append(server)
        return f"http://127.0.0.1:{server.server_port}/v1", handler.seen

    yield start
    for server in servers:
        server.release.set()
        server.shutdown()
        server.server_close()


def ask(endpoint, path, neurons=((0, 1),), index=None, **options):
    slept = []
    options = {"per_minute": 1e9, "timeout": 0.5, "key": "secret"} | options
    found = describe_by_server(index or FakeIndex(), Server(endpoint, "m", **options), list(neurons), path, sleep=slept.append)
    return found, slept


def test_a_good_answer_is_kept_with_its_marks(serve, tmp_path):
    endpoint, seen = serve(f"Sure!\n```json\n{GOOD}\n```")
    found, _ = ask(endpoint, tmp_path / "a.jsonl")
    assert found == {1: {"explanation": "verbs of throwing; plain prose", "consistency": 4.0, "complexity": 2.0, "model": "m"}}
    assert seen[0]["path"] == "/v1/chat/completions" and seen[0]["auth"] == "Bearer secret"
    assert "<<security>>" in seen[0]["body"]["messages"][0]["content"]
    assert read_answers(tmp_path / "a.jsonl", FakeIndex()) == found


def test_a_key_with_a_line_break_is_never_shown_and_its_ends_are_trimmed(serve, tmp_path):
    endpoint, seen = serve(GOOD)
    ask(endpoint, tmp_path / "a.jsonl", key=" secret\r\n")
    assert seen[0]["auth"] == "Bearer secret"
    for key in ("sec\nret", "s\u00e9cret"):
        with pytest.raises(GlpError, match="no key has") as told:
            Server(endpoint, "m", key)
        assert key not in str(told.value)


def test_the_key_is_not_taken_along_to_where_a_server_redirects(serve, tmp_path):
    other, there = serve(GOOD)
    endpoint, _ = serve((307, {"Location": f"{other}/chat/completions"}, b"moved"), (302, {"Location": other}, b"moved"))
    with pytest.raises(GlpError, match="status 307"):
        ask(endpoint, tmp_path / "a.jsonl")
    assert there == []


def test_a_stop_is_heard_between_attempts(serve):
    endpoint, seen = serve((500, {"Retry-After": "100"}, "x"), GOOD)
    began = time.monotonic()
    answer = ask_patiently(Server(endpoint, "m"), "?", parse_answer, cancelled=lambda: bool(seen))
    assert answer.reason.startswith("status 500") and len(seen) == 1 and time.monotonic() - began < 30


@pytest.mark.parametrize(
    "failure",
    ["hang", "drop", (500, {}, "x"), (200, {}, b"{not json"), (200, {}, b'{"choices": []}'), (200, {}, b"[1, 2]")],
)
def test_every_failure_is_tried_again(serve, tmp_path, failure):
    endpoint, seen = serve(failure, GOOD)
    found, slept = ask(endpoint, tmp_path / "a.jsonl")
    assert found[1]["consistency"] == 4 and len(seen) == 2 and slept == [1.0]


@pytest.mark.parametrize(
    "content",
    ["no json here", '{"explanation": "x"}', '{"explanation": "", "consistency": 3, "complexity": 3}', None,
     '{"explanation": "x", "consistency": 9, "complexity": 3}', '{"explanation": "x", "consistency": 1%s, "complexity": 3}' % ("0" * 400)],
)  # fmt: skip
def test_an_answer_that_is_none_is_not_asked_for_again(serve, tmp_path, content):
    endpoint, seen = serve(content, GOOD)
    found, slept = ask(endpoint, tmp_path / "a.jsonl")
    assert found == {} and len(seen) == 1 and slept == []


def refused(parameter):
    words = f"Unsupported parameter: '{parameter}' is not supported with this model."
    return (400, {}, json.dumps({"error": {"message": words, "param": parameter}}, indent=4).encode())


@pytest.mark.parametrize("parameter", ["max_tokens", "temperature"])
def test_a_server_that_refuses_a_parameter_is_asked_as_newer_models_want_it(serve, tmp_path, parameter):
    endpoint, seen = serve(refused(parameter), GOOD)
    found, slept = ask(endpoint, tmp_path / "a.jsonl", [(0, 1), (0, 2)])
    assert set(found) == {1, 2} and slept == []
    old, *new = [set(one["body"]) - {"model", "messages"} for one in seen]
    assert old == {"max_tokens", "temperature"}
    assert new == [{"max_completion_tokens"}] * 2, "once more, and remembered for the next neuron"


def test_a_server_that_refuses_either_way_is_asked_twice_and_quoted(serve, tmp_path):
    endpoint, seen = serve(refused("max_tokens"), refused("max_completion_tokens"))
    with pytest.raises(GlpError, match="status 400: .*'max_completion_tokens' is not supported"):
        ask(endpoint, tmp_path / "a.jsonl")
    assert len(seen) == 2
    endpoint, seen = serve((400, {}, b"no such model"))
    with pytest.raises(GlpError, match="no such model"):
        ask(endpoint, tmp_path / "a.jsonl")
    assert len(seen) == 1


def test_a_question_that_the_server_does_not_take_is_left_out_and_the_next_is_asked(serve, tmp_path):
    endpoint, seen = serve((400, {}, b"filtered"), GOOD, (413, {}, b"too long"), GOOD)
    found, slept = ask(endpoint, tmp_path / "a.jsonl", [(0, 0), (0, 1), (0, 2), (1, 0)])
    assert sorted(found) == [1, FakeIndex.d_mlp] and len(seen) == 4 and slept == []


def test_it_waits_as_long_as_a_busy_server_asks(serve, tmp_path):
    endpoint, _ = serve((429, {"Retry-After": "7"}, "slow down"), (429, {"Retry-After": "soon"}, "x"), GOOD)
    found, slept = ask(endpoint, tmp_path / "a.jsonl")
    assert found and slept == [7.0, 2.0]


def test_a_refusal_ends_the_run_with_the_servers_words(serve, tmp_path):
    endpoint, seen = serve((401, {}, b"bad key \x1b[31m"))
    with pytest.raises(GlpError, match="status 401: bad key"):
        ask(endpoint, tmp_path / "a.jsonl")
    assert len(seen) == 1


def test_a_server_that_never_answers_well_is_given_up(serve, tmp_path):
    every = [(0, i) for i in range(4)] + [(1, i) for i in range(4)]
    endpoint, seen = serve((503, {}, b"no\nworkers"))
    with pytest.raises(GlpError, match="5 neurons in a row, at last: status 503: no workers. Start again later"):
        ask(endpoint, tmp_path / "a.jsonl", every, attempts=2)
    assert len(seen) == 10
    endpoint, seen = serve("nonsense")
    with pytest.raises(GlpError, match="at last: no JSON object, in the answer 'nonsense'"):
        ask(endpoint, tmp_path / "a.jsonl", every)
    assert len(seen) == 5


def test_an_interrupted_run_asks_only_for_what_is_missing(serve, tmp_path):
    path = tmp_path / "a.jsonl"
    endpoint, seen = serve(GOOD)
    ask(endpoint, path, [(0, 1), (0, 2)])
    with path.open("a") as file:
        file.write('{"neuron": 3, "explan')  # a kill in the middle of a line
    found, _ = ask(endpoint, path, [(0, 1), (0, 2), (0, 3)])
    assert set(found) == set(read_answers(path, FakeIndex())) == {1, 2, 3} and len(seen) == 3


def test_requests_keep_to_the_rate(serve, tmp_path):
    endpoint, _ = serve(GOOD)
    _, slept = ask(endpoint, tmp_path / "a.jsonl", [(0, 0), (0, 1), (0, 2)], per_minute=60)
    assert len(slept) == 2 and all(0.3 < pause <= 1.0 for pause in slept)


def test_further_attempts_keep_to_the_rate(serve, tmp_path):
    endpoint, seen = serve((500, {}, "x"), (500, {}, "x"), GOOD)
    _, slept = ask(endpoint, tmp_path / "a.jsonl", [(0, 0), (0, 1)], per_minute=6)
    assert len(seen) == 4 and [pause for pause in slept if pause not in (1, 2)] == pytest.approx([10] * 3, abs=1)


def test_answers_are_used_for_the_prior_and_the_reading_that_they_are_of(serve, tmp_path):
    path, other = tmp_path / "a.jsonl", json.dumps({"explanation": "other", "consistency": 1, "complexity": 1})
    first, second, elsewhere = FakeIndex("0123"), FakeIndex("4567"), FakeIndex("0123")
    elsewhere.reading = PAPER
    path.write_text(
        json.dumps({"unit": 2, "model": "m"} | json.loads(GOOD)) + "\n"
    )  # an earlier version's: of nobody knows whom
    endpoint, seen = serve(GOOD, other, other)
    assert set(ask(endpoint, path, [(0, 1)], first)[0]) == {1}
    assert ask(endpoint, path, [(0, 1)], second)[0][1]["explanation"] == "other" and len(seen) == 2
    assert read_answers(path, elsewhere) == {}
    assert read_answers(path, first)[1]["explanation"].startswith("verbs"), "that prior installed again has its own"
    ask(endpoint, path, [(0, 1)], first)
    assert len(seen) == 2


@pytest.fixture
def described(tmp_path, monkeypatch):
    """The command on a made-up index, and what it stores."""
    index = FakeIndex()
    index.folder, index.interesting = tmp_path, lambda n: [divmod(i, 4) for i in range(n)]
    monkeypatch.setattr(describe, "open_workspace", lambda _args: SimpleNamespace(neurons=tmp_path))
    monkeypatch.setattr(describe.NeuronIndex, "open", lambda _folder: index)

    def run(*words):
        return main(["describe", "--per-minute", "1e9", *words])

    return SimpleNamespace(run=run, stored=lambda: json.loads((tmp_path / "descriptions.json").read_text())["units"])


def test_what_a_server_answered_before_it_failed_is_saved_with_what_was_described_automatically(serve, described, capsys):
    endpoint, _ = serve(GOOD, GOOD, (401, {}, b"bad key"))
    assert described.run("--endpoint", endpoint, "--model", "m", "--neurons", "4") == 1
    assert "status 401: bad key" in capsys.readouterr().err
    assert [by for _, by in described.stored()] == ["m"] * 2 + ["automatic"] * 6
    assert described.stored()[0][0] == "verbs of throwing; plain prose (consistency 4, complexity 2 of 5)"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--endpoint", "http://localhost:1/v1"], "needs --model"),
        (["--endpoint", "localhost:8000", "--model", "m"], "no http address"),
        (["--endpoint", "http://x", "--model", "m", "--per-minute", "0"], "per-minute is 0"),
        (["--endpoint", "http://x", "--model", "m", "--timeout", "nan"], "timeout is nan"),
    ],
)
def test_a_server_that_cannot_be_asked_is_refused_before_anything_is_described(described, monkeypatch, capsys, words, said):
    monkeypatch.setattr(describe, "describe_automatically", lambda *_, **__: pytest.fail("described first"))
    assert described.run(*words) == 1
    assert said in capsys.readouterr().err


def test_hostile_answers_are_text_on_one_short_line():
    hostile = "<img onerror=alert(1)>\u202e\x00\x1b[2J\n" + "x" * 5000
    answer = parse_answer(json.dumps({"explanation": hostile, "consistency": 1, "complexity": 5, "extra": "y"}))
    assert answer["explanation"].startswith("<img onerror=alert(1)>[2J xxx") and len(answer["explanation"]) == 300
    assert set(answer) == {"explanation", "consistency", "complexity"}
    assert clean(["not", "text"]) == ""
    assert len(prompt(neuron(top=[snippet("a " * 5000 + "end", "end")]))) < 3000


def test_bad_servers_are_refused_before_anything_is_sent():
    for endpoint in ("ftp://x", "file:///etc/passwd", "localhost:8000", ""):
        with pytest.raises(GlpError, match="no http address"):
            Server(endpoint, "m")
    with pytest.raises(GlpError, match="above 0"):
        Server("http://x", "m", per_minute=0)
