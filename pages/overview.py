"""Overview: what is this, and where do I begin?"""

import streamlit as st

from dashboard import overview
from dashboard.service import resources, workspace_facts
from dashboard.widgets import frame, svg

frame.page_frame("GLP Explorer", "What is this, and where do I begin?")
st.markdown(
    "A **generative latent prior** is a diffusion model that has learned which activations a language model really produces at one of "
    "its layers. It can bring a steered activation back to what the model could have thought, measure how far any activation is from "
    "that, and its hidden neurons, the **meta-neurons**, detect concepts. Everything here runs live on the models named below, and every "
    "number was measured on them."
)
known = workspace_facts.read()
words = "Data flow: a text passes the first layers; the direction is pushed into the activation, the GLP denoises it; the rest writes."
st.html(svg.image(overview.picture(known.layer, dark=st.context.theme.type == "dark"), words))

left, right = st.columns([2, 3], gap="large")
with left:
    frame.heading("This workspace")
    st.html(frame.facts(overview.facts(known, resources.number_type())))
with right:
    frame.heading("Begin with an example")
    with st.container(horizontal=True):
        for card in overview.CARDS:
            if overview.is_there(card):
                with st.container(border=True, width=238):
                    st.page_link(
                        f"../pages/{card.page}.py", label=f"**{card.title}**", icon=card.icon, query_params=card.query or None
                    )
                    st.caption(card.words)
