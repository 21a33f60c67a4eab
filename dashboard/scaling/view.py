"""The Scaling page's parts: controls, the curves and their law, what it would take, scores against the loss. Draws; computes nothing."""

import math
from typing import Any

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from dashboard.scaling import figures, law, run_files
from dashboard.scaling.law import AXES, MEASURES, PARAMS, POINTS, SCORES, TITLES
from dashboard.scaling.run_files import Own, Shown
from dashboard.service import missing, priors, workspace_facts
from dashboard.widgets import frame, url
from dashboard.widgets.frame import File
from glp_core.errors import GlpError
from glp_core.evaluation.runs import FitPoints, fit_points, points, speed
from glp_core.evaluation.scaling_law import ScalingFit

REFRESH = 10.0
"""Seconds between two looks at the logs while a run trains."""
SWEEP = "sweep"
EVALUATE = "sweep --scores frechet delta_lm probing steering"
"""Commands of glp_core."""
HOURS = "six hours on two cores; --sizes and --activations make it shorter"
FORMAT = """
A run is a folder with

- `train.csv`: a row a logging step, with at least `activations`, `flops` and `validation_loss` (empty where it was not measured);
  `learning_rate`, `train_loss`, `step` and `seconds` are used when there;
- `config.json` or `run.json`: an object with `train: {"activations": planned, "d_model": …, "d_mlp": …, "n_layers": …}`;
- `evals.csv`, optional: `activations` and any of `frechet`, `real_real`, `delta_lm`, `probing`, `steering`; `evals.json`, optional:
  for each of them an object that says how it was measured.

The commands `train` and `sweep` of `glp_core` write these.
"""


def controls() -> Own:
    """Draw the controls; return which runs of one's own are wanted."""
    with st.container(horizontal=True, vertical_alignment="bottom"):
        _select("x", AXES | MEASURES, width=150)
        _select("y", MEASURES, width=150)
        _select("fit", POINTS, width=115)
        _paper()
        with st.popover("Picture format"):
            words = "The camera at the figure saves"
            st.segmented_control(words, ("png", "svg"), default="png", required=True, key="scaling_camera")
        with st.popover("Own runs"):
            folder, most = _offered_folder(), run_files.LARGEST_UPLOAD
            files = st.file_uploader("Files of one run", ["csv", "json"], accept_multiple_files=True, max_upload_size=most)
            own = Own(folder, files)
            st.markdown(FORMAT)
    return own


def _offered_folder() -> str:
    """Draw the choice of folders that whoever runs the dashboard offers; return the one chosen, or empty."""
    folders = list(run_files.offered())
    if not folders:
        st.caption(
            f"To choose among folders on the server, start it with {run_files.RUNS_VARIABLE} set to the folder that holds them."
        )
        return ""
    return st.selectbox("Folder of runs", folders, None, key="scaling_own", placeholder="none", persist_state="session") or ""


def _paper() -> None:
    """Draw the switch for the paper's law, which has a place on one pair of axes only."""
    axes = tuple(st.session_state.get(PARAMS[name].key, PARAMS[name].default) for name in ("x", "y"))
    fits = axes == ("compute", "loss")
    why = (
        "The paper's law with its own exponent, moved to our level."
        if fits
        else "It relates loss to compute: choose these axes."
    )
    st.toggle(PARAMS["paper"].label, PARAMS["paper"].default, disabled=not fits, help=why, **PARAMS["paper"].bound)


def _select(name: str, options: dict[str, str], *, width: int) -> None:
    param = PARAMS[name]
    names = list(options)
    st.selectbox(param.label, names, names.index(param.default), key=param.key, bind="query-params", width=width)


def draw(own: Own, slot: DeltaGenerator) -> None:
    """Draw everything under the controls; while a run trains, again every few seconds."""
    try:
        url.checked(list(PARAMS.values()), url.current(list(PARAMS.values())))
        shown = run_files.shown(own)
    except GlpError as error:
        frame.error_box(error)
        return
    with slot:
        frame.share("scaling", url.chosen(PARAMS.values()), leaves_out="Your own runs are not in it." if shown.own else "")
        export = workspace_facts.bound(lambda: run_files.export(run_files.shown(own).runs))
        files = [File("CSV: every checkpoint", "scaling.csv", export, "text/csv")] if shown.runs else []
        frame.download(files, key="scaling_download")
    st.fragment(_body, run_every=REFRESH if shown.running else None)(own)


def _body(own: Own) -> None:
    values = {name: st.session_state.get(param.key, param.default) for name, param in PARAMS.items()}
    try:
        shown = run_files.shown(own)
    except GlpError as error:
        frame.error_box(error)
        return
    if shown.problem:
        frame.error_box(shown.problem)
    if not shown.runs:
        missing.report("A training run", workspace_facts.command(SWEEP), HOURS, stage="scaling")
        return
    if shown.running:
        names = ", ".join(run.name for run in shown.runs if run.running)
        st.info(f"Still training: {frame.plain_markdown(names)}. The page follows the log.", icon=":material/sync:")
    fit, why = _fitted(shown, values["fit"])
    _picture(shown, values, fit, why)
    if fit is not None:
        _what_it_takes(shown, fit)
        with st.expander("Residuals: is it a power law?", icon=":material/ssid_chart:"):
            table = fit_points(shown.runs, values["fit"])
            frame.figure(
                figures.residuals(fit, table, figures.marks(shown.shipped, shown.own)),
                key="scaling_residuals",
                alt="Measured over fitted loss",
            )
            st.caption("Points that stay on one side for a stretch show that the law is not the whole story.")
    _downstream(shown)


def _fitted(shown: Shown, which: FitPoints) -> tuple[ScalingFit | None, str]:
    try:
        return law.law(shown.runs, which), ""
    except GlpError as error:
        return None, str(error)


def _picture(shown: Shown, values: url.Values, fit: ScalingFit | None, why: str) -> None:
    chosen: str = values["x"]
    x, y = MEASURES.get(chosen, chosen), MEASURES[values["y"]]
    measured = {*AXES, *law.score_names(points(shown.runs))}
    unknown = next((name for name in (y, x) if name not in measured), None)
    if unknown:
        frame.empty_report(f"{SCORES[unknown]} of the checkpoints", workspace_facts.command(EVALUATE), "some minutes a run")
        return
    drawn = figures.curves(shown.shipped, shown.own, x=x, y=y, fit=fit, gaussian=law.gaussian_loss(), paper=values["paper"])
    event = frame.figure(
        drawn,
        key="scaling_curves",
        alt=f"{SCORES[y]} against {TITLES[x]}, one curve a run",
        on_select="rerun",
        selection_mode="points",
        config={"toImageButtonOptions": {"format": _camera(), "filename": "scaling"}},
    )
    if y == "loss" and x == "compute":
        if fit is None:
            frame.notice_box(f"No law is drawn. {why}")
        else:
            used = fit_points(shown.runs, values["fit"])["run"]
            own = any(run.name in set(used) for run in shown.own)
            st.markdown(law.law_in_words(fit, used.nunique(), values["fit"], own=own))
            if beyond := law.beyond_in_words(fit, shown.runs):
                st.markdown(frame.plain_markdown(beyond))
    where = clicked(event)
    if where:
        _checkpoint(shown, *where)
    else:
        st.caption("Click a point for that checkpoint's numbers.")


def _camera() -> str:
    """Return the picture format of the figure's camera button."""
    return st.session_state.get("scaling_camera", "png")


def clicked(event: Any) -> tuple[str, float] | None:
    """Return the run and the activations seen of the clicked checkpoint."""
    for point in event.selection.points if event else []:
        where = point.get("customdata")
        if where:
            return str(where[0]), float(where[1])
    return None


def _checkpoint(shown: Shown, name: str, activations: float) -> None:
    """Show a checkpoint's numbers and, where its weights are kept, the way to steer with it."""
    for run in shown.runs:
        rows = run.checkpoints[run.checkpoints["activations"] == activations]
        if run.name != name or rows.empty:
            continue
        values = rows.iloc[0].drop(["warming", "old_end"])
        facts = [(_title(str(key)), _number(value)) for key, value in values.items() if not math.isnan(value)]
        st.html(frame.facts([("shape", run.shape or "not said"), *facts], title=f"Checkpoint of {run.name}"))
        _way_to_steering(run in shown.shipped, name, activations)
        return


def _title(key: str) -> str:
    names = {"flops": "FLOPs", "real_real": "Frechet distance of two real samples"}
    return SCORES.get({"validation_loss": "loss"}.get(key, key), names.get(key, key.replace("_", " ")))


def _number(value: float) -> str:
    if value >= 1e12:
        return law.scientific(value)
    return f"{value:,.0f}" if value >= 1e4 or value == int(value) else f"{value:.4g}"


def _way_to_steering(shipped: bool, name: str, activations: float) -> None:
    prior = priors.of_checkpoint(name, activations) if shipped else None
    if prior is None:
        st.caption("The weights of this checkpoint are not in the workspace; only those of some runs' ends are.")
        return
    words = f"Steer with this prior: {frame.plain_markdown(f'{prior.name}, {prior.parameters / 1e6:.1f} M parameters')}"
    st.page_link("../pages/steering.py", label=words, icon=":material/tune:", query_params=url.kept({"prior": prior.name}))


def _what_it_takes(shown: Shown, fit: ScalingFit) -> None:
    frame.heading("What would it take?")
    rate = speed(shown.runs)
    last = float(fit.compute[-1])
    left, right = st.columns(2, gap="large")
    param, first = PARAMS["target"], _within(round(fit.loss_at(3 * last).value, 3), law.TARGETS)
    with left:
        target = st.number_input(param.label, *law.TARGETS, first, 0.01, format="%.3f", **param.bound)
        st.markdown(law.target_in_words(fit, target, rate))
    param, first = PARAMS["budget"], _within(round(math.log10(3 * last), 1), law.BUDGETS)
    with right:
        power = st.number_input(param.label, *law.BUDGETS, first, 0.1, **param.bound)
        st.markdown(law.budget_in_words(fit, 10**power, rate))


def _within(value: float, limits: tuple[float, float]) -> float:
    return min(max(value, limits[0]), limits[1])


def _downstream(shown: Shown) -> None:
    frame.heading("Do the downstream scores follow the loss?")
    table = points(shown.runs)
    names = [name for name in law.score_names(table) if name != "loss"]
    if not names:
        frame.empty_report("A downstream score of the checkpoints", workspace_facts.command(EVALUATE), "some minutes a run")
    rows = [st.columns(2, gap="large") for _ in names[::2]]
    for i, name in enumerate(names):
        with rows[i // 2][i % 2]:
            drawn = figures.score_against_loss(table, name, figures.marks(shown.shipped, shown.own))
            frame.figure(drawn, key=f"scaling_{name}", alt=f"{SCORES[name]} against validation loss")
            extra = " Dashed: between two real samples of that size." if name == "frechet" else ""
            follows = law.correlation_in_words if law.measured_alike(shown.runs, name) else law.within_runs_in_words
            words = f"{SCORES[name]}: {law.how_measured(shown.runs, name)}. {follows(table, name)}"
            st.caption(frame.plain_markdown(words) + extra)
    with st.expander("The paper's own curve: Frechet distance of a full run", icon=":material/menu_book:"):
        frame.figure(figures.paper_frechet(), key="scaling_paper_frechet", alt="Published Frechet distances")
        st.caption(
            "Luo et al. 2026 (arXiv 2602.06964), a Llama model, 32 M to 1 B activations. Another LLM, width and sample: the level "
            "cannot be compared with ours, the fall can."
        )
