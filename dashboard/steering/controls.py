"""The Steering page's controls: each widget's value is in the URL. Draws with Streamlit; computes nothing."""

from collections.abc import Sequence
from math import isnan

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from dashboard.service import priors
from dashboard.service.workspace_facts import DirectionFacts
from dashboard.steering import request, run, strength
from dashboard.steering.run import Params
from dashboard.widgets import frame, url


def controls(params: Params, directions: Sequence[DirectionFacts]) -> DeltaGenerator:
    """Draw everything that a run depends on, each widget's value in the URL; return the place for the buttons."""

    def bound(name: str) -> url.Bound:
        return params[name].bound

    left, right = st.columns([5, 2], gap="medium")
    left.text_area("Prompt", params["prompt"].default, height=100, placeholder="A few words to go on from", **bound("prompt"))
    with right:
        st.segmented_control("Mode", request.MODES, default=params["mode"].default, required=True, **bound("mode"))
        _examples(params, directions)
    left, middle, right = st.columns([4, 8, 3], gap="medium", vertical_alignment="top")
    with left:
        _direction(params, directions)
    words = "**Strength**, × the layer's median activation norm"
    with middle:
        value = st.slider(words, -3.0, 3.0, params["strength"].default, 0.1, format="%+.1f", **bound("strength"))
        title = request.widget_values(params)["direction"]
        direction = next((one.name for one in directions if one.title == title), "")
        if measured := strength.measured_words(direction, value):
            st.caption(frame.plain_markdown(measured))
    with st.container(horizontal=True, vertical_alignment="bottom", gap="small"):
        st.slider("Noise level", 0.0, 1.0, params["noise_level"].default, 0.05, width=150, **bound("noise_level"))
        st.selectbox("Solver", request.SOLVERS, width=115, **bound("solver"))
        st.number_input("Steps", 1, 100, params["steps"].default, width=95, **bound("steps"))
        st.number_input("Tokens", 1, request.MOST_TOKENS, params["max_tokens"].default, 16, width=95, **bound("max_tokens"))
        st.number_input("Temperature", 0.0, 2.0, params["temperature"].default, 0.1, width=100, **bound("temperature"))
        st.number_input("Seed", 0, 2**31 - 1, params["seed"].default, width=95, **bound("seed"))
        st.selectbox("Fourth column", request.EXTRAS, width=145, **bound("extra"))
        names = [prior.name for prior in priors.listed()]
        if len(names) > 1:
            st.selectbox(
                "Prior", names, width=130, help="The GLP that projects. Distances keep the first one's.", **bound("prior")
            )
    place = right.container(horizontal=True, gap="small")
    words = "Run again whenever a control changes."
    right.toggle("Live", params["live"].default, help=words, **bound("live"))
    return place


def _examples(params: Params, directions: Sequence[DirectionFacts]) -> None:
    def take() -> None:
        example = next((one for one in request.EXAMPLES if one.title == st.session_state.steering_example), None)
        if example is None:
            return
        names = ["prompt", "mode", "strength", "noise_level"]
        if any(direction.title == example.direction for direction in directions):
            names.append("direction")
        for name in names:
            st.session_state[params[name].key] = getattr(example, name)

    titles = [example.title for example in request.EXAMPLES]
    st.selectbox(
        "Examples", titles, None, key="steering_example", on_change=take, placeholder="Examples", label_visibility="collapsed"
    )


def _direction(params: Params, directions: Sequence[DirectionFacts]) -> None:
    titles = [direction.title for direction in directions] or [request.NO_DIRECTIONS]
    param = params["direction"]
    chosen = st.selectbox("Direction", titles, titles.index(param.default), key=param.key, bind="query-params")
    for facts in directions:
        if facts.title == chosen:
            unmeasured = "Write direction of a meta-neuron, not measured on texts"
            words = unmeasured if isnan(facts.auroc) else f"AUROC {facts.auroc:.2f} on held-out texts"
            st.caption(words, help=frame.plain_markdown(facts.how))


def buttons(params: Params, directions: Sequence[DirectionFacts], *, live: bool) -> None:
    """Draw Run and Stop."""
    arguments = (params, directions)
    st.button("Run", type="primary", icon=":material/play_arrow:", on_click=run.start, args=arguments, key="steering_start")
    st.button("Stop", icon=":material/stop:", on_click=run.stop, disabled=not live, key="steering_stop")
