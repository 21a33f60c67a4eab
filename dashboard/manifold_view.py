"""The Manifold page's views: a text measured token by token, distance by strength, the map. Draws; computes nothing."""

import contextlib
from typing import Any

import pandas as pd
import streamlit as st

from dashboard import about, components, kept, lists, manifold, manifold_figures, manifold_plane, resources, state, waiting
from dashboard.components import File
from dashboard.manifold import MEASURES, PARAMS, UNITS, VIEWS, Spread, Sweep
from glp_core.errors import GlpError

BANK = "python -m glp_core bank"
UPDATE = 0.15
"""Seconds between two looks at a sweep that streams."""
OWN_PROMPTS = 6000
"""Characters of one's own prompts."""


def bound(name: str) -> dict[str, str]:
    """Return what ties a widget to its parameter."""
    return {"key": PARAMS[name].key, "bind": "query-params"}


def values() -> dict[str, Any]:
    """Return the checked values of all parameters, by short name."""
    checked = state.checked(list(PARAMS.values()), state.current(list(PARAMS.values())))
    return {name: checked[param.key] for name, param in PARAMS.items()}


def view_choice() -> str:
    """Draw the choice of a view; return it."""
    param = PARAMS["view"]
    return st.segmented_control(
        param.label, VIEWS, default=param.default, required=True, label_visibility="collapsed", **bound("view")
    )


def draw(view: str) -> list[File]:
    """Draw a view, or what keeps it from being drawn; return its files to download."""
    if not manifold.reference():
        components.empty_report("A bank of real activations to compare with", BANK, "some minutes")
        return []
    if manifold.stale():
        components.notice_box(f"The reference was measured with another GLP. Measure it again with `{BANK} --keep`.")
    try:
        return {"Text": text_view, "Strength": strength_view, "Map": map_view}[view]()
    except GlpError as error:
        components.error_box(error)
        return []


def link() -> dict[str, Any]:
    """Return what the page's address holds."""
    chosen = st.session_state.get("manifold_direction")
    return state.current(list(PARAMS.values())) | ({"manifold_direction": chosen} if chosen else {})


def text_view() -> list[File]:
    """Draw a text's tokens coloured by where they lie among real activations."""
    st.text_area("Text", PARAMS["text"].default, height=100, **bound("text"))
    with st.container(horizontal=True, vertical_alignment="bottom"):
        names = list(MEASURES)
        st.selectbox("Measure", names, names.index(PARAMS["measure"].default), width=220, **bound("measure"))
        _example_texts()
    wanted = values()
    measure = MEASURES[wanted["measure"]]
    made_from = ("manifold", str(about.folder()), _glp_stamp(), wanted["text"], measure)
    reading = kept.results().get(*made_from)
    if reading is None:
        reading = waiting.compute(
            "measuring the text",
            lambda cancelled, report: manifold.read_text(wanted["text"], measure, cancelled, report),
            stop=True,
        )
        kept.results().put(reading, *made_from)
    titles = [_title(reading, i) for i in range(len(reading.tokens))]
    st.html(components.legend("50% or less", "100%", words="Colour: share of real activations that are less far off"))
    st.html(components.token_strip(reading.tokens, reading.shares, scale=(0.5, 1.0), titles=titles, marked=reading.massive))
    known = [share for share in reading.shares if share == share]
    if known:
        beyond = sum(share > 0.95 for share in known) / len(known)
        st.markdown(
            f"**{beyond:.0%}** of {len(known)} tokens lie beyond 95% of real ones, where 5% of a real text's do on average."
        )
    components.figure(
        manifold_figures.histogram(reading, UNITS[measure]),
        key="manifold_histogram",
        alt="The text's tokens among real activations",
    )
    table = pd.DataFrame(
        {
            "token": [components.visible(token) for token in reading.tokens],
            UNITS[measure]: reading.values,
            "percentile": [100 * share for share in reading.shares],
        }
    )
    if measure == "likelihood":
        table["standard error"] = reading.errors
    with st.expander("Every token", icon=":material/table_rows:"):
        st.dataframe(table, hide_index=True, height=320)
    return [File("CSV: every token", "tokens.csv", lists.as_csv(table), "text/csv")]


def _title(reading: manifold.TextReading, i: int) -> str:
    if i == 0:
        return "the first token is never scored"
    if i in reading.massive:
        return "a massive activation (attention sink): left alone, not scored"
    error = f" ± {reading.errors[i]:.3f}" if reading.errors[i] == reading.errors[i] else ""
    return f"{reading.values[i]:.3f}{error}, farther off than {reading.shares[i]:.0%} of real activations"


def _example_texts() -> None:
    def take() -> None:
        if st.session_state.manifold_example in manifold.TEXTS:
            st.session_state[PARAMS["text"].key] = manifold.TEXTS[st.session_state.manifold_example]

    st.selectbox(
        "Example texts",
        list(manifold.TEXTS),
        index=None,
        placeholder="Example texts",
        key="manifold_example",
        on_change=take,
        label_visibility="collapsed",
        width=220,
    )


def _direction() -> str:
    """Draw the choice of a direction; return its name, empty when the workspace has none."""
    found = about.directions()
    if not found:
        return ""
    titles = [facts.title for facts in found]
    title = st.selectbox("Direction", titles, key="manifold_direction", bind="query-params", width=260)
    return next(facts.name for facts in found if facts.title == title)


def strength_view() -> list[File]:
    """Draw distance against strength for every arm, live."""
    with st.container(horizontal=True, vertical_alignment="bottom"):
        direction = _direction()
        st.number_input("Prompts", 2, manifold.MOST_PROMPTS, PARAMS["prompts"].default, 10, width=110, **bound("prompts"))
        started = st.button("Run", type="primary", icon=":material/play_arrow:", key="manifold_run", disabled=not direction)
        st.button("Stop", icon=":material/stop:", key="manifold_stop", on_click=_stop)
    with st.expander("Own prompts, one a line", icon=":material/edit:"):
        own = st.text_area("Own prompts", max_chars=OWN_PROMPTS, key="manifold_own", label_visibility="collapsed") or ""
    if not direction:
        components.notice_box("The workspace has no direction. Make one with `python -m glp_core directions`.")
        return []
    lines = tuple(line for line in own.splitlines() if line.strip())[: manifold.MOST_PROMPTS]
    request = Sweep(direction, lines or manifold.prompts(values()["prompts"]))
    if started:
        _stop()
        job = resources.submit(lambda cancelled: manifold.sweep(request, cancelled), title="distance by strength")
        st.session_state.manifold_job = (request, job)
    held = st.session_state.get("manifold_job")
    if held is None:
        st.info("The example is filled in: press Run.", icon=":material/play_arrow:")
        return []
    return _stream(*held)


def _stop() -> None:
    if "manifold_job" in st.session_state:
        st.session_state.manifold_job[1].stop()


def _stream(request: Sweep, job: Any) -> list[File]:
    """Draw a sweep while it runs, then what it found."""
    total = len(manifold.STRENGTHS) * len(manifold.ARMS)
    bar, slot = st.empty(), st.empty()
    band = _band()
    shown = -1
    while True:
        ended = job.wait(UPDATE)
        if len(job.events) != shown or ended:
            shown = len(job.events)
            words = "waiting" if job.state == "waiting" else f"{shown} of {total} points, {len(request.prompts)} prompts each"
            bar.progress(min(1.0, shown / total), text=words)
            with slot.container():
                drawn = manifold_figures.sweep(job.events, band)
                components.figure(drawn, key=f"manifold_sweep_{shown}_{ended}", alt="Manifold distance against strength")
        if ended:
            break
    bar.empty()
    spreads: list[Spread] = job.result()
    if job.state == "stopped":
        components.notice_box(f"Stopped after {len(spreads)} of {total} points.")
    _sweep_words(spreads, len(request.prompts))
    table = pd.DataFrame(
        [[s.arm, s.strength, *s.quantiles, s.lower] for s in spreads],
        columns=["arm", "strength", "5%", "25%", "median", "75%", "95%", "share nearer than raw"],
    )
    return [File("CSV: distances", "distance_by_strength.csv", lists.as_csv(table), "text/csv")]


def _sweep_words(spreads: list[Spread], n: int) -> None:
    strong = [s for s in spreads if s.arm == "glp" and s.strength >= 1]
    if strong:
        worst = min(strong, key=lambda s: s.lower)
        st.markdown(
            f"At strengths of 1 and more, projection with the GLP brings the activation nearer on **at least {worst.lower:.0%}** of {n} "
            f"prompts (lowest at strength {worst.strength:g})."
        )
    st.caption(
        "Bands hold the middle half of the prompts. No zones (on the manifold, drifting, broken) are drawn: they need a report that ties "
        "these distances to measured fluency, and this workspace has none. The shaded range is where 90% of real held-out tokens lie."
    )


def _band() -> tuple[float, float] | None:
    quantiles = manifold.reference().get("error", {}).get("quantiles", [])
    return (quantiles[10], quantiles[190]) if len(quantiles) == 201 else None


def map_view() -> list[File]:
    """Draw real and other activations on one plane."""
    with st.container(horizontal=True, vertical_alignment="bottom"):
        method = st.segmented_control(
            "Plane", ("PCA", "UMAP"), default="PCA", required=True, key="manifold_plane", bind="query-params"
        )
        st.select_slider(
            "Steps of the generated ones", (1, 2, 4, 10, 20, 50), PARAMS["steps"].default, width=260, **bound("steps")
        )
        direction = _direction()
        st.slider("Strength", -3.0, 3.0, PARAMS["strength"].default, 0.25, width=200, **bound("strength"))
        with_text = st.toggle("Own text", key="manifold_map_text", help="Adds the tokens of the text of the Text view.")
    wanted = values()
    text = wanted["text"] if with_text else ""
    request = manifold_plane.MapRequest(method, wanted["steps"], direction, wanted["strength"], text)
    made_from = ("manifold map", str(about.folder()), _glp_stamp(), request)
    found = kept.results().get(*made_from)
    if found is None:
        found = waiting.compute(
            "laying out activations", lambda cancelled, report: manifold_plane.plane(request, cancelled, report), stop=True
        )
        kept.results().put(found, *made_from)
    components.figure(manifold_figures.plane(found), key="manifold_map", alt="Real and other activations on a plane")
    rows = [f"- {components.plain_markdown(name)}: {words}" for name, words in found.tests.items()]
    st.markdown("How well a classifier tells them from real ones (0.5: not at all; 95% intervals):\n" + "\n".join(rows))
    frames = [pd.DataFrame(found.real, columns=["x", "y"]).assign(kind="real", text=found.contexts)]
    frames += [pd.DataFrame(points, columns=["x", "y"]).assign(kind=kind, text="") for kind, points in found.others.items()]
    return [File("CSV: all points", "map.csv", lists.as_csv(pd.concat(frames)), "text/csv")]


def _glp_stamp() -> float:
    """Return when the GLP's weights were written, so that results of an older one are not shown."""
    with contextlib.suppress(OSError):
        return (about.folder() / "glp" / "final.safetensors").stat().st_mtime
    return 0.0
