"""Overview: what is this, and where do I begin?"""

import streamlit as st

from dashboard.overview import facts, picture, readable, ways
from dashboard.service import first_example, machine, workspace_facts
from dashboard.widgets import frame, svg

frame.page_frame("GLP Explorer", "What is this, and where do I begin?")
st.markdown(
    "A **generative latent prior** is a diffusion model that has learned which activations a language model really produces at one of "
    "its layers. It can bring a steered activation back to what the model could have thought, measure how far any activation is from "
    "that, and its hidden neurons, the **meta-neurons**, detect concepts. Everything here runs live on the models named below, and every "
    "number was measured on them."
)
workspace = workspace_facts.read()
words = "Data flow: a text passes the first layers; the direction is pushed into the activation, the GLP denoises it; the rest writes."
st.html(svg.image(picture.picture(workspace.layer, dark=st.context.theme.type == "dark"), words))

frame.heading("One story in five clicks")
with st.container(horizontal=True):
    for number, card in enumerate(ways.story(), start=1):
        ways.draw(card, number=number)
if effect := first_example.small_effect():
    frame.notice_box(effect)

frame.heading("Or begin with an example")
with st.container(horizontal=True):
    for card in ways.CARDS:
        ways.draw(card)
readable.draw()
frame.heading("This workspace")
st.html(frame.facts(facts.facts(workspace, workspace_facts.glp(), machine.number_type())))
