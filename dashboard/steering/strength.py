"""What a strength means along a direction, in words beside the slider: in real activations, and as the workspace measured it.

Reads the bank and the reports of `steer` and `strengths`; says nothing where nothing was measured.
"""

from dashboard.service import resources, workspace_facts
from dashboard.service.directions import pushes
from glp_core.errors import GlpError
from glp_core.files import Json
from glp_core.steering.direction_facts import is_of, report_name

NEAR = 0.21
"""A measured strength speaks for strengths at most so far from it."""
SHOWN = {"unsteered": "unsteered", "raw": "raw", "walk": "walk", "glp": "paper's projection"}
"""Arms whose measures are quoted, where a report has them."""


def meaning(direction: str, strength: float) -> str:
    """Return how far a push is in terms of real activations along its direction, empty without a bank or while torch is loading."""
    if not direction or resources.warm_up().live:
        return ""
    try:
        scale = pushes.scale(direction)
    except GlpError:
        return ""  # no bank, or one of another model
    n, percentile = len(scale.values), scale.percentile(strength)
    ends = {
        1: f"below all but one of {n:,}",
        n - 1: f"beyond all but one of {n:,}",
        0: f"below all {n:,}",
        n: f"beyond all {n:,}",
    }
    shares = f"beyond {percentile:.1%} of {n:,}" if strength >= 0 else f"below {1 - percentile:.1%} of {n:,}"
    share = ends.get(round(percentile * n), shares)
    return f"This push: {scale.deviations(strength):+.1f} standard deviations, {share} real tokens."


def measured_words(direction: str, strength: float) -> str:
    """Return what was measured near this strength of a direction (its file name), empty where the direction was not measured."""
    for name in (report_name(direction), "steering_sentiment"):
        try:
            words = _near(workspace_facts.report(name) or {}, direction, strength)
        except (GlpError, KeyError, TypeError, ValueError, AttributeError):
            continue  # a damaged report is reported where it is shown in full; the page works without it
        if words:
            return words
    return ""


def _near(report: Json, direction: str, strength: float) -> str:
    settings, rows = report.get("settings", {}), report.get("rows", [])
    if settings.get("direction") != direction or not rows:
        return ""
    if not is_of(settings, workspace_facts.read().direction_digest(direction)):
        return ""
    measured = sorted({row["strength"] for row in rows if row["strength"] != 0})
    if not measured:
        return ""
    nearest = min(measured, key=lambda one: abs(one - strength))
    if abs(nearest - strength) > NEAR:
        return f"Measured along this direction at strengths {measured[0]:g} to {measured[-1]:g}, not here."
    by_arm = {row["arm"]: row for row in rows if row["strength"] == nearest or row["arm"] == "unsteered"}
    arms = [arm for arm in SHOWN if arm in by_arm]
    if not {"unsteered", "raw"} <= set(arms) or len(arms) < 3:
        return ""
    concepts = ", ".join(f"{SHOWN[arm]} {by_arm[arm]['concept']:.2f}" for arm in arms)
    repeated = ", ".join(f"{by_arm[arm]['repetition']:.0%}" for arm in arms)
    words = f"Measured at {nearest:+g} on {by_arm['raw']['n']} prompts: concept {concepts}; repeated tokens {repeated}."
    rises = {row["arm"]: row["loss_rise"] for row in report.get("elsewhere", []) if row["strength"] == nearest}
    costs = ", ".join(f"{SHOWN[arm]} {rises[arm]:+.2f}" for arm in arms if arm in rises)
    return f"{words} Loss on neutral text, nats a token: {costs}." if costs else words
