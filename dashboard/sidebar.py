"""The sidebar: which workspace this is, the way to the others, and how busy the device is."""

import html

import streamlit as st

from dashboard.service import follow, machine, missing, resources, workspace_facts, workspaces
from dashboard.widgets import frame
from glp_core.errors import GlpError

STYLE = ".glp-workspaces a{display:block;color:inherit;padding:.25rem 0;overflow-wrap:anywhere}"


def draw(page: str) -> None:
    """Draw the sidebar; while the models load it looks again every second.

    Args:
        page: the page's name in addresses, on which the other workspaces open too.
    """
    follow.keep_queue_place(None)
    with st.sidebar:
        _switch(page)
        try:
            workspace, glp = workspace_facts.read(), workspace_facts.glp()
        except GlpError as error:
            frame.error_box(error)
            return
        size = f"{glp.parameters / 1e6:.1f} M parameters" if glp.parameters else "not readable"
        pairs = [("LLM", workspace.llm.label), ("Layer", f"{workspace.layer} (block output)"), ("GLP", size), ("", glp.shape)]
        if glp.depth:
            pairs.append(("Serves", f"{len(glp.layers)} layers, {min(glp.layers)} to {max(glp.layers)}"))
        if origin := workspace.transferred_from():
            pairs.append(("Transfer", f"trained on {origin}"))
        st.html(frame.facts(pairs, title="Workspace"))
        if not glp.parameters and not (workspace_facts.folder() / "glp").is_dir():
            missing.report("The prior", workspace_facts.command("train --install"), stage="prior")
        st.fragment(_state, run_every=1.0 if resources.warm_up().live else None)()
        missing.sidebar()


def _switch(page: str) -> None:
    """Draw links to the other workspaces, where there are any; each opens the page anew, in a session of its own."""
    links = workspaces.links(page)
    if links:
        with st.popover(frame.plain_markdown(workspaces.current()), icon=":material/swap_horiz:", width="stretch"):
            ways = "".join(map(_link, links, links.values()))
            st.html(f'<nav class="glp-workspaces" aria-label="Other workspaces"><strong>Other workspaces</strong>{ways}</nav>')


def _link(name: str, address: str) -> str:
    return f'<a href="{html.escape(address, quote=True)}" target="_self">{html.escape(frame.visible(name))}</a>'


def _state() -> None:
    loading = resources.warm_up()
    if loading.live:
        words, memory = loading.events[-1] if loading.events else ("starting", "")
        words = "next in line" if loading.state == "waiting" else words
        pairs = [("Device", machine.device_title()), ("Models", f"{words} …")]
        st.html(frame.facts([*pairs, ("Memory", memory)] if memory else pairs))
        return
    if loading.state == "failed":
        st.html(frame.facts([("Device", machine.device_title()), ("Models", "not loaded")]))
        frame.error_box(str(loading.error))
        return
    pairs = [("Device", machine.device_title()), ("Type", machine.number_type())]
    if shared := machine.words():
        pairs.append(("Machine", shared))
    st.html(frame.facts(pairs))
    follow.keep_queue_place(st.empty())
    st.html('<div data-testid="models-ready"></div>')
