"""Automatic descriptions from planted texts, and a server that misbehaves in every way it can."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest

from glp_core.chat_server import Server, clean
from glp_core.errors import GlpError
from glp_core.neuron_index.neuron_data import HeldOutFiring, HeldOutTokens, Neuron, SideEvidence, Snippet, StoredDocument
from glp_core.neurons.description_server import describe_by_server, parse_answer, prompt, read_answers
from glp_core.neurons.descriptions import Description, HeldOutTraits, describe_automatically, describe_side, save_descriptions
from glp_core.neurons.traits import Trait, TraitKind, in_words, traits

WORDS = [
    "the",
    "rain",
    "fell",
    "on",
    "a",
    "town",
    "where",
    "she",
    "said",
    "it",
    "was",
    "late",
    "and",
    "they",
    "looked",
    "at",
    "sea",
    "model",
    "mind",
]


def planted(seed=0, n=120):
    """Return documents of random words with "security" now and then, in half of the cases after "social"."""
    rng = np.random.default_rng(seed)
    documents = []
    for _ in range(n):
        words = rng.choice(WORDS, 20).tolist()
        place = int(rng.integers(1, 20))
        words[place] = "security"
        if rng.random() < 0.5:
            words[place - 1] = "social"
        documents.append([(" " if i else "") + word for i, word in enumerate(words)])
    return documents


def held_out_tokens(documents):
    document = np.repeat(np.arange(len(documents)), [len(pieces) for pieces in documents])
    position = np.concatenate([np.arange(len(pieces)) for pieces in documents])
    pieces = [piece for one in documents for piece in one]
    return HeldOutTokens([1000 + i for i in range(len(documents))], pieces, document, position)


def snippet(text, peak_word, source="set_a", value=1.0):
    pieces = [(" " if i else "") + word for i, word in enumerate(text.split())]
    peak = next(i for i, piece in enumerate(pieces) if piece.strip() == peak_word)
    return Snippet(0, source, value, peak, pieces, np.zeros(len(pieces), np.float32), 0, len(pieces))


def neuron(number=0, **changes):
    top = [snippet(f"they said social security is late {i}", "security") for i in range(8)]
    low = [snippet(text, text.split()[1]) for text in ("the rain fell", "she said it", "a model of", "they looked at")]
    fields = {
        "layer": number // 4, "neuron": number % 4, "index": number, "description": "", "described_by": "", "mean": 0.0, "std": 1.0,
        "skewness": 0.0, "kurtosis": 3.0, "noise_share": 0.1, "counts": np.zeros(50), "edges": np.zeros(51), "quantiles": [],
        "top": top, "bottom": low, "intervals": [], "promoted": [], "suppressed": [], "nearest_write": [], "nearest_activation": [],
        "scale": 1.0, "tail": 1.0, "repeated": 0.0, "best_task": "92_glue_sst2", "best_auc": 0.9, "tasks": [],
    }  # fmt: skip
    return Neuron(**fields | changes)


class FakeIndex:
    n_neurons, d_mlp = 8, 4

    def __init__(self):
        self.texts = planted()

    def neuron(self, layer, number):
        return neuron(layer * 4 + number)

    def held_out(self):
        return held_out_tokens(self.texts)

    def document(self, number):
        return StoredDocument("set_a", self.texts[number - 1000])

    def firing(self, _number):
        return HeldOutFiring(*firing_after_social(self.held_out()))


def firing_after_social(tokens):
    """Return rows and signs of a made-up neuron: high on "security" after "social"."""
    before = ["", *tokens.pieces[:-1]]
    rows = [i for i, piece in enumerate(tokens.pieces) if piece == " security" and before[i].strip() == "social"]
    return np.array(rows), np.ones(len(rows), int)


def test_traits_name_the_token_what_is_before_it_and_what_it_looks_like():
    pieces = ["The", " social", " Sec", "urity", " of", " 12", ",", "\n", " Rome"]
    found = set(traits(pieces, 2))
    assert {
        (TraitKind.TOKEN, "sec"),
        (TraitKind.AFTER, "social"),
        (TraitKind.PAIR, "social sec"),
        (TraitKind.SHAPE, "capitalised words"),
    } <= found
    assert (TraitKind.SHAPE, "later parts of words") in traits(pieces, 3) and (TraitKind.PAIR, "security") in traits(pieces, 3)
    assert (TraitKind.NEAR, "social") in traits(pieces, 4) and (TraitKind.NEAR, "social") not in traits(pieces, 2)
    assert (TraitKind.SHAPE, "numbers") in traits(pieces, 5) and (TraitKind.SHAPE, "punctuation") in traits(pieces, 6)
    assert (TraitKind.SHAPE, "line breaks") in traits(pieces, 7) and (TraitKind.SHAPE, "the first word of a text") in traits(
        pieces, 0
    )
    assert (
        in_words([Trait(TraitKind.AFTER, "a"), Trait(TraitKind.TOKEN, "b"), Trait(TraitKind.TOKEN, "c")])
        == "“b”, “c”; after “a”"
    )


def test_a_side_says_what_its_tokens_share_and_its_precision_and_recall_are_those_of_a_count():
    tokens = held_out_tokens(planted())
    held_out = HeldOutTraits(tokens, planted())
    rows, _ = firing_after_social(tokens)
    side = describe_side(neuron().top, rows, held_out, beyond=len(rows))
    assert side.words == "“social security”" and side.precision == side.recall == 1.0
    loose = [row for row, piece in enumerate(tokens.pieces) if piece == " security"]
    missed = np.sort(np.concatenate([rows, rows[::2] - 3]))  # tokens that share nothing, which the words miss
    side = describe_side(neuron().top, missed, held_out, beyond=len(missed))
    odd = tokens.document % 2 == 1
    named = [r for r in loose if odd[r] and r in set(rows)]
    assert side.precision == pytest.approx(1.0) and side.recall == pytest.approx(len(named) / odd[missed].sum(), abs=0.05)
    assert side.named == len(named) and side.firing == odd[missed].sum()


def test_a_side_whose_tokens_share_nothing_says_so():
    tokens = held_out_tokens(planted())
    held_out = HeldOutTraits(tokens, planted())
    few = np.random.default_rng(1).choice(len(tokens.pieces), 3, replace=False)
    side = describe_side(neuron().bottom, np.sort(few), held_out, beyond=3)
    assert side.words.startswith("nothing in common (strongest on") and side.keys == [] and side.readability == 0
    assert describe_side([], few[:0], held_out, beyond=0).words == "nothing in common"


def test_a_side_that_hardly_reaches_the_tail_says_so_whatever_its_texts_are_like():
    tokens = held_out_tokens(planted())
    held_out = HeldOutTraits(tokens, planted())
    rows, _ = firing_after_social(tokens)
    side = describe_side(neuron().top, rows[:2], held_out, beyond=41)
    assert side.words == "hardly fires (2 of 41 tokens beyond its tail)" and side.keys == [] and side.precision is None
    assert "security" in describe_side(neuron().top, rows[:2], held_out, beyond=40).words


def test_what_does_not_hold_on_the_other_half_is_not_said():
    tokens = held_out_tokens(planted())
    rows, _ = firing_after_social(tokens)
    odd = tokens.document % 2 == 1
    elsewhere = np.flatnonzero(odd & np.array([piece.strip() == "rain" for piece in tokens.pieces]))[:12]
    firing = np.sort(np.concatenate([rows[~odd[rows]], elsewhere]))
    side = describe_side(neuron().top, firing, HeldOutTraits(tokens, planted()), beyond=len(firing))
    assert side.words.startswith("nothing in common") and side.keys == [] and side.firing == 12


def test_the_task_is_named_only_when_its_auc_is_high(monkeypatch):
    index = FakeIndex()
    first = describe_automatically(index)[0]
    assert first.words.startswith(
        "high: “social security” · task: Film review phrase: favourable (AUC 0.90) · low: hardly fires (0 of"
    )
    phrase = {"best_task": "70_prime-factors", "best_sign": -1}
    monkeypatch.setattr(FakeIndex, "neuron", lambda self, layer, number: neuron(**phrase))
    assert describe_automatically(index)[0].words.split(" · ")[1] == "task: The phrase “prime factors” (AUC 0.90)"
    monkeypatch.setattr(FakeIndex, "neuron", lambda self, layer, number: neuron(best_task="129_arith_mc_A", best_sign=-1))
    assert "task: low on “Arithmetic: A is right”" in describe_automatically(index)[0].words
    monkeypatch.setattr(FakeIndex, "neuron", lambda self, layer, number: neuron(best_tells=False))
    assert "task" not in describe_automatically(index)[0].words
    monkeypatch.setattr(FakeIndex, "neuron", lambda self, layer, number: neuron(best_auc=0.6))
    made = describe_automatically(index)
    assert "task" not in made[0].words and made[0].by == "automatic" and len(made) == 8


def test_descriptions_are_written_in_order_with_their_evidence(tmp_path):
    side = SideEvidence("“a”", ["a"], 0.5, 0.5, 4, 4)
    save_descriptions(tmp_path, [Description("a <b>", "automatic", side, None), Description("c", "m")])
    stored = json.loads((tmp_path / "descriptions.json").read_text())
    assert stored["units"] == [["a <b>", "automatic"], ["c", "m"]]
    assert stored["sides"] == [[side.to_json(), None], [None, None]]


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


def ask(endpoint, path, neurons=((0, 1),), **options):
    slept = []
    options = {"per_minute": 1e9, "timeout": 0.5, "key": "secret"} | options
    found = describe_by_server(FakeIndex(), Server(endpoint, "m", **options), list(neurons), path, sleep=slept.append)
    return found, slept


def test_a_good_answer_is_kept_with_its_marks(serve, tmp_path):
    endpoint, seen = serve(f"Sure!\n```json\n{GOOD}\n```")
    found, _ = ask(endpoint, tmp_path / "a.jsonl")
    assert found == {1: {"explanation": "verbs of throwing; plain prose", "consistency": 4.0, "complexity": 2.0, "model": "m"}}
    assert seen[0]["path"] == "/v1/chat/completions" and seen[0]["auth"] == "Bearer secret"
    assert "<<security>>" in seen[0]["body"]["messages"][0]["content"]
    assert read_answers(tmp_path / "a.jsonl") == found


@pytest.mark.parametrize(
    "failure",
    ["hang", "drop", (500, {}, "x"), (200, {}, b"{not json"), (200, {}, b'{"choices": []}'), "no json here", '{"explanation": "x"}',
     '{"explanation": "", "consistency": 3, "complexity": 3}', '{"explanation": "x", "consistency": 9, "complexity": 3}',
     (200, {}, b'[1, 2]'), (200, {}, b'{"choices": [{"message": {"content": null}}]}')],
)  # fmt: skip
def test_every_failure_is_tried_again(serve, tmp_path, failure):
    endpoint, seen = serve(failure, GOOD)
    found, slept = ask(endpoint, tmp_path / "a.jsonl")
    assert found[1]["consistency"] == 4 and len(seen) == 2 and slept == [1.0]


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
    endpoint, seen = serve("nonsense")
    with pytest.raises(GlpError, match="five neurons in a row"):
        ask(endpoint, tmp_path / "a.jsonl", [(0, i) for i in range(4)] + [(1, i) for i in range(4)], attempts=2)
    assert len(seen) == 10


def test_an_interrupted_run_asks_only_for_what_is_missing(serve, tmp_path):
    path = tmp_path / "a.jsonl"
    endpoint, seen = serve(GOOD)
    ask(endpoint, path, [(0, 1), (0, 2)])
    with path.open("a") as file:
        file.write('{"neuron": 3, "explan')  # a kill in the middle of a line
    found, _ = ask(endpoint, path, [(0, 1), (0, 2), (0, 3)])
    assert set(found) == set(read_answers(path)) == {1, 2, 3} and len(seen) == 3


def test_requests_keep_to_the_rate(serve, tmp_path):
    endpoint, _ = serve(GOOD)
    _, slept = ask(endpoint, tmp_path / "a.jsonl", [(0, 0), (0, 1), (0, 2)], per_minute=60)
    assert len(slept) == 2 and all(0.3 < pause <= 1.0 for pause in slept)


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
