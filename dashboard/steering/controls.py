"""The Steering page's controls, three lines of them; each widget's value is in the URL. Draws with Streamlit; computes nothing."""

from collections.abc import Sequence
from contextlib import suppress
from math import isnan

import streamlit as st

from dashboard.service import layers, missing, priors, resources, workspace_facts
from dashboard.service.directions import neuron_directions, pushes, zones
from dashboard.steering import examples, request, run, stack, strength, track
from dashboard.steering.run import Params
from dashboard.widgets import frame
from glp_core.errors import GlpError
from glp_core.steering.direction_facts import DirectionFacts

CHANCE = 0.5
LIVE_TOKENS = 24
"""Tokens that a live comparison writes at most unless more are asked for, so that it answers within two seconds."""


def controls(params: Params, directions: Sequence[DirectionFacts]) -> None:
    """Draw everything that a run depends on, and Run, Stop and Live."""
    left, right = st.columns(2, gap="medium", vertical_alignment="bottom")
    with left:
        st.text_area("Prompt", params["prompt"].default, height=68, placeholder="Text to continue", **params["prompt"].bound)
    with right:
        with st.container(horizontal=True, vertical_alignment="bottom"):
            _mode(params)
            _examples(params, directions)
        with st.container(horizontal=True, vertical_alignment="center", gap="small"):
            buttons = st.container(horizontal=True, width="content", gap="small")
            _live(params)
    left, right = st.columns([2, 5], gap="medium")
    with left:
        _direction(params, directions)
    with right:
        _strength(params, directions)
    with st.container(horizontal=True, vertical_alignment="bottom", gap="xsmall"):
        _projection(params)
        number, width = st.number_input, 95
        number("Tokens", 1, examples.MOST_TOKENS, params["max_tokens"].default, 16, width=width, **params["max_tokens"].bound)
        number("Temperature", 0.0, 2.0, params["temperature"].default, 0.1, width=width, **params["temperature"].bound)
        number("Seed", 0, examples.MOST_SEED, params["seed"].default, width=width, **params["seed"].bound)
        layers.choose(params.get("layer"))
        title = request.widget_values(params)["direction"]
        with st.popover("Stack", key="steering_stacked", help="Push along several directions at once."):
            stack.draw(params["stack"], [one for one in directions if not neuron_directions.is_neuron(one.name)], str(title))
        with st.popover("Where", key="steering_acts", help="Which tokens the push acts on."):
            stack.draw_where(params)
        with st.popover("More", key="steering_more"):
            _more(params)
    _unusual(params, directions)
    if (layer := _elsewhere(params)) is not None:
        home = params["layer"].default
        st.caption(
            f"Pushed and projected at layer {layer}, in its own median norms. The direction was made at layer {home}, where the concept is "
            f"still read; strengths were measured there. Distances at layer {layer} have a reference of their own."
        )
    run.keep_up(params, directions)
    run.restore(params, directions)
    with buttons:
        _buttons(params, directions)


def without_directions() -> None:
    """Say that there is no direction yet, the page's only need that a workspace can lack, and how to get twelve at once."""
    st.markdown(
        "This workspace has no direction to push along yet. **Make one here**, from texts that show your concept and texts that do not; "
        "an example is filled in. Or make twelve from the probing tasks and from personas, for this workspace's model:"
    )
    st.code(workspace_facts.command("directions"), language="bash")
    missing.button("directions")


def _unusual(params: Params, directions: Sequence[DirectionFacts]) -> None:
    """Say in a line what is set under Stack and Where."""
    values, titles = request.widget_values(params), {one.name: one.title for one in directions}
    with suppress(GlpError):
        on = [part for part in stack.read(str(values["stack"])) if part.on and part.name in titles]
        words = [f"Also {', '.join(f'{titles[part.name]} {part.strength:+.1f}' for part in on)}."] if on else []
        words += [stack.where_words(values)] if values["where"] != stack.GENERATED else []
        if words:
            st.caption(frame.plain_markdown(" ".join(words)))


def _mode(params: Params) -> None:
    def changed() -> None:
        """Put an example of the new mode in the place of one of the old: a beginning of a text is no question."""
        mode, prompt = (st.session_state[params[name].key] for name in ("mode", "prompt"))
        first, first_mode = params["prompt"].default, params["mode"].default
        others = [first] if mode != first_mode else []
        others += [example.prompt for example in examples.EXAMPLES if example.mode != mode]
        if prompt.strip() in others:
            st.session_state[params["prompt"].key] = first if mode == first_mode else examples.for_mode(mode).prompt

    st.segmented_control(
        "Mode",
        request.MODES,
        default=params["mode"].default,
        required=True,
        on_change=changed,
        label_visibility="collapsed",
        **params["mode"].bound,
    )


def _examples(params: Params, directions: Sequence[DirectionFacts]) -> None:
    def take() -> None:
        example = next((one for one in examples.EXAMPLES if one.title == st.session_state.steering_example), None)
        if example is None:
            return
        values = {"prompt": example.prompt, "mode": example.mode, "strength": examples.tested(example, directions)}
        if _name(directions, example.direction):
            values["direction"] = example.direction
        for name, value in values.items():
            st.session_state[params[name].key] = value

    titles = [example.title for example in examples.EXAMPLES]
    st.selectbox(
        "Examples", titles, None, key="steering_example", on_change=take, placeholder="Examples", label_visibility="collapsed"
    )


def _live(params: Params) -> None:
    def shorten() -> None:
        """Begin a live comparison short; whoever wants more tokens sets them again."""
        key = params["max_tokens"].key
        if st.session_state[params["live"].key]:
            st.session_state[key] = min(LIVE_TOKENS, st.session_state.get(key, params["max_tokens"].default))

    words = (
        f"Runs again whenever a control changes. Switched on it asks for {LIVE_TOKENS} tokens at most; set more if you like."
    )
    st.toggle("Live", params["live"].default, help=words, on_change=shorten, **params["live"].bound)


def _buttons(params: Params, directions: Sequence[DirectionFacts]) -> None:
    arguments = (params, directions)
    st.button("Run", type="primary", icon=":material/play_arrow:", on_click=run.start, args=arguments, key="steering_start")
    st.button("Stop", icon=":material/stop:", on_click=run.stop, disabled=not run.live(), key="steering_stop")


def _direction(params: Params, directions: Sequence[DirectionFacts]) -> None:
    titles = [direction.title for direction in directions] or [request.NO_DIRECTIONS]
    param = params["direction"]

    def changed() -> None:
        """Move to the strength that links open the new direction with, where anything was measured along it."""
        name = "" if _elsewhere(params) is not None else _name(directions, st.session_state[param.key])
        push = pushes.opening(name) if name else None
        if push is not None and push.measured:
            st.session_state[params["strength"].key] = push.strength

    title = st.selectbox("Direction", titles, titles.index(param.default), on_change=changed, **param.bound)
    facts = next((one for one in directions if one.title == title), None)
    if facts is not None:
        st.caption(_evidence(facts), help=frame.plain_markdown(facts.how))


def _evidence(facts: DirectionFacts) -> str:
    """Return in a line how well a direction tells texts apart."""
    if isnan(facts.auroc):
        neuron = neuron_directions.is_neuron(facts.name) or facts.about.get("source") == "neuron"
        return f"{'Write direction of a meta-neuron' if neuron else 'Taken from a file'}, not measured on texts"
    if facts.interval is None:
        return f"AUROC {facts.auroc:.2f} on held-out texts"
    low, high = facts.interval
    chance = " No better than chance." if low <= CHANCE <= high else ""
    return f"AUROC {facts.auroc:.2f}, 95% interval {low:.2f} to {high:.2f}.{chance}"


def _strength(params: Params, directions: Sequence[DirectionFacts]) -> None:
    param = params["strength"]
    words = "Strength, × the layer's median activation norm"
    value = st.slider(words, track.LOW, track.HIGH, param.default, pushes.STEP, format="%+.1f", **param.bound)
    direction = _name(directions, request.widget_values(params)["direction"]) if _elsewhere(params) is None else ""
    measured_zones = zones.of(direction)
    if measured_zones is not None:
        st.html(f"<style>{track.STYLE}</style>{track.track(measured_zones)}")

    def caption() -> None:
        measured = strength.measured_words(direction, value)
        sentences = [_advice(measured_zones)] if measured_zones and measured_zones.recommended else []
        sentences += [strength.meaning(direction, value)] if strength.meaning(direction, value) else []
        if sentences or measured:
            hover = frame.plain_markdown(measured) if sentences and measured else None
            st.caption(frame.plain_markdown(" ".join(sentences) or measured), help=hover)

    st.fragment(caption, run_every=1.0 if resources.warm_up().live else None)()


def _advice(measured: zones.Zones) -> str:
    where = f"gains most where walked text holds, on {measured.n} prompts"
    return f"Recommended (the line): {measured.recommended:.1f}, which {where}."


def _elsewhere(params: Params) -> int | None:
    """Return the chosen layer when it is not the workspace's own, of which strengths were measured."""
    param = params.get("layer")
    layer = None if param is None else request.widget_values(params)["layer"]
    return None if param is None or layer == param.default else layer


def _name(directions: Sequence[DirectionFacts], title: object) -> str:
    return next((one.name for one in directions if one.title == title), "")


def _projection(params: Params) -> None:
    """Draw the choice of a projection and the two numbers that make it."""
    param = params["projection"]
    projection = st.selectbox("Projection", tuple(request.PROJECTIONS), width=165, **param.bound)
    if projection == "walk":
        _walk(params)
    elif projection != "norm-restored":
        _noise_level(params)


def _walk(params: Params) -> None:
    noise, pushes, walk = params["walk_noise"], params["pushes"], params["walk"]
    if walk.default == request.TUNED:
        words = "tuned: by the length of the push, as was best on other texts; own numbers: the same for every push."
        walk_by = st.selectbox("Walk", (request.TUNED, request.OWN_NUMBERS), width=130, help=words, **walk.bound)
        if walk_by == request.TUNED:
            return
    words = "Noise added after each small push, which the GLP then removes; 0 to 1."
    st.number_input("Noise level", 0.0, 1.0, noise.default, 0.05, width=115, help=words, **noise.bound)
    words = "How many parts the push is cut into."
    st.number_input("Pushes", 1, examples.MOST_PUSHES, pushes.default, width=105, help=words, **pushes.bound)


def _noise_level(params: Params) -> None:
    param = params["noise_level"]
    words = "Noise added to the pushed activation, which the prior then removes; 0 to 1."
    st.number_input("Noise level", 0.0, 1.0, param.default, 0.05, width=115, help=words, **param.bound)


def _more(params: Params) -> None:
    """Draw what is set once in a while."""
    values = request.widget_values(params)
    extra = st.selectbox("Fourth column", request.EXTRAS, **params["extra"].bound)
    used = {values["projection"], extra}
    if extra == "walk" != values["projection"]:
        with st.container(horizontal=True):
            _walk(params)
    if "walk" in used and values["walk"] == request.OWN_NUMBERS:
        words = "Share of the push that is put back after every part: 0 leaves it to the GLP, 1 holds the push exactly."
        st.slider("Held share", 0.0, 1.0, params["hold"].default, 0.05, help=words, **params["hold"].bound)
        words = (
            "A walk with a bound takes no part that leads further than this share of real activations lies: at .95 most texts of the "
            "demo hold at every strength up to 2, along all but one of its directions. 0: it goes as far as it is pushed."
        )
        st.slider("Bound", 0.0, 1.0, params["bound"].default, 0.05, help=words, **params["bound"].bound)
    if used & {request.PAPERS, request.GAUSSIAN}:
        with st.container(horizontal=True):
            if values["projection"] in ("walk", "norm-restored"):
                _noise_level(params)
            st.selectbox("Solver", request.SOLVERS, width=115, **params["solver"].bound)
            st.number_input("Steps", 1, 100, params["steps"].default, width=95, **params["steps"].bound)
    names = [prior.name for prior in priors.listed()]
    if len(names) > 1:
        words = "The GLP that projects. Distances are always measured by the workspace's own."
        st.selectbox("Prior", names, help=words, **params["prior"].bound)
    words = (
        "Off: a run stops when you go to another page, close the tab or lose the connection. On: it goes on, without a connection for "
        f"up to {resources.away() / 60:.0f} minutes, and is there when you come back or the connection does."
    )
    st.toggle(params["stay"].label, params["stay"].default, help=words, **params["stay"].bound)
    st.segmented_control(
        "Colour tokens by", request.COLOURINGS, default=params["colour"].default, required=True, **params["colour"].bound
    )
