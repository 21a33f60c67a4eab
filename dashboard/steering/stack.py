"""Several directions at once, and where the push acts: what a link holds of them, and their controls."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import NamedTuple

import streamlit as st

from dashboard.service import workspace_facts
from dashboard.widgets import url
from glp_core.errors import GlpError
from glp_core.steering.direction_facts import DirectionFacts

MOST = 4
"""Directions beside the first."""
STRONGEST = 3.0
BEGINS_WITH = 0.5
"""Strength of a direction that was just added."""
NAMES = "steering_stack_names"
GENERATED, ALL, WORDS = "generated tokens", "all tokens", "words of the prompt"
NEURON, PROBE = "where a neuron fires", "where a probe fires"
WHERE = (GENERATED, ALL, WORDS, NEURON, PROBE)


class Part(NamedTuple):
    """One direction of a stack, beside the first."""

    name: str
    """Of its file."""
    strength: float
    on: bool = True

    @property
    def words(self) -> str:
        """As a column's head says it."""
        return f"{self.strength:+.2g} {self.name.replace('-', ' ')}"


def read(text: str) -> tuple[Part, ...]:
    """Return the stack that a text such as "law:0.5,formal:-0.3:off" holds; raise GlpError for what is none."""
    parts = []
    for one in filter(None, text.split(",")):
        name, _, rest = one.partition(":")
        number, _, switch = rest.partition(":")
        try:
            strength = float(number)
        except ValueError as error:
            raise GlpError(
                f"The stack names {url.shorten(one)}, wanted a direction and its strength, such as law:0.5."
            ) from error
        if not abs(strength) <= STRONGEST or switch not in ("", "off"):
            raise GlpError(f"The stack names {url.shorten(one)}, wanted a strength from -3 to 3, and nothing or off behind it.")
        parts.append(Part(name, strength, switch != "off"))
    if len(parts) > MOST or len({part.name for part in parts}) < len(parts):
        raise GlpError(f"The stack names {len(parts)} directions, wanted at most {MOST}, each once.")
    return tuple(parts)


def write(parts: Sequence[Part]) -> str:
    """Return a stack as text that `read` takes."""
    return ",".join(f"{part.name}:{part.strength:g}{'' if part.on else ':off'}" for part in parts)


def params(titles: Sequence[str], names: Sequence[str]) -> dict[str, url.Param]:
    """Return the parameters of stack and place, by short name.

    Args:
        titles: of the directions whose probes can be asked.
        names: of the directions that can be stacked.
    """

    def check(words: str) -> str:
        parts = read(words)
        gone = [part.name for part in parts if part.name not in names]
        if gone:
            raise GlpError(f"The stack names {url.shorten(gone[0])}, which is no direction of this workspace.")
        return write(parts)

    return {
        "stack": url.parsed("steering_stack", "Stack", check),
        "where": url.choice("steering_where", "Push acts on", GENERATED, WHERE),
        "span": url.text("steering_span", "Words of the prompt", "", 400, empty=True),
        "neuron": url.text("steering_neuron", "Meta-neuron", "0/0", 20),
        "beyond": url.number("steering_beyond", "Beyond", 0.5, -3.0, 3.0),
        "probe": url.choice("steering_probe", "Probe", titles[0], titles),
        "probability": url.number("steering_probability", "Probability above", 0.5, 0.0, 1.0),
    }


def draw(param: url.Param, directions: Sequence[DirectionFacts], first: str) -> None:
    """Draw the directions beside the first: which, a switch and a slider each.

    Args:
        first: title of the first direction.
    """
    titles = {one.name: one.title for one in directions if one.title != first}
    parts = [part for part in _held(param) if part.name in titles]
    _put(param, parts)
    # at every run, since a browser that has the popover closed makes the widgets only when it is opened
    st.session_state[NAMES] = [part.name for part in parts]
    for part in parts:
        st.session_state[_slider(part.name)], st.session_state[_switch(part.name)] = part.strength, part.on
    words = "Their pushes are added up to one, which is then projected. Concept is still read for the first direction."
    st.multiselect(
        "Also push along", list(titles), format_func=titles.__getitem__, max_selections=MOST, key=NAMES, help=words,
        on_change=_changed, args=(param,), placeholder="Add a direction",
    )  # fmt: skip
    for name in (part.name for part in parts):
        with st.container(horizontal=True, vertical_alignment="center"):
            st.toggle("On", key=_switch(name), label_visibility="collapsed", on_change=_changed, args=(param,))
            st.slider(
                titles[name],
                -STRONGEST,
                STRONGEST,
                step=0.1,
                format="%+.1f",
                key=_slider(name),
                on_change=_changed,
                args=(param,),
            )


def _slider(name: str) -> str:
    return f"steering_stack_at_{name}"


def _switch(name: str) -> str:
    return f"steering_stack_on_{name}"


def _held(param: url.Param) -> tuple[Part, ...]:
    """Return the stack of the address, or of the session where a change of page has emptied the address."""
    text = st.query_params.get(param.key, st.session_state.get(param.key, ""))
    with suppress(GlpError):
        return read(param.check(text))
    return ()


def _changed(param: url.Param) -> None:
    """Take what the widgets hold into the address (in a callback)."""
    held = st.session_state
    for name in held[NAMES]:
        held.setdefault(_slider(name), BEGINS_WITH)
        held.setdefault(_switch(name), True)
    _put(param, [Part(name, round(held[_slider(name)], 2), held[_switch(name)]) for name in held[NAMES]])


def _put(param: url.Param, parts: Sequence[Part]) -> None:
    st.session_state[param.key] = write(parts)
    if st.query_params.get(param.key, "") != write(parts):
        url.put(param, write(parts))


def where_words(values: url.Values) -> str:
    """Say where the push acts, and on what exactly, by the values of the page's parameters."""
    span, neuron, probe, beyond = (values[name] for name in ("span", "neuron", "probe", "beyond"))
    place = {
        GENERATED: "on generated tokens",
        ALL: "on all tokens",
        WORDS: f"on “{span}” of the prompt" if str(span).strip() else "on words of the prompt; say which under Where",
        NEURON: f"on new tokens where neuron {neuron} is {'beyond' if beyond >= 0 else 'below'} {beyond:g} tails",
        PROBE: f"on new tokens where the probe of “{probe}” is above {values['probability']:g}",
    }
    return f"The push acts {place[values['where']]}."


def draw_where(params: Mapping[str, url.Param]) -> None:
    """Draw the choice of where the push acts, and what that needs to know."""
    where = st.radio(params["where"].label, WHERE, **params["where"].bound)
    if where == WORDS:
        words = "As they stand in the prompt. The push acts on their tokens only, on no new one."
        st.text_input(params["span"].label, "", help=words, **params["span"].bound)
    elif where == NEURON:
        words = "Layer and number, as on the Meta-neurons page, for example 1/314."
        st.text_input(params["neuron"].label, params["neuron"].default, help=words, **params["neuron"].bound)
        words = "In tails of the neuron: one token in a thousand is beyond 1. Below 0: where it is lower than that."
        st.number_input(params["beyond"].label, -3.0, 3.0, params["beyond"].default, 0.1, help=words, **params["beyond"].bound)
    elif where == PROBE:
        st.selectbox("Concept probe of", _titles(params), help="Read at every new token.", **params["probe"].bound)
        number = params["probability"]
        st.number_input(number.label, 0.0, 1.0, number.default, 0.05, **number.bound)
    if where in (NEURON, PROBE):
        st.caption("New tokens only: those that the push acted on are outlined.")


def _titles(params: Mapping[str, url.Param]) -> list[str]:
    listed = [one.title for one in workspace_facts.directions()]
    return listed or [params["probe"].default]
