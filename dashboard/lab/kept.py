"""The workspace's directions: a new one is kept under a name, one is renamed, removed with undo, taken along as a file."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd
import streamlit as st

from dashboard.service import resources, workspace_facts
from dashboard.service.directions import pushes
from dashboard.service.visitors import origin
from dashboard.widgets import frame
from dashboard.widgets.frame import File
from dashboard.widgets.neuron_links import push_link
from glp_core.errors import GlpError
from glp_core.steering.direction_facts import DirectionFacts

if TYPE_CHECKING:
    from glp_core.steering.directions import Direction
    from glp_core.steering.origins.shelf import Shelf
    from glp_core.workspace import Workspace

NEWS, PROBLEM, REMOVED = "lab_news", "lab_problem", "lab_removed"
CHOSEN, NEW_NAME = "lab_chosen", "lab_rename_"
LONGEST_TITLE = 60
OTHERS_LOOK_ON = "Directions are kept on the machine itself. Take the file, or ask whoever runs this dashboard."


def keep(direction: Direction) -> None:
    """Draw the name of a new direction and the button that keeps it."""
    here = origin.on_this_machine_only()
    with st.container(horizontal=True, vertical_alignment="bottom"):
        st.text_input("Name", key="lab_title", max_chars=LONGEST_TITLE, placeholder="Name of the direction", width=230)
        st.button(
            "Keep it", type="primary", icon=":material/save:", key="lab_keep", disabled=not here, help=None if here else OTHERS_LOOK_ON,
            on_click=_act, args=(lambda shelf: _keep(shelf, direction),),
        )  # fmt: skip
    _problem()


def _keep(shelf: Shelf, direction: Direction) -> str:
    title = st.session_state.get("lab_title", "")
    stamped = replace(direction, about={**direction.about, "made_by": resources.workspace().stamp()})
    name = shelf.add(stamped, title)
    facts = next(one for one in shelf.facts() if one.name == name)
    st.session_state[CHOSEN] = facts.title
    return f"Kept as {facts.title}. Steering offers it now."


def _act(what: Callable[[Shelf], str]) -> None:
    """Do something to the shelf, and say what came of it (in a callback)."""
    from glp_core.steering.origins.shelf import Shelf

    try:
        if origin.on_this_machine_only():
            st.session_state[NEWS] = what(Shelf(workspace_facts.folder() / "directions"))
    except GlpError as error:
        st.session_state[PROBLEM] = str(error)


def draw() -> list[File]:
    """Draw the list of directions, and what can be done to one; return it as a file."""
    frame.heading("Directions of this workspace")
    _news()
    directions = workspace_facts.directions()
    if not directions:
        st.caption("None yet.")
        return []
    table = pd.DataFrame([_row(one) for one in directions]).replace("", None).dropna(axis="columns", how="all")
    st.dataframe(
        table, hide_index=True, width="stretch", height=min(460, 37 + 35 * len(table)), column_config=COLUMNS, placeholder="–"
    )
    _one(directions)
    return []


COLUMNS = {
    "Direction": st.column_config.TextColumn(width="medium"),
    "AUROC": st.column_config.NumberColumn(
        format="%.2f", width="small", help="On texts that it was not made from; 0.5 is chance."
    ),
    "95% interval": st.column_config.TextColumn(width="small"),
    "How it was made": st.column_config.TextColumn(width="large"),
}


def _row(facts: DirectionFacts) -> dict[str, object]:
    interval = "" if facts.interval is None else f"{facts.interval[0]:.2f} to {facts.interval[1]:.2f}"
    area = None if math.isnan(facts.auroc) else facts.auroc
    return {"Direction": facts.title, "AUROC": area, "95% interval": interval, "How it was made": facts.how}


def _news() -> None:
    """Say what the last act came to; after a removal, with the way back."""
    _problem()
    removed, news = st.session_state.get(REMOVED), st.session_state.pop(NEWS, "")
    if news:
        st.caption(frame.plain_markdown(news))
    if removed is not None:
        with st.container(horizontal=True, vertical_alignment="center"):
            st.caption(frame.plain_markdown(f"{removed.title} is deleted."))
            st.button(
                "Undo", icon=":material/undo:", key="lab_undo", on_click=_act, args=(lambda shelf: _undo(shelf, removed),)
            )


def _problem() -> None:
    """Say why the last act failed, once."""
    if words := st.session_state.pop(PROBLEM, ""):
        frame.error_box(words)


def _undo(shelf: Shelf, removed: DirectionFacts) -> str:
    shelf.restore(removed.name)
    st.session_state.pop(REMOVED, None)
    return f"{removed.title} is back."


def _one(directions: list[DirectionFacts]) -> None:
    """Draw what can be done to one direction."""
    here, titles = origin.on_this_machine_only(), [one.title for one in directions]
    if st.session_state.get(CHOSEN) not in titles:
        st.session_state[CHOSEN] = titles[0]
    with st.container(horizontal=True, vertical_alignment="center"):
        title = st.selectbox("Direction", titles, key=CHOSEN, width=230, label_visibility="collapsed")
        chosen = next(one for one in directions if one.title == title)
        steer_link(chosen)
        _files(chosen)
        with st.popover("Rename", icon=":material/edit:", disabled=not here):
            st.text_input("New name", chosen.title, max_chars=LONGEST_TITLE, key=f"{NEW_NAME}{chosen.name}")
            st.button("Rename", key="lab_rename", on_click=_act, args=(_rename,))
        st.button(
            "Delete", icon=":material/delete:", key="lab_delete", disabled=not here, help=None if here else OTHERS_LOOK_ON,
            on_click=_act, args=(_remove,),
        )  # fmt: skip


def steer_link(direction: DirectionFacts) -> None:
    """Draw the way to Steering along a direction."""
    push_link(direction.title, partial(pushes.opening, direction.name), label="Steer along it")


def _chosen(shelf: Shelf) -> DirectionFacts:
    """Return the direction that is chosen now: a press may come before the page is drawn with the last choice."""
    title = st.session_state[CHOSEN]
    chosen = next((one for one in shelf.facts() if one.title == title), None)
    if chosen is None:
        raise GlpError(f"There is no direction {title!r} any more: it was deleted or has another name now.")
    return chosen


def _rename(shelf: Shelf) -> str:
    chosen = _chosen(shelf)
    title = st.session_state.get(f"{NEW_NAME}{chosen.name}", chosen.title)
    shelf.rename(chosen.name, title)
    st.session_state[CHOSEN] = " ".join(title.split())
    return f"{chosen.title} is called {' '.join(title.split())} now; links to it under its old name open another direction."


def _remove(shelf: Shelf) -> str:
    chosen = _chosen(shelf)
    shelf.remove(chosen.name)
    st.session_state[REMOVED] = chosen
    return ""


def _files(chosen: DirectionFacts) -> None:
    path = workspace_facts.folder() / "directions" / f"{chosen.name}.safetensors"
    with st.popover("Take along", icon=":material/download:"):
        st.download_button(
            "safetensors",
            path.read_bytes,
            file_name=path.name,
            mime="application/octet-stream",
            on_click="ignore",
            key="lab_safetensors",
        )
        if not resources.warm_up().live:
            workspace = resources.workspace()
            st.download_button(
                "GGUF, for llama.cpp and repeng", lambda: _gguf(workspace, chosen.name),
                file_name=f"{chosen.name}.gguf", mime="application/octet-stream", on_click="ignore", key="lab_gguf",
            )  # fmt: skip
            st.caption("In the GGUF file, scale 1 is strength 1 here. llama.cpp counts blocks from 0, as we do.")


def _gguf(workspace: Workspace, name: str) -> bytes:
    from glp_core.llm.loading import model_type
    from glp_core.steering.origins.foreign import write_control_vector

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "direction.gguf"
        write_control_vector(workspace.direction(name), path, model_type=model_type(workspace.llm))
        return path.read_bytes()
