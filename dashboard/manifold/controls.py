"""What the Manifold page's views share: the page's parameters, their checked values, and the choice of a direction."""

from collections.abc import Mapping, Sequence

import streamlit as st

from dashboard.manifold import pareto
from dashboard.manifold.measure import PARAMS
from dashboard.service import layers, workspace_facts
from dashboard.service.directions import neuron_directions
from dashboard.widgets import url
from dashboard.widgets.texts import long_text
from dashboard.widgets.url import Param
from glp_core.errors import GlpError
from glp_core.steering.direction_facts import DirectionFacts

DIRECTION = "manifold_direction"
TEXT_BOX = "manifold_text_box"
"""Widget of the text, which the address holds while it is short."""
OWN_BOX = "manifold_own_box"
"""Widget of one's own prompts."""
BOXES = {"text": TEXT_BOX, "own": OWN_BOX}


def params() -> Mapping[str, Param]:
    """Return all parameters of the page by short name; the direction's options are the workspace's."""
    found, compared = dict(PARAMS) | layers.params("manifold"), workspace_facts.report("pareto")
    if compared is not None:
        found["along"] = pareto.param(compared)
    if titles := [facts.title for facts in _directions()]:
        found["direction"] = url.choice(DIRECTION, "Direction", _first(titles), titles)
    return found


def _first(titles: Sequence[str]) -> str:
    """Return the direction to begin with: a sentiment where there is one, as on the Steering page."""
    return next((title for title in titles if "sentiment" in title.lower()), titles[0])


def values() -> url.Values:
    """Return the checked values of all parameters, by short name."""
    held = url.current(params().values()) | {
        PARAMS[name].key: long_text.text_of(PARAMS[name], key=box) for name, box in BOXES.items()
    }
    return {name: param.check(held[param.key]) for name, param in params().items()}


def link() -> url.Values:
    """Return what the page's address holds; a text that is too long for it is left out."""
    return url.current(params().values()) | {PARAMS[name].key: url.value(PARAMS[name]) for name in BOXES}


def text_box() -> None:
    """Draw the box for the text of the Text view, which the Map can show too."""
    long_text.text_area(PARAMS["text"], "Text", key=TEXT_BOX, height=100)


def direction() -> str:
    """Draw the choice of a direction, the workspace's and one's own; return its name, empty when there is none."""
    listed = _directions()
    if not listed:
        return ""
    titles = [facts.title for facts in listed]
    title = st.selectbox("Direction", titles, titles.index(_first(titles)), key=DIRECTION, bind="query-params", width=230)
    return direction_name(title)


def direction_name(title: str) -> str:
    """Return the name of the direction of that title; GlpError when there is none."""
    name = next((facts.name for facts in _directions() if facts.title == title), None)
    if name is None:
        raise GlpError(f"There is no direction {url.shorten(title)}: choose another one.")
    return name


def _directions() -> list[DirectionFacts]:
    return [*workspace_facts.directions(), *neuron_directions.asked(DIRECTION)]
