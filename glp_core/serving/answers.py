"""What a client gets: answers and parts of streams in OpenAI's form. Knows pieces of text; knows no model and no network."""

import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from glp_core.files import Json
from glp_core.serving.asked import Asked
from glp_core.serving.writing import Begun, Piece


@dataclass
class Answer:
    """One request's answer, as it grows."""

    asked: Asked
    model: str
    fingerprint: str
    """What tells the prior that projects from all others."""
    id: str = ""
    created: int = field(default_factory=lambda: int(time.time()))
    prompt_tokens: int = 0
    _pieces: list[Piece] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.id = f"{'chatcmpl' if self.asked.form == 'chat' else 'cmpl'}-{secrets.token_hex(12)}"

    def begin(self, event: Begun) -> list[Json]:
        """Return the first parts of a stream."""
        self.prompt_tokens = event.prompt_tokens
        if self.asked.form == "text":
            return []
        return [self._part([self._delta(n, {"role": "assistant", "content": ""})]) for n in range(self.asked.rows)]

    def push(self, pieces: Sequence[Piece]) -> list[Json]:
        """Take a step's pieces; return a stream's parts for them: all where log-probabilities are wanted, else those with text."""
        self._pieces += pieces
        shown = [piece for piece in pieces if piece.text or piece.finished or self.asked.log_probabilities]
        return [self._part([self._choice_part(piece)]) for piece in shown]

    def end(self) -> list[Json]:
        """Return a stream's last parts."""
        return [self._part([]) | {"usage": self._usage()}] if self.asked.usage else []

    def whole(self) -> Json:
        """Return the whole answer."""
        choices = [self._choice(n) for n in range(self.asked.rows)]
        kind = "chat.completion" if self.asked.form == "chat" else "text_completion"
        return self._head(kind) | {"choices": choices, "usage": self._usage()}

    def _head(self, kind: str) -> Json:
        head = {"id": self.id, "object": kind, "created": self.created, "model": self.model}
        return head | {"system_fingerprint": self.fingerprint}

    def _part(self, choices: list[Json]) -> Json:
        kind = "chat.completion.chunk" if self.asked.form == "chat" else "text_completion"
        return self._head(kind) | {"choices": choices}

    def _choice_part(self, piece: Piece) -> Json:
        facts = {"glp": self._facts(piece.choice)} if piece.finished else {}
        if self.asked.form == "chat":
            return self._delta(piece.choice, {"content": piece.text} if piece.text else {}, piece) | facts
        log_probabilities = _text_log_probabilities([piece]) if self.asked.log_probabilities else None
        return {
            "index": piece.choice,
            "text": piece.text,
            "logprobs": log_probabilities,
            "finish_reason": piece.finished,
        } | facts

    def _delta(self, choice: int, delta: Json, piece: Piece | None = None) -> Json:
        shown = [piece] if piece is not None and self.asked.log_probabilities else None
        reason = piece.finished if piece is not None else None
        log_probabilities = None if shown is None else _chat_log_probabilities(shown)
        return {"index": choice, "delta": delta, "logprobs": log_probabilities, "finish_reason": reason}

    def _choice(self, number: int) -> Json:
        pieces = self._of(number)
        text = "".join(piece.text for piece in pieces)
        rest = {"index": number, "finish_reason": pieces[-1].finished, "glp": self._facts(number)}
        if self.asked.form == "text":
            return {"text": text, "logprobs": _text_log_probabilities(pieces) if self.asked.log_probabilities else None} | rest
        message = {"role": "assistant", "content": text, "refusal": None}
        return {
            "message": message,
            "logprobs": _chat_log_probabilities(pieces) if self.asked.log_probabilities else None,
        } | rest

    def _of(self, choice: int) -> list[Piece]:
        return [piece for piece in self._pieces if piece.choice == choice]

    def _facts(self, choice: int) -> Json:
        """Return what OpenAI's form has no place for: the seed, the steering, and what it did to the activations."""
        steps, steering = [piece.step for piece in self._of(choice)], self.asked.steering
        facts: Json = {"seed": self.asked.sampling.seed + choice % self.asked.choices, "direction": steering.direction or None}
        if steering.direction:
            facts |= {"strength": steering.strength, "projection": steering.projection}
            facts["kept_push"] = _mean([step.kept_push for step in steps])
        return facts | {"distance": _mean([step.distance_after for step in steps])}

    def _usage(self) -> Json:
        written = len(self._pieces)
        return {"prompt_tokens": self.prompt_tokens, "completion_tokens": written, "total_tokens": self.prompt_tokens + written}


def _mean(values: Sequence[float]) -> float | None:
    found = [value for value in values if value == value]
    return round(sum(found) / len(found), 4) if found else None


def _chat_log_probabilities(pieces: Sequence[Piece]) -> Json:
    content = [
        {
            "token": piece.step.text,
            "logprob": piece.step.log_probability,
            "bytes": list(piece.step.text.encode()),
            "top_logprobs": [],
        }
        for piece in pieces
    ]
    return {"content": content, "refusal": None}


def _text_log_probabilities(pieces: Sequence[Piece]) -> Json:
    tokens, numbers = [piece.step.text for piece in pieces], [piece.step.log_probability for piece in pieces]
    return {"tokens": tokens, "token_logprobs": numbers, "top_logprobs": None, "text_offset": []}
