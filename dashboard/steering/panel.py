"""The Steering page's parts: its controls, its run (start, stop, stream), its results. Draws with Streamlit; computes nothing."""

from collections.abc import Mapping, Sequence
from typing import Any

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from dashboard.service import priors, resources, workspace_facts
from dashboard.service.jobs import Job
from dashboard.steering import board, measured, request
from dashboard.steering.request import Request
from dashboard.widgets import frame, svg, url
from dashboard.widgets.url import Param
from glp_core.errors import GlpError

UPDATE = 0.11
"""Seconds between two updates of the board while a run streams."""
RUN, TRIED, ERROR, PROBLEMS = "steering_run", "steering_tried", "steering_error", "steering_problems"
CHART_WORDS = "Manifold distance by token, one line for each column, the range of real tokens shaded."
Params = Mapping[str, Param]


def widget_values(params: Params) -> dict[str, Any]:
    """Return what the widgets hold, by short name."""
    return {name: st.session_state.get(param.key, param.default) for name, param in params.items()}


def stop() -> None:
    """End this session's run, if it has one."""
    if RUN in st.session_state:
        st.session_state[RUN][1].stop()


def start(params: Params, directions: Sequence[workspace_facts.DirectionFacts]) -> None:
    """Check the widgets' values and queue a run in place of this session's last one; what does not fit is told, nothing is lost."""
    st.session_state.pop(ERROR, None)
    st.session_state[PROBLEMS] = []
    st.session_state[TRIED] = _decisive(params)
    try:
        wanted = request.request(widget_values(params), params, directions)
        stop()
        st.session_state[RUN] = (wanted, resources.submit(request.work(wanted), title="steering"))
    except GlpError as error:
        st.session_state[ERROR] = str(error)


def follow(params: Params, directions: Sequence[workspace_facts.DirectionFacts]) -> None:
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
        st.session_state[PROBLEMS] = url.link_problems(list(params.values()))


def controls(params: Params, directions: Sequence[workspace_facts.DirectionFacts]) -> DeltaGenerator:
    """Draw everything that a run depends on, each widget's value in the URL; return the place for the buttons."""

    def bound(name: str) -> dict[str, str]:
        return {"key": params[name].key, "bind": "query-params"}

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
        strength = st.slider(words, -3.0, 3.0, params["strength"].default, 0.1, format="%+.1f", **bound("strength"))
        chosen = next((one.name for one in directions if one.title == widget_values(params)["direction"]), "")
        if known := measured.words(chosen, strength):
            st.caption(frame.plain_markdown(known))
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


def _examples(params: Params, directions: Sequence[workspace_facts.DirectionFacts]) -> None:
    def take() -> None:
        chosen = next((e for e in request.EXAMPLES if e.title == st.session_state.steering_example), None)
        if chosen:
            values = chosen._asdict()
            known = [direction.title for direction in directions]
            for name in ("prompt", "mode", "strength", "noise_level", *(["direction"] if chosen.direction in known else [])):
                st.session_state[params[name].key] = values[name]

    titles = [example.title for example in request.EXAMPLES]
    options = {"index": None, "placeholder": "Examples", "label_visibility": "collapsed"}
    st.selectbox("Examples", titles, key="steering_example", on_change=take, **options)


def _direction(params: Params, directions: Sequence[workspace_facts.DirectionFacts]) -> None:
    titles = [direction.title for direction in directions] or [request.NO_DIRECTIONS]
    param = params["direction"]
    chosen = st.selectbox("Direction", titles, titles.index(param.default), key=param.key, bind="query-params")
    for facts in directions:
        if facts.title == chosen:
            known = facts.auroc == facts.auroc
            words = (
                f"AUROC {facts.auroc:.2f} on held-out texts"
                if known
                else "Write direction of a meta-neuron, not measured on texts"
            )
            st.caption(words, help=frame.plain_markdown(facts.how))


def buttons(params: Params, directions: Sequence[workspace_facts.DirectionFacts], *, live: bool) -> None:
    """Draw Run and Stop."""
    arguments = (params, directions)
    st.button("Run", type="primary", icon=":material/play_arrow:", on_click=start, args=arguments, key="steering_start")
    st.button("Stop", icon=":material/stop:", on_click=stop, disabled=not live, key="steering_stop")


def colours(params: Params) -> None:
    """Draw the choice of what the tokens' colour says, and its legend."""
    with st.container(horizontal=True, vertical_alignment="center"):
        param = params["colour"]
        chosen = st.segmented_control(
            "Colour tokens by",
            request.COLOURINGS,
            default=param.default,
            required=True,
            label_visibility="collapsed",
            key=param.key,
            bind="query-params",
        )
        st.html(board.legend(str(chosen)))


def messages(params: Params) -> None:
    """Show what was wrong with the link that opened the page, or with the values of the last Run."""
    if st.session_state[PROBLEMS]:
        frame.notice_box("\n".join(st.session_state[PROBLEMS]))
    if ERROR in st.session_state:
        frame.error_box(st.session_state[ERROR])


class Places:
    """Where a run is drawn: the same places while it streams and when it has ended, so that nothing jumps."""

    def __init__(self) -> None:
        self.note, self.board, self.chart = st.empty(), st.empty(), st.empty()


def stream(places: Places, wanted: Request, job: Job, colour: str) -> None:
    """Draw a live run until it has ended: an own loop, at most nine updates a second, each of one escaped HTML text."""
    drawn, loading = -1, resources.warm_up().live
    while not job.wait(UPDATE):
        events = list(job.events)
        if events:
            places.note.empty()
        else:
            places.note.info(_waiting_words(job), icon=":material/hourglass:")
        if loading and not resources.warm_up().live:
            st.rerun()  # the sidebar can say now what the models run in; the run goes on and is drawn again
        if len(events) == drawn:
            continue
        drawn = len(events)
        told = request.collect(wanted, events)
        places.board.html(board.board(told, colour, live=True))
        if told.band:
            places.chart.html(svg.image(board.picture(told), CHART_WORDS))


def _waiting_words(job: Job) -> str:
    position = resources.runner().position(job)
    if resources.warm_up().live:
        return "The models are loading; the run begins by itself …"
    if position:
        return f"Number {position} in the queue. The run begins by itself; Stop takes it out."
    return "Reading the prompt …"


def results(places: Places, wanted: Request, job: Job, colour: str) -> None:
    """Draw an ended run; raise what it raised unless that is fit to be shown."""
    told = request.collect(wanted, job.events)
    if isinstance(job.error, GlpError):
        with places.note:
            frame.error_box(job.error)
    elif job.error is not None:
        raise job.error
    elif job.state == "stopped":
        words = "Stopped. The text so far stays; log-probability and concept are read when a run has finished."
        places.note.info(words, icon=":material/stop_circle:")
    if not told.started:
        return
    places.board.html(f'<div data-run="{job.state}">{board.board(told, colour)}</div>')
    with places.chart:
        if told.band:
            frame.figure(board.chart(told), key="steering_chart", alt=CHART_WORDS)
        else:
            with st.container():
                frame.empty_report("The reference that distances are measured against", "python -m glp_core reference")


def files(run: tuple[Request, Job] | None, colour: str, link: str) -> list[frame.File]:
    """Return the downloads of an ended run; none before."""
    if run is None or run[1].live:
        return []
    told = request.collect(run[0], run[1].events)
    if not told.started:
        return []
    facts, known = workspace_facts.read(), priors.listed()
    prior = next((one for one in known if one.name == run[0].prior), known[0])
    made_with = {"workspace": facts.name, "LLM": facts.llm, "layer": facts.layer}
    made_with |= {"prior": prior.name, "GLP parameters": prior.parameters}
    made_with["number type"] = resources.number_type()
    return [
        frame.File("JSON", "steering.json", lambda: board.as_json(told, made_with), "application/json"),
        frame.File("HTML page", "steering.html", lambda: board.as_html(told, colour, made_with, link), "text/html"),
    ]
