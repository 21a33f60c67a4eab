"""What the workspace's stored measurements say about a strength, in words beside the slider.

Reads reports/steering_sentiment.json, which covers one direction and a few strengths; says nothing where nothing was measured.
"""

from dashboard.service import workspace_facts
from glp_core.errors import GlpError
from glp_core.files import Json

REPORT = "steering_sentiment"
NEAR = 0.21
"""A measured strength speaks for strengths at most so far from it."""


def measured_words(direction: str, strength: float) -> str:
    """Return what was measured near this strength of a direction (its file name), empty where the direction was not measured."""
    try:
        return _near(workspace_facts.report(REPORT) or {}, direction, strength)
    except (GlpError, KeyError, TypeError, ValueError, AttributeError):
        return ""  # a damaged report is reported where it is shown in full; the page works without it


def _near(report: Json, direction: str, strength: float) -> str:
    settings, rows = report.get("settings", {}), report.get("rows", [])
    if settings.get("direction") != direction or not rows:
        return ""
    measured = sorted({row["strength"] for row in rows if row["strength"] != 0})
    nearest = min(measured, key=lambda one: abs(one - strength))
    if abs(nearest - strength) > NEAR:
        return f"Texts were measured at strengths {measured[0]:g} to {measured[-1]:g} of this direction, not here."
    rows_by_arm = {row["arm"]: row for row in rows if row["strength"] == nearest or row["arm"] == "unsteered"}
    if not {"unsteered", "raw", "glp"} <= rows_by_arm.keys():
        return ""
    return (
        f"Measured at {nearest:+g} on {rows_by_arm['glp']['n']} prompts: concept {_three(rows_by_arm, 'concept', '{:.2f}')}; "
        f"repetition {_three(rows_by_arm, 'repeated_bigrams', '{:.0%}')}."
    )


def _three(rows_by_arm: dict[str, Json], key: str, form: str) -> str:
    plain, raw, glp = (form.format(rows_by_arm[arm][key]) for arm in ("unsteered", "raw", "glp"))
    return f"unsteered {plain}, raw {raw}, GLP {glp}"
