"""What a person may ask for on the Steering page: the parameters of its controls and link, the checked request.

Values come from widgets and links, so each is checked again. Knows nothing of models; draws nothing.
"""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import streamlit as st
from streamlit.errors import StreamlitAPIException

from dashboard.service import layers, priors, workspace_facts
from dashboard.steering import examples
from dashboard.steering import stack as stacks
from dashboard.steering.examples import LONGEST_PROMPT, MOST_PUSHES, MOST_SEED, MOST_TOKENS
from dashboard.widgets import url
from glp_core.errors import GlpError
from glp_core.steering.direction_facts import DirectionFacts

if TYPE_CHECKING:
    from glp_core.prior.flow import Solver
    from glp_core.prior.projection import Kind

MODES = ("continue", "chat")
SOLVERS: tuple["Solver", ...] = ("ab2", "radau", "midpoint", "euler")
PAPERS, GAUSSIAN = "paper's projection", "Gaussian prior"
PROJECTIONS: dict[str, "Kind"] = {"walk": "walk", PAPERS: "glp", "norm-restored": "norm", GAUSSIAN: "gaussian"}
"""Ways to bring a steered activation back, as a person reads them, and their arms."""
EXTRAS = ("none", *PROJECTIONS)
TUNED, OWN_NUMBERS = "tuned", "own numbers"
"""How a walk goes: by the length of its push, as the workspace's tuning chose, or by the numbers that stand beside."""
WALK_NUMBERS = ("steering_walk_noise", "steering_pushes", "steering_hold", "steering_bound")
COLOURINGS = ("distance", "surprise", "none")
NO_DIRECTIONS = "no directions"
WITHOUT_EFFECT = ("colour", "live", "stay")
"""Parameters that change how a run is shown, not what it writes."""


def params(directions: Sequence[DirectionFacts]) -> dict[str, url.Param]:
    """Return the page's parameters by short name; the defaults are the first example."""
    first, walk = examples.first(directions), examples.own_walk()
    walks = (OWN_NUMBERS,) if examples.walk_rule() is None else (TUNED, OWN_NUMBERS)
    titles = [direction.title for direction in directions] or [NO_DIRECTIONS]
    direction = next((title for title in titles if title.lower() == first.direction.lower()), titles[0])
    return {
        "prompt": url.text("steering_prompt", "Prompt", first.prompt, LONGEST_PROMPT),
        "mode": url.choice("steering_mode", "Mode", first.mode, MODES),
        "direction": url.choice("steering_direction", "Direction", direction, titles),
        "strength": url.number("steering_strength", "Strength", first.strength, -3.0, 3.0),
        "projection": url.choice("steering_projection", "Projection", "walk", tuple(PROJECTIONS)),
        "walk": url.choice("steering_walk", "Walk", walks[0], walks),
        "walk_noise": url.number("steering_walk_noise", "Noise level of the walk", walk.noise_level, 0.0, 1.0),
        "pushes": url.whole("steering_pushes", "Pushes", walk.pushes, 1, MOST_PUSHES),
        "hold": url.number("steering_hold", "Held share", walk.hold, 0.0, 1.0),
        "bound": url.number("steering_bound", "Bound", walk.bound, 0.0, 1.0),
        "noise_level": url.number("steering_noise", "Noise level", 0.5, 0.0, 1.0),
        "solver": url.choice("steering_solver", "Solver", SOLVERS[0], SOLVERS),
        "steps": url.whole("steering_steps", "Steps", 4, 1, 100),
        "max_tokens": url.whole("steering_tokens", "Tokens", first.max_tokens, 1, MOST_TOKENS),
        "temperature": url.number("steering_temperature", "Temperature", first.temperature, 0.0, 2.0),
        "seed": url.whole("steering_seed", "Seed", first.seed, 0, MOST_SEED),
        "extra": url.choice("steering_extra", "Fourth column", EXTRAS[0], EXTRAS),
        "colour": url.choice("steering_colour", "Colour by", COLOURINGS[0], COLOURINGS),
        "live": url.switch("steering_live", "Live", False),
        "stay": url.switch("steering_stay", "Go on when I leave the page", False),
        "prior": priors.param(),
        **layers.params("steering"),
        **stacks.params(titles, [direction.name for direction in directions]),
    }


def open_old_link() -> None:
    """Let a link from before there was a choice open as it did: with its own numbers of a walk, with the paper's projection."""
    query = st.query_params
    if "steering_walk" not in query and any(key in query for key in WALK_NUMBERS) and examples.walk_rule() is not None:
        with suppress(StreamlitAPIException):
            query["steering_walk"] = OWN_NUMBERS
            st.rerun()
    if "steering_projection" in query:
        return
    extra, numbers = query.get("steering_extra"), ("steering_noise", "steering_solver", "steering_steps")
    old = extra == "Gaussian" or (extra not in (PAPERS, GAUSSIAN) and any(key in query for key in numbers))
    with suppress(StreamlitAPIException):  # the page has been open for a while: its widgets decide
        if extra == "Gaussian":
            query["steering_extra"] = GAUSSIAN
        if old:
            query["steering_projection"] = PAPERS
            st.rerun()


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
    projection: str
    """One of PROJECTIONS."""
    walk_noise: float
    pushes: int
    hold: float
    """Share of the push that the walk puts back after every part."""
    noise_level: float
    """Of the paper's projection and of the Gaussian prior."""
    solver: "Solver"
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
    walk: str = OWN_NUMBERS
    """TUNED or OWN_NUMBERS."""
    bound: float = 0.0
    """The walk goes no further than this share of real activations lies; 0: as far as it is pushed."""
    layer: int | None = None
    """Of the LLM, where the prior serves several; None: the workspace's own."""
    stack: str = ""
    """Directions that are pushed along too, as `stacks.read` takes them."""
    where: str = stacks.GENERATED
    """One of stacks.WHERE."""
    span: str = ""
    """Words of the prompt, where those are pushed."""
    neuron: str = ""
    """Layer/neuron, where a push depends on one."""
    beyond: float = 0.5
    """What it has to be beyond, in its tails."""
    probe: str = ""
    """File name of the direction whose probe a push depends on."""
    probability: float = 0.5
    """What the probe has to be above."""

    @property
    def others(self) -> list[stacks.Part]:
        """Directions beside the first that are switched on."""
        return [part for part in stacks.read(self.stack) if part.on and part.strength]

    @property
    def acts(self) -> bool:
        """Whether there is any push."""
        return bool(self.strength or self.others)

    @property
    def push_words(self) -> str:
        """The push, as a column's head says it."""
        if not self.others:
            return f"{self.strength:+.2g} × median norm"
        return ", ".join([f"{self.strength:+.2g} {self.title.lower()}", *(part.words for part in self.others)])

    @property
    def depends(self) -> bool:
        """Whether the push acts on some new tokens only."""
        return self.where in (stacks.NEURON, stacks.PROBE)

    @property
    def walk_numbers(self) -> examples.Walk | None:
        """How the walk goes; None where only the run tells, by the length of its push."""
        rule = examples.walk_rule() if self.walk == TUNED else None
        own = examples.Walk(self.walk_noise, self.pushes, self.hold, bound=self.bound)
        if rule is None:
            return own
        return rule.at(self.direction, self.strength) if self.measured and not self.others else None

    @cached_property
    def measured(self) -> bool:
        """Whether it is the workspace's own prior at its own layer that projects, of which reports speak; asked for at every look."""
        return self.prior in ("", priors.listed()[0].name) and layers.of(self.layer) is None

    @property
    def projected(self) -> str:
        """Key of the arm that the third column shows."""
        return PROJECTIONS[self.projection]

    @property
    def arms(self) -> list[str]:
        """Keys of the arms, left to right."""
        return arms(self.projection, self.extra)


def arms(projection: str, extra: str) -> list[str]:
    """Return the keys of the arms that these choices compare, left to right."""
    keys = ["unsteered", "raw", PROJECTIONS[projection]]
    return keys if extra in ("none", projection) else [*keys, PROJECTIONS[extra]]


def widget_values(params: Mapping[str, url.Param]) -> url.Values:
    """Return what the widgets hold, by short name, unchecked."""
    return {name: st.session_state.get(param.key, param.default) for name, param in params.items()}


def link(asked: Request, params: Mapping[str, url.Param], directions: Sequence[DirectionFacts]) -> url.Values:
    """Return what a link holds that opens a request, by query parameter; how it is shown is as the widgets show it now."""
    titles = {direction.name: direction.title for direction in directions}
    own = {name: getattr(asked, name, value) for name, value in widget_values(params).items()}
    own |= {"direction": asked.title, "probe": titles.get(asked.probe, asked.probe)}
    return {param.key: own[name] for name, param in params.items()}


def changed(asked: Request, params: Mapping[str, url.Param], directions: Sequence[DirectionFacts]) -> list[str]:
    """Return the names of the controls that hold something else than a request does."""
    values, own = widget_values(params), link(asked, params, directions)
    decisive = {name: param for name, param in params.items() if name not in WITHOUT_EFFECT}
    return [param.label.lower() for name, param in decisive.items() if values[name] != own[param.key]]


def checked(values: url.Values, params: Mapping[str, url.Param], directions: Sequence[DirectionFacts]) -> Request:
    """Return the checked request for the values of the page's widgets, by short name.

    Raises:
        GlpError: a value does not fit; the message names it.
    """
    if not directions:
        raise GlpError(
            f"This workspace has no directions. Make one with `{workspace_facts.command('direction texts.csv --name NAME')}`."
        )
    good = {name: param.check(values[name]) for name, param in params.items() if name not in WITHOUT_EFFECT}
    names = {direction.title: direction.name for direction in directions}
    if good["where"] == stacks.WORDS and not good["span"].strip():
        raise GlpError("Say on which words of the prompt the push acts: copy them from the prompt, under Where.")
    return Request(title=good["direction"], **good | {key: names[good[key]] for key in ("direction", "probe")})
