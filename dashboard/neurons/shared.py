"""What the neuron page's views share: which unit the URL names, starred units, list rows, and the ways on.

The URL is where the view, the unit and the lists live: callbacks write it, every run reads it, so the browser's back button works.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import streamlit as st

from dashboard.service import neurons
from dashboard.widgets import frame
from dashboard.widgets import starred as lists
from dashboard.widgets.neuron_rows import UnitRow
from dashboard.widgets.starred import UnitId
from glp_core.errors import GlpError

if TYPE_CHECKING:
    from glp_core.neuron_index.reader import NeuronIndex
    from glp_core.neurons.over_text import Firing

VIEWS = {"text": "Over text", "unit": "One unit", "map": "Map", "lists": "Lists"}
FIRES_EVERYWHERE = 0.3
"""Units beyond a quarter of their own tail on more than this share of the corpus's tokens say little about one token."""
TEXT_BOX = {"param": "text", "default": neurons.TEXT.default, "fits": neurons.LONGEST_TEXT}
EXAMPLES = {
    "Sport and money": neurons.TEXT.default,
    "Film review": "A gorgeous, witty, seductive movie. The acting is superb, but the last half hour drags, and the ending is a mess.",
    "Code": "def mean(values):\n    total = 0\n    for v in values:\n        total += v\n    return total / len(values)\n",
    "Medicine": "Patients who took 20 mg of the drug daily had lower blood pressure after six weeks than those on placebo (p < 0.01).",
    "Letter": "Dear Dr Smith,\n\nThank you for your letter of 3 May. I'm sorry that we can't refund your ticket to Paris.\n\nYours, Anna",
}


def flat(index: NeuronIndex, unit: UnitId) -> int:
    """Return a unit's number among all units."""
    return unit[0] * index.d_mlp + unit[1]


def unit_in_url() -> UnitId | None:
    """Return the unit that the URL names, or None; what is no unit of this GLP is said, and ignored."""
    layer, unit = st.query_params.get("layer"), st.query_params.get("unit")
    if layer is None and unit is None:
        return None
    try:
        found = lists.parse_unit(f"{layer or 0}/{unit or 0}")
        neurons.index().unit(*found)
    except GlpError as error:
        frame.notice_box(f"The link's {error}")
        return None
    return found


def open_unit(layer: int, unit: int) -> None:
    """Go to a unit's page (in a callback)."""
    st.query_params.update({"view": "unit", "layer": str(layer), "unit": str(unit)})


def choose_unit(name: str) -> None:
    """Make a unit the chosen one, on the same view (in a callback)."""
    layer, unit = lists.parse_unit(name)
    st.query_params.update({"view": view_in_url(), "layer": str(layer), "unit": str(unit)})


def open_named(name: str) -> None:
    """Go to the page of the unit of that name (in a callback)."""
    open_unit(*lists.parse_unit(name))


def starred() -> list[UnitId]:
    """Return the starred units: the URL's, else what this session starred."""
    with suppress(GlpError):
        return lists.parse_units(st.query_params.get("stars", st.session_state.get("neurons_stars", "")))
    return []


def star(layer: int, unit: int) -> None:
    """Star a unit, or take its star away (in a callback)."""
    keep_stars(lists.toggled(lists.format_units(starred()), (layer, unit)))


def keep_stars(names: str) -> None:
    """Make these the starred units, in the session and the URL."""
    st.session_state["neurons_stars"] = names
    if names:
        st.query_params["stars"] = names
    else:
        st.query_params.pop("stars", None)


def hidden_units(table: pd.DataFrame, hide: bool) -> np.ndarray | None:
    """Return which units fire everywhere, or None when all are wanted."""
    return (table["active_share"] > FIRES_EVERYWHERE).to_numpy() if hide else None


def firing_rows(firings: Sequence[Firing], table: pd.DataFrame, pieces: Sequence[str]) -> list[UnitRow]:
    """Return the list rows of ranked units."""
    width = int(table["unit"].max()) + 1
    longest = max((abs(firing.normalised) for firing in firings), default=0.0) or 1.0
    rows = []
    for firing in firings:
        row = table.iloc[firing.layer * width + firing.unit]
        name = lists.unit_name(firing.layer, firing.unit)
        rows.append(
            UnitRow(
                name,
                firing.normalised / longest,
                f"{firing.normalised:+.2f}",
                pieces[firing.token].strip(),
                neurons.words_of(row),
            )
        )
    return rows


def star_button(layer: int, unit: int, *, key: str) -> None:
    """Draw the button that stars the unit or takes its star away."""
    has = (layer, unit) in starred()
    icon = ":material/star:" if has else ":material/star_border:"
    st.button("Unstar" if has else "Star", icon=icon, key=key, on_click=star, args=(layer, unit))


def view_in_url() -> str:
    """Return the view that the URL asks for: one unit when it names one, else over text."""
    view = st.query_params.get("view", "unit" if "unit" in st.query_params else "text")
    return view if view in VIEWS else "text"


def change_view() -> None:
    """Put the view that was chosen into the URL (in a callback)."""
    st.query_params["view"] = st.session_state["neurons_view"]


def remember_stars() -> None:
    """Keep the URL and the session's starred units the same; the URL wins."""
    if "stars" in st.query_params:
        st.session_state["neurons_stars"] = lists.format_units(starred())
    elif st.session_state.get("neurons_stars"):
        st.query_params["stars"] = st.session_state["neurons_stars"]


def link_values() -> dict[str, str]:
    """Return what the page's link holds."""
    return dict(st.query_params)
