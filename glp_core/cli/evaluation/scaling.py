"""Fit the scaling law to the workspace's runs and relate the loss to the other scores; write reports/scaling.json."""

import argparse
from collections.abc import Sequence

import pandas as pd

from glp_core.cli.console import add_workspace_arguments, open_workspace, say
from glp_core.errors import GlpError
from glp_core.evaluation.runs import SCORES, Run, alike, fit_points, points, read_runs, speed
from glp_core.evaluation.scaling_law import ScalingFit, fit_law
from glp_core.files import Json
from glp_core.prior.gaussian import gaussian_loss, latent_covariance
from glp_core.stats import grouped_spearman, spearman


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this command's arguments."""
    add_workspace_arguments(parser, device=False)


def run(args: argparse.Namespace) -> None:
    """Run the command."""
    workspace = open_workspace(args)
    if not workspace.runs():
        raise GlpError(f"{workspace.folder / 'runs'} holds no run. Make some with `python -m glp_core sweep`.")
    runs = read_runs(workspace.folder / "runs")
    table = points(runs)
    report: Json = {"n_all_runs": len(runs), "n_checkpoints": len(table), "warming_left_out": int(table["warming"].sum())}
    on_frontier = fit_points(runs, "frontier")
    report |= law(fit_law(on_frontier["flops"], on_frontier["validation_loss"])) | {"points": "frontier"}
    report["n_runs"] = on_frontier["run"].nunique()
    report["all_checkpoints"] = law_of_all(runs)
    report["correlations"] = {name: correlation(points(alike(runs, name)), name) for name in SCORES if name != "real_real"}
    statistics = {"var": workspace.load_glp().normalizer.var[0].cpu(), "covariance": workspace.covariance()}
    report["gaussian_loss"] = gaussian_loss(latent_covariance(statistics))
    report["runs"] = [facts(run) for run in runs]
    report["flops_per_second"] = speed(runs)
    workspace.save_report("scaling", report)
    e, a, alpha = (report[name] for name in ("E", "A", "alpha"))
    say(
        f"L(C) = {e['value']:.3f} + {a['value']:.3g} C^-{alpha['value']:.3f}, alpha 95% {alpha['ci'][0]:.3f} to {alpha['ci'][1]:.3f}"
    )


def law_of_all(runs: Sequence[Run]) -> Json | None:
    """Return the law of all checkpoints; None, which is said, where they carry none: a run that diverged spoils it."""
    everything = fit_points(runs, "all")
    try:
        return law(fit_law(everything["flops"], everything["validation_loss"]))
    except GlpError as error:
        say(f"All checkpoints together carry no law: {error}")
        return None


def law(fit: ScalingFit) -> Json:
    """Return the fitted law as plain numbers."""
    return {
        "E": fit.e.to_json(),
        "A": fit.a.to_json(),
        "alpha": fit.alpha.to_json(),
        "n_points": len(fit.compute),
        "compute_range": [float(fit.compute[0]), float(fit.compute[-1])],
        "largest_residual": float(abs(fit.residuals).max()),
        "tenfold": fit.tenfold(float(fit.compute[-1])).to_json(),
    }


def facts(run: Run) -> Json:
    """Return what a run is and where it ended."""
    return {
        "name": run.name,
        "parameters": round(run.parameters),
        "activations": int(run.log["activations"].iloc[-1]),
        "checkpoints": len(run.checkpoints),
        "old_ends": [int(seen) for seen in run.checkpoints["activations"][run.checkpoints["old_end"].astype(bool)]],
        "loss": float(run.checkpoints["validation_loss"].iloc[-1]),
        "finished": run.finished,
        "measured": run.measured,
    }


def correlation(table: pd.DataFrame, score: str) -> Json | None:
    """Return the rank correlation of a score with the loss, or None when too few checkpoints have it."""
    if score not in table:
        return None
    measured = table.dropna(subset=[score, "validation_loss"])
    losses, scores, runs = measured["validation_loss"], measured[score], list(measured["run"])
    several = len(set(runs)) > 2
    try:
        rho = grouped_spearman(losses, scores, runs) if several else spearman(losses, scores)
    except GlpError:
        return None
    over = "interval over runs" if several else "interval over checkpoints"
    return rho.to_json() | {"n": len(measured), "measure": f"Spearman, checkpoints of {len(set(runs))} runs, {over}"}
