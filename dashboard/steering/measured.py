"""What the workspace's own measurement of steering says about a setting, in one line beside the strength.

Reads reports/steering_sentiment.json, which tells of one direction and a few strengths; says nothing where nothing was measured.
"""

from typing import Any

from dashboard.service import workspace_facts
from glp_core.errors import GlpError

REPORT = "steering_sentiment"
NEAR = 0.21
"""A measured strength tells about strengths at most so far from it."""


def words(direction: str, strength: float) -> str:
    """Return what was measured near this strength of a direction (its file name), empty where the direction was not measured."""
    try:
        return _near(workspace_facts.report(REPORT) or {}, direction, strength)
    except (GlpError, KeyError, TypeError, ValueError, AttributeError):
        return ""  # a damaged report is told where it is shown in full; the page works without it


def _near(report: dict[str, Any], direction: str, strength: float) -> str:
    settings, rows = report.get("settings", {}), report.get("rows", [])
    if settings.get("direction") != direction or not rows:
        return ""
    measured = sorted({row["strength"] for row in rows if row["strength"] != 0})
    nearest = min(measured, key=lambda one: abs(one - strength))
    if abs(nearest - strength) > NEAR:
        return f"Texts were measured at strengths {measured[0]:g} to {measured[-1]:g} of this direction, not here."
    found = {row["arm"]: row for row in rows if row["strength"] == nearest or row["arm"] == "unsteered"}
    if not {"unsteered", "raw", "glp"} <= found.keys():
        return ""
    return (
        f"Measured at {nearest:+g} on {found['glp']['n']} prompts: concept {_three(found, 'concept', '{:.2f}')}; "
        f"repetition {_three(found, 'repeated_bigrams', '{:.0%}')}."
    )


def _three(found: dict[str, dict[str, Any]], key: str, form: str) -> str:
    plain, raw, glp = (form.format(found[arm][key]) for arm in ("unsteered", "raw", "glp"))
    return f"unsteered {plain}, raw {raw}, GLP {glp}"
