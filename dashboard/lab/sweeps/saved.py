"""The Lab's view of saved runs: every sweep of the workspace, one opened or two compared; permalinks name them."""

from __future__ import annotations

import pandas as pd
import streamlit as st

from dashboard.lab.sweeps import export, figures, results, running
from dashboard.lab.sweeps.results import Shown
from dashboard.lab.sweeps.view import RUN, run_name, saved
from dashboard.service import workspace_facts
from dashboard.service.visitors import origin
from dashboard.widgets import charts, frame, url
from dashboard.widgets.frame import File
from glp_core.files import Json
from glp_core.steering.sweeps.checks import short
from glp_core.steering.sweeps.config import SweepConfig, settings_apart
from glp_core.steering.sweeps.runs import RunFacts, Runs

OTHER = url.parsed("lab_other", "Compare with", run_name)
LONGEST_LIST = 80
"""Characters of a list that is shown whole."""
PROBLEM = "lab_saved_problem"
PICKED, WITH = "lab_saved_run", "lab_saved_other"


def params() -> list[url.Param]:
    """Return what the page's address may hold for this view, beside the run."""
    return [OTHER]


def draw() -> list[File]:
    """Draw the saved runs, and the one or two that are chosen; return the files of the first."""
    runs = Runs(workspace_facts.folder() / "sweeps")
    listed = runs.listed()
    if not listed:
        st.info("There is no saved run yet. Every sweep is saved: begin one in the Sweep view.", icon=":material/science:")
        return []
    first, second = _choose(listed)
    if problem := st.session_state.pop(PROBLEM, ""):
        frame.error_box(problem)
    by_name = {one.id: one for one in listed}
    if second is not None:
        _compare(by_name[first], by_name[second])
        return []
    return _one(by_name[first])


def _choose(listed: list[RunFacts]) -> tuple[str, str | None]:
    """Draw the choice of one run, and of another to compare it with; the address holds both."""
    names = [one.id for one in listed]
    titles = {one.id: f"{one.title or one.id} · {one.begun} · {one.done:,} texts" for one in listed}
    with st.container(horizontal=True, vertical_alignment="bottom"):
        there = url.value(RUN)
        first = _pick("Run", names, titles, there if there in names else names[0], PICKED, RUN)
        others = ["", *(name for name in names if name != first)]
        there = url.value(OTHER)
        second = _pick("Compare with", others, titles, there if there in others else "", WITH, OTHER)
        if origin.on_this_machine_only():
            with st.popover("Delete", icon=":material/delete:"):
                st.caption("Settings, texts and scores of this run go. Texts that other sweeps share stay.")
                st.button("Delete this run", key="lab_saved_delete", type="primary", on_click=_delete, args=(first,))
    return first, second or None


def _pick(label: str, names: list[str], titles: dict[str, str], there: str, key: str, param: url.Param) -> str:
    return str(
        st.selectbox(
            label, names, names.index(there), format_func=lambda name: titles.get(name, "nothing"), width=400,
            key=f"{key}_{there}", on_change=lambda: url.put(param, st.session_state[f"{key}_{there}"]),
        )
    )  # fmt: skip


def _delete(run: str) -> None:
    """Delete a run that is not being written (in a callback)."""
    if not origin.on_this_machine_only():
        return
    folder = workspace_facts.folder()
    at_work = running.sweepings().of(folder, run)
    if at_work is not None and at_work.live:
        st.session_state[PROBLEM] = (
            "This sweep is being written. Press Stop in the Sweep view, and delete it when it has ended."
        )
        return
    Runs(folder / "sweeps").delete(run)
    url.put(RUN, "")


def _one(facts: RunFacts) -> list[File]:
    shown = saved(facts.id)
    config = shown.config
    left, right = st.columns([3, 1], vertical_alignment="bottom")
    left.html(frame.facts([*_settings(config).items(), ("State", f"{facts.state}, {facts.done:,} of {facts.total:,} texts")]))
    link = url.page_link("lab", {"lab_view": "Sweep", "lab_run": facts.id})
    right.link_button("Open in the Sweep view", link, icon=":material/tune:")
    results.draw(shown, key="lab_saved")
    return export.files(facts, shown)


def _settings(config: SweepConfig) -> dict[str, str]:
    """Return a sweep's settings in words."""
    made = config.made_with
    return {
        "Directions": ", ".join(f"{one.title} ({', '.join(f'{s:g}' for s in one.strengths)})" for one in config.directions),
        "Arms": ", ".join(charts.ARM_TITLES[arm] for arm in config.arms),
        "Noise levels": ", ".join(f"{level:g}" for level in config.noise_levels) or "none",
        "Walk": ", ".join(f"{level:g}" for level in config.walk_levels) or "as tuned",
        "Prompts": f"{len(config.prompts)}, beginning with {config.prompts[0][:60]!r}",
        "Tokens, seeds, temperature": f"{config.tokens}, {len(config.seeds)}, {config.temperature:g}",
        "Scorer": config.scorer.kind,
        "Prior, number type": f"{made.get('glp')}, {made.get('dtype')}",
    }


def _compare(first: RunFacts, second: RunFacts) -> None:
    """Draw two runs side by side: what differs in their settings, their curves, and each arm's numbers."""
    shown = [saved(one.id) for one in (first, second)]
    differing = settings_apart(shown[0].config, shown[1].config)
    if differing:
        rows = [
            {"setting": frame.visible(name)} | dict(zip(("this", "other"), _both(*two), strict=True))
            for name, *two in differing
        ]
        st.dataframe(pd.DataFrame(rows), hide_index=True, alt="Settings that differ between the two runs")
    else:
        st.caption("Their settings are the same.")
    for facts, one, place in zip((first, second), shown, st.columns(2, gap="medium"), strict=True):
        with place:
            frame.heading(frame.plain_markdown(facts.title or facts.id))
            for name, entry in one.report.items():
                key = f"lab_compare_{facts.id}_{name}"
                frame.figure(figures.frontiers(entry), key=key, alt=f"Fluency against concept gained, {entry['title']}")
    curves = compared(*shown)
    if curves:
        st.dataframe(
            pd.DataFrame(curves), hide_index=True, alt="Hypervolume and gain at equal fluency of every arm in both runs"
        )


def _both(ours: object, theirs: object) -> list[str]:
    """Return two values in words; of lists as long as prompts, how many things each has and the first that the other lacks."""
    return [_in_words(one, other) for one, other in ((ours, theirs), (theirs, ours))]


def _in_words(value: object, other: object) -> str:
    if value is None or value == "":
        return "nothing"
    if not isinstance(value, list | tuple):
        return frame.visible(short(value))
    listed = ", ".join(f"{one:g}" if isinstance(one, float) else str(one) for one in value) or "none"
    if len(listed) <= LONGEST_LIST:
        return frame.visible(listed)
    lacking = [one for one in value if not isinstance(other, list | tuple) or one not in other]
    return frame.visible(
        f"{len(value)}"
        + (f", of them only here {len(lacking)}: {short(repr(lacking[0]))}" if lacking else ", in another order")
    )


def compared(first: Shown, second: Shown) -> list[Json]:
    """Return a row for every curve that both runs have: hypervolume and gain at equal fluency, with intervals."""
    rows = []
    for name in first.report.keys() & second.report.keys():
        ours, theirs = (one.report[name]["series"] for one in (first, second))
        for series in ours:
            if series in theirs:
                row: Json = {
                    "direction": frame.visible(first.report[name]["title"]),
                    "curve": figures.title(ours[series], levels=True),
                }
                for side, one in (("this", ours[series]), ("other", theirs[series])):
                    row[f"hypervolume, {side}"] = _interval(one, "hypervolume")
                    row[f"gain at equal fluency, {side}"] = _interval(one, "gain_at_equal_fluency")
                rows.append(row)
    return rows


def _interval(one: Json, name: str) -> str:
    low, high = one[f"{name}_ci"]
    return f"{one[name]:.2f} [{low:.2f}, {high:.2f}]"
