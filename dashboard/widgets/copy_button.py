"""A button that puts a text on the clipboard and says so. Streamlit runs nothing for it, so the page stays as it is."""

import streamlit as st

_HTML = """
<button type="button"></button><span role="status"></span>
"""

_CSS = """
:host { display: block; }
button { all: unset; box-sizing: border-box; cursor: pointer; padding: .35rem .9rem; border-radius: var(--st-button-radius, 8px);
  border: 1px solid var(--st-border-color); font: .875rem/1.6 var(--st-font); color: var(--st-text-color); white-space: nowrap; }
button:hover { border-color: var(--st-primary-color); color: var(--st-primary-color); }
button:focus-visible { outline: 2px solid var(--st-primary-color); outline-offset: 2px; }
span { margin-left: .6rem; font: .88rem var(--st-font); color: var(--st-text-color); }
"""

_JS = """
export default function ({ data, parentElement }) {
  const button = parentElement.querySelector("button")
  const status = parentElement.querySelector("span")
  button.textContent = data.label
  // the clipboard of modern browsers is there on https and localhost only
  const copyByHand = () => {
    const box = document.createElement("textarea")
    box.value = data.text
    box.style.position = "fixed"
    box.style.opacity = 0
    parentElement.append(box)
    box.select()
    const copied = document.execCommand("copy")
    box.remove()
    return copied
  }
  button.onclick = async () => {
    let copied = false
    try {
      await navigator.clipboard.writeText(data.text)
      copied = true
    } catch {
      copied = copyByHand()
    }
    status.textContent = copied ? "Copied" : "The browser does not allow it: select the text and copy it."
    setTimeout(() => { status.textContent = "" }, 4000)
  }
}
"""

_button = st.components.v2.component("copy_button", html=_HTML, css=_CSS, js=_JS)


def copy_button(text: str, *, key: str, label: str = "Copy") -> None:
    """Draw the button; a click copies `text` as it is."""
    _button(key=key, data={"text": text, "label": label}, width="content")
