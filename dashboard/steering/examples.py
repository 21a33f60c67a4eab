"""Something to begin with: the examples of the Steering page, the one that it opens with, and how walks go by default.

What the workspace has measured decides (reports of `first-press`, `strengths` and `tune-walk`); where it has not, what stands here.
"""

from collections.abc import Sequence
from typing import NamedTuple

from dashboard.service import first_example, workspace_facts
from dashboard.service.directions import zones
from glp_core.errors import GlpError
from glp_core.files import Json
from glp_core.steering.direction_facts import DirectionFacts

LONGEST_PROMPT = 4_000
MOST_TOKENS = 256
MOST_PUSHES = 64
MOST_SEED = 2**31 - 1


class Example(NamedTuple):
    """Values for the controls that matter most."""

    title: str
    prompt: str
    mode: str
    direction: str
    """Title of a direction; left as it is where the workspace has no such one."""
    strength: float
    max_tokens: int = 64
    temperature: float = 0.0
    seed: int = 0


EXAMPLES = (
    Example("A film, praised", "I went to the cinema last night, and the film was", "continue", "Positive sentiment", 1.0),
    Example("A restaurant, praised", "The new restaurant on the corner is", "continue", "Positive sentiment", 1.4),
    Example("A report that turns to law", "The report begins with a short description of", "continue", "Law", 0.9),
    Example("Dinner, formally", "What should I cook for dinner tonight?", "chat", "Formal", 0.4),
    Example("A pirate's day", "Tell me about your day.", "chat", "Pirate", 0.4),
)


class Walk(NamedTuple):
    """The numbers of a walk that the page shows; by default those of glp_core.prior.walk.WalkSettings, which needs torch."""

    noise_level: float = 0.25
    pushes: int = 16
    hold: float = 0.0
    tilt: float = 0.0
    bound: float = 0.0
    """The walk goes no further than this share of real activations lies; 0: as far as it is pushed."""

    @property
    def words(self) -> str:
        """The numbers in words."""
        ends = [self.noise_level * (1 - self.tilt), self.noise_level * (1 + self.tilt)]
        noise = f"noise level {self.noise_level:g}"
        if self.tilt:
            noise = f"noise level {ends[0]:.2g} {'falling' if self.tilt < 0 else 'rising'} to {ends[1]:.2g}"
        end = f", no further than {self.bound:.0%} of real activations lie" if self.bound else ""
        return f"{self.pushes} pushes at {noise}, {self.hold:.0%} held{end}"


class TunedWalk(NamedTuple):
    """How walks go by the length of their push, as `tune-walk` chose."""

    short: Walk
    long: Walk
    border: float
    """Length in latents, in sqrt(d), from which on pushes are long."""
    lengths: dict[str, float]
    """Of a push of strength 1, by direction."""

    def at(self, direction: str, strength: float) -> Walk | None:
        """Return how a push along a direction goes, None where its length is not known before the run."""
        length = self.lengths.get(direction)
        return None if length is None else self.long if abs(strength) * length > self.border else self.short


def first(directions: Sequence[DirectionFacts]) -> Example:
    """Return the example that the page opens with: chosen by its measured effect, else the first of the list."""
    try:
        report = workspace_facts.report("first_press") or {}
        title = next(one.title for one in directions if one.name == report["direction"])
        settings, prompt = report["settings"], str(report["prompt"])[:LONGEST_PROMPT]
        push, temperature = _within(report["strength"], -3, 3), _within(settings["temperature"], 0, 2)
        tokens, seed = int(_within(settings["tokens"], 1, MOST_TOKENS)), int(_within(report["seed"], 0, MOST_SEED))
        return (
            Example("The first", prompt, "continue", title, push, tokens, temperature, seed) if prompt.strip() else EXAMPLES[0]
        )
    except (GlpError, KeyError, TypeError, ValueError, OverflowError, StopIteration):
        return EXAMPLES[0]  # not measured here, or damaged: the page works without it


def invitation(prompt: str, directions: Sequence[DirectionFacts]) -> str:
    """Return what a page without a run says: whose prompt is filled in, and what to press."""
    ours = prompt in {first(directions).prompt, *(example.prompt for example in EXAMPLES)}
    return "An example is filled in: press Run." if ours else "Press Run to write the texts."


def expected(prompt: str, directions: Sequence[DirectionFacts]) -> str:
    """Return what to expect of the example that the page opens with while its prompt is filled in; empty for any other."""
    return first_example.small_effect() if prompt == first(directions).prompt else ""


def own_walk() -> Walk:
    """Return the numbers that a walk of one's own begins with: where nothing was tuned, those that the workspace's commands take."""
    bounded = walk_rule() is None and workspace_facts.report("reference") is not None
    return Walk(0.1, 8, bound=0.95) if bounded else Walk()


def walk_rule() -> TunedWalk | None:
    """Return how walks go in this workspace by the length of their push, or None where `tune-walk` has not chosen."""
    try:
        report = workspace_facts.report("walk_tuning") or {}
        chosen, lengths = report["chosen"], report["lengths"]
        border = _within(chosen["border"], 0, 1000)
        return TunedWalk(
            _walk(chosen["short"]), _walk(chosen["long"]), border, {k: _within(v, 0, 1000) for k, v in lengths.items()}
        )
    except (GlpError, KeyError, TypeError, ValueError, OverflowError, AttributeError):
        return None


def _walk(settings: Json) -> Walk:
    pushes = int(_within(settings["pushes"], 1, MOST_PUSHES))
    bound = settings.get("bound")
    return Walk(
        _within(settings["noise_level"], 0, 1),
        pushes,
        _within(settings["hold"], 0, 1),
        _within(settings.get("tilt", 0), -1, 1),
        _within(bound["share"], 0, 1) if bound else 0.0,
    )


def _within(value: float, low: float, high: float) -> float:
    if not low <= value <= high:
        raise ValueError(f"{value!r} is not from {low} to {high}")
    return float(value)


def tested(example: Example, directions: Sequence[DirectionFacts]) -> float:
    """Return the strength to try an example with: the one that was measured to hold along its direction, else its own."""
    name = next((one.name for one in directions if one.title == example.direction), "")
    measured = zones.of(name)
    return measured.recommended if measured and measured.recommended is not None else example.strength


def for_mode(mode: str) -> Example:
    """Return the first example of a mode."""
    return next(example for example in EXAMPLES if example.mode == mode)
