"""What the Scaling page says: the law fitted to runs, and how scores go with the loss. Numbers in, words out; draws nothing.

A fit is kept for the points that it was made from.
"""

import math
from collections.abc import Sequence
from contextlib import suppress

import pandas as pd
import streamlit as st

from dashboard.service import workspace_facts
from dashboard.widgets import url
from glp_core.errors import GlpError
from glp_core.evaluation.runs import FitPoints, Run, alike, fit_points
from glp_core.evaluation.scaling_law import ScalingFit, fit_law
from glp_core.stats import Interval, grouped_spearman, spearman

AXES = {"compute": "Compute (FLOPs)", "activations": "Activations seen", "parameters": "Parameters"}
SCORES = {
    "loss": "Validation loss",
    "frechet": "Frechet distance",
    "delta_lm": "Delta LM loss (nats a token)",
    "probing": "Mean 1-D probing AUC",
    "steering": "Steering score",
}
MEASURES = {
    "loss": "loss",
    "Frechet distance": "frechet",
    "Delta LM": "delta_lm",
    "probing AUC": "probing",
    "steering score": "steering",
}
"""What may go up, as the page and its address say it, to the score."""
TITLES = AXES | SCORES
"""What axes say."""
LOGARITHMIC = ("compute", "activations", "parameters", "loss", "frechet")
SCORE_WORDS = {
    "frechet": "between generated and real latents; it sees mean and covariance only",
    "delta_lm": "rise of the LLM's loss when the layer is noised and denoised",
    "probing": "of the single neuron that validation rows choose, mean over tasks",
    "steering": "mean of concept and fluency against unsteered text, each 0 to 1; 0.5 is what doing nothing gets",
}
"""What each score is."""
POINTS = {"frontier": "compute-efficient frontier", "all": "all checkpoints"}
PAPER_E, PAPER_ALPHA = 0.52, 0.169
"""Luo et al. 2026, Llama-3.2-1B block 7; the factor A is not published."""
PAPER_FRECHET = ((32e6, 0.926), (64e6, 0.874), (128e6, 0.844), (256e6, 0.746), (512e6, 0.759), (1e9, 0.699))
"""Luo et al. 2026: activations seen and Frechet distance of one full run."""
TARGETS, BUDGETS = (0.001, 1000.0), (1.0, 40.0)
"""Losses and powers of ten that can be asked about."""

PARAMS = {
    "x": url.choice("scaling_x", "Across", "compute", (*AXES, *MEASURES)),
    "y": url.choice("scaling_y", "Up", "loss", tuple(MEASURES)),
    "fit": url.choice("scaling_fit", "Fit over", "frontier", tuple(POINTS)),
    "paper": url.switch("scaling_paper", "The paper's law", False),
    "target": url.number("scaling_target", "Target loss", None, *TARGETS),
    "budget": url.number("scaling_budget", "Compute budget, as a power of ten (FLOPs)", None, *BUDGETS),
}


def law(runs: Sequence[Run], which: FitPoints) -> ScalingFit:
    """Fit the law to the runs' checkpoints; GlpError when they carry none."""
    table = fit_points(runs, which)
    return _law(tuple(table["flops"]), tuple(table["validation_loss"]))


@st.cache_data(max_entries=64, show_spinner=False)
def _law(flops: tuple[float, ...], losses: tuple[float, ...]) -> ScalingFit:
    return fit_law(flops, losses)


def gaussian_loss() -> float | None:
    """Return the loss of the best linear denoiser, as measured by a command, or None."""
    for name in ("scaling", "evaluate"):
        value = (workspace_facts.report(name) or {}).get("gaussian_loss")
        if isinstance(value, int | float):
            return float(value)
    return None


def law_in_words(fit: ScalingFit, runs: int, which: str, *, own: bool = False) -> str:
    """Return the fitted law and what ten times the compute buys, as Markdown of our own numbers; `own`: a person's runs are among them."""
    last = float(fit.compute[-1])
    fall = fit.tenfold(last)
    floor = "" if fit.e.low > 0 else " These points cannot tell whether there is a floor: E may be 0."
    among = (
        " Your own runs are among them: where they are of another LLM or layer, their losses are in other units." if own else ""
    )
    return (
        f"**L(C) = E + A · C⁻ᵅ** with E = {interval(fit.e)}, A = {interval(fit.a)}, α = {interval(fit.alpha)} (95% intervals), "
        f"over {len(fit.compute)} checkpoints of {runs} run{'s' * (runs != 1)} ({POINTS[which]}, warm-up left out). From the end of "
        f"the fitted range, **ten times the compute lowers the loss by {fall.low:.3f} to {fall.high:.3f}** "
        f"(from {fit.loss_at(last).value:.3f} to {fit.loss_at(10 * last).value:.3f}).{floor}{among}"
    )


def beyond_in_words(fit: ScalingFit, runs: Sequence[Run]) -> str:
    """Say which runs with more compute than the fitted range end above the law, and why they may; empty where none does."""
    ends = {run.name: run.checkpoints.iloc[-1] for run in runs if len(run.checkpoints)}
    beyond = {name: end for name, end in ends.items() if float(end["flops"]) > float(fit.compute[-1])}
    above = [name for name, end in beyond.items() if float(end["validation_loss"]) > fit.loss_at(float(end["flops"])).high]
    if not above:
        return ""
    listed = " and ".join([", ".join(above[:-1]), above[-1]] if len(above) > 1 else above)
    return (
        f"{listed} had more compute than the fitted range and {'end' if len(above) > 1 else 'ends'} above the line: it is the law of the "
        "best run at every compute, and more steps of one network, or over texts that it has seen already, buy less."
    )


def budget_in_words(fit: ScalingFit, budget: float, rate: float | None) -> str:
    """Say which loss a compute budget buys, and how long it takes here."""
    loss = fit.loss_at(budget)
    return f"{scientific(budget)} FLOPs buy a loss of **{interval(loss)}**{_hours(budget, rate)}.{_warning(fit, budget)}"


def target_in_words(fit: ScalingFit, target: float, rate: float | None) -> str:
    """Say which compute a target loss takes, and how long that is here."""
    compute = fit.compute_for(target)
    if math.isinf(compute.value):
        return f"A loss of {target:.3f} lies at or below the floor E = {interval(fit.e)}: by this law no compute reaches it."
    end = "no bound: in some draws the floor lies above it" if math.isinf(compute.high) else scientific(compute.high)
    return (
        f"A loss of {target:.3f} takes **{scientific(compute.value)} FLOPs** [{scientific(compute.low)}, {end}]"
        f"{_hours(compute.value, rate)}.{_warning(fit, compute.value)}"
    )


def _hours(flops: float, rate: float | None) -> str:
    if not rate:
        return ""
    hours = flops / rate / 3600
    words = f"{60 * hours:.0f} minutes" if hours < 1 else f"{hours:,.1f} hours" if hours < 100 else f"{hours / 24:,.0f} days"
    return f", {words} on the machine of the runs ({_rate(rate)} measured)"


def _rate(flops: float) -> str:
    unit, size = ("TFLOP/s", 1e12) if flops >= 1e12 else ("GFLOP/s", 1e9)
    return f"{flops / size:,.0f} {unit}" if flops >= 100 * size else f"{flops / size:.3g} {unit}"


def _warning(fit: ScalingFit, compute: float) -> str:
    if not fit.far(compute):
        return ""
    low, high = scientific(float(fit.compute[0])), scientific(float(fit.compute[-1]))
    return f" :orange[**Extrapolation:** more than 10 × outside the measured {low} to {high} FLOPs; the interval does not know that.]"


def correlation_in_words(table: pd.DataFrame, score: str) -> str:
    """Say how a score goes with the loss over checkpoints, or why that cannot be said."""
    measured = table.dropna(subset=["validation_loss", score])
    columns = (tuple(measured[name]) for name in ("validation_loss", score, "run"))
    try:
        return _correlation(*columns)
    except GlpError as error:
        return str(error)


@st.cache_data(max_entries=64, show_spinner=False)
def _correlation(losses: tuple[float, ...], scores: tuple[float, ...], runs: tuple[str, ...]) -> str:
    over = f"{len(losses)} checkpoints of {len(set(runs))} run{'s' * (len(set(runs)) != 1)}"
    if len(set(runs)) < 3:
        return f"Rank correlation with the loss {spearman(losses, scores).value:+.2f}, {over}: too few runs for an interval."
    rho = grouped_spearman(losses, scores, runs)
    return f"Rank correlation with the loss {rho.value:+.2f} [{rho.low:+.2f}, {rho.high:+.2f}], {over}, interval over runs."


def within_runs_in_words(table: pd.DataFrame, score: str) -> str:
    """Say how a score goes with the loss within each run, where the runs' scores cannot be pooled."""
    found = []
    for _, run in table.dropna(subset=["validation_loss", score]).groupby("run"):
        with suppress(GlpError):  # too few checkpoints
            found.append(spearman(run["validation_loss"], run[score]).value)
    if not found:
        return "No run has enough checkpoints for a rank correlation."
    if len(found) == 1:
        return f"Rank correlation with the loss within the one run that has enough checkpoints {found[0]:+.2f}."
    return f"Rank correlation with the loss within a run {min(found):+.2f} to {max(found):+.2f}, {len(found)} runs."


def measured_alike(runs: Sequence[Run], score: str) -> bool:
    """Say whether all runs that tell how a score was measured say the same."""
    return len(alike(runs, score)) == len(runs)


def how_measured(runs: Sequence[Run], score: str) -> str:
    """Say what a score is and, where the runs tell, what it was measured on."""
    words = [run.measured[score] for run in runs if score in run.measured]
    if not words:
        return SCORE_WORDS[score]
    if not measured_alike(runs, score):
        return f"{SCORE_WORDS[score]}; not measured alike in all runs, so compare within a run only"
    settings = ", ".join(f"{name.replace('_', ' ')} {_setting(value)}" for name, value in words[0].items())
    return f"{SCORE_WORDS[score]} ({settings})"


def _setting(value: object) -> str:
    return " and ".join(map(str, value)) if isinstance(value, list) else f"{value:,}" if isinstance(value, int) else str(value)


def score_names(table: pd.DataFrame) -> list[str]:
    """Return which scores have been measured for at least one checkpoint; the loss always has."""
    return ["loss", *(name for name in SCORES if name in table and table[name].notna().any())]


def interval(number: Interval) -> str:
    """Return value and interval, for example 0.52 [0.48, 0.57]."""
    return f"{_short(number.value)} [{_short(number.low)}, {_short(number.high)}]"


def _short(value: float) -> str:
    if math.isinf(value):
        return "∞"
    return (
        scientific(value)
        if abs(value) >= 1e4 or 0 < abs(value) < 1e-3
        else f"{value:,.0f}"
        if abs(value) >= 100
        else f"{value:.1f}"
        if abs(value) >= 10
        else f"{value:.3f}"
    )


def scientific(value: float) -> str:
    """Return a number like 3.1e15 with a real minus and exponent, for example 3.1 × 10¹⁵."""
    digits, exponent = f"{value:.1e}".split("e")
    raised = str(int(exponent)).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))
    return f"{digits} × 10{raised}"
