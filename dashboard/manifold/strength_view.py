"""The Manifold page's Strength view: distance against strength for every arm, live; what is measured once is not measured again."""

from typing import Any

import pandas as pd
import streamlit as st

from dashboard.manifold import controls, evidence, figures, measure
from dashboard.manifold.measure import PARAMS, Sweep
from dashboard.service import resources, workspace_facts
from dashboard.service.follow import follow, waiting_words
from dashboard.widgets import frame, starred
from dashboard.widgets.frame import File
from glp_core.errors import GlpError
from glp_core.steering.strength_grid import ARMS, STRENGTHS, Spread

ZONES = "python -m glp_core zones"
OWN_PROMPTS = 6000
"""Characters of one's own prompts."""
KEPT_SWEEPS = 8
JOB, CELLS = "manifold_job", "manifold_cells"
TOTAL = len(ARMS) * len(STRENGTHS)


def draw() -> list[File]:
    """Draw the view; return its files to download."""
    with st.container(horizontal=True, vertical_alignment="bottom"):
        direction = controls.direction()
        st.number_input("Prompts", 2, measure.MOST_PROMPTS, PARAMS["prompts"].default, 10, width=110, **PARAMS["prompts"].bound)
        place = st.container(horizontal=True, width="content")
    with st.expander("Own prompts, one a line", icon=":material/edit:"):
        own = st.text_area("Own prompts", max_chars=OWN_PROMPTS, key="manifold_own", label_visibility="collapsed") or ""
    if not direction:
        frame.notice_box("The workspace has no direction. Make one with `python -m glp_core directions`.")
        return []
    lines = tuple(line for line in own.splitlines() if line.strip())[: measure.MOST_PROMPTS]
    prompts = lines or measure.prompts(controls.values()["prompts"])
    request = Sweep(str(workspace_facts.folder()), measure.glp_stamp(), direction, prompts)
    held = st.session_state.get(JOB)
    cells = _cells(request)
    if held and held[0] == request:
        cells |= {(spread.arm, spread.strength): spread for spread in held[1].events}
    files = []
    with place:
        words = "Go on" if 0 < len(cells) < TOTAL else "Run"
        started = st.button(
            words, type="primary", icon=":material/play_arrow:", key="manifold_run", disabled=len(cells) == TOTAL
        )
        st.button("Stop", icon=":material/stop:", key="manifold_stop", on_click=_stop)
    if started:
        _stop()
        done = frozenset(cells)
        job = resources.submit(lambda cancelled: measure.sweep(request, done, cancelled), title="distance by strength")
        st.session_state[JOB] = (request, job)
        held = (request, job)
    if held and held[0] == request:
        files = _follow(request, held[1], cells)
        if started:
            st.rerun()  # what the button offers has changed: nothing more, or the rest
    elif cells:
        files = _show(list(cells.values()), request)
    else:
        st.info("The example is filled in: press Run.", icon=":material/play_arrow:")
    evidence.draw()
    return files


def _cells(request: Sweep) -> dict[Any, Spread]:
    """Return the cells that this session has measured for a request; the oldest request's are forgotten."""
    kept = st.session_state.setdefault(CELLS, {})
    kept[request] = kept.pop(request, {})
    while len(kept) > KEPT_SWEEPS:
        kept.pop(next(iter(kept)))
    return kept[request]


def _stop() -> None:
    if JOB in st.session_state:
        st.session_state[JOB][1].stop()


def _follow(request: Sweep, job: Any, cells: dict[Any, Spread]) -> list[File]:
    """Draw a sweep while it runs, then what it found."""
    bar, slot = st.empty(), st.empty()

    def show() -> None:
        events = list(job.events)
        cells.update({(spread.arm, spread.strength): spread for spread in events})
        counted = f"{len(cells)} of {TOTAL} points, {len(request.prompts)} prompts each"
        bar.progress(min(1.0, len(cells) / TOTAL), text=waiting_words(job) if job.state == "waiting" else counted)
        with slot.container():
            frame.figure(_figure(cells), key=f"manifold_sweep_{len(events)}", alt="Manifold distance against strength")

    follow(job, show)
    bar.empty()
    slot.empty()
    cells |= {(spread.arm, spread.strength): spread for spread in job.events}
    if isinstance(job.error, GlpError):
        frame.error_box(job.error)
    elif job.error is not None:
        raise job.error
    elif len(cells) < TOTAL:
        frame.notice_box(f"Stopped after {len(cells)} of {TOTAL} points. Go on measures the others only.")
    return _show(list(cells.values()), request)


def _figure(cells: dict[Any, Spread]) -> Any:
    ordered = sorted(cells.values(), key=lambda spread: (ARMS.index(spread.arm), spread.strength))
    return figures.sweep(ordered, _band(), workspace_facts.report("zones"))


def _show(spreads: list[Spread], request: Sweep) -> list[File]:
    """Draw what is there, with words and a file."""
    drawn = _figure({(spread.arm, spread.strength): spread for spread in spreads})
    frame.figure(drawn, key="manifold_sweep", alt="Manifold distance against strength")
    strong = [spread for spread in spreads if spread.arm == "glp" and spread.strength >= 1]
    if strong:
        worst = min(strong, key=lambda spread: spread.lower)
        st.markdown(
            f"At strengths of 1 and more, projection with the GLP brings the activation nearer on **at least {worst.lower:.0%}** of "
            f"{len(request.prompts)} prompts (lowest at strength {worst.strength:g})."
        )
    st.caption(f"Bands hold the middle half of the prompts. {zone_words(workspace_facts.report('zones'))}")
    table = pd.DataFrame(
        [[s.arm, s.strength, *s.quantiles, s.lower] for s in spreads],
        columns=["arm", "strength", "5%", "25%", "median", "75%", "95%", "share nearer than raw"],
    )
    return [File("CSV: distances", "distance_by_strength.csv", starred.as_csv(table), "text/csv")]


def zone_words(report: dict[str, Any] | None) -> str:
    """Say what the zones mean and how they were measured, or that there are none."""
    real = "The shaded range is where 90% of real held-out tokens lie."
    if not report:
        return f"No zones (on the manifold, drifting, broken) are drawn: `{ZONES}` measures them. {real}"
    told = []
    for name in ("drifting", "broken"):
        border = report["borders"][name]
        share = report["borders"]["share_broken"][name]
        if border["value"] is None:
            told.append(f"where {share:.0%} of texts are broken lies outside the distances that were seen")
            continue
        low, high = ("no bound" if end is None else f"{end:.2f}" for end in border["ci"])
        told.append(f"{name} from {border['value']:.2f} [{low}, {high}], where {share:.0%} of texts are broken")
    area, limits = report["auroc"], report["limits"]
    words = (
        f"Zones by measured fluency: {'; '.join(told)} ({report['n_texts']:,} texts, {report['n_broken']:,} broken; a logistic fit on "
        f"a text's mean distance, 95% intervals over prefixes and directions; AUROC of distance for broken {area['value']:.2f} "
        f"[{area['ci'][0]:.2f}, {area['ci'][1]:.2f}]). Broken: mean log-probability under {limits['log_probability']:.2f}, less likely "
        f"than 95% of texts that the model draws at temperature 1, or more than {limits['repetition']:.0%} repeated bigrams, more than 95% "
        "of its greedy texts have. The curves are of last tokens, the zones of whole texts."
    )
    return words if figures.zone_edges(report) else f"{words} {real}"


def _band() -> tuple[float, float] | None:
    quantiles = measure.reference().get("error", {}).get("quantiles", [])
    return (quantiles[10], quantiles[190]) if len(quantiles) == 201 else None
