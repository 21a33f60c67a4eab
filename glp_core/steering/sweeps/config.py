"""What a sweep is: one JSON object that says what is written, how it is scored, and with what it was made; it can be run again.

Everything is checked where it is read, since a configuration may come from a stranger. Plain values: torch is not needed.
"""

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Literal, TypeVar, get_args

from glp_core.errors import GlpError
from glp_core.files import Json
from glp_core.steering.sweeps.checks import check_different, check_list, check_numbers, check_text, check_whole, refuse, short

FORMAT = "glp-explorer sweep 1"
Arm = Literal["raw", "walk", "glp", "norm", "gaussian", "opposite", "random", "prompted"]
ARMS: tuple[Arm, ...] = get_args(Arm)
"""opposite: against the direction; random: along a random one, as far; both walked, as controls. prompted: asked in words."""
CONTROLS = ("opposite", "random", "prompted")
LEVELLED = ("glp", "gaussian")
"""Arms that project at one noise level."""
WALKED = ("walk", "opposite", "random")
MOST_PROMPTS, LONGEST_PROMPT = 256, 4_000
MOST_DIRECTIONS, MOST_STRENGTHS, MOST_LEVELS, MOST_SEEDS = 16, 32, 12, 16
LARGEST_STRENGTH = 10.0
MOST_TOKENS, MOST_TEXTS = 512, 100_000
MOST_WORDS, LONGEST_WORD, LONGEST_WORDING = 200, 60, 4_000
Made = TypeVar("Made")
NAME = re.compile(r"[\w.-]{1,80}")


@dataclass(frozen=True)
class Along:
    """A direction, and how far the sweep pushes along it."""

    name: str
    """File name without .safetensors."""
    title: str
    strengths: tuple[float, ...]
    """In units of the layer's median activation norm; 0 is always written."""
    digest: str = ""
    """Of its vector and probe; empty: whatever the workspace has of that name."""

    def __post_init__(self) -> None:
        check_text("a direction's name", self.name, 80)
        if not NAME.fullmatch(self.name):
            raise GlpError(f"A direction's name is {self.name!r}, wanted letters, digits, dots, dashes and underscores.")
        check_text("a direction's title", self.title, 200)
        what = f"the strengths along {self.name}"
        check_numbers(what, self.strengths, -LARGEST_STRENGTH, LARGEST_STRENGTH, most=MOST_STRENGTHS)
        if 0 in self.strengths:
            raise GlpError(f"One of {what} is 0, which is written anyway: leave it out.")
        if type(self.digest) is not str:
            refuse("a direction's digest", self.digest, "a text")


@dataclass(frozen=True)
class Scorer:
    """How the concept in a text is scored, 0 to 1; the direction's probe scores every text, whatever else does."""

    kind: Literal["probe", "lexicon", "server"] = "probe"
    words: tuple[str, ...] = ()
    """Of a lexicon: a text shows the concept when it has one of them as a whole word."""
    concept: str = ""
    """What a server is asked about, in words."""
    wording: str = ""
    """Of the question; empty: the one that is built in. {concept}, {prompt} and {text} stand for those."""
    endpoint: str = ""
    """Base address of a server that speaks OpenAI's protocol. Its key stands in the environment, never here."""
    model: str = ""

    def __post_init__(self) -> None:
        if self.kind not in ("probe", "lexicon", "server"):
            refuse("the scorer", self.kind, "probe, lexicon or server")
        check_list("the scorer's words", self.words, MOST_WORDS, least=self.kind == "lexicon")
        for word in self.words:
            check_text("a word of the lexicon", word, LONGEST_WORD)
        for name, longest in (("concept", 500), ("wording", LONGEST_WORDING), ("endpoint", 500), ("model", 200)):
            check_text(f"the scorer's {name}", getattr(self, name), longest, empty=True)
        if self.kind == "server":
            self._check_server()

    def _check_server(self) -> None:
        if not re.fullmatch(r"https?://[^\s/@?#]+(/[^\s@?#]*)?", self.endpoint):
            refuse(
                "the scorer's endpoint", self.endpoint, "an http address without a key in it, such as http://localhost:8000/v1"
            )
        if not self.model.strip() or not self.concept.strip():
            raise GlpError("A server that scores needs a model's name and the concept in words.")
        if self.wording and "{text}" not in self.wording:
            raise GlpError("The scorer's wording lacks {text}, which stands for the text to be scored.")


HOTTEST = 5.0
"""Temperature."""


@dataclass(frozen=True)
class SweepConfig:
    """One sweep."""

    prompts: tuple[str, ...]
    directions: tuple[Along, ...]
    arms: tuple[Arm, ...] = ("raw", "walk", "glp", "norm", "gaussian", "opposite", "random", "prompted")
    noise_levels: tuple[float, ...] = (0.5,)
    """Of the paper's projection and the Gaussian prior."""
    walk_levels: tuple[float, ...] = ()
    """Noise levels of walks of `walk_pushes` parts, and of the walked controls; empty: as the workspace's tuning chose."""
    walk_pushes: int = 16
    seeds: tuple[int, ...] = (0,)
    """Each gives every prompt noise, and a choice of tokens, of its own."""
    tokens: int = 24
    """Of each text, at most."""
    temperature: float = 0.0
    """0: the likeliest token."""
    scorer: Scorer = Scorer()
    title: str = ""
    made_with: Json = field(default_factory=dict)
    """Model, prior, number type and versions, as `Workspace.made_with` gives them; empty: whatever is there."""

    def __post_init__(self) -> None:
        check_list("the prompts", self.prompts, MOST_PROMPTS)
        for prompt in self.prompts:
            check_text("a prompt", prompt, LONGEST_PROMPT)
        check_list("the directions", self.directions, MOST_DIRECTIONS)
        check_different("the prompts", self.prompts)
        check_different("the directions", [one.name for one in self.directions])
        check_list("the arms", self.arms, len(ARMS))
        for arm in self.arms:
            if arm not in ARMS:
                refuse("an arm", arm, f"one of {', '.join(ARMS)}")
        check_different("the arms", self.arms)
        needed = bool(set(LEVELLED) & set(self.arms))
        check_numbers("the noise levels", self.noise_levels, 0, 1, most=MOST_LEVELS, least=needed)
        check_numbers("the noise levels of walks", self.walk_levels, 0, 1, most=MOST_LEVELS, least=False)
        check_whole("the pushes of walks", self.walk_pushes, 1, 256)
        check_list("the seeds", self.seeds, MOST_SEEDS)
        for seed in self.seeds:
            check_whole("a seed", seed, 0, 2**31 - 1)
        check_different("the seeds", self.seeds)
        check_whole("the tokens of a text", self.tokens, 1, MOST_TOKENS)
        check_numbers("the temperature", (self.temperature,), 0, HOTTEST, most=1)
        check_text("the title", self.title, 200, empty=True)
        if not isinstance(self.made_with, dict):
            refuse("made_with", self.made_with, "a JSON object")

    def to_json(self) -> Json:
        """Return the configuration as JSON that `from_json` reads back."""
        return {"format": FORMAT} | asdict(self)

    @staticmethod
    def from_json(value: object) -> "SweepConfig":
        """Read a configuration.

        Raises:
            GlpError: it is none, lacks something, or holds something else than is wanted; the message names it.
        """
        facts = _fields(value, "A sweep", set(SweepConfig.__dataclass_fields__) | {"format"})
        if facts.pop("format", None) != FORMAT:
            raise GlpError(f"This is no configuration of a sweep: its format is not {FORMAT!r}. Export one from the Lab page.")
        directions = facts.get("directions")
        if not isinstance(directions, list | tuple):
            refuse("the directions", directions, "a list")
        along = [_fields(one, "A direction of a sweep", set(Along.__dataclass_fields__)) for one in directions]
        facts["directions"] = [_made(Along, one) for one in along]
        facts["scorer"] = _made(Scorer, _fields(facts.get("scorer", {}), "A scorer", set(Scorer.__dataclass_fields__)))
        return _made(SweepConfig, facts)


def stamped(config: SweepConfig, here: Json, digests: Mapping[str, str], titles: Mapping[str, str]) -> SweepConfig:
    """Return a configuration whose texts are made with what is here; a direction that is not here loses its digest.

    Args:
        here: as `Workspace.made_with` gives it.
        digests: of the workspace's directions, by name.
        titles: of the workspace's directions, by name; what is asked in words is made of them.
    """
    along = tuple(
        replace(one, digest=digests.get(one.name, ""), title=titles.get(one.name, one.title)) for one in config.directions
    )
    return replace(config, made_with=here, directions=along)


def differences(
    config: SweepConfig, here: Json, digests: Mapping[str, str], titles: Mapping[str, str] | None = None
) -> list[str]:
    """Say what of a configuration is not what is here; nothing where texts will be the same.

    Args: as of `stamped`.
    """
    said = []
    for name, wanted in config.made_with.items():
        there = here.get(name)
        if isinstance(wanted, dict) and isinstance(there, dict):
            pairs = {f"{name}, {key}": (value, there.get(key)) for key, value in wanted.items()}
        else:
            pairs = {name: (wanted, there)}
        said += [
            f"{WORDS.get(what, what)}: made with {short(a)}, here it is {short(b)}" for what, (a, b) in pairs.items() if a != b
        ]
    for along in config.directions:
        digest = digests.get(along.name)
        if along.digest and digest != along.digest:
            what = "is not in this workspace" if digest is None else f"is another one here: {digest} in place of {along.digest}"
            said.append(f"the direction {along.name} {what}")
        title = (titles or {}).get(along.name, along.title)
        if title != along.title:
            said.append(
                f"the direction {along.name} is called {short(repr(title))} here, in place of {short(repr(along.title))}"
            )
    return said


def settings_apart(ours: SweepConfig, theirs: SweepConfig) -> list[tuple[str, object, object]]:
    """Return what decides texts and scores and is another in two configurations: what it is, and both values; all but the title."""
    first, second = (_settings(one) for one in (ours, theirs))
    names = dict.fromkeys([*first, *second])
    return [(name, first.get(name), second.get(name)) for name in names if first.get(name) != second.get(name)]


def _settings(config: SweepConfig) -> Json:
    """Return all settings of a sweep by what they are, those within others one by one."""
    facts = config.to_json()
    scorer, made_with = facts.pop("scorer"), facts.pop("made_with")
    for name in ("format", "title", "directions"):
        del facts[name]
    settings: Json = {name.replace("_", " "): value for name, value in facts.items()}
    for along in config.directions:
        settings[f"strengths along {along.title} ({along.name})"] = along.strengths
        settings[f"digest of {along.title} ({along.name})"] = along.digest
    settings |= {f"scorer, {name}": value for name, value in scorer.items()}
    for name, value in made_with.items():
        called = WORDS.get(name, name)
        settings |= {f"{called}, {key}": one for key, one in value.items()} if isinstance(value, dict) else {called: value}
    return settings


WORDS = {"glp": "the prior", "llm": "the language model", "dtype": "the number type", "walk": "the tuned walk"}


def _fields(value: object, what: str, names: set[str]) -> Json:
    if not isinstance(value, dict):
        raise GlpError(f"{what} is a {type(value).__name__}, wanted a JSON object.")
    if unknown := sorted(str(name) for name in value.keys() - names):
        raise GlpError(f"{what} holds {', '.join(unknown[:5])}, which nothing reads: wanted only {', '.join(sorted(names))}.")
    return dict(value)


def _made(kind: type[Made], facts: Json) -> Made:
    """Return a dataclass of facts, whose lists become tuples."""
    try:
        return kind(**{name: tuple(value) if isinstance(value, list) else value for name, value in facts.items()})
    except TypeError as error:
        raise GlpError(f"A sweep's configuration lacks something: {error}.") from error
