"""What a client asks for: the body of a request in OpenAI's form, checked value by value. Knows no model and no network."""

import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal, cast

from glp_core.errors import GlpError
from glp_core.files import Json
from glp_core.llm.chat import Message
from glp_core.llm.decoding import Sampling
from glp_core.llm.text_stream import encodable
from glp_core.prior.projection import KINDS, Kind

MOST_CHOICES, MOST_PROMPTS, MOST_ROWS, MOST_STOPS = 8, 16, 32, 4
LONGEST_STOP = 200
"""Characters."""
TOKENS = {"chat": 256, "text": 16}
"""Of an answer, where a client does not say how many."""
ROLES = {"system": "system", "developer": "system", "user": "user", "assistant": "assistant"}
ONLY: dict[str, tuple[object, ...]] = {
    "top_p": (1, 1.0),
    "presence_penalty": (0, 0.0),
    "frequency_penalty": (0, 0.0),
    "best_of": (1,),
    "echo": (False,),
    "suffix": ("",),
    "top_logprobs": (0,),
    "tools": ([],),
    "tool_choice": ("none",),
    "logit_bias": ({},),
    "response_format": ({"type": "text"},),
    "modalities": (["text"],),
}
"""Parameters of OpenAI's that are known, with the only values that this server can do."""
IGNORED = ("user", "metadata", "store", "service_tier", "safety_identifier", "prompt_cache_key", "parallel_tool_calls")
"""Parameters that change no text."""


class BadParameter(GlpError):
    """A request that cannot be answered, and which of its parameters is to blame."""

    def __init__(self, words: str, parameter: str | None = None, *, code: str | None = None) -> None:
        super().__init__(words)
        self.parameter, self.code = parameter, code


@dataclass(frozen=True)
class Steering:
    """How texts are steered."""

    direction: str = ""
    """Name of a direction of the workspace; empty: none."""
    strength: float = 1.0
    """In units of the layer's median activation norm."""
    projection: Kind = "walk"
    noise_level: float | None = None
    """Of glp and gaussian, or of every part of a walk; None: as the workspace's tuning chose, .5 for glp and gaussian."""
    steps: int | None = None
    """Of Euler's released schedule for glp and gaussian (20 at .5 make 10 network calls of glp), parts of a walk; None: 20, or as tuned."""


@dataclass(frozen=True)
class Asked:
    """One request."""

    form: Literal["chat", "text"]
    model: str
    prompts: tuple[str, ...]
    """Texts to go on from; none for a chat."""
    messages: tuple[Message, ...]
    """The conversation so far; none for texts."""
    choices: int
    """Texts for each prompt; their seeds follow one another."""
    sampling: Sampling
    own_length: bool
    """Whether the client said how many tokens; else there are fewer where no more fit."""
    stops: tuple[str, ...]
    """Texts that end an answer, and are not part of it."""
    steering: Steering
    stream: bool
    usage: bool
    """Whether a stream's last part counts tokens."""
    log_probabilities: bool

    @property
    def rows(self) -> int:
        """Texts in all."""
        return max(1, len(self.prompts)) * self.choices


def read(body: object, form: Literal["chat", "text"]) -> Asked:
    """Return a request's checked body.

    Raises:
        BadParameter: a value does not fit, a parameter is not known or cannot be done.
    """
    if not isinstance(body, dict):
        raise BadParameter("The body must be a JSON object.")
    values = _Values({name: value for name, value in body.items() if value is not None})
    asked = Asked(
        form,
        model=values.text("model"),
        prompts=_prompts(values) if form == "text" else (),
        messages=_messages(values) if form == "chat" else (),
        choices=values.whole("n", 1, 1, MOST_CHOICES),
        own_length="max_tokens" in values or "max_completion_tokens" in values,
        sampling=_sampling(values, form),
        stops=_stops(values),
        steering=_steering(values),
        stream=values.switch("stream"),
        usage=_usage(values),
        log_probabilities=_log_probabilities(values, form),
    )
    values.check_rest()
    if asked.rows > MOST_ROWS:
        raise BadParameter(f"n texts for each prompt are {asked.rows} in all, wanted at most {MOST_ROWS}.", "n")
    return asked


class _Values:
    """The values of a body; each is taken once, what is left is not known."""

    def __init__(self, values: Mapping[str, object]) -> None:
        self._left = dict(values)

    def take(self, name: str, default: object = None) -> object:
        return self._left.pop(name, default)

    def text(self, name: str, default: str | None = None) -> str:
        value = self.take(name, default)
        if value is None:
            raise BadParameter(f"{name} is missing.", name)
        return cast("str", self._of(name, value, isinstance(value, str), "some text"))

    def whole(self, name: str, default: int, low: int, high: int) -> int:
        value = self.take(name, default)
        fits = type(value) is int and low <= value <= high
        return cast("int", self._of(name, value, fits, f"a whole number from {low} to {high}"))

    def number(self, name: str, default: float, low: float, high: float) -> float:
        value = self.take(name, default)
        fits = type(value) in (int, float) and low <= cast("float", value) <= high
        return float(cast("float", self._of(name, value, fits, f"a number from {low:g} to {high:g}")))

    def switch(self, name: str) -> bool:
        value = self.take(name, False)
        return cast("bool", self._of(name, value, isinstance(value, bool), "true or false"))

    def __contains__(self, name: str) -> bool:
        return name in self._left

    def check_rest(self) -> None:
        for name, value in self._left.items():
            if name in IGNORED:
                continue
            if name not in ONLY:
                raise BadParameter(f"The parameter {name!r} is not known here.", encodable(name), code="unknown_parameter")
            if not any(type(value) is type(one) and value == one for one in ONLY[name]):
                raise BadParameter(f"{name} is {_short(value)}: this server can do {ONLY[name][0]!r} only.", name)

    @staticmethod
    def _of(name: str, value: object, fits: bool, wanted: str) -> object:
        if not fits:
            raise BadParameter(f"{name} is {_short(value)}, wanted {wanted}.", name)
        return value


def _short(value: object) -> str:
    words = repr(value)
    return words if len(words) <= 60 else f"{words[:57]}…"


def _prompts(values: _Values) -> tuple[str, ...]:
    value = values.take("prompt")
    prompts = [value] if isinstance(value, str) else value
    if (
        not isinstance(prompts, list)
        or not 1 <= len(prompts) <= MOST_PROMPTS
        or not all(isinstance(one, str) for one in prompts)
    ):
        raise BadParameter(f"prompt is {_short(value)}, wanted a text, or 1 to {MOST_PROMPTS} texts.", "prompt")
    return tuple(cast("list[str]", prompts))


def _messages(values: _Values) -> tuple[Message, ...]:
    value = values.take("messages")
    if not isinstance(value, list) or not value:
        raise BadParameter(f"messages is {_short(value)}, wanted a list of messages.", "messages")
    return tuple(_message(message, f"messages.{place}") for place, message in enumerate(value))


def _message(message: object, where: str) -> Message:
    if not isinstance(message, dict) or not isinstance(message.get("role"), str) or message["role"] not in ROLES:
        raise BadParameter(f"{where} is {_short(message)}, wanted a role of {', '.join(ROLES)} and a content.", where)
    content = message.get("content")
    if isinstance(content, list):  # OpenAI's parts
        parts = [part.get("text") if isinstance(part, dict) and part.get("type") == "text" else None for part in content]
        content = "".join(cast("list[str]", parts)) if all(isinstance(part, str) for part in parts) else None
    if not isinstance(content, str):
        raise BadParameter(f"{where}.content is no text: this server reads nothing else.", f"{where}.content")
    return {"role": ROLES[message["role"]], "content": content}


def _sampling(values: _Values, form: str) -> Sampling:
    name = "max_completion_tokens" if "max_completion_tokens" in values else "max_tokens"
    tokens = values.whole(name, TOKENS[form], 1, 1_000_000)
    if name != "max_tokens":
        values.take("max_tokens")
    temperature = values.number("temperature", 1.0, 0.0, 2.0)
    seed = secrets.randbelow(2**31) if temperature else 0  # the likeliest text is the same every time
    return Sampling(tokens, temperature, values.whole("seed", seed, 0, 2**62 - MOST_CHOICES))


def _stops(values: _Values) -> tuple[str, ...]:
    value = values.take("stop", [])
    stops = [value] if isinstance(value, str) else value
    fits: Callable[[object], bool] = lambda one: isinstance(one, str) and 0 < len(one) <= LONGEST_STOP  # noqa: E731
    if not isinstance(stops, list) or len(stops) > MOST_STOPS or not all(map(fits, stops)):
        wanted = f"a text, or up to {MOST_STOPS}, of 1 to {LONGEST_STOP} characters"
        raise BadParameter(f"stop is {_short(value)}, wanted {wanted}.", "stop")
    return tuple(cast("list[str]", stops))


def _steering(values: _Values) -> Steering:
    direction = values.text("direction", "")
    for name in ("strength", "projection", "noise_level", "steps"):
        if name in values and not direction:
            raise BadParameter(f"{name} without a direction changes nothing: name a direction.", name)
    projection = values.text("projection", "walk")
    if projection not in KINDS:
        raise BadParameter(f"projection is {projection!r}, wanted {', '.join(KINDS)}.", "projection")
    for name in ("noise_level", "steps"):
        if name in values and projection in ("none", "norm"):
            raise BadParameter(f"{name} changes nothing with the projection {projection!r}: leave it out.", name)
    return Steering(
        direction,
        values.number("strength", 1.0, -10.0, 10.0),
        projection,
        values.number("noise_level", 0.0, 0.0, 1.0) if "noise_level" in values else None,
        values.whole("steps", 1, 1, 100) if "steps" in values else None,
    )


def _usage(values: _Values) -> bool:
    options = values.take("stream_options", {})
    if not isinstance(options, dict) or not set(options) <= {"include_usage", "include_obfuscation"}:
        raise BadParameter(f"stream_options is {_short(options)}, wanted include_usage.", "stream_options")
    return options.get("include_usage") is True


def _log_probabilities(values: _Values, form: str) -> bool:
    if form == "chat":
        return values.switch("logprobs")
    asked = "logprobs" in values  # how many alternatives are wanted too: of none and of one, the token itself is told
    values.whole("logprobs", 0, 0, 1)
    return asked


def error(words: str, *, kind: str = "invalid_request_error", parameter: str | None = None, code: str | None = None) -> Json:
    """Return an error in OpenAI's shape."""
    return {"error": {"message": words, "type": kind, "param": parameter, "code": code}}
