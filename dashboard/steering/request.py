"""What a person may ask for on the Steering page: the parameters of its controls and link, examples, the checked request.

Values come from widgets and links, so each is checked again. Knows nothing of models; draws nothing.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import streamlit as st

from dashboard.service import priors, workspace_facts
from dashboard.widgets import url
from glp_core.errors import GlpError

if TYPE_CHECKING:
    from glp_core.prior.flow import Solver

LONGEST_PROMPT = 4_000
MOST_TOKENS = 256
MODES = ("continue", "chat")
SOLVERS: tuple["Solver", ...] = ("ab2", "radau", "midpoint", "euler")
EXTRAS = ("none", "norm-restored", "Gaussian")
COLOURINGS = ("distance", "surprise", "none")
EXTRA_ARMS = {"norm-restored": "norm", "Gaussian": "gaussian"}
NO_DIRECTIONS = "no directions"
WITHOUT_EFFECT = ("colour", "live")
"""Parameters that change how a run is shown, not what it writes."""


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
    return {
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

    @property
    def arms(self) -> list[str]:
        """Keys of the arms, left to right."""
        return ["unsteered", "raw", "glp", *([EXTRA_ARMS[self.extra]] if self.extra in EXTRA_ARMS else [])]


def widget_values(params: Mapping[str, url.Param]) -> dict[str, Any]:
    """Return what the widgets hold, by short name, unchecked."""
    return {name: st.session_state.get(param.key, param.default) for name, param in params.items()}


def checked(
    values: Mapping[str, Any], params: Mapping[str, url.Param], directions: Sequence[workspace_facts.DirectionFacts]
) -> Request:
    """Return the checked request for the values of the page's widgets, by short name.

    Raises:
        GlpError: a value does not fit; the message names it.
    """
    if not directions:
        raise GlpError("This workspace has no directions. Make one with `python -m glp_core direction texts.csv --name NAME`.")
    good = {name: param.check(values[name]) for name, param in params.items() if name not in WITHOUT_EFFECT}
    names = {direction.title: direction.name for direction in directions}
    return Request(title=good["direction"], **good | {"direction": names[good["direction"]]})
