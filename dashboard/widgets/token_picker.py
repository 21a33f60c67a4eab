"""A strip of tokens to click, coloured by one or two signed values; the arrow keys move, Enter or Space picks.

Streamlit does not sanitise components: token text gets onto the page by `textContent` alone, and colours are made from numbers.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass

import streamlit as st

from dashboard.widgets import charts
from dashboard.widgets.frame import visible


@dataclass(frozen=True)
class PickToken:
    """One token of the strip."""

    text: str
    """As the model sees it; made visible here."""
    tip: str = ""
    """Shown at once on hover and focus; lines are kept."""
    value: float = 0.0
    """-1 (blue) to 1 (orange)."""
    second: float | None = None
    """Value of a second neuron, which then has the lower half of the token."""


_HTML = """
<div class="strip" role="group"></div>
<div class="tip" role="tooltip" hidden></div>
"""

_CSS = """
.strip { position: relative; line-height: 1.85; font-size: 1rem; font-family: var(--st-font); max-height: 17rem; overflow-y: auto;
  padding: 3px; white-space: pre-wrap; overflow-wrap: anywhere; }
.strip button { all: unset; display: inline; cursor: pointer; border-radius: 3px; padding: .16em 0; margin-right: 1px;
  color: var(--st-text-color); box-decoration-break: clone; -webkit-box-decoration-break: clone; }
.strip button:hover { box-shadow: inset 0 -2px 0 var(--st-text-color); }
.strip button[aria-pressed="true"] { box-shadow: inset 0 0 0 2px var(--st-text-color); font-weight: 600; }
.strip button:focus-visible { outline: 2px solid var(--st-primary-color); outline-offset: 1px; }
.tip { position: absolute; z-index: 9; pointer-events: none; white-space: pre-line; overflow-wrap: anywhere; padding: 5px 9px;
  border-radius: 6px; font: .8rem/1.45 var(--st-font); font-variant-numeric: tabular-nums; background: var(--st-text-color);
  color: var(--st-background-color); max-width: 24rem; }
"""

_JS = """
export default function ({ data, parentElement, setTriggerValue }) {
  const strip = parentElement.querySelector(".strip")
  const tip = parentElement.querySelector(".tip")
  const chosen = new Set(data.selected)
  const paint = (value) => {
    const [r, g, b] = value < 0 ? data.negative : data.positive
    return `rgba(${r}, ${g}, ${b}, ${Math.min(1, Math.abs(value)) * data.strongest})`
  }
  const show = (button, words) => {
    tip.textContent = words
    tip.hidden = !words
    const room = Math.max(0, strip.clientWidth - tip.offsetWidth)
    tip.style.left = `${Math.min(button.offsetLeft, room)}px`
    tip.style.top = `${strip.offsetTop + button.offsetTop - strip.scrollTop + button.offsetHeight + 6}px`
  }
  const focused = parentElement.activeElement?.dataset?.position
  const buttons = data.tokens.map((token, i) => {
    const button = document.createElement("button")
    button.textContent = token.text
    button.dataset.position = i
    button.tabIndex = i === (data.selected[0] ?? 0) ? 0 : -1
    button.setAttribute("aria-pressed", chosen.has(i))
    button.setAttribute("aria-description", token.tip)
    if (token.second !== null) {
      button.style.background = `linear-gradient(${paint(token.value)} 50%, ${paint(token.second)} 50%)`
    } else if (token.value) button.style.background = paint(token.value)
    button.onmouseenter = button.onfocus = () => show(button, token.tip)
    button.onmouseleave = button.onblur = () => { tip.hidden = true }
    button.onclick = () => {
      if (!chosen.delete(i)) {
        if (!data.several) chosen.clear()
        chosen.add(i)
      }
      setTriggerValue("picked", [...chosen].sort((a, b) => a - b))
    }
    button.onkeydown = (event) => {
      const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key]
      const next = step && buttons[i + step]
      if (event.key === "Escape") tip.hidden = true
      if (!next) return
      event.preventDefault()
      button.tabIndex = -1
      next.tabIndex = 0
      next.focus()
    }
    return button
  })
  strip.setAttribute("aria-label", data.label)
  strip.replaceChildren(...buttons)
  if (focused !== undefined) buttons[focused]?.focus({ preventScroll: true })
}
"""

_picker = st.components.v2.component("token_picker", html=_HTML, css=_CSS, js=_JS)


def token_picker(
    tokens: Sequence[PickToken],
    selected: Sequence[int],
    *,
    label: str,
    key: str,
    on_change: Callable[[], None],
    several: bool = True,
) -> None:
    """Draw the strip; `on_change` runs on a click, with the picked positions in `picked(key)`."""
    rows = [asdict(token) | {"text": _shown(token.text), "tip": visible(token.tip)} for token in tokens]
    _picker(
        key=key,
        data={
            "tokens": rows,
            "selected": list(selected),
            "label": label,
            "several": several,
            "positive": charts.POSITIVE_HUE,
            "negative": charts.NEGATIVE_HUE,
            "strongest": charts.STRONGEST,
        },
        on_picked_change=on_change,
        width="stretch",
    )


def picked(key: str) -> list[int]:
    """Return the positions that a strip's last click left chosen; for use in its `on_change`."""
    positions = st.session_state[key].picked
    return [position for position in positions or [] if isinstance(position, int)]


def _shown(token: str) -> str:
    """Return a token with a sign for what cannot be seen: newlines, a lone space, a part of a character, control characters."""
    if not token:
        return "·"
    if not token.strip(" "):
        return token[:-1] + "␣"
    return visible(token.replace("\r\n", "\n")).replace("\n", "↵\n")
