"""Entry of the dashboard: page frame, navigation, and the workspace's facts in the sidebar. `make dashboard` starts it."""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
if str(ROOT) not in sys.path:  # Streamlit puts this file's folder on the path, not the repository
    sys.path.insert(0, str(ROOT))

import streamlit as st  # noqa: E402

from dashboard import sidebar  # noqa: E402
from dashboard.service import follow, resources, workspace_facts, workspaces  # noqa: E402
from dashboard.steering import board  # noqa: E402
from dashboard.widgets import frame  # noqa: E402

# Page file, title, icon, help; the first one is the start page.
PAGES = (
    ("overview", "Overview", ":material/home:", "What this is, the workspace's facts, and where to begin."),
    (
        "steering",
        "Steering",
        ":material/tune:",
        "Push the model towards a concept; compare unsteered, raw and projected text.",
    ),
    (
        "neurons",
        "Meta-neurons",
        ":material/hub:",
        "The GLP's hidden neurons: which fire on a text, and on what else each one fires.",
    ),
    (
        "concepts",
        "Concepts",
        ":material/category:",
        "The neuron that detects each of 113 concepts best, and the one for your own.",
    ),
    (
        "scaling",
        "Scaling",
        ":material/show_chart:",
        "Loss and downstream scores against training compute, with the fitted law.",
    ),
    ("manifold", "Manifold", ":material/scatter_plot:", "How far activations are from what the model really produces."),
    ("lab", "Lab", ":material/science:", "Make a direction of your own, and find the setting to steer with."),
)

# an SVG of our own: Streamlit fetches Material icons for the browser's tab from the internet
ICON = (
    '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 32 32"><path d="M3 24C9 24 9 8 16 8s7 16 13 16" fill="none" '
    'stroke="#2F7FD1" stroke-width="4" stroke-linecap="round"/><circle cx="16" cy="8" r="4" fill="#DD6B10"/></svg>'
)

st.set_page_config(page_title="GLP Explorer", page_icon=ICON, layout="wide", initial_sidebar_state=235)
page = st.navigation(
    [
        st.Page(ROOT / "pages" / f"{name}.py", title=title, icon=icon, help=words, url_path=name, default=i == 0)
        for i, (name, title, icon, words) in enumerate(PAGES)
        if (ROOT / "pages" / f"{name}.py").is_file()
    ],
    position="top",
)
workspaces.choose(page.url_path)
resources.on_page(page.url_path)
resources.warm_up()
frame.let_boxes_say(workspace_facts.told)
frame.style(board.BOARD_STYLE, sidebar.STYLE)
sidebar.draw(page.url_path)
if problem := workspaces.problem(page.url_path):
    frame.notice_box(problem)
left_out = st.container()
try:
    with frame.boxed_errors():
        page.run()
finally:
    if words := workspace_facts.damage():
        with left_out:
            frame.notice_box("\n".join(words))
    follow.show_queue()  # a job may have ended since the sidebar was drawn
