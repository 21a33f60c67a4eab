"""Figures drawn by WebGL, which a browser may take away at any time: drawn again the first time, a table of the points from then on."""

from functools import partial

import pandas as pd
import plotly.graph_objects as go
import streamlit as st

from dashboard.widgets import frame, starred

REDRAWN = 1
"""Times that a figure is drawn again; a browser that loses it once more has no room for it."""

_JS = """
export default function ({ data, setTriggerValue }) {
  const chart = `.st-key-${data}`
  const tell = () => setTriggerValue("lost", data)
  const lost = (event) => {
    const canvas = event.target
    // a chart that is taken off the page lets go of its context too
    setTimeout(() => { if (canvas.isConnected && canvas.closest(chart)) tell() }, 200)
  }
  const lostBefore = [...document.querySelectorAll(`${chart} .js-plotly-plot`)].some((drawn) => {
    let gone = false
    drawn._fullLayout?._glcanvas?.each((layer) => { gone ||= layer.regl?._gl.isContextLost() })
    return gone
  })
  if (lostBefore) tell()
  document.addEventListener("webglcontextlost", lost, true)
  return () => document.removeEventListener("webglcontextlost", lost, true)
}
"""

_watch = st.components.v2.component("webgl_watch", html="<span></span>", js=_JS)


def key_of(key: str) -> str:
    """Return the key that the figure has now, under which the session keeps its selection."""
    return f"{key}_again" if _lost(key) else key


def webgl_figure(drawn: go.Figure, table: pd.DataFrame, *, key: str, alt: str, **options: object) -> object:
    """Draw a figure as `frame.figure` does and return its event; draw it again, later its table, where the browser loses it.

    Args:
        table: the points, for whoever cannot see the figure.
    """
    if _lost(key) > REDRAWN:
        st.info("The browser has lost this drawing twice, so here are its points as a table.", icon=":material/table:")
        st.button("Draw it again", key=f"{key}_redraw", on_click=partial(st.session_state.pop, _counter(key), None))
        st.dataframe(starred.safe_cells(table), hide_index=True, height=420, alt=alt)
        return None
    event = frame.figure(drawn, key=key_of(key), alt=alt, **options)
    _watch(key=f"{key}_watch", data=key_of(key), on_lost_change=partial(_count, key), height=1)
    return event


def _counter(key: str) -> str:
    return f"{key}_times_lost"


def _lost(key: str) -> int:
    return st.session_state.get(_counter(key), 0)


def _count(key: str) -> None:
    """Count a loss of the figure that is there now; a figure has several contexts, and each is told of as lost."""
    if st.session_state[f"{key}_watch"].lost == key_of(key):
        st.session_state[_counter(key)] = _lost(key) + 1
