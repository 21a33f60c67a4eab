"""A list of neurons to choose from: one button a row with the neuron's name, a signed bar, its token and its description.

Streamlit does not sanitise components: texts get onto the page by `textContent` alone, and colours are made from numbers.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass

import streamlit as st

from dashboard.widgets import charts
from dashboard.widgets.frame import visible


@dataclass(frozen=True)
class NeuronRow:
    """One neuron of the list."""

    neuron: str
    """Its name, layer/neuron."""
    bar: float | None
    """-1 to 1: length, side and colour of the bar; None: no bar."""
    number: str
    """What the bar shows, in figures, or another number of the neuron."""
    token: str
    """The token where it is strongest, or ""."""
    words: str
    """Description and evidence."""


_HTML = """
<div class="rows" role="listbox" aria-label="Neurons"></div>
"""

_CSS = """
:host { display: block; container-type: inline-size; }
.rows { display: flex; flex-direction: column; gap: 2px; overflow-y: auto; font: .88rem/1.35 var(--st-font); }
.rows button { all: unset; box-sizing: border-box; cursor: pointer; display: flex; align-items: center; gap: 0 .7rem; min-width: 0;
  padding: .28rem .55rem; border-radius: 6px; color: var(--st-text-color); }
.rows button:hover { background: var(--st-secondary-background-color); }
.rows button[aria-selected="true"] { background: var(--st-secondary-background-color);
  box-shadow: inset 3px 0 0 var(--st-primary-color); }
.rows button:focus-visible { outline: 2px solid var(--st-primary-color); outline-offset: -2px; }
.name { flex: 0 0 3.9rem; } .bar { flex: 0 0 3.5rem; } .number { flex: 0 0 3rem; } .token { flex: 0 0 5.2rem; }
.words { flex: 1 1 0; min-width: 0; }
@container (max-width: 480px) {
  .rows button { flex-wrap: wrap; } .token { flex: 1 1 4rem; min-width: 0; } .words { flex: 1 0 100%; padding-left: .1rem; }
}
.name { font-weight: 600; font-variant-numeric: tabular-nums; }
.bar { position: relative; height: .8rem;
  background: linear-gradient(var(--st-border-color), var(--st-border-color)) center / 1px 100% no-repeat; }
.bar i { position: absolute; top: 0; bottom: 0; border-radius: 2px; }
.number { font-variant-numeric: tabular-nums; text-align: right; }
.token, .words { overflow: hidden; text-overflow: ellipsis; white-space: nowrap; }
.token { font-family: var(--st-code-font, monospace); font-size: .82rem; }
.words { opacity: .85; }
.rows.dimmed { opacity: .45; }
"""

_JS = """
export default function ({ data, parentElement, setTriggerValue }) {
  const rows = parentElement.querySelector(".rows")
  rows.setAttribute("aria-label", data.label)
  rows.classList.toggle("dimmed", data.dimmed)
  rows.style.maxHeight = data.height ? `${data.height}px` : "none"
  const part = (name, words) => {
    const span = document.createElement("span")
    span.className = name
    span.textContent = words
    return span
  }
  const bar = (value) => {
    const whole = part("bar", "")
    const fill = document.createElement("i")
    const share = Math.min(1, Math.abs(value)) * 50
    const [r, g, b] = value < 0 ? data.negative : data.positive
    fill.style.background = `rgb(${r}, ${g}, ${b})`
    fill.style.width = `${share}%`
    fill.style[value < 0 ? "right" : "left"] = "50%"
    whole.append(fill)
    return whole
  }
  const focused = parentElement.activeElement?.dataset?.neuron
  const buttons = data.rows.map((row) => {
    const button = document.createElement("button")
    button.dataset.neuron = row.neuron
    button.setAttribute("role", "option")
    button.tabIndex = row === (data.rows.find((one) => one.neuron === data.chosen) ?? data.rows[0]) ? 0 : -1
    button.setAttribute("aria-selected", row.neuron === data.chosen)
    button.title = row.words
    button.append(part("name", `L${row.neuron}`))
    if (row.bar !== null) button.append(bar(row.bar))
    button.append(part("number", row.number))
    if (row.token) button.append(part("token", row.token))
    button.append(part("words", row.words))
    button.onclick = () => setTriggerValue("chosen", row.neuron)
    return button
  })
  buttons.forEach((button, i) => {
    button.onkeydown = (event) => {
      const next = buttons[{ ArrowDown: i + 1, ArrowUp: i - 1, Home: 0, End: buttons.length - 1 }[event.key]]
      if (!next) return
      event.preventDefault()
      for (const other of buttons) other.tabIndex = other === next ? 0 : -1
      next.focus()
    }
  })
  rows.replaceChildren(...buttons)
  const place = focused && (buttons.find((button) => button.dataset.neuron === focused) ?? buttons.find((button) => !button.tabIndex))
  place?.focus({ preventScroll: true })
}
"""

_rows = st.components.v2.component("neuron_rows", html=_HTML, css=_CSS, js=_JS)


def neuron_rows(
    rows: Sequence[NeuronRow],
    *,
    label: str,
    key: str,
    on_choose: Callable[[str], None],
    chosen: str = "",
    height: int = 0,
    dimmed: bool = False,
) -> None:
    """Draw the list; a click runs `on_choose` with the neuron's name, before the page runs again.

    Args:
        chosen: name of the neuron to mark.
        height: pixels from which on the list scrolls; 0: never.
        dimmed: pale, for rows without evidence.
    """

    def clicked() -> None:
        name = st.session_state[key].chosen
        if name in names:
            on_choose(name)

    names = {row.neuron for row in rows}
    _rows(
        key=key,
        data={
            "rows": [
                asdict(row) | {"token": visible(row.token).replace("\n", "↵"), "words": visible(row.words)} for row in rows
            ],
            "chosen": chosen,
            "label": label,
            "height": height,
            "dimmed": dimmed,
            "positive": charts.POSITIVE_HUE,
            "negative": charts.NEGATIVE_HUE,
        },
        on_chosen_change=clicked,
        width="stretch",
    )
