"""What the neuron pages share: the index, texts read by every unit, which unit the URL names, starred units, and the ways on.

The URL is where the view, the unit and the lists live: callbacks write it, every run reads it, so the browser's back button works.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import streamlit as st

from dashboard.service import follow, resources, results
from dashboard.widgets import frame, url
from dashboard.widgets import starred as lists
from dashboard.widgets.neuron_rows import UnitRow
from dashboard.widgets.starred import UnitId
from glp_core.errors import GlpError

if TYPE_CHECKING:
    from glp_core.neuron_index.reader import NeuronIndex
    from glp_core.neuron_index.reading import NoiseAxis
    from glp_core.neurons.over_text import Firing, TextUnits

VIEWS = {"text": "Over text", "unit": "One unit", "map": "Map", "lists": "Lists"}
LONGEST_TEXT = 2_000
"""Characters: what still fits into a URL."""
MOST_TOKENS = 400
FIRES_EVERYWHERE = 0.3
"""Units beyond a quarter of their own tail on more than this share of the corpus's tokens say little about one token."""
NOISE_TOKENS = 48
"""Tokens of a text that the noise axis is measured on: its first ones."""

TEXT = url.text(
    "neurons_text",
    "Text",
    "The pitcher threw a fastball, and the batter hit it over the left field wall. Meanwhile, the central bank raised its interest "
    "rate by half a percent, because prices in Germany and France had gone up since March 2021.",
    LONGEST_TEXT,
)
TEXT_BOX = {"param": "text", "default": TEXT.default, "fits": LONGEST_TEXT}
EXAMPLES = {
    "Sport and money": TEXT.default,
    "Film review": "A gorgeous, witty, seductive movie. The acting is superb, but the last half hour drags, and the ending is a mess.",
    "Code": "def mean(values):\n    total = 0\n    for v in values:\n        total += v\n    return total / len(values)\n",
    "Medicine": "Patients who took 20 mg of the drug daily had lower blood pressure after six weeks than those on placebo (p < 0.01).",
    "Letter": "Dear Dr Smith,\n\nThank you for your letter of 3 May. I'm sorry that we can't refund your ticket to Paris.\n\nYours, Anna",
}


@st.cache_resource(max_entries=2, show_spinner=False)
def _index(folder: str, _stamp: float) -> NeuronIndex:
    from glp_core.neuron_index.reader import NeuronIndex

    return NeuronIndex.open(Path(folder))


def index() -> NeuronIndex:
    """Return the workspace's index, opened again when its files change; raise GlpError when there is none."""
    folder = resources.workspace().neurons
    stamp = max((path.stat().st_mtime for path in folder.glob("*")), default=0.0) if folder.is_dir() else 0.0
    return _index(str(folder), stamp)


def read(text: str) -> TextUnits:
    """Return every unit on every token of a text, from the kept results or by the model."""
    text = TEXT.check(text)
    workspace, ours = resources.workspace(), index()
    made_from = ("text", str(workspace.folder), ours.facts["glp"], ours.reading, text)
    found = results.results().get(*made_from)
    if found is None:

        def work(_cancelled: object, _report: object) -> TextUnits:
            from glp_core.neurons.over_text import read_text

            options = {"tails": ours.tails(), "median_norm": workspace.median_norm, "max_tokens": MOST_TOKENS}
            return read_text(resources.llm(), resources.glp(), workspace.layer, text, ours.reading, **options)

        found = follow.compute("reading the text", work)
        results.results().put(found, *made_from)
    return found


def measure_noise(units: TextUnits, layer: int, unit: int) -> NoiseAxis:
    """Return one unit on the text's first tokens at several noise levels and seeds."""
    ids = units.ids[:NOISE_TOKENS]
    workspace = resources.workspace()
    made_from = ("noise", str(workspace.folder), index().facts["glp"], tuple(ids), layer, unit)
    found = results.results().get(*made_from)
    if found is None:

        def work(_cancelled: object, _report: object) -> NoiseAxis:
            from glp_core.neuron_index.reading import noise_axis

            llm = resources.llm()
            acts = llm.activations([[llm.first_id, *ids]], workspace.layer)[0][1:]
            return noise_axis(resources.glp(), acts, layer, unit)

        found = follow.compute("measuring the noise axis", work)
        results.results().put(found, *made_from)
    return found


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
        index().unit(*found)
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
            UnitRow(name, firing.normalised / longest, f"{firing.normalised:+.2f}", pieces[firing.token].strip(), words_of(row))
        )
    return rows


def words_of(row: pd.Series) -> str:
    """Return a unit's description with who made it, and its best task when that says something."""
    words = f"{row['description'] or 'no description'}" + (f" ({row['described_by']})" if row["described_by"] else "")
    if isinstance(row["best_task"], str) and row["best_auc"] == row["best_auc"]:
        words += f" · {task_title(row['best_task'])} AUC {row['best_auc']:.2f}"
    return words


def task_title(task: str) -> str:
    """Return a task's name without its number and with spaces."""
    return task.split("_", 1)[-1].replace("_", " ").replace("-", " ")


def steer_link(layer: int, unit: int, *, label: str = "Steer with this unit") -> None:
    """Draw the way to the Steering page with the unit's write direction."""
    query = {"steering_direction": f"unit:{lists.unit_name(layer, unit)}"}
    words = "Opens Steering with the direction that this unit writes."
    st.page_link("../pages/steering.py", label=label, icon=":material/tune:", help=words, query_params=query)


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
