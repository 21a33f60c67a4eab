"""What the neuron page's views share: which neuron the URL names, starred neurons, list rows, and the ways on.

The URL is where the view, the neuron and the lists live: callbacks write it, every run reads it, so the browser's back button works.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import streamlit as st

from dashboard.neurons import map_figure
from dashboard.service import neurons
from dashboard.widgets import neuron_texts, url
from dashboard.widgets import starred as lists
from dashboard.widgets.neuron_rows import NeuronRow
from dashboard.widgets.starred import NeuronId
from glp_core.errors import GlpError

if TYPE_CHECKING:
    from glp_core.neuron_index.reader import NeuronIndex
    from glp_core.neurons.over_text import Firing

VIEWS = {"text": "Over text", "unit": "One neuron", "map": "Map", "lists": "Lists"}
CONTEXTS: dict[neuron_texts.Context, str] = {"snippet": "±16 tokens", "window": "±32 tokens", "full": "whole text"}
COLOURINGS: tuple[map_figure.Colouring, ...] = ("layer", "kurtosis", "best task")

MAP_ANEW = url.switch("map_anew", "Map laid out anew", False)


def _neuron_number(key: str, label: str) -> url.Param:
    return url.Param(key, label, None, url.whole(key, label, 0, 0, 999_999).check)


def _picked(words: str) -> str:
    if not all(part.isascii() and part.isdigit() and len(part) < 7 for part in words.split(",")):
        raise GlpError(f"{url.shorten(words)} holds more than numbers with commas between them.")
    return words


LINK = [
    neurons.TEXT,
    _neuron_number("layer", "Layer"),
    _neuron_number("unit", "Neuron"),
    url.parsed("stars", "Starred neurons", lambda words: lists.format_neurons(lists.parse_neurons(words))),
    url.parsed("compare", "Compared neuron", lambda words: lists.neuron_name(*lists.parse_neuron(words))),
    url.parsed("picked", "Picked tokens", _picked),
    url.choice("view", "View", "text", list(VIEWS)),
    url.switch("neurons_hide", "Hide", True),
    url.text("neurons_list", "Name of the list", "", 60, empty=True),
    url.choice("map_kind", "Map", map_figure.KINDS["concepts"], list(map_figure.KINDS.values())),
    url.choice("map_colour", "Colour", "layer", COLOURINGS),
    url.text("map_search", "Search", "", 100, empty=True),
    url.whole("map_neighbours", "Neighbours", 15, 2, 200),
    url.number("map_min_dist", "Minimum distance", 0.1, 0.0, 0.99),
    url.whole("map_seed", "Seed", 0, 0, 10_000),
    MAP_ANEW,
    url.switch("unit_log", "log y", True),
    url.switch("unit_breaks", "Line breaks", True),
    url.switch("unit_noise", "Noise axis", False),
    url.choice("unit_context", "Context", CONTEXTS["snippet"], list(CONTEXTS.values())),
    url.choice("unit_nearest", "Nearest", "by write direction", ("by write direction", "by activation")),
]
"""All that the page's link may hold; which neurons and tokens there are depends on index and text, and is checked where they are shown."""
FIRES_EVERYWHERE = 0.3
"""Neurons beyond a quarter of their own tail on more than this share of the corpus's tokens say little about one token."""
EXAMPLES = {
    "Sport and money": neurons.TEXT.default,
    "Film review": "A gorgeous, witty, seductive movie. The acting is superb, but the last half hour drags, and the ending is a mess.",
    "Code": "def mean(values):\n    total = 0\n    for v in values:\n        total += v\n    return total / len(values)\n",
    "Medicine": "Patients who took 20 mg of the drug daily had lower blood pressure after six weeks than those on placebo (p < 0.01).",
    "Letter": "Dear Dr Smith,\n\nThank you for your letter of 3 May. I'm sorry that we can't refund your ticket to Paris.\n\nYours, Anna",
}


def flat(index: NeuronIndex, neuron: NeuronId) -> int:
    """Return a neuron's number among all neurons."""
    return neuron[0] * index.d_mlp + neuron[1]


def neuron_in_url() -> NeuronId | None:
    """Return the neuron that the URL names, or None; what is no neuron of this GLP is said, and ignored."""
    layer, neuron = st.query_params.get("layer"), st.query_params.get("unit")
    if layer is None and neuron is None:
        return None
    try:
        named = lists.parse_neuron(f"{layer or 0}/{neuron or 0}")
        neurons.index().neuron(*named)
    except GlpError as error:
        st.query_params["view"] = view_in_url()
        url.refuse(["unit", "layer"], str(error))
        return None
    return named


def open_neuron(layer: int, neuron: int) -> None:
    """Go to a neuron's page (in a callback)."""
    st.query_params.update({"view": "unit", "layer": str(layer), "unit": str(neuron)})


def choose_neuron(name: str) -> None:
    """Make a neuron the chosen one, on the same view (in a callback)."""
    layer, neuron = lists.parse_neuron(name)
    st.query_params.update({"view": view_in_url(), "layer": str(layer), "unit": str(neuron)})


def open_named(name: str) -> None:
    """Go to the page of the neuron of that name (in a callback)."""
    open_neuron(*lists.parse_neuron(name))


def starred() -> list[NeuronId]:
    """Return the starred neurons: the URL's, else what this session starred."""
    with suppress(GlpError):
        return lists.parse_neurons(st.query_params.get("stars", st.session_state.get("neurons_stars", "")))
    return []


def star(layer: int, neuron: int) -> None:
    """Star a neuron, or take its star away (in a callback)."""
    try:
        keep_stars(lists.toggled(lists.format_neurons(starred()), (layer, neuron)))
    except GlpError as error:
        st.toast(str(error), icon=":material/star:")


def keep_stars(names: str) -> None:
    """Make these the starred neurons, in the session and the URL."""
    st.session_state["neurons_stars"] = names
    if names:
        st.query_params["stars"] = names
    else:
        st.query_params.pop("stars", None)


def hidden_neurons(table: pd.DataFrame, hide: bool) -> np.ndarray | None:
    """Return which neurons fire everywhere, or None when all are wanted."""
    return (table["active_share"] > FIRES_EVERYWHERE).to_numpy() if hide else None


def firing_rows(firings: Sequence[Firing], table: pd.DataFrame, pieces: Sequence[str]) -> list[NeuronRow]:
    """Return the list rows of ranked neurons."""
    width = int(table["unit"].max()) + 1
    longest = max((abs(firing.normalised) for firing in firings), default=0.0) or 1.0
    rows = []
    for firing in firings:
        row = table.iloc[firing.layer * width + firing.neuron]
        name = lists.neuron_name(firing.layer, firing.neuron)
        rows.append(
            NeuronRow(
                name,
                firing.normalised / longest,
                f"{firing.normalised:+.2f}".replace("-", "−"),
                pieces[firing.token].strip() or "␣",
                _side_first(neurons.words_of(row), low=firing.normalised < 0),
            )
        )
    return rows


def table_rows(table: pd.DataFrame) -> list[NeuronRow]:
    """Return the list rows of neurons of the index's table, each with how readable it is, from 0 to 1."""
    return [
        NeuronRow(lists.neuron_name(row["layer"], row["unit"]), None, f"{row['readability']:.2f}", "", neurons.words_of(row))
        for _, row in table.iterrows()
    ]


def _side_first(words: str, *, low: bool) -> str:
    """Return a neuron's description with what it says of the side that fires in front, as a list cuts long ones."""
    parts = words.split(" · ")
    return " · ".join(sorted(parts, key=lambda part: not (low and part.startswith("low: "))))


def star_button(layer: int, neuron: int, *, key: str) -> None:
    """Draw the button that stars the neuron or takes its star away."""
    has = (layer, neuron) in starred()
    icon = ":material/star:" if has else ":material/star_border:"
    st.button("Unstar" if has else "Star", icon=icon, key=key, on_click=star, args=(layer, neuron))


def view_in_url() -> str:
    """Return the view that the URL asks for: one neuron when it names one, else over text."""
    view = st.query_params.get("view", "unit" if "unit" in st.query_params else "text")
    return view if view in VIEWS else "text"


def change_view() -> None:
    """Put the view that was chosen into the URL (in a callback)."""
    st.query_params["view"] = st.session_state["neurons_view"]


def link(index_layers: int) -> list[url.Param]:
    """Return all that the page's link may hold for an index of so many layers."""
    names = [f"L{layer}" for layer in range(index_layers)]
    return [*LINK, replace(url.choice("neurons_layers", "Layers", names, names), many=True)]


def remember_stars(index: NeuronIndex) -> None:
    """Keep the URL and the session's starred neurons the same; the URL wins, but for neurons that the index lacks."""
    missing = [lists.neuron_name(*one) for one in starred() if one[0] >= index.n_layers or one[1] >= index.d_mlp]
    if missing and "stars" in st.query_params:
        there = [one for one in starred() if one[0] < index.n_layers and one[1] < index.d_mlp]
        keep_stars(lists.format_neurons(there))
        url.note("missing stars", f"There is no neuron {', '.join(missing[:5])}: it is not on the list.")
    if "stars" in st.query_params:
        st.session_state["neurons_stars"] = lists.format_neurons(starred())
    elif st.session_state.get("neurons_stars"):
        st.query_params["stars"] = st.session_state["neurons_stars"]
