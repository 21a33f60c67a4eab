"""Turn a plain request into a comparison of arms: checked here, generated in the job queue, told in plain dataclasses.

Values come from widgets and links, so each is checked again. Knows the core's generation; draws nothing.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from dashboard.service import priors, resources, workspace_facts
from dashboard.service.jobs import Cancelled, Work
from dashboard.widgets import url
from glp_core.errors import GlpError

LONGEST_PROMPT = 4_000
MOST_TOKENS = 256
MODES = ("continue", "chat")
SOLVERS = ("ab2", "radau", "midpoint", "euler")
EXTRAS = ("none", "norm-restored", "Gaussian")
COLOURINGS = ("distance", "surprise", "none")
EXTRA_ARMS = {"norm-restored": "norm", "Gaussian": "gaussian"}
NO_DIRECTIONS = "no directions"


class Example(NamedTuple):
    """Something to begin with."""

    title: str
    prompt: str
    mode: str
    direction: str
    """Title of a direction; left as it is where the workspace has no such one."""
    strength: float
    noise_level: float


EXAMPLES = (
    Example("A film, praised", "I went to the cinema last night, and the film was", "continue", "Positive sentiment", 0.6, 0.5),
    Example("A restaurant, praised", "The new restaurant on our street", "continue", "Positive sentiment", 0.8, 0.5),
    Example("A report that turns to law", "The report begins with a short description of", "continue", "Law", 0.9, 0.4),
    Example("Dinner, formally", "What should I cook for dinner tonight?", "chat", "Formal", 0.4, 0.3),
    Example("A pirate's day", "Tell me about your day.", "chat", "Pirate", 0.4, 0.3),
)


def params(directions: Sequence[workspace_facts.DirectionFacts]) -> dict[str, url.Param]:
    """Return the page's parameters by short name; the defaults are a filled-in example."""
    titles = [direction.title for direction in directions] or [NO_DIRECTIONS]
    first = next((title for title in titles if "sentiment" in title.lower()), titles[0])
    listed = {
        "prompt": url.text("steering_prompt", "Prompt", EXAMPLES[0].prompt, LONGEST_PROMPT),
        "mode": url.choice("steering_mode", "Mode", MODES[0], MODES),
        "direction": url.choice("steering_direction", "Direction", first, titles),
        "strength": url.number("steering_strength", "Strength", 0.6, -3.0, 3.0),
        "noise_level": url.number("steering_noise", "Noise level", 0.5, 0.0, 1.0),
        "solver": url.choice("steering_solver", "Solver", SOLVERS[0], SOLVERS),
        "steps": url.whole("steering_steps", "Steps", 4, 1, 100),
        "max_tokens": url.whole("steering_tokens", "Tokens", 64, 1, MOST_TOKENS),
        "temperature": url.number("steering_temperature", "Temperature", 0.0, 0.0, 2.0),
        "seed": url.whole("steering_seed", "Seed", 0, 0, 2**31 - 1),
        "extra": url.choice("steering_extra", "Fourth column", EXTRAS[0], EXTRAS),
        "colour": url.choice("steering_colour", "Colour by", COLOURINGS[0], COLOURINGS),
        "live": url.switch("steering_live", "Live", False),
        "prior": priors.param(),
    }
    return listed


@dataclass(frozen=True)
class Request:
    """What to compare."""

    prompt: str
    mode: str
    """continue or chat."""
    direction: str
    """File name of the direction."""
    title: str
    """Its name to show."""
    strength: float
    """In units of the layer's median activation norm."""
    noise_level: float
    solver: str
    steps: int
    """Of the released schedule for Euler, network calls for the other solvers."""
    max_tokens: int
    temperature: float
    """0: the likeliest token."""
    seed: int
    extra: str
    """One of EXTRAS."""
    prior: str = ""
    """Name of the GLP that projects; empty: the workspace's own."""

    @property
    def arms(self) -> list[str]:
        """Keys of the arms, left to right."""
        return ["unsteered", "raw", "glp", *([EXTRA_ARMS[self.extra]] if self.extra in EXTRA_ARMS else [])]


def request(
    values: Mapping[str, Any], listed: Mapping[str, url.Param], directions: Sequence[workspace_facts.DirectionFacts]
) -> Request:
    """Return the checked request for the values of the page's widgets, by short name.

    Raises:
        GlpError: a value does not fit; the message names it.
    """
    if not directions:
        raise GlpError("This workspace has no directions. Make one with `python -m glp_core direction`.")
    good = {name: param.check(values[name]) for name, param in listed.items() if name not in ("colour", "live")}
    names = {direction.title: direction.name for direction in directions}
    return Request(title=good["direction"], **good | {"direction": names[good["direction"]]})


class Start(NamedTuple):
    """First event: what the numbers of this run refer to."""

    band: tuple[float, float] | None
    """Manifold distances between which 90% of real tokens lie; None without a reference."""
    prompt_tokens: int


class Token(NamedTuple):
    """One token of one arm."""

    arm: str
    id: int
    text: str
    log_probability: float
    """Under the arm itself."""
    distance_before: float
    distance: float
    """Manifold distance of the activation that the model went on with; nan for massive ones."""
    kept: float
    """Share of the push that the projection left; nan without."""
    seconds: float
    """Of this step, all arms together."""


class Reading(NamedTuple):
    """What the unsteered model makes of one arm's text."""

    arm: str
    log_probabilities: list[float]
    concept: float
    """Probability that the text shows the concept, by the direction's probe; nan for an empty text."""


def work(wanted: Request) -> Work:
    """Return the job that compares the arms and yields Start, Tokens, and at the end a Reading per arm."""

    def run(cancelled: Cancelled) -> Iterator[Start | Token | Reading]:
        from glp_core.steering.generation import Sampling, clean_reading, generate

        workspace, llm, meter = resources.workspace(), resources.llm(), resources.meter()
        direction = resources.direction(wanted.direction)
        ids = _encode(llm, wanted)
        yield Start(meter.band() if meter else None, len(ids))
        written: dict[str, list[int]] = {name: [] for name in wanted.arms}
        sampling = Sampling(wanted.max_tokens, wanted.temperature, seed=wanted.seed)
        arms = _arms(wanted, direction.vector)
        norm = workspace.median_norm
        steps = generate(llm, ids, workspace.layer, arms, sampling, median_norm=norm, meter=meter, cancelled=cancelled)
        with closing(steps):
            for s in steps:
                written[s.arm].append(s.token)
                yield Token(
                    s.arm, s.token, s.text, s.log_probability, s.distance_before, s.distance_after, s.kept_push, s.seconds
                )
        if cancelled():
            return
        read, means = clean_reading(llm, workspace.layer, ids, list(written.values()))
        for arm, log_probabilities, concept in zip(written, read, direction.concept(means).tolist(), strict=True):
            yield Reading(arm, log_probabilities, concept)

    return run


def _encode(llm: Any, wanted: Request) -> list[int]:
    if wanted.mode == "chat":
        return llm.encode_chat([{"role": "user", "content": wanted.prompt}])
    return llm.encode(wanted.prompt)


def _arms(wanted: Request, vector: Any) -> list[Any]:
    from glp_core.prior.projection import make_projector
    from glp_core.steering.generation import Arm

    covariance = resources.workspace().covariance() if "gaussian" in wanted.arms else None
    arms = [Arm("unsteered")]
    for name in wanted.arms[1:]:
        projector = make_projector(
            "none" if name == "raw" else name,
            glp=resources.prior(wanted.prior),
            covariance=covariance,
            noise_level=wanted.noise_level,
            steps=wanted.steps,
            solver=wanted.solver,
        )
        arms.append(Arm(name, vector, wanted.strength, projector))
    return arms


@dataclass
class Column:
    """One arm's text and what was measured on it."""

    arm: str
    tokens: list[Token] = field(default_factory=list)
    reading: Reading | None = None
    """None until the run has finished."""

    @property
    def text(self) -> str:
        return "".join(token.text for token in self.tokens)

    @property
    def log_probability(self) -> float:
        """Mean log-probability of a token under the unsteered model; nan until the run has finished."""
        return mean(self.reading.log_probabilities) if self.reading else float("nan")

    @property
    def repetition(self) -> float:
        """Share of bigrams that occurred before; nan for fewer than two tokens."""
        pairs = list(zip(self.tokens, self.tokens[1:], strict=False))
        distinct = {(a.id, b.id) for a, b in pairs}
        return 1 - len(distinct) / len(pairs) if pairs else float("nan")

    @property
    def distance(self) -> float:
        """Mean manifold distance."""
        return mean(token.distance for token in self.tokens)

    @property
    def kept(self) -> float:
        """Mean share of the push that the projection left; nan for arms without projection."""
        return mean(token.kept for token in self.tokens)

    @property
    def concept(self) -> float:
        return self.reading.concept if self.reading else float("nan")

    def surprise(self) -> list[float]:
        """Return each token's surprise in nats: under the unsteered model when the run has finished, else under the arm itself."""
        if self.reading and len(self.reading.log_probabilities) == len(self.tokens):
            return [-value for value in self.reading.log_probabilities]
        return [-token.log_probability for token in self.tokens]


@dataclass
class Comparison:
    """Everything that one run has yielded so far."""

    request: Request
    columns: dict[str, Column]
    band: tuple[float, float] | None = None
    prompt_tokens: int = 0

    @property
    def started(self) -> bool:
        """Whether there is any text."""
        return any(column.tokens for column in self.columns.values())

    @property
    def finished(self) -> bool:
        """Whether the clean model has read every arm."""
        return all(column.reading for column in self.columns.values())

    @property
    def milliseconds(self) -> float:
        """Median time of a step, which writes one token of every arm; nan before the first."""
        times = sorted(1000 * token.seconds for token in next(iter(self.columns.values())).tokens)
        return times[len(times) // 2] if times else float("nan")


def collect(wanted: Request, events: Sequence[Start | Token | Reading]) -> Comparison:
    """Return the comparison that a job's events tell."""
    told = Comparison(wanted, {name: Column(name) for name in wanted.arms})
    for event in events:
        if isinstance(event, Token):
            told.columns[event.arm].tokens.append(event)
        elif isinstance(event, Reading):
            told.columns[event.arm].reading = event
        else:
            told.band, told.prompt_tokens = event
    return told


def mean(values: Any) -> float:
    """Return the mean of the values that are numbers, nan when there is none."""
    known = [value for value in values if value == value]
    return sum(known) / len(known) if known else float("nan")
