"""Concept by a list of words and by a server: its marks, what it is asked, how it is asked again, and that its key is kept nowhere."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from glp_core.errors import GlpError
from glp_core.steering.sweeps import scores
from glp_core.steering.sweeps.cells import Cell, Text
from glp_core.steering.sweeps.config import Scorer
from glp_core.steering.sweeps.scores import Judge, Marks
from glp_core.steering.sweeps.store import Entry

KEY = "a-key-that-is-secret"


def entry(text, concept=0.25):
    return Entry(text, concept, -1.0, -2.0, 0.0, 0.0, 1.0, 1.0, 1.0, 0.0, 3)


def found(*written):
    return {Cell("up", "raw", 1.0, None): {Text(f"prompt {i}", 0): entry(text) for i, text in enumerate(written)}}


@pytest.mark.parametrize(
    ("text", "score"),
    [("The SHIP sails", 1), ("a shipment", 0), ("by sea.", 1), ("C++ is code", 1), ("C+", 0), ("", 0), ("Straße", 1)],
)
def test_a_lexicon_counts_whole_words_in_any_case(text, score):
    assert scores.lexicon_score(("ship", "sea", "C++", "STRASSE"), text) == score


def test_the_scorer_decides_whose_concept_counts(small):
    text, one = Text("p", 0), entry("at sea")
    assert scores.concept_of(small(), {})(text, one) == 0.25
    assert scores.concept_of(small(scorer=Scorer("lexicon", ("sea",))), {})(text, one) == 1
    by_server = scores.concept_of(small(scorer=server("http://h")), {scores.question_name(text, one): Marks(1.0, 2.0)})
    assert by_server(text, one) == 0.5 and by_server(text, entry("else")) != by_server(text, entry("else"))


def test_the_harmonic_mean_is_nothing_without_both():
    assert Marks(2, 2).both == 2 and Marks(1, 2).both == pytest.approx(4 / 3) and Marks(2, 0).both == 0


@pytest.mark.parametrize(
    "answer", ["none", "{}", '{"concept": 3, "fluency": 1}', '{"concept": true, "fluency": 1}', "[1]", '{"concept": 1}']
)
def test_an_answer_without_two_marks_is_none(answer):
    with pytest.raises(ValueError):
        scores.read_marks(answer)


def server(endpoint, **more):
    return Scorer("server", endpoint=endpoint, model="judge", concept="ships {text}", **more)


@pytest.fixture
def judge():
    """A local server that marks texts by their length; it fails as told, and remembers what it was asked."""
    asked, failures = [], []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            asked.append((self.path, self.headers["Authorization"], body))
            status = failures.pop() if failures else 200
            words = body["messages"][0]["content"]
            marks = {"concept": 2 if "sea" in words.split("HOW IT WENT ON")[-1] else 0, "fluency": 1}
            answer = {"choices": [{"message": {"content": f"Sure: {json.dumps(marks)}"}}]}
            self.send_response(status)
            self.end_headers()
            self.wfile.write(json.dumps(answer).encode())

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        threading.Thread(target=http.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{http.server_port}/v1", asked, failures
        http.shutdown()


def test_a_server_is_asked_once_about_a_text_and_its_key_is_kept_nowhere(judge, tmp_path, monkeypatch):
    endpoint, asked, _ = judge
    monkeypatch.setenv(scores.KEY_VARIABLE, KEY)
    monkeypatch.setenv(scores.ENDPOINT_VARIABLE, f"{endpoint}/")
    one = Judge(tmp_path, server(endpoint))
    told = []
    one.ask(found("at sea", "on land", "at sea"), cancelled=lambda: False, told=lambda *both: told.append(both))
    assert {(path, key) for path, key, _ in asked} == {("/v1/chat/completions", f"Bearer {KEY}")} and len(asked) == 3
    assert "this concept: ships {text}?" in asked[0][2]["messages"][0]["content"], "what is filled in is not filled in again"
    assert sorted(one.marks().values()) == [Marks(0, 1), Marks(2, 1), Marks(2, 1)] and told == [(3, 3)]
    one.ask(found("at sea", "on land", "at sea", "new"), cancelled=lambda: False)
    assert len(asked) == 4
    assert KEY not in "".join(path.read_text() for path in tmp_path.rglob("*.json"))
    assert Judge(tmp_path, server(endpoint, wording="Mark {text}")).marks() == {}, "another wording, other marks"


def test_a_key_goes_to_no_server_that_only_a_configuration_names(judge, tmp_path, monkeypatch):
    endpoint, asked, _ = judge
    monkeypatch.setenv(scores.KEY_VARIABLE, KEY)
    for own in ("", "http://own.example/v1"):
        monkeypatch.setenv(scores.ENDPOINT_VARIABLE, own)
        with pytest.raises(GlpError, match=f"marked by {endpoint}, and the key .* is for {own or 'no server'}"):
            Judge(tmp_path, server(endpoint)).ask(found("at sea"), cancelled=lambda: False)
    assert not asked


def test_a_server_that_refuses_ends_it_and_marks_stay(judge, tmp_path):
    endpoint, asked, failures = judge
    one = Judge(tmp_path, server(endpoint))
    one.ask(found("at sea"), cancelled=lambda: False)
    failures += [401] * 9
    with pytest.raises(GlpError, match="401.*key"):
        one.ask(found("at sea", "b", "c"), cancelled=lambda: False)
    assert len(one.marks()) == 1
    one.ask(found("x", "y"), cancelled=lambda: True)
    assert len(one.marks()) == 1, "a stop asks nothing more"


def test_a_server_whose_answers_are_none_is_given_up_with_the_last_reason(judge, tmp_path, monkeypatch):
    endpoint, asked, _ = judge
    monkeypatch.setattr(scores, "read_marks", lambda answer: json.loads(answer))
    with pytest.raises(GlpError, match="for 8 texts in a row, at last: Expecting value.*in the answer 'Sure: "):
        Judge(tmp_path, server(endpoint)).ask(found(*"abcdefgh"), cancelled=lambda: False)
    assert len(asked) == 8, "no text twice"
