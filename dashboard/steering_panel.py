"""The Steering page's parts: its controls, its run (start, stop, stream), its results. Draws with Streamlit; computes nothing."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import streamlit as st

from dashboard import about, components, resources, state, steering, steering_view, svg
from dashboard.jobs import Job
from dashboard.state import Param
from dashboard.steering import Request
from glp_core.errors import GlpError

UPDATE = 0.11
"""Seconds between two updates of the board while a run streams."""
RUN, TRIED, ERROR, PROBLEMS = "steering_run", "steering_tried", "steering_error", "steering_problems"
Params = Mapping[str, Param]


def widget_values(params: Params) -> dict[str, Any]:
    """Return what the widgets hold, by short name."""
    return {name: st.session_state.get(param.key, param.default) for name, param in params.items()}


def stop() -> None:
    """End this session's run, if it has one."""
    if RUN in st.session_state:
        st.session_state[RUN][1].stop()


def start(params: Params, directions: Sequence[about.DirectionFacts]) -> None:
    """Check the widgets' values and queue a run in place of this session's last one; what does not fit is told, nothing is lost."""
    st.session_state.pop(ERROR, None)
    st.session_state[PROBLEMS] = []
    st.session_state[TRIED] = _decisive(params)
    try:
        wanted = steering.request(widget_values(params), params, directions)
        stop()
        st.session_state[RUN] = (wanted, resources.submit(steering.work(wanted), title="steering"))
    except GlpError as error:
        st.session_state[ERROR] = str(error)


def follow(params: Params, directions: Sequence[about.DirectionFacts]) -> None:
    """With Live on, start a run whenever a control that matters has changed since the last one."""
    if widget_values(params)["live"] is True and st.session_state.get(TRIED) != _decisive(params):
        start(params, directions)


def _decisive(params: Params) -> dict[str, Any]:
    return {name: value for name, value in widget_values(params).items() if name not in ("colour", "live")}


def current() -> tuple[Request, Job] | None:
    """Return this session's last run."""
    return st.session_state.get(RUN)


def read_link(params: Params) -> None:
    """Note once a session what is wrong with the link; before the widgets put it right."""
    if PROBLEMS not in st.session_state:
        st.session_state[PROBLEMS] = state.link_problems(list(params.values()))


def controls(params: Params, directions: Sequence[about.DirectionFacts]) -> None:
    """Draw everything that a run depends on; each widget's value is in the URL."""

    def bound(name: str) -> dict[str, str]:
        return {"key": params[name].key, "bind": "query-params"}

    left, right = st.columns([5, 2], gap="medium")
    left.text_area("Prompt", params["prompt"].default, height=104, placeholder="A few words to go on from", **bound("prompt"))
    with right:
        st.segmented_control("Mode", ("continue", "chat"), default=params["mode"].default, required=True, **bound("mode"))
        _examples(params)
    left, right = st.columns([2, 5], gap="medium")
    with left:
        _direction(params, directions)
    words = "Strength, in units of the layer's median activation norm"
    right.slider(words, -3.0, 3.0, params["strength"].default, 0.1, format="%+.1f", **bound("strength"))
    with st.container(horizontal=True, vertical_alignment="bottom"):
        st.slider("Noise level", 0.0, 1.0, params["noise_level"].default, 0.05, width=190, **bound("noise_level"))
        st.selectbox("Solver", steering.SOLVERS, width=120, **bound("solver"))
        st.number_input("Steps", 1, 100, params["steps"].default, width=110, **bound("steps"))
        st.number_input("Tokens", 1, steering.MOST_TOKENS, params["max_tokens"].default, 16, width=110, **bound("max_tokens"))
        st.number_input("Temperature", 0.0, 2.0, params["temperature"].default, 0.1, width=120, **bound("temperature"))
        st.number_input("Seed", 0, 2**31 - 1, params["seed"].default, width=120, **bound("seed"))
        st.selectbox("Fourth column", steering.EXTRAS, width=150, **bound("extra"))


def _examples(params: Params) -> None:
    def take() -> None:
        chosen = next((e for e in steering.EXAMPLES if e.prompt == st.session_state.steering_example), None)
        if chosen:
            st.session_state[params["prompt"].key] = chosen.prompt
            st.session_state[params["mode"].key] = chosen.mode

    prompts = [example.prompt for example in steering.EXAMPLES]
    st.selectbox(
        "Examples",
        prompts,
        index=None,
        placeholder="Examples",
        key="steering_example",
        on_change=take,
        label_visibility="collapsed",
    )


def _direction(params: Params, directions: Sequence[about.DirectionFacts]) -> None:
    titles = [direction.title for direction in directions] or [steering.NO_DIRECTIONS]
    param = params["direction"]
    chosen = st.selectbox("Direction", titles, titles.index(param.default), key=param.key, bind="query-params")
    for facts in directions:
        if facts.title == chosen:
            st.caption(f"AUROC {facts.auroc:.2f} on held-out texts", help=components.plain_markdown(facts.how))


def buttons(params: Params, directions: Sequence[about.DirectionFacts], *, live: bool) -> None:
    """Draw Run, Stop, the live switch and the choice of colours."""
    with st.container(horizontal=True, vertical_alignment="center"):
        run: Callable[[], None] = lambda: start(params, directions)  # noqa: E731
        st.button("Run", type="primary", icon=":material/play_arrow:", on_click=run, key="steering_start")
        st.button("Stop", icon=":material/stop:", on_click=stop, disabled=not live, key="steering_stop")
        help_live = "Run again whenever a control changes."
        st.toggle("Live", help=help_live, key=params["live"].key, bind="query-params")
        st.space("stretch")
        st.segmented_control(
            "Colour by",
            steering.COLOURINGS,
            default=params["colour"].default,
            required=True,
            format_func=str,
            key=params["colour"].key,
            bind="query-params",
        )


def messages(params: Params) -> None:
    """Show what was wrong with the link that opened the page, or with the values of the last Run."""
    for problem in st.session_state[PROBLEMS]:
        components.notice_box(problem)
    if ERROR in st.session_state:
        components.error_box(st.session_state[ERROR])


def stream(wanted: Request, job: Job, colour: str) -> None:
    """Draw a live run until it has ended: an own loop, at most nine updates a second, each of one escaped HTML text."""
    note, key, place, line = st.empty(), st.empty(), st.empty(), st.empty()
    if colour != "none":
        key.html(steering_view.legend(colour, finished=False))
    drawn = -1
    while not job.wait(UPDATE):
        events = list(job.events)
        if not events:
            note.info(_waiting_words(job), icon=":material/hourglass:")
        elif drawn <= 0:
            note.empty()
        if len(events) == drawn:
            continue
        told = steering.collect(wanted, events)
        place.html(steering_view.board(told, colour, live=True))
        if told.band and len(events) > drawn:
            line.html(svg.image(steering_view.picture(told), "Manifold distance by token"))
        drawn = len(events)


def _waiting_words(job: Job) -> str:
    position = resources.runner().position(job)
    if resources.warm_up().live:
        return "The models are loading; the run begins by itself …"
    if position:
        return f"Number {position} in the queue. The run begins by itself; Stop takes it out."
    return "Reading the prompt …"


def results(wanted: Request, job: Job, colour: str) -> None:
    """Draw an ended run; raise what it raised unless that is fit to be shown."""
    told = steering.collect(wanted, job.events)
    if isinstance(job.error, GlpError):
        components.error_box(job.error)
    elif job.error is not None:
        raise job.error
    if job.state == "stopped":
        st.caption("Stopped. The text so far stays; log-probability and concept are read when a run has finished.")
    if not told.started:
        return
    if colour != "none":
        st.html(steering_view.legend(colour, finished=told.finished))
    st.html(f'<div data-run="{job.state}">{steering_view.board(told, colour)}</div>')
    if told.band:
        alt = "Line chart: manifold distance by token, one line for each column, the range of real tokens shaded."
        components.figure(steering_view.chart(told), key="steering_chart", alt=alt)
    else:
        components.empty_report("The reference that distances are measured against", "python -m glp_core reference")


def files(run: tuple[Request, Job] | None, colour: str, link: str) -> list[components.File]:
    """Return the downloads of an ended run; none before."""
    if run is None or run[1].live:
        return []
    told = steering.collect(run[0], run[1].events)
    if not told.started:
        return []
    facts = about.read()
    made_with = {"workspace": facts.name, "LLM": facts.llm, "layer": facts.layer, "GLP parameters": facts.glp_parameters}
    made_with["number type"] = resources.dtype_name()
    return [
        components.File("JSON", "steering.json", steering_view.as_json(told, made_with), "application/json"),
        components.File("HTML page", "steering.html", steering_view.as_html(told, colour, made_with, link), "text/html"),
    ]
